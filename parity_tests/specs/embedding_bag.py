"""Specifications of EmbeddingBag and `embedding_bag`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection
from parity_tests.specs.table import (
    DENSE,
    DIMENSIONS,
    EXACT_DATA,
    NORMAL_DATA,
    NORMS,
    PADDED,
    PADDING,
    ROWS,
    WRITABLE,
    bad_function,
    some,
    values,
    written,
)
from refimpl.embedding_bag import EmbeddingBag, EmbeddingBagFunction

# Number of indices and of offsets, or a matrix of indices.
_BAGS = {
    "many": ((23,), (6,)),
    "two": ((9,), (2,)),
    "one": ((5,), (1,)),
    "more_than_indices": ((4,), (9,)),
    "matrix": ((4, 5),),
    "one_each": ((6, 1),),
    "batch_0": ((0, 3),),
    "no_indices": ((0,), (3,)),
}
_UNWEIGHTED = ("matrix", "one_each", "batch_0")
_NO_SUMS = ("batch_0", "no_indices")


def _build_bag(row: Mapping[str, Any]) -> Built:
    shapes = _BAGS[row["shape"]]
    arguments: dict[str, Any] = {"num_embeddings": ROWS, "embedding_dim": row["dimension"]}
    arguments |= {} if row["mode_"] == "mean" else {"mode": row["mode_"]}
    arguments |= some(row, "scale_grad_by_freq", "sparse", "include_last_offset") | NORMS[row["norm"]]
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (*shapes, *((shapes[0],) if row["weighted"] else ())))


def _bad_bag(
    name: str, exception: type[Exception], *shapes: tuple, note: str = "", **arguments: Any
) -> Rejection:
    given = {"num_embeddings": ROWS, "embedding_dim": 3, **arguments}
    return Rejection(name, Built(given, shapes or ((5,), (2,))), exception, note)


_BAG_CONSTRAINTS = (
    PADDED,
    DENSE,
    Constraint(
        ("mode_", "scale_grad_by_freq", "sparse"),
        lambda mode, scale, sparse: mode != "max" or not (scale or sparse),
        "torch's maxima have neither scaled nor sparse gradients",
    ),
    Constraint(
        ("mode_", "weighted"), lambda mode, weighted: mode == "sum" or not weighted, "only sums are weighted"
    ),
    Constraint(
        ("mode_", "data"),
        lambda mode, data: mode != "max" or data != "nan",
        "which is the largest of numbers and NaN is written nowhere",
    ),
    Constraint(
        ("shape", "data"), lambda shape, data: shape not in _NO_SUMS or data == "normal", "no numbers"
    ),
)


def _outside(name: str, *shapes: tuple, **arguments: Any) -> Corner:
    """Indices that belong to no bag, which kernels may give one all the same."""
    given = {"num_embeddings": ROWS, "embedding_dim": 17, **arguments}
    return Corner(name, built=Built(given, shapes), dtypes=DTYPES, crashes=True)


def _outside_of_bags(mode: str) -> tuple[Corner, ...]:
    last = {"mode": mode, "include_last_offset": True}
    return (
        _outside(f"indices_and_no_offsets_{mode}", (7,), (0,), mode=mode),
        _outside(f"last_offset_alone_{mode}", (3,), (1,), **last),
        _outside(f"indices_behind_the_last_offset_{mode}", (7,), (4,), **last),
    )


_BAG = LayerSpec(
    name="EmbeddingBag",
    family="sparse",
    reference=EmbeddingBag,
    axes={
        "shape": tuple(_BAGS),
        "mode_": ("mean", "sum", "max"),
        "include_last_offset": (False, True),
        "weighted": (False, True),
        "padding_idx": PADDING,
        "norm": tuple(NORMS),
        "dimension": DIMENSIONS,
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "layout": ("contiguous", "sliced"),
        "parameter_layout": ("contiguous", "transposed", "sliced", "expanded"),
        "tier": ("rounding", "exact"),
        "data": ("normal", "repeated", "padded", "nan", "infinity", "large"),
    },
    factorial=("shape", "mode_", "include_last_offset"),
    build=_build_bag,
    constraints=(
        *_BAG_CONSTRAINTS,
        NORMAL_DATA,
        EXACT_DATA,
        WRITABLE,
        Constraint(
            ("mode_", "norm"),
            lambda mode, norm: mode != "max" or norm == "none",
            "rounding of the norm decides the winner",
        ),
        Constraint(
            ("shape", "weighted"),
            lambda shape, weighted: not weighted or shape not in _UNWEIGHTED,
            "weights of a matrix stand behind the offsets, which it has not: see embedding_bag",
        ),
        Constraint(
            ("shape", "include_last_offset"),
            lambda shape, last: not last or shape in ("many", "two", "more_than_indices"),
            "needs two offsets at least",
        ),
        Constraint(
            ("tier", "shape", "mode_", "data"),
            lambda tier, shape, mode, data: (
                tier == "rounding" or (shape not in (*_NO_SUMS, "one_each", "one") and data != "padded")
            ),
            "the exact tier needs numbers",
        ),
    ),
    corners=(
        *(
            Corner(
                f"only_one_empty_bag_{mode}",
                built=Built({"num_embeddings": 4, "embedding_dim": 3, "mode": mode}, ((0,), (1,))),
                dtypes=DTYPES,
            )
            for mode in ("mean", "sum", "max")
        ),
        *(
            Corner(
                f"no_bags_{mode}",
                built=Built({"num_embeddings": 4, "embedding_dim": 3, "mode": mode}, ((0,), (0,))),
                dtypes=DTYPES,
            )
            for mode in ("mean", "sum", "max")
        ),
        *(corner for mode in ("mean", "sum", "max") for corner in _outside_of_bags(mode)),
        _outside(
            "indices_behind_the_last_offset_weighted", (7,), (4,), (7,), mode="sum", include_last_offset=True
        ),
        Corner(
            "rows_beyond_65536",
            {"tier": "exact"},
            Built({"num_embeddings": 65_541, "embedding_dim": 2, "mode": "sum"}, ((40,), (7,))),
            dtypes=("float32",),
        ),
        Corner(
            "bags_beyond_65536",
            {"tier": "exact"},
            Built({"num_embeddings": 5, "embedding_dim": 1, "mode": "sum"}, ((65_541, 1),)),
            dtypes=("float32",),
        ),
    ),
    rejections=(
        _bad_bag("index_beyond_the_table", RuntimeError),
        _bad_bag("negative_index", RuntimeError),
        _bad_bag("float_indices", RuntimeError),
        _bad_bag("float_offsets", RuntimeError),
        _bad_bag("first_offset_not_0", RuntimeError),
        _bad_bag("negative_offset", RuntimeError),
        _bad_bag("offset_beyond_the_end", RuntimeError),
        _bad_bag("decreasing_offsets", RuntimeError, (5,), (3,)),
        _bad_bag("no_offsets", ValueError, (5,)),
        _bad_bag("offsets_for_a_matrix", ValueError, (5, 2), (2,)),
        _bad_bag("offsets_with_two_axes", ValueError, (5,), (2, 1)),
        _bad_bag("three_axes", ValueError, (5, 2, 1)),
        _bad_bag("scalar", ValueError, ()),
        _bad_bag("bags_of_no_positions", RuntimeError, (3, 0), note="a step of 0 in torch's own arange"),
        _bad_bag("unknown_mode", ValueError, mode="average"),
        _bad_bag("scaled_maximum", ValueError, mode="max", scale_grad_by_freq=True),
        _bad_bag("sparse_maximum", ValueError, mode="max", sparse=True),
        _bad_bag("weighted_mean", NotImplementedError, (5,), (2,), (5,)),
        _bad_bag("weights_of_another_length", ValueError, (5,), (2,), (4,), mode="sum"),
        _bad_bag("last_offset_of_none", RuntimeError, (5,), (0,), include_last_offset=True),
        _bad_bag(
            "padding_beyond_the_table", AssertionError, note="the constructor asserts", padding_idx=ROWS
        ),
    ),
    functions=("embedding_bag",),
    values=values,
    updates=written,
)


def _build_bag_function(row: Mapping[str, Any]) -> Built:
    shape = {"matrix": (4, 5), "one_each": (6, 1), "wide": (2, 17)}[row["shape"]]
    arguments = {"mode": "sum"} | ({"per_sample_weights": Drawn(shape)} if row["weighted"] else {})
    arguments |= some(row, "scale_grad_by_freq", "sparse")
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (shape, (ROWS, row["dimension"])))


_BAG_FUNCTION = LayerSpec(
    name="embedding_bag",
    family="sparse",
    reference=EmbeddingBagFunction,
    axes={
        "weighted": (True, False),
        "shape": ("matrix", "one_each", "wide"),
        "padding_idx": PADDING,
        "dimension": DIMENSIONS[:3],
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "layout": ("contiguous", "transposed", "sliced"),
        "data": ("normal", "repeated", "padded"),
    },
    factorial=(),
    build=_build_bag_function,
    constraints=(PADDED, DENSE),
    rejections=(
        bad_function("weight_with_one_axis", ValueError, (2, 3), (7,)),
        bad_function("weight_with_three_axes", ValueError, (2, 3), (7, 2, 3)),
        bad_function("padding_beyond_the_table", RuntimeError, (2, 3), (7, 2), padding_idx=7),
    ),
    functions=("embedding_bag",),
    values=values,
    is_function=True,
)

SPECS = (_BAG, _BAG_FUNCTION)

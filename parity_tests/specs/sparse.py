"""Specifications of Embedding, `embedding`, EmbeddingBag and `embedding_bag`.

Input 0 holds indices, input 1 of the bags offsets.  Data regimes of the indices: 'repeated' (two rows only),
'padded' (every other position the padding index).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection
from refimpl import sparse
from refimpl.embedding_bag import EmbeddingBagFunction

ROWS = 7
_DIMENSIONS = (3, 1, 17, 33)
_NORMS = {
    "none": {},
    "two": {"max_norm": 1.0},
    "one": {"max_norm": 2.5, "norm_type": 1.0},
    "three": {"max_norm": 0.8, "norm_type": 3.0},
    "largest": {"max_norm": 1.25, "norm_type": float("inf")},
    "rarely": {"max_norm": 20.0},
}
_PADDING = (None, 2, 0, -3)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Indices and offsets; weights with special values; the rest in the general way."""
    arguments = dict(case.arguments)
    bags = case.layer in ("EmbeddingBag", "embedding_bag")
    function = case.layer in ("embedding", "embedding_bag")
    rows = arguments.get("num_embeddings", case.shapes[1][0] if function and len(case.shapes[1]) else ROWS)
    if name == "input0":
        return _indices(case, rng, shape, rows, arguments.get("padding_idx"))
    if name == ("input2" if function else "input1") and bags:
        return _offsets(case, rng, shape, bool(arguments.get("include_last_offset")))
    if name == ("input1" if function else "weight") and case.tier == "rounding":
        return _weights(case, rng, shape)
    return None


def _indices(case: Any, rng: np.random.Generator, shape: tuple, rows: int, padding: int | None) -> np.ndarray:
    if case.name.startswith("rejects_index_beyond_the_table"):
        return np.full(shape, rows)
    if case.name == "rejects_negative_index":
        return np.full(shape, -1)
    if case.name.startswith("rejects_float_indices"):
        return np.zeros(shape)
    if case.data == "repeated":
        return rng.choice([1 % max(rows, 1), max(rows, 1) - 1], shape)
    drawn = rng.integers(0, max(rows, 1), shape)
    if case.data == "padded" and padding is not None:
        drawn = np.where(rng.random(shape) < 0.5, padding % rows, drawn)
    return drawn


def _offsets(case: Any, rng: np.random.Generator, shape: tuple, last_given: bool) -> np.ndarray:
    """Begins of bags, some of them empty: a sorted draw."""
    fixed = {
        "rejects_first_offset_not_0": (1, 2), "rejects_negative_offset": (-1, 2),
        "rejects_offset_beyond_the_end": (0, 99), "rejects_decreasing_offsets": (0, 3, 1),
    }.get(case.name)  # fmt: skip
    if fixed is not None:
        return np.array(fixed)
    if case.name.startswith("rejects_float_offsets"):
        return np.zeros(shape)
    length = case.shapes[0][0]
    drawn = np.sort(rng.integers(0, length, shape, endpoint=True))
    drawn.flat[:1] = 0
    if last_given and drawn.size > 1:
        drawn[-1] = length
    return drawn


def _weights(case: Any, rng: np.random.Generator, shape: tuple) -> np.ndarray | None:
    special = {"nan": (np.nan,), "infinity": (np.inf, -np.inf), "zeros": (0.0, -0.0)}.get(case.data)
    values = rng.standard_normal(shape)
    if special is not None:
        return np.where(rng.random(shape) < 1 / 6, rng.choice(np.array(special), shape), values)
    scale = {"large": 2.0**9, "tiny": 2.0**-10}.get(case.data)
    return None if scale is None else values * scale


def _written(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    return ("weight",) if "max_norm" in arguments else ()


_SHAPES = {
    "matrix": (4, 5),
    "vector": (17,),
    "three": (2, 3, 5),
    "one": (1, 1),
    "scalar": (),
    "batch_0": (0, 3),
    "no_positions": (3, 0),
}
_FEW = ("one", "scalar", "batch_0", "no_positions")

_NORMAL_DATA = Constraint(
    ("norm", "data"),
    lambda norm, data: norm == "none" or data in ("normal", "repeated", "padded"),
    "the norm of what is not finite, or out of range, is nothing to compare",
)
_EXACT_DATA = Constraint(
    ("tier", "data", "norm"),
    lambda tier, data, norm: (
        tier == "rounding" or (data in ("normal", "repeated", "padded") and norm == "none")
    ),
    "the exact tier has its own numbers, and no roots",
)
_PADDED = Constraint(
    ("data", "padding_idx"),
    lambda data, padding: data != "padded" or padding is not None,
    "there is no padding index",
)
_DENSE = Constraint(
    ("sparse", "scale_grad_by_freq"),
    lambda sparse, scale: not (sparse and scale),
    "torch has no sparse gradient that is scaled by frequency",
)
_WRITABLE = Constraint(
    ("norm", "parameter_layout"),
    lambda norm, layout: norm == "none" or layout != "expanded",
    "an expanded weight cannot be written",
)


def _some(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The arguments of an axis that are not the default one."""
    return {name: row[name] for name in names if row[name] not in (None, False)}


def _build_embedding(row: Mapping[str, Any]) -> Built:
    arguments = {"num_embeddings": ROWS, "embedding_dim": row["dimension"]}
    arguments |= _some(row, "scale_grad_by_freq", "sparse") | _NORMS[row["norm"]]
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (_SHAPES[row["shape"]],))


def _bad(
    name: str, exception: type[Exception], note: str = "", shape: tuple = (2, 3), **arguments: Any
) -> Rejection:
    given = {"num_embeddings": ROWS, "embedding_dim": 3, **arguments}
    return Rejection(name, Built(given, (shape,)), exception, note)


def _table(
    name: str, rows: int, dimension: int, shape: tuple, dtypes: tuple = ("float32",), **more: Any
) -> Corner:
    built = Built({"num_embeddings": rows, "embedding_dim": dimension, **more}, (shape,))
    return Corner(name, {"tier": "exact" if name.endswith("65536") else "rounding"}, built, dtypes=dtypes)


_EMBEDDING = LayerSpec(
    name="Embedding",
    family="sparse",
    reference=sparse.Embedding,
    axes={
        "shape": tuple(_SHAPES),
        "padding_idx": _PADDING,
        "norm": tuple(_NORMS),
        "dimension": _DIMENSIONS,
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "layout": ("contiguous", "transposed", "sliced", "expanded"),
        "parameter_layout": ("contiguous", "transposed", "sliced", "expanded"),
        "tier": ("rounding", "exact"),
        "data": ("normal", "repeated", "padded", "nan", "infinity", "zeros", "large", "tiny"),
    },
    factorial=(),
    build=_build_embedding,
    constraints=(
        _NORMAL_DATA,
        _EXACT_DATA,
        _PADDED,
        _DENSE,
        _WRITABLE,
        Constraint(
            ("shape", "data"), lambda shape, data: shape not in _FEW or data == "normal", "few numbers"
        ),
        Constraint(
            ("shape", "tier", "padding_idx", "layout"),
            lambda shape, tier, padding, layout: (
                tier == "rounding" or (shape not in _FEW and layout != "expanded")
            ),
            "the exact tier needs numbers",
        ),
    ),
    corners=(
        _table("rows_beyond_65536", 65_541, 2, (3, 40)),
        _table("positions_beyond_65536", 5, 1, (65_541,), padding_idx=3),
        _table("dimension_beyond_65536", 3, 65_541, (4,)),
        _table("no_rows", 0, 3, (0,), DTYPES),
        _table("one_row", 1, 3, (5,), DTYPES, padding_idx=0),
        _table("all_rows_renormalized", 4, 64, (2, 17), DTYPES, max_norm=0.5),
    ),
    rejections=(
        _bad("index_beyond_the_table", IndexError),
        _bad("negative_index", IndexError),
        _bad("index_beyond_the_table_with_max_norm", IndexError, max_norm=1.0),
        _bad("float_indices", RuntimeError),
        _bad("padding_beyond_the_table", AssertionError, "the constructor asserts", padding_idx=ROWS),
        _bad("padding_before_the_table", AssertionError, "the constructor asserts", padding_idx=-ROWS - 1),
        _bad("padding_of_an_empty_table", IndexError, "", num_embeddings=0, padding_idx=0),
        _bad("negative_rows", RuntimeError, num_embeddings=-4),
        _bad("negative_dimension", RuntimeError, embedding_dim=-3),
        _bad("fractional_rows", TypeError, num_embeddings=4.0),
        _bad("text_norm", TypeError, max_norm="1"),
        _bad("look_up_in_an_empty_table", RuntimeError, num_embeddings=0),
    ),
    functions=("embedding",),
    values=_values,
    updates=_written,
)


def _build_function(row: Mapping[str, Any]) -> Built:
    arguments = _some(row, "scale_grad_by_freq", "sparse")
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (_SHAPES[row["shape"]], (ROWS, row["dimension"])))


def _bad_function(
    name: str, exception: type[Exception], *shapes: tuple, note: str = "", **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, shapes), exception, note)


_EMBEDDING_FUNCTION = LayerSpec(
    name="embedding",
    family="sparse",
    reference=sparse.EmbeddingFunction,
    axes={
        "shape": ("matrix", "vector", "three"),
        "padding_idx": _PADDING,
        "dimension": _DIMENSIONS[:3],
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "tier": ("rounding", "exact"),
        "data": ("normal", "repeated", "padded"),
    },
    factorial=(),
    build=_build_function,
    constraints=(_PADDED, _DENSE),
    rejections=(
        _bad_function("weight_with_one_axis", RuntimeError, (2, 3), (7,)),
        _bad_function("weight_with_three_axes", RuntimeError, (2, 3), (7, 2, 3)),
        _bad_function("padding_beyond_the_table", AssertionError, (2, 3), (7, 2), padding_idx=7),
        _bad_function("padding_before_the_table", AssertionError, (2, 3), (7, 2), padding_idx=-8),
    ),
    functions=("embedding",),
    values=_values,
    is_function=True,
)

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
    arguments |= _some(row, "scale_grad_by_freq", "sparse", "include_last_offset") | _NORMS[row["norm"]]
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (*shapes, *((shapes[0],) if row["weighted"] else ())))


def _bad_bag(
    name: str, exception: type[Exception], *shapes: tuple, note: str = "", **arguments: Any
) -> Rejection:
    given = {"num_embeddings": ROWS, "embedding_dim": 3, **arguments}
    return Rejection(name, Built(given, shapes or ((5,), (2,))), exception, note)


_BAG_CONSTRAINTS = (
    _PADDED,
    _DENSE,
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

_BAG = LayerSpec(
    name="EmbeddingBag",
    family="sparse",
    reference=sparse.EmbeddingBag,
    axes={
        "shape": tuple(_BAGS),
        "mode_": ("mean", "sum", "max"),
        "include_last_offset": (False, True),
        "weighted": (False, True),
        "padding_idx": _PADDING,
        "norm": tuple(_NORMS),
        "dimension": _DIMENSIONS,
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
        _NORMAL_DATA,
        _EXACT_DATA,
        _WRITABLE,
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
        *(
            Corner(
                f"last_offset_alone_{mode}",
                built=Built(
                    {"num_embeddings": 7, "embedding_dim": 3, "mode": mode, "include_last_offset": True},
                    ((3,), (1,)),
                ),
                dtypes=("float32",),
                crashes=True,
            )
            for mode in ("mean", "sum", "max")
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
    values=_values,
    updates=_written,
)


def _build_bag_function(row: Mapping[str, Any]) -> Built:
    shape = {"matrix": (4, 5), "one_each": (6, 1), "wide": (2, 17)}[row["shape"]]
    arguments = {"mode": "sum"} | ({"per_sample_weights": Drawn(shape)} if row["weighted"] else {})
    arguments |= _some(row, "scale_grad_by_freq", "sparse")
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (shape, (ROWS, row["dimension"])))


_BAG_FUNCTION = LayerSpec(
    name="embedding_bag",
    family="sparse",
    reference=EmbeddingBagFunction,
    axes={
        "weighted": (True, False),
        "shape": ("matrix", "one_each", "wide"),
        "padding_idx": _PADDING,
        "dimension": _DIMENSIONS[:3],
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "layout": ("contiguous", "transposed", "sliced"),
        "data": ("normal", "repeated", "padded"),
    },
    factorial=(),
    build=_build_bag_function,
    constraints=(_PADDED, _DENSE),
    rejections=(
        _bad_function("weight_with_one_axis", ValueError, (2, 3), (7,)),
        _bad_function("weight_with_three_axes", ValueError, (2, 3), (7, 2, 3)),
        _bad_function("padding_beyond_the_table", RuntimeError, (2, 3), (7, 2), padding_idx=7),
    ),
    functions=("embedding_bag",),
    values=_values,
    is_function=True,
)

SPECS = (_EMBEDDING, _EMBEDDING_FUNCTION, _BAG, _BAG_FUNCTION)

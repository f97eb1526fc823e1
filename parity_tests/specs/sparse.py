"""Specifications of Embedding and `embedding`; for bags see `embedding_bag`, for the numbers `table`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import embedding_bag
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection
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
from refimpl import sparse

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


def _build_embedding(row: Mapping[str, Any]) -> Built:
    arguments = {"num_embeddings": ROWS, "embedding_dim": row["dimension"]}
    arguments |= some(row, "scale_grad_by_freq", "sparse") | NORMS[row["norm"]]
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
        "padding_idx": PADDING,
        "norm": tuple(NORMS),
        "dimension": DIMENSIONS,
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
        NORMAL_DATA,
        EXACT_DATA,
        PADDED,
        DENSE,
        WRITABLE,
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
    values=values,
    updates=written,
)


def _build_function(row: Mapping[str, Any]) -> Built:
    arguments = some(row, "scale_grad_by_freq", "sparse")
    arguments |= {} if row["padding_idx"] is None else {"padding_idx": row["padding_idx"]}
    return Built(arguments, (_SHAPES[row["shape"]], (ROWS, row["dimension"])))


_EMBEDDING_FUNCTION = LayerSpec(
    name="embedding",
    family="sparse",
    reference=sparse.EmbeddingFunction,
    axes={
        "shape": ("matrix", "vector", "three"),
        "padding_idx": PADDING,
        "dimension": DIMENSIONS[:3],
        "scale_grad_by_freq": (False, True),
        "sparse": (False, True),
        "dtype": DTYPES,
        "tier": ("rounding", "exact"),
        "data": ("normal", "repeated", "padded"),
    },
    factorial=(),
    build=_build_function,
    constraints=(PADDED, DENSE),
    rejections=(
        bad_function("weight_with_one_axis", RuntimeError, (2, 3), (7,)),
        bad_function("weight_with_three_axes", RuntimeError, (2, 3), (7, 2, 3)),
        bad_function("padding_beyond_the_table", AssertionError, (2, 3), (7, 2), padding_idx=7),
        bad_function("padding_before_the_table", AssertionError, (2, 3), (7, 2), padding_idx=-8),
    ),
    functions=("embedding",),
    values=values,
    is_function=True,
)

SPECS = (_EMBEDDING, _EMBEDDING_FUNCTION, *embedding_bag.SPECS)

"""The table of an embedding: its constructor arguments, its padding index, and the indices into it,
checked."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_indices(name: str, input: np.ndarray, rows: int, outside: type[Exception]) -> np.ndarray:
    """`input` as int64.

    Raises RuntimeError for other types, and for a table without rows; `outside` for an index beyond it."""
    if input.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: indices have type {input.dtype}; needed are integers")
    if rows == 0 and input.size > 0:
        raise RuntimeError(f"{name}: the table has no rows to look up; needed is at least one")
    wrong = input[(input < 0) | (input >= rows)]
    if wrong.size:
        raise outside(f"{name}: index {wrong[0]} is outside of the table; needed are 0 to {rows - 1}")
    return input.astype(np.int64)


def padding_row(padding_idx: Any, rows: int, outside: type[Exception] = AssertionError) -> int:
    """`padding_idx` counted from the front, -1 for none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < max(rows, 1):
        raise outside(f"padding_idx is {padding_idx}; needed is a row of the table, {-rows} to {rows - 1}")
    return int(padding_idx) + (rows if padding_idx < 0 else 0)


def initial_weight(num_embeddings: Any, embedding_dim: Any, padding_idx: Any, weight: Any) -> tuple:
    """The weight as torch documents it, N(0, 1) with a row of zeros for the padding, and the padding's
    row."""
    sizes = (num_embeddings, embedding_dim)
    if not all(isinstance(size, (int, np.integer)) for size in sizes):
        raise TypeError(f"num_embeddings, embedding_dim are {sizes!r}; needed are ints")
    padding = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
    if weight is not None:
        if np.shape(weight) != sizes:
            raise AssertionError(f"_weight has shape {np.shape(weight)}; needed is {sizes}")
        return np.array(weight, dtype=np.float64), padding
    if min(sizes) < 0:
        raise RuntimeError(f"num_embeddings, embedding_dim are {sizes}; needed is at least 0")
    drawn = np.random.default_rng().standard_normal(sizes)
    if padding is not None:
        if not isinstance(padding_idx, (int, np.integer)) or padding >= num_embeddings:
            raise IndexError(f"padding_idx is {padding_idx!r}; needed is a row of {num_embeddings}")
        drawn[padding] = 0.0
    return drawn, padding

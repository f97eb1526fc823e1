"""Arguments and shapes, the same for every windowed layer: one value or one per axis, batched or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def per_axis(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """`value` as one int for each of `rank` axes: an int stands for all of them.

    Raises RuntimeError, as torch.nn.functional does, for another number of values, TypeError for other types.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (int(value),) * rank
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(_is_int(item) for item in value):
        raise TypeError(f"{name} is {value!r}; needed is an int or {rank} ints")
    if len(value) == 1:
        return (int(value[0]),) * rank
    if len(value) != rank:
        raise RuntimeError(
            f"{name} is {tuple(value)!r}; needed is one int or {rank} ints, one for each spatial axis"
        )
    return tuple(int(item) for item in value)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def batched(input: np.ndarray, rank: int, layer: str) -> tuple[np.ndarray, bool]:
    """`input` (N, C, *L) as it is, (C, *L) with a batch axis of 1 in front; and whether it had one.

    Raises RuntimeError, as torch does, for another number of axes.
    """
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"{layer}: input has {input.ndim} axes {input.shape}; needed are {rank + 1} (C, *L) "
            f"or {rank + 2} (N, C, *L) with {rank} spatial axes"
        )
    return (input, True) if input.ndim == rank + 2 else (input[None], False)


def lift(array: np.ndarray, rank: int) -> np.ndarray:
    """(A, B, *spatial) with `rank` spatial axes as (A, B, d, h, w): missing leading axes get size 1."""
    return array.reshape(*array.shape[:2], *(1,) * (3 - rank), *array.shape[2:])


def lower(array: np.ndarray, rank: int) -> np.ndarray:
    """The inverse of `lift`."""
    return array.reshape(*array.shape[:2], *array.shape[5 - rank :])


def leading(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """One value for each of three axes: `fill` for the missing leading ones."""
    return (fill,) * (3 - len(values)) + values

"""What the specifications of normalizations within a sample share: regimes of data, axes, named cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, Rejection

# Sums of some hundred squares of large numbers stay finite in A; a large mean leaves T room for a spread.
_LARGE = {"float16": 300.0, "bfloat16": 1e15, "float32": 1e15, "float64": 1e150}
_OFFSET = {"float16": 256.0, "bfloat16": 32.0, "float32": 1e4, "float64": 1e7}
_TINY = {"float16": 2.0**-12, "bfloat16": 1e-15, "float32": 1e-15, "float64": 1e-150}

EMPTY = Constraint(
    ("shape", "data"),
    lambda shape, data: shape not in ("batch_0", "no_length", "no_outer") or data == "normal",
    "an empty input has no special values",
)


def _one(special: float, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One special value, in the last place of all."""
    values = rng.standard_normal(shape)
    values[(-1,) * len(shape)] = special
    return values


def _first_row_constant(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = rng.standard_normal(shape)
    values[0] = rng.standard_normal()
    return values


def _spike(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One element far larger than the others: scaling by it and adding eps there would show."""
    values = rng.standard_normal(shape) / 64
    values[(-1,) * len(shape)] = 64.0
    return values


# Functions of (rng, shape, dtype) for the inputs; other regimes are the harness's.
_INPUT: Mapping[str, Callable[..., np.ndarray]] = {
    "offset": lambda rng, shape, dtype: rng.standard_normal(shape) + _OFFSET[dtype],
    "large": lambda rng, shape, dtype: rng.standard_normal(shape) * _LARGE[dtype],
    "tiny": lambda rng, shape, dtype: rng.standard_normal(shape) * _TINY[dtype],
    "constant": _first_row_constant,
    "spike": _spike,
    "one_nan": partial(_one, np.nan),
    "one_infinity": partial(_one, -np.inf),
}


def values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Running variances that are positive; inputs in the regimes above."""
    if name == "running_var":
        return rng.uniform(0.5, 2.0, shape)
    if name == "running_mean" and case.data == "offset":
        return rng.standard_normal(shape) + _OFFSET[case.dtype]
    if name.startswith("input") and case.data in _INPUT:
        return _INPUT[case.data](rng, shape, case.dtype)
    return None


_DATA = ("normal", "offset", "large", "tiny", "constant", "spike", "one_nan", "one_infinity")
AXES = {
    "dtype": DTYPES,
    "layout": ("contiguous", "transposed", "expanded", "sliced"),
    "parameter_layout": ("contiguous", "sliced"),
    "data": _DATA,
}


def beyond_65536(*shapes: tuple[str, Mapping[str, Any], tuple[int, ...]]) -> tuple[Corner, ...]:
    return tuple(
        Corner(f"{name}_beyond_65536", built=Built(arguments, (shape,)), dtypes=("float32", "bfloat16"))
        for name, arguments, shape in shapes
    )


def rejects(
    name: str, exception: type[Exception], arguments: Mapping[str, Any], shape: tuple = (2, 4), note: str = ""
) -> Rejection:
    return Rejection(name, Built(arguments, (shape,)), exception, note)

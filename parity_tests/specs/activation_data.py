"""Numbers for activation layers: breakpoints and their neighbours, every number of a half type, extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refimpl.error_bounds import FLOATS

if TYPE_CHECKING:
    from parity_tests.harness.cases import Case

# Every finite number of float16, and of bfloat16 those below this: beyond, squares in the documented formulas
# overflow, which is what the corner `extreme` looks at.
_HALF_LIMIT = 2.0**60


def values(
    breakpoints: Callable[..., tuple], case: Case, name: str, rng: np.random.Generator, shape: tuple
) -> Any:
    """Inputs of the regimes that activations need; None for the general way."""
    if not name.startswith("input") or case.data not in _REGIMES:
        return None
    scalars = {name: value for name, value in case.arguments if name != "inplace"}
    points = _neighbourhoods(breakpoints(**scalars), case.dtype)
    return np.resize(_REGIMES[case.data](rng, rng.standard_normal(shape).ravel(), points, case.dtype), shape)


def _neighbourhoods(points: tuple, dtype: str) -> np.ndarray:
    """Each point with its neighbours in the dtype, zeros, subnormals, the ends of exp in float32."""
    kind = FLOATS[dtype]
    tiny = (kind.eta, 3 * kind.eta, 2.0**kind.smallest, 1 / 1024, 1.0, 88.75, 104.0)
    exact = np.array([0.0, -0.0, *tiny, *(-number for number in tiny), *points])
    spacing = np.ldexp(
        1.0, np.maximum(np.frexp(exact)[1] - kind.precision, kind.smallest - kind.precision + 1)
    )
    return np.concatenate([exact, exact - spacing, exact + spacing])


def _halves(dtype: str) -> np.ndarray:
    """All numbers of a half type below the limit, ordered by their bits."""
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        numbers = (
            bits.view(np.float16) if dtype == "float16" else (bits.astype(np.uint32) << 16).view(np.float32)
        )
        numbers = numbers.astype(np.float64)
        return numbers[np.abs(numbers) < _HALF_LIMIT]


def _wide(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    """Magnitudes from below 1 to beyond 88, where exp leaves float32."""
    return normal * 2.0 ** rng.uniform(0.0, 6.0, normal.shape)


def _at_breakpoints(
    rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str
) -> np.ndarray:
    return np.where(rng.random(normal.shape) < 0.75, rng.choice(points, normal.shape), normal)


def _half_sample(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    every = _halves(dtype)[:: 34 if dtype == "float16" else 26]
    return np.concatenate([points, every, normal])[: normal.size]


def _all_halves(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    return np.concatenate([_halves(dtype), normal])[: normal.size]


def _extreme(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    """Large, but not so large that the product with an upstream gradient overflows."""
    largest = FLOATS[dtype].maximum
    sizes = np.array([largest / 5, largest / 9, largest / 33, np.sqrt(largest) * 1.5, np.cbrt(largest) * 2])
    return np.concatenate([sizes, -sizes, normal])[: normal.size]


def _nan(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    """NaN at every third element and at the last: in whole vectors and in the tail."""
    place = np.arange(normal.size)
    return np.where((place % 3 == 0) | (place == normal.size - 1), np.nan, normal)


def _infinity(rng: np.random.Generator, normal: np.ndarray, points: np.ndarray, dtype: str) -> np.ndarray:
    place = np.arange(normal.size)
    return np.where(place % 4 == 0, np.inf, np.where(place % 4 == 2, -np.inf, normal))


_REGIMES: Mapping[str, Callable] = {
    "wide": _wide,
    "breakpoints": _at_breakpoints,
    "half_sample": _half_sample,
    "all_halves": _all_halves,
    "extreme": _extreme,
    "nan": _nan,
    "infinity": _infinity,
}

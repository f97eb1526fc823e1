"""Binary floating-point types: what they can hold, how they round, and how roundings add up.

Notation: `u` unit roundoff (half the spacing at 1), `eta` the smallest subnormal.  The standard model of
rounding (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, eq. 2.4 and section
2.2): fl(a op b) = (a op b)(1 + d) + e with |d| <= u, |e| <= eta / 2, one of the two 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Float:
    """A binary floating-point type: `precision` significant bits, exponents from `smallest` to `largest`."""

    precision: int
    smallest: int  # exponent of the smallest normal number
    largest: int  # exponent of the largest finite number

    @cached_property
    def roundoff(self) -> float:
        return 2.0**-self.precision

    @cached_property
    def eta(self) -> float:
        return 2.0 ** (self.smallest - self.precision + 1)

    @cached_property
    def maximum(self) -> float:
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.largest

    @cached_property
    def overflow(self) -> float:
        """Values at or beyond this round to infinity: halfway from `maximum` to the next power of two.

        For float64 that threshold is no float64, nor is anything between it and infinity: so it is inf."""
        return (2.0 - 2.0**-self.precision) * 2.0**self.largest

    def half_spacing(self, size: np.ndarray) -> np.ndarray:
        """The largest error of rounding any number of magnitude at most `size` to nearest.

        Numbers in [2^k, 2^(k+1)) are 2^(k+1) u apart, hence 2^k u <= u |x|; below the smallest normal they
        are eta apart.  Half of float64's eta is no float64: there it is eta.  inf where size is not finite.
        """
        normal = np.maximum(size, 2.0**self.smallest)
        power = (normal.view(np.int64) & _EXPONENT_BITS).view(
            np.float64
        )  # the 2^k: all but the exponent cleared
        half = power * self.roundoff
        return np.maximum(half, self.eta) if self.precision == 53 else half


_EXPONENT_BITS = 0x7FF << 52  # of a float64; those of NaN are those of infinity

# IEEE 754-2019 table 3.5; bfloat16 and tf32 as published by their vendors (8 exponent bits, 7 and 10 fraction
# bits).
FLOATS = {
    "float64": Float(53, -1022, 1023),
    "float32": Float(24, -126, 127),
    "float16": Float(11, -14, 15),
    "bfloat16": Float(8, -126, 127),
    "tf32": Float(11, -126, 127),
}
DTYPES = ("float64", "float32", "float16", "bfloat16")


def round_to(dtype: str, values: Any) -> np.ndarray:
    """float64 `values` rounded to the nearest number of `dtype`, ties to even, as float64; beyond the range,
    inf."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        if dtype == "float64":
            return values.copy()
        if dtype in ("float32", "float16"):
            return values.astype(dtype).astype(np.float64)
        kind = FLOATS[dtype]
        _, exponent = np.frexp(values)  # |values| in [2^(exponent-1), 2^exponent)
        spacing = np.ldexp(1.0, np.maximum(exponent - 1, kind.smallest) - kind.precision + 1)
        rounded = np.where(np.isfinite(values), np.rint(values / spacing) * spacing, values)
        beyond = np.abs(rounded) > kind.maximum
        return np.where(beyond, np.copysign(np.inf, rounded), rounded)


def gamma(n: Any, u: float) -> Any:
    """Bound on |(1 + d1)...(1 + dn) - 1| for |di| <= u: (1 + u)^n - 1, at most n u / (1 - n u).

    Higham 2002, Lemma 3.1, for factors that all stand in the numerator, which is what sums and products have;
    in that case the power itself is the bound, and it stays finite when n u >= 1.
    """
    return np.expm1(np.multiply(n, np.log1p(u)))


def outward(bound: Any, roundings: Any = 8) -> Any:
    """A `bound` that was evaluated in float64 with at most so many roundings, made no less than the exact
    one."""
    return bound * (1.0 + (roundings + 1) * 2.0 * FLOATS["float64"].roundoff)


def grid(values: np.ndarray) -> float:
    """The largest power of two of which every element of `values` is a whole multiple.

    inf when all are zero, 0 when one is not finite."""
    values = np.asarray(values, dtype=np.float64).ravel()
    blocks = (values[first : first + _BLOCK] for first in range(0, values.size, _BLOCK))
    return min((_grid(block) for block in blocks), default=np.inf)


_BLOCK = 1 << 20  # elements looked at together: what is made of them takes several times their memory


def _grid(values: np.ndarray) -> float:
    values = np.abs(values[values != 0])
    if not np.isfinite(values).all():
        return 0.0
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest_bit = whole & -whole
    return float(np.ldexp(lowest_bit.astype(np.float64), exponent - 53).min(initial=np.inf))

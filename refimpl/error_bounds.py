"""How far from the exact value a correct implementation may be: contracts, sums of products, library
functions.

Every numeric literal of the suite that says how wrong a result may be stands in this file, with its
derivation. T is the storage type, A the type in which an implementation accumulates, `u` a unit roundoff,
`eta` a smallest subnormal. Number formats and gamma(n) are in `floats`, formulas evaluated with their errors
in `bounded`, the statistics of normalizations in `statistics_bounds`; their names can be imported from here
as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.bounded import Bounded, SuiteError, finite_where, maximum, where
from refimpl.floats import DTYPES, FLOATS, Float, gamma, grid, outward, round_to
from refimpl.statistics_bounds import inverse_deviation, statistics

__all__ = [
    "DTYPES",
    "FLOATS",
    "STATISTICAL_FACTOR",
    "ULPS",
    "UNINFORMATIVE_SHARE",
    "Bounded",
    "Contract",
    "Float",
    "Products",
    "SuiteError",
    "gamma",
    "grid",
    "inverse_deviation",
    "ladder",
    "maximum",
    "multilinear",
    "round_to",
    "statistics",
    "strictest",
    "where",
]

# Largest error of a library function, in units in the last place: the larger of CUDA's published single and
# double precision maxima (CUDA C++ Programming Guide, "Mathematical Functions Appendix", standard functions)
# and of the 1.0 ulp that SLEEF's u10 functions promise (sleef.org, "Math library reference").
ULPS = {
    "exp": 2,
    "expm1": 1,
    "log": 1,
    "log1p": 1,
    "tanh": 2,
    "erf": 2,
    "pow": 4,
    "rsqrt": 2,
    "reciprocal": 0.5,
}

STATISTICAL_FACTOR = 8.0
UNINFORMATIVE_SHARE = 0.5


@dataclass(frozen=True)
class Contract:
    """What an implementation promises about its arithmetic.

    store       type T in which results are stored (and operands arrive)
    accumulate  type A in which sums are accumulated and elementary functions evaluated
    product     how the factors of a product are treated first: 'ieee' (as they are), 'tf32' or 'bf16'
    (rounded) algorithm   'direct', or 'winograd' / 'fft' (a norm-wise bound), or a name that a family's
    docstring states
    """

    store: str
    accumulate: str
    product: str = "ieee"
    algorithm: str = "direct"

    @cached_property
    def u(self) -> float:
        """Unit roundoff that is charged for a rounding: that of A, plus that of float64 for this reference
        itself."""
        return FLOATS[self.accumulate].roundoff + FLOATS["float64"].roundoff

    @cached_property
    def eta(self) -> float:
        return FLOATS[self.accumulate].eta + FLOATS["float64"].eta

    @cached_property
    def factor_roundoff(self) -> float:
        """Relative error of a product whose two factors are first rounded to tf32 or bf16; 0 for ieee."""
        if self.product == "ieee":
            return 0.0
        return float(gamma(2, FLOATS[{"tf32": "tf32", "bf16": "bfloat16"}[self.product]].roundoff))

    def rounding(self, size: np.ndarray, roundings: float = 1.0) -> np.ndarray:
        """So many roundings of results of magnitude at most `size`, in A by a candidate and in float64
        here."""
        spacing = FLOATS[self.accumulate].half_spacing(size)
        if self.accumulate == "float64":
            return 2.0 * roundings * spacing
        own = FLOATS["float64"]  # its eta is nothing beside a spacing of A
        return roundings * (spacing + own.roundoff * size)

    def stored(self, value: np.ndarray, error: np.ndarray) -> np.ndarray:
        """The error of numbers of A within `error` of `value` once they are rounded to T; the same when A is
        T."""
        if self.store == self.accumulate:
            return error
        with np.errstate(invalid="ignore", over="ignore"):
            size = outward(np.abs(value) + error)
            return outward(error + FLOATS[self.store].half_spacing(size))

    def library(self, function: str) -> float:
        """The error of a library function in units in the last place."""
        return ULPS[function]

    def __str__(self) -> str:
        parts = [f"{self.accumulate} accumulation"]
        parts += [f"{self.product} products"] if self.product != "ieee" else []
        parts += [self.algorithm] if self.algorithm != "direct" else []
        return ", ".join(parts)

    def exact(self, values: Any) -> Bounded:
        """An operand that every implementation has exactly."""
        values = np.asarray(values, dtype=np.float64)
        return Bounded(values, np.zeros_like(values), self)

    def copied(self, values: Any) -> Bounded:
        """Values that are only moved, never computed: bitwise equal, the sign of a zero included."""
        return replace(self.exact(values), bitwise=True)

    def constant(self, value: Any) -> Bounded:
        """A constant of a formula, which an implementation may hold rounded to A."""
        value = np.asarray(value, dtype=np.float64)
        return Bounded(value, np.abs(round_to(self.accumulate, value) - value), self)


def strictest(dtype: str) -> Contract:
    """What is required: ieee products, accumulation in float32 for the half types and in T itself otherwise,
    direct."""
    return Contract(dtype, "float32" if dtype in ("float16", "bfloat16") else dtype)


def ladder(dtype: str, multilinear: bool, algorithms: tuple[str, ...] = ()) -> tuple[Contract, ...]:
    """Contracts from the strictest to the weakest that is still worth a name, for a storage type.

    `algorithms` are a family's own names for other ways to compute (a Module's attribute of that name).
    """
    best = strictest(dtype)
    rungs = [best, *(replace(best, algorithm=algorithm) for algorithm in algorithms)]
    if best.accumulate != dtype:
        rungs += [replace(best, accumulate=dtype)]
    if multilinear:
        rungs += [replace(best, product="tf32")] if dtype == "float32" else []
        rungs += [replace(best, product="bf16")] if dtype in ("float32", "float16") else []
        rungs += [replace(best, algorithm="winograd"), replace(best, algorithm="fft")]
    return tuple(rungs)


@dataclass(frozen=True)
class Products:
    """What a multilinear walk tells about its sums of products: all that the bound needs.

    value      the sums, shape S            magnitude  the same walk on absolute values, shape S
    terms      most roundings that a term of each sum can get, broadcastable to S: n for n products, 0 for
    none unit       every product is a whole multiple of it (`grid` of one operand times that of the other; 0
    if
               unknown),
               one number or, like `terms`, broadcastable to S
    squares    gives the same walk on squares, evaluated only when it is needed
    """

    value: np.ndarray
    magnitude: np.ndarray
    terms: Any
    unit: Any = 0.0
    squares: Callable[[], np.ndarray] | None = None

    def map(self, move: Callable[[np.ndarray], np.ndarray]) -> Products:
        """The same sums in another shape: `move` is applied to every array."""
        squares = self.squares
        return replace(
            self,
            value=move(self.value),
            magnitude=move(self.magnitude),
            terms=move(np.broadcast_to(self.terms, self.value.shape)),
            unit=self.unit if np.ndim(self.unit) == 0 else move(np.broadcast_to(self.unit, self.value.shape)),
            squares=None if squares is None else lambda: move(squares()),
        )

    def bounded(self, contract: Contract) -> Bounded:
        """The bound of a sum of n products in any order, stored once in T.

            e     = (1 + p)(gamma_A(n) M + n eta_A) + p M            before the store; p = error of rounded
            factors e'    = e + gamma_64(n) M + n eta_64                     with this reference's own error
            bound = e' + half the spacing of T at |y| + e'           at most u_T (|y| + e'), or eta_T / 2

        n products and n - 1 additions put at most n roundings on each term whatever the order (Higham 2002,
        section 3.1 and 4.2), so the bound is the same for every blocking, vectorization and transposition.
        The store costs nothing when A is T.  The bound is 0 where every product and partial sum is exactly
        representable, and where `terms` is 0, so that nothing is rounded.  No allowance is made for partial
        sums that overflow A: where the exact result is finite, it is asked for.  'winograd' and 'fft': see
        `_norm_wise`.
        """
        kind, own = FLOATS[contract.accumulate], FLOATS["float64"]
        with np.errstate(invalid="ignore", over="ignore"):
            # M is found in float64, in n roundings: `outward` makes it no less than the exact one.
            direct = outward(self.magnitude, 8 + self.terms)
            magnitude = outward(_norm_wise(self.magnitude, contract), 8 + self.terms)
            factor = contract.factor_roundoff
            error = gamma(self.terms, kind.roundoff) * magnitude + np.multiply(self.terms, kind.eta)
            error = (1.0 + factor) * error + factor * magnitude
            error = outward(
                error + gamma(self.terms, own.roundoff) * direct + np.multiply(self.terms, own.eta)
            )
            error = np.where(self._exact(contract), 0.0, contract.stored(self.value, error))
        return Bounded(self.value, finite_where(self.value, error), contract, products=self)

    def _exact(self, contract: Contract) -> np.ndarray:
        """Where no rounding happens in any order: all partial sums are whole multiples of `unit` and at most
        M in size, so they need no more than log2(M / unit) bits.  Found in float64, M is exact up to 2^53
        units; there it may stand for a larger one."""
        if contract.algorithm != "direct" or contract.product != "ieee":
            return np.zeros(self.value.shape, dtype=bool)
        bits = min(FLOATS[contract.store].precision, FLOATS[contract.accumulate].precision)
        fits = (self.magnitude <= 2.0**bits * self.unit) & (self.magnitude < 2.0**53 * self.unit)
        representable = self.unit >= FLOATS[contract.store].eta
        return np.equal(self.terms, 0) | np.equal(self.magnitude, 0) | (representable & fits)

    def statistical_ratio(self, contract: Contract, error: np.ndarray) -> float:
        """Largest error / (8 u sqrt(n) sqrt(y^2 + ||products||_2^2)), store and underflow taken off the
        error.

        Worst-case bounds are loose for long sums (a correct kernel used 0.3 % of its bound at n = 576).
        Independent roundings grow like sqrt(n) instead (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019,
        A2815), each relative to a partial sum; of k terms in random order that is about k/n of the sum y, and
        a random walk beside it. A ratio above 1 is worth a look, not a failure.  M <= sqrt(n) ||products||_2
        (Cauchy-Schwarz), so the walk on squares is made only where 8 u M does not already settle that the
        ratio is below 1; then that cheaper ratio is returned.
        """
        scale = STATISTICAL_FACTOR * contract.u
        error = np.maximum(error - np.multiply(self.terms, contract.eta), 0.0)
        if contract.store != contract.accumulate:
            outer = FLOATS[contract.store]
            error = np.maximum(error - outer.half_spacing(np.abs(self.value) + error), 0.0)
        cheap = _largest_ratio(error, scale * self.magnitude)
        if cheap <= 1 or self.squares is None:
            return cheap
        return _largest_ratio(error, scale * np.sqrt(self.terms * (self.squares() + np.square(self.value))))


def _largest_ratio(error: np.ndarray, scale: np.ndarray) -> float:
    usable = (scale > 0) & np.isfinite(error)
    return float(np.max(error[usable] / scale[usable], initial=0.0))


# Winograd F(4x4, 3x3), the largest tile in common use, with the interpolation points 0, 1, -1, 2, -2,
# infinity (Lavin and Gray, arXiv:1509.09308, section 4.3): 1-d transforms of data, filter and inverse.
_DATA = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_FILTER = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24.0
_INVERSE = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Largest growth of rounding errors relative to max |x| max |w|: absolute values all the way through (Higham
# 2002, section 3.5), one factor for each of the two axes.
_WINOGRAD_GROWTH = float((np.abs(_INVERSE) @ (np.abs(_DATA).sum(1) * np.abs(_FILTER).sum(1))).max()) ** 2


def _norm_wise(magnitude: np.ndarray, contract: Contract) -> np.ndarray:
    """The magnitude that rounding errors are relative to: each element's own for a direct sum, a norm
    otherwise.

    Transform algorithms mix neighbouring elements, so the largest magnitude of the result takes the place of
    each element's own, times the growth of the transform: for Winograd F(4x4, 3x3) as computed above, for an
    FFT log2 of the number of elements (Higham 2002, theorem 24.2).
    """
    if contract.algorithm not in ("winograd", "fft"):
        return magnitude
    growth = _WINOGRAD_GROWTH if contract.algorithm == "winograd" else np.log2(max(2, magnitude.size))
    return np.full_like(magnitude, growth * np.max(magnitude[np.isfinite(magnitude)], initial=0.0))


def multilinear(
    read: Callable[..., np.ndarray],
    factors: tuple[np.ndarray, ...],
    terms: Any,
    start: np.ndarray | None = None,
) -> Products:
    """`Products` of a walk that is linear in each of `factors`: the same walk on them, on their absolute
    values and, when needed, on their squares.  `start`, if any, is a term of its own (a bias): `read` gets it
    as last argument."""
    operands = factors if start is None else (*factors, start)
    unit = math.prod(grid(factor) for factor in factors)
    if start is not None:
        unit = min(unit, grid(start))
        terms = terms + 1
    return Products(
        value=read(*operands),
        magnitude=read(*(np.abs(operand) for operand in operands)),
        terms=terms,
        unit=0.0 if math.isnan(unit) else unit,
        squares=lambda: read(*(np.square(operand) for operand in operands)),
    )

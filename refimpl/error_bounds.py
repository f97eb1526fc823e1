"""How far from the exact value a correct implementation may be: unit roundoffs, gamma(n), contracts, `Bounded`.

Every numeric literal of the suite that says how wrong a result may be stands in this file, with its derivation.
Notation: `u` unit roundoff (half the spacing at 1), `eta` the smallest subnormal, T the storage type, A the type in
which an implementation accumulates.  The standard model of rounding (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., SIAM 2002, eq. 2.4 and section 2.2): fl(a op b) = (a op b)(1 + d) + e with |d| <= u, |e| <= eta / 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Float:
    """A binary floating-point type: `precision` significant bits, exponents from `smallest` to `largest`."""

    precision: int
    smallest: int  # exponent of the smallest normal number
    largest: int  # exponent of the largest finite number

    @property
    def roundoff(self) -> float:
        return 2.0**-self.precision

    @property
    def eta(self) -> float:
        return 2.0 ** (self.smallest - self.precision + 1)

    @property
    def maximum(self) -> float:
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.largest

    @property
    def overflow(self) -> float:
        """Values at or beyond this round to infinity: halfway between `maximum` and the next power of two."""
        return (
            float(np.float64(2.0 - 2.0**-self.precision) * 2.0**self.largest)
            if self.largest < 1023
            else np.inf
        )


# IEEE 754-2019 table 3.5; bfloat16 and tf32 as published by their vendors (8 exponent bits, 7 and 10 fraction bits).
FLOATS = {
    "float64": Float(53, -1022, 1023),
    "float32": Float(24, -126, 127),
    "float16": Float(11, -14, 15),
    "bfloat16": Float(8, -126, 127),
    "tf32": Float(11, -126, 127),
}
DTYPES = ("float64", "float32", "float16", "bfloat16")

# Largest error of a library function, in units in the last place: the larger of CUDA's published single and double
# precision maxima (CUDA C++ Programming Guide, "Mathematical Functions Appendix", standard functions) and of
# the 1.0 ulp that SLEEF's u10 functions promise (sleef.org, "Math library reference").
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


def round_to(dtype: str, values: Any) -> np.ndarray:
    """float64 `values` rounded to the nearest number of `dtype`, ties to even, as float64; beyond the range, inf."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        if dtype == "float64":
            return values.copy()
        if dtype in ("float32", "float16"):
            return values.astype(dtype).astype(np.float64)
        kind = FLOATS[dtype]
        _, exponent = np.frexp(values)  # |values| in [2**(exponent-1), 2**exponent)
        spacing = np.ldexp(1.0, np.maximum(exponent - kind.precision, kind.smallest - kind.precision + 1))
        rounded = np.where(np.isfinite(values), np.rint(values / spacing) * spacing, values)
        beyond = np.abs(rounded) > kind.maximum
        return np.where(beyond, np.copysign(np.inf, rounded), rounded)


def gamma(n: Any, u: float) -> Any:
    """Bound on |(1 + d1)...(1 + dn) - 1| for |di| <= u: (1 + u)^n - 1, at most n u / (1 - n u).

    Higham 2002, Lemma 3.1, for factors that all stand in the numerator, which is what sums and products have; in
    that case the power itself is the bound, and it stays finite when n u >= 1.
    """
    return np.expm1(np.multiply(n, np.log1p(u)))


def grid(values: np.ndarray) -> float:
    """The largest power of two of which every element of `values` is a whole multiple; inf when all are zero."""
    values = np.abs(np.asarray(values, dtype=np.float64)).ravel()
    values = values[values != 0]
    if values.size == 0:
        return np.inf
    if not np.isfinite(values).all():
        return 0.0
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest_bit = whole & -whole
    return float(np.ldexp(lowest_bit.astype(np.float64), exponent - 53).min())


@dataclass(frozen=True)
class Contract:
    """What an implementation promises about its arithmetic.

    store       type T in which results are stored (and operands arrive)
    accumulate  type A in which sums are accumulated and elementary functions evaluated
    product     how the factors of a product are treated first: 'ieee' (as they are), 'tf32' or 'bf16' (rounded to that)
    algorithm   'direct', or 'winograd' / 'fft' (a norm-wise bound), or a name that a family states in its docstring
    """

    store: str
    accumulate: str
    product: str = "ieee"
    algorithm: str = "direct"

    @property
    def u(self) -> float:
        """Unit roundoff that `Bounded` charges an operation: that of A, plus that of this reference itself.

        A candidate is off by at most E(u_A), the float64 reference by at most E(u_64), with the same E: a polynomial in
        u with coefficients >= 0 and E(0) = 0, hence E(a) + E(b) <= E(a + b).  One pass with the sum covers both.
        """
        return FLOATS[self.accumulate].roundoff + FLOATS["float64"].roundoff

    @property
    def eta(self) -> float:
        return FLOATS[self.accumulate].eta + FLOATS["float64"].eta

    @property
    def factor_roundoff(self) -> float:
        """Relative error of a product whose two factors are first rounded to tf32 or bf16; 0 for ieee."""
        if self.product == "ieee":
            return 0.0
        return float(gamma(2, FLOATS[{"tf32": "tf32", "bf16": "bfloat16"}[self.product]].roundoff))

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
    """What is required: ieee products, accumulation in float32 for the half types and in T itself otherwise, direct."""
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
class Bounded:
    """A value in float64 and a bound on how far from the exact value a candidate's and this value may be together.

    Evaluating a documented formula with it gives value and bound in one pass.  Each operation propagates the errors
    of its operands and adds one rounding (`contract.u`, relative to the largest possible result) and the underflow
    `contract.eta`; a library function adds its published number of units in the last place (`ULPS`).  Where a result
    does not depend on rounding (negation, comparison, selection, multiplication by a power of two), nothing is added.
    Operands that are not Bounded are constants of the formula (`Contract.constant`).  Source: Higham 2002, chapters 2-3.
    """

    value: np.ndarray
    error: np.ndarray
    contract: Contract
    bitwise: bool = False  # a copied value: also the sign of a zero is compared
    products: Products | None = None  # where the value is a sum of products: what the statistical ratio needs

    def _lift(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else self.contract.constant(other)

    def _rounded(self, value: Any, error: Any, roundings: float = 1.0) -> Bounded:
        size = np.abs(value) + error
        with np.errstate(invalid="ignore"):
            error = error + gamma(roundings, self.contract.u) * size + self.contract.eta * (size != 0)
        return Bounded(value, _finite_where(value, error), self.contract)

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.contract)

    def __abs__(self) -> Bounded:
        return Bounded(np.abs(self.value), self.error, self.contract)

    def __add__(self, other: Any) -> Bounded:
        other = self._lift(other)
        # Sums of two numbers of A never underflow (Higham 2002, section 2.2), so no eta, and adding an exact 0 is exact.
        value = self.value + other.value
        error = self.error + other.error
        exact = ((self.value == 0) & (self.error == 0)) | ((other.value == 0) & (other.error == 0))
        with np.errstate(invalid="ignore"):
            rounding = np.where(exact, 0.0, self.contract.u * (np.abs(value) + error))
        return Bounded(value, _finite_where(value, error + rounding), self.contract)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Bounded:
        return self + (-self._lift(other))

    def __rsub__(self, other: Any) -> Bounded:
        return self._lift(other) + (-self)

    def __mul__(self, other: Any) -> Bounded:
        if not isinstance(other, Bounded) and np.ndim(other) == 0 and _power_of_two(other):
            return Bounded(
                self.value * other,
                self.error * abs(other) + self.contract.eta * (self.value != 0),
                self.contract,
            )
        other = self._lift(other)
        with np.errstate(invalid="ignore", over="ignore"):
            value = self.value * other.value
            error = (
                np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
            )
        return self._rounded(value, error)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        if not isinstance(other, Bounded) and np.ndim(other) == 0 and _power_of_two(other):
            return self * (1.0 / other)
        other = self._lift(other)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = self.value / other.value
            nearest = np.abs(other.value) - other.error  # smallest magnitude the divisor can have
            error = (self.error + np.abs(value) * other.error) / nearest
            error = np.where(
                nearest > 0, error, np.where((self.error == 0) & (other.error == 0), 0.0, np.inf)
            )
        return self._rounded(value, error)

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._lift(other) / self

    def apply(self, function: Callable, ulps: float = 0.0) -> Bounded:
        """A function that is monotone between value - error and value + error, evaluated with `ulps` of error."""
        with np.errstate(all="ignore"):
            value = function(self.value)
            low, high = function(self.value - self.error), function(self.value + self.error)
            error = np.where(self.error == 0, 0.0, np.maximum(np.abs(high - value), np.abs(low - value)))
        return self._rounded(value, error, roundings=2.0 * ulps)  # an ulp is at most 2 u |value|

    def exp(self) -> Bounded:
        return self.apply(np.exp, ULPS["exp"])

    def expm1(self) -> Bounded:
        return self.apply(np.expm1, ULPS["expm1"])

    def log(self) -> Bounded:
        return self.apply(np.log, ULPS["log"])

    def log1p(self) -> Bounded:
        return self.apply(np.log1p, ULPS["log1p"])

    def tanh(self) -> Bounded:
        return self.apply(np.tanh, ULPS["tanh"])

    def erf(self) -> Bounded:
        return self.apply(_erf, ULPS["erf"])

    def sqrt(self) -> Bounded:
        """Correctly rounded by IEEE 754; an argument's interval is cut off at zero."""
        inside = Bounded(self.value, np.minimum(self.error, np.abs(self.value)), self.contract)
        root = inside.apply(np.sqrt, 0.5)
        return replace(
            root, error=np.maximum(root.error, np.sqrt(np.maximum(self.value + self.error, 0)) - root.value)
        )

    def sum(self, axis: Any = None, keepdims: bool = False) -> Bounded:
        """Sum in any order: n terms, at most n - 1 roundings on each (Higham 2002, section 4.2)."""
        value = self.value.sum(axis=axis, keepdims=keepdims)
        error = self.error.sum(axis=axis, keepdims=keepdims)
        terms = self.value.size // max(1, value.size)
        with np.errstate(invalid="ignore"):
            magnitude = np.abs(self.value).sum(axis=axis, keepdims=keepdims) + error
            error = error + gamma(max(terms - 1, 0), self.contract.u) * magnitude
        return Bounded(value, _finite_where(value, error), self.contract)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index], self.contract)

    def reshape(self, *shape: Any) -> Bounded:
        return Bounded(self.value.reshape(*shape), self.error.reshape(*shape), self.contract)

    def store(self) -> Bounded:
        """Round to T, as an implementation does where it must write a tensor.  Free when A is T."""
        if self.contract.store == self.contract.accumulate:
            return self
        kind = FLOATS[self.contract.store]
        with np.errstate(invalid="ignore"):
            error = (
                self.error + kind.roundoff * (np.abs(self.value) + self.error) + kind.eta * (self.value != 0)
            )
        return Bounded(self.value, _finite_where(self.value, error), self.contract)

    def agreeing(self, loops: np.ndarray, what: str) -> Bounded:
        """This bound around the loops' value; an error of the suite if formula and loops differ by more than it."""
        with np.errstate(invalid="ignore"):
            apart = np.abs(loops - self.value) > self.error
        apart |= np.isnan(loops) != np.isnan(self.value)
        apart &= loops != self.value
        if apart.any():
            index = tuple(int(i) for i in np.argwhere(apart)[0])
            raise SuiteError(
                f"{what}{list(index)}: the loops give {loops[index]!r}, the bounded formula {self.value[index]!r} "
                f"+- {self.error[index]!r}; one of the two is wrong"
            )
        return replace(self, value=loops)


class SuiteError(AssertionError):
    """The suite contradicts itself: a defect of the suite, never of a candidate."""


def where(condition: np.ndarray, yes: Bounded, no: Bounded) -> Bounded:
    """Selection by a condition that does not depend on rounding (a comparison of operands that are exact)."""
    return Bounded(
        np.where(condition, yes.value, no.value), np.where(condition, yes.error, no.error), yes.contract
    )


def maximum(first: Bounded, second: Bounded) -> Bounded:
    """The larger of the two: off by at most the larger of the two errors."""
    return Bounded(
        np.maximum(first.value, second.value), np.maximum(first.error, second.error), first.contract
    )


@dataclass(frozen=True)
class Products:
    """What a multilinear walk tells about its sums of products: all that the bound needs.

    value      the sums, shape S            magnitude  the same walk on absolute values, shape S
    terms      number of terms of each sum, broadcastable to S
    unit       every product is a whole multiple of it (`grid` of one operand times that of the other; 0 if unknown),
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
            squares=None if squares is None else lambda: move(squares()),
        )

    def bounded(self, contract: Contract) -> Bounded:
        """The bound of a sum of n products in any order, stored once in T.

            e     = (1 + p)(gamma_A(n) M + n eta_A) + p M            before the store; p = error of rounded factors
            bound = e + u_T (|y| + e) + eta_T + gamma_64(n) M        the last term is this reference's own error

        n products and n - 1 additions put at most n roundings on each term whatever the order (Higham 2002, section
        3.1 and 4.2), so the bound is the same for every blocking, vectorization and transposition.  The store costs
        nothing when A is T.  The bound is 0 where every product and partial sum is exactly representable: all are whole
        multiples of `unit`, none exceeds M, and M / unit < 2^p; and where `terms` is 0, so that nothing is rounded.
        'winograd' and 'fft': see `_norm_wise`.
        """
        kind, inner, outer = FLOATS[contract.accumulate], FLOATS["float64"], FLOATS[contract.store]
        value = self.value
        with np.errstate(invalid="ignore", over="ignore"):
            magnitude = _norm_wise(self.magnitude, contract)
            own = gamma(self.terms, inner.roundoff) * self.magnitude + np.multiply(self.terms, inner.eta)
            factor = contract.factor_roundoff
            before = (1 + factor) * (
                gamma(self.terms, kind.roundoff) * magnitude + np.multiply(self.terms, kind.eta)
            )
            before = before + factor * magnitude
            error = before + own
            if contract.store != contract.accumulate:
                error = error + outer.roundoff * (np.abs(value) + before) + outer.eta
            error = np.where(self._exact(contract), 0.0, error)
        return Bounded(value, _finite_where(value, error), contract, products=self)

    def _exact(self, contract: Contract) -> np.ndarray:
        if contract.algorithm != "direct" or contract.product != "ieee":
            return np.zeros(self.value.shape, dtype=bool)
        bits = min(FLOATS[contract.store].precision, FLOATS[contract.accumulate].precision)
        representable = self.unit >= FLOATS[contract.store].eta
        return np.equal(self.terms, 0) | (representable & (self.magnitude <= 2.0**bits * self.unit))

    def statistical_ratio(self, contract: Contract, error: np.ndarray) -> float:
        """Largest error / (8 u sqrt(n) ||products||_2), what store and underflow may have cost taken off the error.

        Worst-case bounds are loose for long sums (a correct kernel used 0.3 % of its bound at n = 576).  Independent
        roundings grow like sqrt(n) instead (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, A2815): a ratio above 1
        is worth a look, not a failure.  M <= sqrt(n) ||products||_2 (Cauchy-Schwarz), so the walk on squares is
        made only where 8 u M does not already settle that the ratio is below 1; then that cheaper ratio is returned.
        """
        scale = STATISTICAL_FACTOR * (FLOATS[contract.accumulate].roundoff + FLOATS["float64"].roundoff)
        error = np.maximum(error - np.multiply(self.terms, contract.eta), 0.0)
        if contract.store != contract.accumulate:
            outer = FLOATS[contract.store]
            error = np.maximum(error - outer.roundoff * np.abs(self.value) - outer.eta, 0.0)
        cheap = _largest_ratio(error, scale * self.magnitude)
        if cheap <= 1 or self.squares is None:
            return cheap
        return _largest_ratio(error, scale * np.sqrt(self.terms * self.squares()))


def _largest_ratio(error: np.ndarray, scale: np.ndarray) -> float:
    usable = (scale > 0) & np.isfinite(scale) & np.isfinite(error)
    return float(np.max(error[usable] / scale[usable], initial=0.0))


# Winograd F(4x4, 3x3), the largest tile in common use, with the interpolation points 0, 1, -1, 2, -2, infinity
# (Lavin and Gray, arXiv:1509.09308, section 4.3): 1-d transforms of data, filter and inverse.
_DATA = (
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    / 1.0
)
_FILTER = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24.0
_INVERSE = (
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]) / 1.0
)
# Largest growth of rounding errors relative to max |x| max |w|: absolute values all the way through (Higham 2002,
# section 3.5), one factor for each of the two axes.
_WINOGRAD_GROWTH = float((np.abs(_INVERSE) @ (np.abs(_DATA).sum(1) * np.abs(_FILTER).sum(1))).max()) ** 2


def _norm_wise(magnitude: np.ndarray, contract: Contract) -> np.ndarray:
    """The magnitude that rounding errors are relative to: each element's own for a direct sum, a norm otherwise.

    Transform algorithms mix neighbouring elements, so the largest magnitude of the result takes the place of each
    element's own, times the growth of the transform: for Winograd F(4x4, 3x3) as computed above, for an FFT
    log2 of the number of elements (Higham 2002, theorem 24.2).
    """
    if contract.algorithm not in ("winograd", "fft") or magnitude.size == 0:
        return magnitude
    growth = _WINOGRAD_GROWTH if contract.algorithm == "winograd" else max(1.0, np.log2(magnitude.size))
    return np.full_like(magnitude, growth * np.max(magnitude[np.isfinite(magnitude)], initial=0.0))


def _finite_where(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """`error`, 0 where the value is NaN or infinite: such elements are compared by kind, not by distance."""
    return np.where(np.isfinite(value), error, 0.0)


def _power_of_two(number: Any) -> bool:
    return number != 0 and np.isfinite(number) and abs(np.frexp(float(number))[0]) == 0.5


_erf = np.vectorize(math.erf, otypes=[np.float64])


def multilinear(
    read: Callable[..., np.ndarray],
    factors: tuple[np.ndarray, ...],
    terms: Any,
    start: np.ndarray | None = None,
) -> Products:
    """`Products` of a walk that is linear in each of `factors`: the same walk on them, on their absolute values and,
    when needed, on their squares.  `start`, if any, is a term of its own (a bias): `read` gets it as last argument."""
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


def statistics(values: np.ndarray, axes: tuple[int, ...], contract: Contract) -> tuple[Bounded, Bounded]:
    """Mean and biased variance of exact `values` over `axes` (kept with size 1), however they are summed.

        |mean - exact| <= e = gamma(r) mean|x|                    r = n + 4 (1 + ceil(log2 n))
        |variance - exact| <= P + gamma(r + 4)(variance + P)      P = e^2 + (1 + sqrt 2) e sqrt(variance)

    Mean: a sum puts n - 1 roundings on each term and the division one (Higham 2002, section 4.2).  The update
    m_k = m_(k-1) + (x_k - m_(k-1)) / k puts n - j + 1 on x_j, and two more at each k on x_k - m_(k-1), in all
    4 + 2 ln n; a tree that merges (n_a m_a + n_b m_b) / (n_a + n_b) puts four a level; a mixture at most r.

    Variance: two passes around a mean that is off by d find variance + d^2, d <= e.  Welford's update adds
    (x_k - m_(k-1))(x_k - m_k), which errors d_k of the means change by at most
        |d_(k-1)||x_k - m_k| + |d_k||x_k - m_(k-1)| + |d_k d_(k-1)|.
    With S_k the exact sums of squares and D = S_k - S_(k-1), (x_k - m_k)^2 <= D and (x_k - m_(k-1))^2 <= 2 D,
    so by Cauchy-Schwarz and k d_k <= n e that is at most n P in all.  The rest is n + 3 roundings, relative to
    increments that are all positive.  Chan, Golub, LeVeque (The American Statistician 37(3), 1983, table 2)
    give the same orders: n u + (n u kappa)^2 for two passes, n u kappa for updates; kappa = rms / deviation.
    One pass, E[x^2] - E[x]^2, is off by n u kappa^2: not within this bound when kappa is large.
    """
    n = max(1, math.prod(values.shape[axis] for axis in axes))
    roundings = n + 4 * (1 + math.ceil(math.log2(n)))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.sum(axis=axes, keepdims=True) / n
        variance = np.square(values - mean).sum(axis=axes, keepdims=True) / n
        magnitude = np.abs(values).sum(axis=axes, keepdims=True) / n
        underflow = n * contract.eta * (magnitude != 0)
        off = gamma(roundings, contract.u) * magnitude + underflow
        moved = off**2 + (1 + math.sqrt(2)) * off * np.sqrt(variance)
        spread = moved + gamma(roundings + 4, contract.u) * (variance + moved) + underflow
    return (
        Bounded(mean, _finite_where(mean, off), contract),
        Bounded(variance, _finite_where(variance, spread), contract),
    )


def inverse_deviation(variance: Bounded, eps: float) -> Bounded:
    """1 / sqrt(variance + eps), by a library's rsqrt or by a root and a division; variances are >= 0."""
    total, least = variance + eps, variance.contract.constant(eps)
    with np.errstate(all="ignore"):
        floor = np.where(variance.value >= 0, least.value - least.error, -np.inf)
        value = 1 / np.sqrt(total.value)
        low, high = np.maximum(total.value - total.error, floor), total.value + total.error
        error = np.maximum(np.abs(1 / np.sqrt(low) - value), np.abs(value - 1 / np.sqrt(high)))
        return total._rounded(value, np.where(total.error == 0, 0.0, error), roundings=2.0 * ULPS["rsqrt"])

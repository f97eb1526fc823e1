"""`Bounded` arithmetic: a formula evaluated once gives its value and how far from it a candidate's may be.

What is meant by `error`, and what every operation keeps true: let m be the value found here, in float64, and
c what any candidate finds that evaluates the same formula in A, sums in any order.  Then |c - m| <= error.
Each operation adds what the operands' errors can do to its exact result, the candidate's rounding in A and
the rounding of float64 here; |c - m| is bounded directly, so there is no separate account of how exact m is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from refimpl.floats import FLOATS, gamma, outward, round_to

if TYPE_CHECKING:
    from refimpl.error_bounds import Contract, Products

_erf = np.vectorize(math.erf, otypes=[np.float64])
_left_out: ContextVar[str] = ContextVar("left_out", default="")


@contextmanager
def without_store(point: str) -> Iterator[None]:
    """Inside the block bounds leave out the stores of that name: so self-tests show that each is needed."""
    token = _left_out.set(point)
    try:
        yield
    finally:
        _left_out.reset(token)


class SuiteError(AssertionError):
    """The suite contradicts itself: a defect of the suite, never of a candidate."""


@dataclass(frozen=True)
class Bounded:
    """A value in float64 and a bound on how far from it a candidate's value may be.

    A rounding errs by at most half the spacing at the largest possible result; a library function by its
    published number of units in the last place (`Contract.library`).  Where a result does not depend on
    rounding (negation, selection, scaling by a power of two), nothing is added.  Operands that are not
    Bounded are constants of the formula (`Contract.constant`).  Subnormal numbers are expected to be kept.
    Overflow of an intermediate result in A is not modelled: a formula that recovers from it says so itself.
    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, chapters 2 and 3.
    """

    value: np.ndarray
    error: np.ndarray
    contract: Contract
    bitwise: bool = False  # a copied value: also the sign of a zero is compared
    products: Products | None = None  # where the value is a sum of products: what the statistical ratio needs

    __array_ufunc__ = None  # array * Bounded is Bounded.__rmul__, not an array of objects

    def _lift(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else self.contract.constant(other)

    @property
    def _zero(self) -> np.ndarray:
        """Where every candidate has exactly 0."""
        return (self.value == 0) & (self.error == 0)

    def _result(self, value: Any, error: Any, exact: Any, roundings: float = 1.0) -> Bounded:
        """An operation's value, with the error of its operands and so many roundings, none where it is
        `exact`."""
        with np.errstate(invalid="ignore", over="ignore"):
            rounding = self.contract.rounding(outward(np.abs(value) + error), roundings)
            error = outward(error + np.where(exact, 0.0, rounding))
        return Bounded(value, finite_where(value, error), self.contract)

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.contract)

    def __abs__(self) -> Bounded:
        return Bounded(np.abs(self.value), self.error, self.contract)

    def __add__(self, other: Any) -> Bounded:
        other = self._lift(other)
        with np.errstate(invalid="ignore", over="ignore"):
            value, error = self.value + other.value, self.error + other.error
        # Exact: adding 0, and exact numbers that cancel.
        return self._result(value, error, self._zero | other._zero | ((value == 0) & (error == 0)))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Bounded:
        return self + (-self._lift(other))

    def __rsub__(self, other: Any) -> Bounded:
        return self._lift(other) + (-self)

    def __mul__(self, other: Any) -> Bounded:
        if self._only_scales(other):
            return self._scaled(float(other))
        other = self._lift(other)
        with np.errstate(invalid="ignore", over="ignore"):
            value = self.value * other.value
            # c1 c2 - m1 m2 = (c1 - m1) m2 + m1 (c2 - m2) + (c1 - m1)(c2 - m2)
            error = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return self._result(value, error, self._zero | other._zero)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        if self._only_scales(other) and self._only_scales(1.0 / float(other)):
            return self._scaled(1.0 / float(other))
        other = self._lift(other)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = self.value / other.value
            # c1/c2 - m1/m2 = ((c1 - m1) - (m1/m2)(c2 - m2)) / c2, and |c2| >= |m2| - error
            nearest = np.maximum(np.abs(other.value) - other.error, 0.0)
            error = (self.error + np.abs(value) * other.error) / nearest
            error = np.where((self.error == 0) & (other.error == 0), 0.0, error)
        return self._result(value, error, self._zero)

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._lift(other) / self

    def _only_scales(self, other: Any) -> bool:
        """Whether `other` is a power of two that A holds: only then a product with it is free of rounding."""
        if isinstance(other, Bounded) or np.ndim(other) != 0:
            return False
        mantissa, exponent = math.frexp(float(other))
        kind = FLOATS[self.contract.accumulate]
        return abs(mantissa) == 0.5 and kind.smallest <= exponent - 1 <= kind.largest

    def _scaled(self, power: float) -> Bounded:
        """Product with a power of two: exact, but for the underflow of a smaller result."""
        value, error = self.value * power, self.error * abs(power)
        if abs(power) < 1:
            error = error + np.where(self._zero, 0.0, self.contract.eta / 2)
        return Bounded(value, finite_where(value, outward(error)), self.contract)

    def apply(self, function: Callable, ulps: float = 0.0, spread: Callable | None = None) -> Bounded:
        """A function that is monotone between value - error and value + error, evaluated with `ulps` of
        error.

        `spread(value, error)` bounds how much the function changes there.  Without it that is found by
        differences, which costs the error of evaluating the function in float64 twice more.
        """
        with np.errstate(all="ignore"):
            value = function(self.value)
            if spread is None:
                low, high = (np.nextafter(self.value + side * self.error, side * np.inf) for side in (-1, 1))
                apart = np.maximum(np.abs(function(high) - value), np.abs(function(low) - value))
                error = apart + 4.0 * ulps * FLOATS["float64"].roundoff * (np.abs(value) + apart)
            else:
                error = spread(self.value, self.error)
            error = np.where(self.error == 0, 0.0, error)
            # A zero of the function itself, not an underflow: all those used have theirs at 0, 1 and
            # infinity.
            zero = (error == 0) & (value == 0) & ((np.abs(self.value) <= 1) | np.isinf(self.value))
        return self._result(value, error, zero, 2.0 * ulps)  # an ulp is two half spacings

    def _library(self, name: str, function: Callable, spread: Callable) -> Bounded:
        return self.apply(function, self.contract.library(name), spread)

    def exp(self) -> Bounded:
        return self._library("exp", np.exp, _exp_spread)

    def expm1(self) -> Bounded:
        return self._library("expm1", np.expm1, _exp_spread)

    def log(self) -> Bounded:
        return self._library("log", np.log, lambda v, e: -np.log1p(-e / v))

    def log1p(self) -> Bounded:
        return self._library("log1p", np.log1p, lambda v, e: -np.log1p(-e / (1.0 + v)))

    def tanh(self) -> Bounded:
        """Steepest where the interval is nearest to 0: slope 1 / cosh^2."""
        return self._library("tanh", np.tanh, lambda v, e: np.minimum(e / np.cosh(_nearest(v, e)) ** 2, 2.0))

    def erf(self) -> Bounded:
        """Steepest where the interval is nearest to 0: slope 2 / sqrt(pi) exp(-x^2)."""
        slope = 2.0 / math.sqrt(math.pi)
        return self._library(
            "erf", _erf, lambda v, e: np.minimum(e * slope * np.exp(-(_nearest(v, e) ** 2)), 2.0)
        )

    def sqrt(self) -> Bounded:
        """Correctly rounded by IEEE 754; arguments are never negative, so their interval ends at zero."""
        return self.apply(np.sqrt, 0.5, _sqrt_spread)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Bounded:
        """Sum in any order: of n terms that are not 0, each takes part in at most n - 1 roundings.

        Higham 2002, section 4.2, for sums in any order; adding 0 is exact."""
        with np.errstate(invalid="ignore", over="ignore"):
            value = self.value.sum(axis=axis, keepdims=keepdims)
            error = self.error.sum(axis=axis, keepdims=keepdims)
            magnitude = np.abs(self.value).sum(axis=axis, keepdims=keepdims) + error
            terms = np.count_nonzero(~self._zero, axis=axis, keepdims=keepdims)
            error = error + gamma(np.maximum(terms - 1, 0), self.contract.u) * magnitude
            error = outward(error, 8 + terms)
        return Bounded(value, finite_where(value, error), self.contract)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index], self.contract)

    def reshape(self, *shape: Any) -> Bounded:
        return Bounded(self.value.reshape(*shape), self.error.reshape(*shape), self.contract)

    def store(self, point: str = "") -> Bounded:
        """Round to T, as an implementation does where it must write a tensor.  Free when A is T.

        `point` is the name under which a layer's docstring says so."""
        if point and point == _left_out.get():
            return self
        error = np.where(self._zero, 0.0, self.contract.stored(self.value, self.error))
        return Bounded(self.value, finite_where(self.value, error), self.contract)

    def cast(self, dtype: str) -> Bounded:
        """What was stored in T, stored once more in another type: free where that holds every number of T.

        An exact value has an exact rounding too; where it overflows, it is compared by kind."""
        kind, own = FLOATS[dtype], FLOATS[self.contract.store]
        if kind.precision >= own.precision and kind.largest >= own.largest:
            return self
        contract = replace(self.contract, store=dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            rounded = round_to(dtype, self.value)
            apart = np.where(np.isinf(rounded), 0.0, np.abs(rounded - self.value))
            error = np.where(self.error == 0, apart, contract.stored(self.value, self.error))
        once = self.contract.store == self.contract.accumulate  # else the statistics know of one store only
        error = finite_where(self.value, error)
        return replace(self, error=error, contract=contract, products=self.products if once else None)

    def agreeing(self, loops: np.ndarray, what: str) -> Bounded:
        """This bound around the loops' value instead, wider by what lies between the two: |c - l| <= |c - m|
        + |m - l|.

        An error of the suite if formula and loops differ by more than the bound."""
        with np.errstate(invalid="ignore"):
            apart = np.where(loops == self.value, 0.0, np.abs(loops - self.value))
            wrong = (apart > self.error) | (np.isnan(loops) != np.isnan(self.value))
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise SuiteError(
                f"{what}{list(index)}: the loops give {loops[index]!r}, the bounded formula "
                f"{self.value[index]!r} +- {self.error[index]!r}; one of the two is wrong"
            )
        return replace(self, value=loops, error=finite_where(loops, self.error + apart))


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


def finite_where(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """`error`, 0 where the value is NaN or infinite: such elements are compared by kind, not by distance.

    A NaN, of an infinite error that met 0 or another one, is an infinite error."""
    return np.where(np.isfinite(value), np.where(np.isnan(error), np.inf, error), 0.0)


def _nearest(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The distance of the interval value +- error from 0."""
    return np.maximum(np.abs(value) - error, 0.0)


def _sqrt_spread(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Differences of roots without cancellation: sqrt(a) - sqrt(b) = (a - b) / (sqrt(a) + sqrt(b))."""
    root, down = np.sqrt(value), np.minimum(error, value)
    below = np.where(down > 0, down / (root + np.sqrt(value - down)), 0.0)
    return np.maximum(below, error / (np.sqrt(value + error) + root))


def _exp_spread(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """exp(v + e) - exp(v); where e is large the first term alone (0 times infinity has no value)."""
    large = np.exp(np.nextafter(value + error, np.inf))
    return np.where(error < 1, np.exp(value) * np.expm1(error), large)

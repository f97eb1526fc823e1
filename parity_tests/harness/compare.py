"""The comparison: one array of a candidate against the reference's value and bound, element by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.error_bounds import FLOATS, UNINFORMATIVE_SHARE, Bounded, SuiteError


class Unbounded(SuiteError):
    """A bound that has grown beyond float64, as those of many times and layers do."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison found in one tensor.

    elements       how many were compared                exact        how many of them with bound 0
    utilisation    largest error / bound (0 where both are 0; inf where the bound is 0 and the error is not)
    wrong          indices of the elements out of bound, worst first
    statistical    error against what is likely for sums of products (`Products.statistical_ratio`); above 1:
                   look
    uninformative  elements whose bound is wider than the scale of the values
    reached        elements that are made of something: all, or those with at least one term where the terms
                   are known
    zeros          how many of the reached ones have the exact value 0
    """

    name: str
    actual: np.ndarray
    bounded: Bounded
    elements: int
    exact: int
    utilisation: float
    wrong: np.ndarray
    statistical: float
    uninformative: int
    reached: int
    zeros: int

    @property
    def tells_nothing(self) -> bool:
        """The bound is wider than the values for so many elements that a wrong result would pass."""
        return self.uninformative > UNINFORMATIVE_SHARE * self.elements

    @property
    def mostly_zeros(self) -> bool:
        """Zeros by chance, which an implementation that does nothing would give too.

        An element that no tap reaches is rightly 0 and does not count; where taps are not known (a copied
        border, a rectified value) zeros are part of the result, and only a result that is nothing but zeros
        tells nothing.
        """
        known = self.bounded.products is not None
        return self.reached > 0 and (2 * self.zeros > self.reached if known else self.zeros == self.reached)


def compare(name: str, actual: np.ndarray, bounded: Bounded) -> Comparison:
    """Compare every element.  The shapes must be equal (`check_metadata` has seen to that)."""
    expected, bound = bounded.value, bounded.error
    finite = np.isfinite(expected)
    if not np.isfinite(bound[finite]).all() or (bound < 0).any():
        raise (Unbounded if (bound[finite] >= 0).all() else SuiteError)(
            f"{name}: a bound is NaN, infinite or negative at a finite value; the suite must mend its bound"
        )
    right, error, ratio = _judged(actual, bounded, finite)
    wrong = np.argwhere(~right)[np.argsort(-ratio[~right], kind="stable")]
    usable, sizes = bound[finite], np.abs(expected[finite])
    statistical, uninformative, terms = 0.0, 0, np.ones(())
    if usable.size:
        with np.errstate(invalid="ignore", over="ignore"):
            uninformative = int(np.count_nonzero(usable > np.maximum(np.mean(sizes), sizes)))
    if bounded.products is not None:
        terms = np.asarray(bounded.products.terms)
        if usable.size:
            statistical = bounded.products.statistical_ratio(bounded.contract, error)
    reached = np.broadcast_to(np.greater(terms, 0), expected.shape)
    return Comparison(
        name,
        actual,
        bounded,
        elements=int(expected.size),
        exact=int(np.count_nonzero(usable == 0)),
        utilisation=float(ratio.max(initial=0.0)),
        wrong=wrong,
        statistical=statistical,
        uninformative=uninformative,
        reached=int(np.count_nonzero(reached)),
        zeros=int(np.count_nonzero((expected == 0) & reached)),
    )


def _judged(
    actual: np.ndarray, bounded: Bounded, finite: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which elements are right, their errors (0 where no distance is meant), and all ratios error / bound.

    A NaN must meet a NaN and an infinity the infinity of its sign; where the interval holds the threshold
    of overflow either side is right, and beyond it only infinity.  What is wrong by kind has ratio infinity.
    """
    expected, bound = bounded.value, bounded.error
    overflow = FLOATS[bounded.contract.store].overflow
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error, size = np.abs(actual - expected), np.abs(expected)
        may_overflow = finite & (size + bound >= overflow) & np.isinf(actual)
        must_overflow = finite & (size - bound >= overflow)
        same_sign = np.signbit(actual) == np.signbit(expected)
        right = np.where(may_overflow, same_sign, (error <= bound) & ~must_overflow)
        right = np.where(finite, right, (actual == expected) | (np.isnan(actual) & np.isnan(expected)))
        if bounded.bitwise:
            right &= np.isnan(expected) | same_sign
        error = np.where(finite & np.isfinite(actual), error, 0.0)
        ratio = np.where(error == 0, 0.0, error / bound)
    ratio = np.where(right | (ratio > 1), ratio, np.inf)
    return right, np.where(right, error, 0.0), ratio

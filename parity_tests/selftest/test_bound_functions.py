"""Functions of bounded numbers, bit for bit: how far one spreads over an interval, its zeros and underflows,
and the statistics of normalizations."""

import math

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import CONTRACTS, SINGLE, U64, rounded, same, up, within
from refimpl.error_bounds import ULPS, inverse_deviation, statistics
from refimpl.floats import gamma


@CONTRACTS
@pytest.mark.parametrize(
    "function", [np.square, np.sqrt, lambda v: 1 / v], ids=["square", "root", "reciprocal"]
)
@pytest.mark.parametrize("ulps", [0.0, 1.0, 4.0])
def test_a_function_by_differences(contract, function, ulps):
    value, error = np.array([1.9, 0.6, 9.0, 3.0]), np.array([0.2, 0.5, 0.25, 0.0])
    middle = function(value)
    low, high = np.nextafter(value - error, -np.inf), np.nextafter(value + error, np.inf)
    apart = np.maximum(np.abs(function(high) - middle), np.abs(function(low) - middle))
    moved = apart + 4.0 * ulps * U64 * (np.abs(middle) + apart)
    moved = np.where(error == 0, 0.0, moved)
    found = within(contract, value, error).apply(function, ulps)
    same(found.value, middle)
    same(found.error, rounded(contract, middle, moved, 2.0 * ulps))
    if not ulps:
        same(within(contract, value, error).apply(function).error, found.error)


@CONTRACTS
def test_zeros_of_a_function_and_underflows(contract):
    """Zeros at 0, at 1 and at infinity are the function's own; others are underflows, which may be rounded
    up."""
    values = np.array([0.0, 1.0, -1.0, np.inf, -np.inf, 1.5, 2.0, 0.5])
    found = contract.exact(values).apply(lambda v: np.where(np.isfinite(v), 0.0 * v, 0.0), 1.0)
    least = rounded(contract, 0.0, 0.0, 2.0)
    same(found.error, [0.0, 0.0, 0.0, 0.0, 0.0, least, least, 0.0])
    for error in (0.5, 1.0):
        spread = within(contract, 0.0, error).apply(lambda v: v, 1.0, lambda v, e: e)
        same(spread.error, rounded(contract, 0.0, error, 2.0))
    same(contract.exact(1.0).apply(lambda v: v, 1.0).error, rounded(contract, 1.0, 0.0, 2.0))


def near(v, e):
    return np.maximum(np.abs(v) - e, 0.0)


SPREADS = {
    "exp": (
        np.exp,
        lambda v, e: np.where(e < 1, np.exp(v) * np.expm1(e), np.exp(np.nextafter(v + e, np.inf))),
    ),
    "expm1": (
        np.expm1,
        lambda v, e: np.where(e < 1, np.exp(v) * np.expm1(e), np.exp(np.nextafter(v + e, np.inf))),
    ),
    "log": (np.log, lambda v, e: -np.log1p(-e / v)),
    "log1p": (np.log1p, lambda v, e: -np.log1p(-e / (1.0 + v))),
    "tanh": (np.tanh, lambda v, e: np.minimum(e / np.cosh(near(v, e)) ** 2, 2.0)),
    "erf": (
        np.vectorize(math.erf),
        lambda v, e: np.minimum(e * (2.0 / math.sqrt(math.pi)) * np.exp(-(near(v, e) ** 2)), 2.0),
    ),
}


@CONTRACTS
@pytest.mark.parametrize("name", SPREADS)
def test_spreads_of_functions(contract, name):
    """Steepest at the end that is nearest to 0, or at the lower, or at the upper one; 2 is the width of tanh
    and erf."""
    function, spread = SPREADS[name]
    value = np.array([0.3, 0.7, 1.2, 2.5, 3.0, 2.5, 6.0])
    error = np.array([0.25, 0.5, 0.0, 1.0, 2.0, 1.5, 5.9])
    if not name.startswith("log"):
        value, error = (
            np.concatenate([value, -value, [0.0, 0.5]]),
            np.concatenate([error, error, [5.0, 0.75]]),
        )
    found = getattr(within(contract, value, error), name)()
    with np.errstate(invalid="ignore"):
        moved = np.where(error == 0, 0.0, spread(value, error))
    same(found.value, function(value))
    same(found.error, rounded(contract, function(value), moved, 2.0 * ULPS[name]))


@CONTRACTS
def test_spread_of_a_root(contract):
    """Downwards while the interval ends above zero, upwards where it holds it."""
    value, error = np.array([4.0, 0.25, 0.0, 9.0, 1.0]), np.array([1.0, 6.0, 0.25, 0.0, 1.0])
    below = [1.0 / (2.0 + math.sqrt(3.0)), 0.25 / 0.5, 0.0, 0.0, 1.0]
    above = [1.0 / (math.sqrt(5.0) + 2.0), 6.0 / (2.5 + 0.5), 0.5, 0.0, 1.0 / (math.sqrt(2.0) + 1.0)]
    found = within(contract, value, error).sqrt()
    same(found.value, np.sqrt(value))
    moved = np.maximum(below, above)
    same(found.error[[0, 1, 2, 4]], rounded(contract, np.sqrt(value), moved)[[0, 1, 2, 4]])
    same(found.error[3], rounded(contract, 3.0, 0.0))


# Statistics of normalizations.


@CONTRACTS
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 33])
def test_mean_and_variance(contract, count):
    """The roundings of the worst algorithm, what a mean that is off does to the variance, underflow."""
    values = np.random.default_rng(count).uniform(1, 2, (2, count, 3)) * np.array([1.0, 1e-40, 0.0])
    levels = {1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 33: 6}[count]
    roundings = count + 4 * (1 + levels)
    mean = values.sum(axis=1, keepdims=True) / count
    variance = np.square(values - mean).sum(axis=1, keepdims=True) / count
    size = np.abs(values).sum(axis=1, keepdims=True) / count
    underflow = count * contract.eta * (size != 0)
    off = up(gamma(roundings, contract.u) * size + underflow, count + 8)
    moved = off**2 + (1 + math.sqrt(2)) * off * np.sqrt(variance)
    spread = up(moved + gamma(roundings + 4, contract.u) * (variance + moved) + underflow, count + 8)
    found = statistics(values, (1,), contract)
    for result, value, error in zip(found, (mean, variance), (off, spread), strict=True):
        same(result.value, value)
        same(result.error, error)


def test_statistics_of_nothing():
    for axes in ((1,), (0, 1)):
        mean, variance = statistics(np.zeros((2, 0, 3)), axes, SINGLE)
        assert mean.value.size and not mean.value.any() and not mean.error.any() and not variance.error.any()


@CONTRACTS
def test_inverse_of_a_deviation(contract):
    """1 / sqrt at the ends of the interval, none below eps as it is held; differences without
    cancellation."""
    value, error, eps = np.array([1.0, 0.5, 0.25, 4.0, 0.0]), np.array([0.25, 0.5, 3.0, 0.0, 0.25]), 0.1
    total, held = within(contract, value, error) + eps, contract.constant(eps)
    least = held.value - held.error
    low = np.maximum(total.value - total.error, least)
    high = total.value + total.error

    def apart(low, high):
        return (high - low) / (np.sqrt(low) * np.sqrt(high) * (np.sqrt(low) + np.sqrt(high)))

    moved = np.maximum(apart(low, total.value), apart(total.value, high))
    found = inverse_deviation(within(contract, value, error), eps)
    same(found.value, 1 / np.sqrt(total.value))
    same(found.error, rounded(contract, found.value, moved, 4.0))
    sure = inverse_deviation(within(contract, 4.0, 0.0), 0.0)
    same(sure.error, rounded(contract, 0.5, 0.0, 4.0))
    negative = inverse_deviation(within(contract, -0.5, 0.25), 1.0)  # a buffer may hold anything
    total = within(contract, -0.5, 0.25) + 1.0
    low, high = total.value - total.error, total.value + total.error
    moved = np.maximum(apart(low, total.value), apart(total.value, high))
    same(negative.error, rounded(contract, negative.value, moved, 4.0))

"""Power-average pooling: sums of 0, the limits, and the steps of its bounds one by one."""

import math
from dataclasses import replace

import numpy as np
import pytest

from parity_tests.selftest.laws import within
from refimpl import window
from refimpl.error_bounds import FLOATS, Bounded, gamma, strictest
from refimpl.floats import outward
from refimpl.power_pooling import PowerSums, _Find, _power, _steepest_logarithm, _steps

INF = math.inf
STRICT = strictest("float32")
STEPS = replace(strictest("bfloat16"), algorithm="stored steps")


def call(x, p, kernel, stride=None, ceil_mode=False):
    x = np.asarray(x)
    return PowerSums("lp_pool1d", 1, x, p, _Find("lp_pool1d", 1, kernel, stride, ceil_mode))


def bounded(value, error, contract=STRICT):
    return Bounded(np.array(value), np.array(error), contract)


# Values.


def test_a_window_whose_sum_is_0_passes_nothing_on():
    """p = 1: windows (1, -1) and (-1, 2) have the sums 0 and 1; the slope of the second is 1."""
    x, up = np.array([[1.0, -1, 2]]), np.array([[10.0, 100]])
    assert window.lp_pool1d_backward(up, x, 1, 2, 1)[0].tolist() == [[0, 100, 100]]
    found = window.LPPool1d(1, 2, 1).bounded(STRICT, (x,), (up,))
    assert found["output"].value.tolist() == [[0, 1]] and found["grad_input"].value.tolist() == [
        [0, 100, 100]
    ]
    # below 1 a power of 0 is infinite, and only where no window counts it stays 0
    zeros = np.zeros((1, 4))
    assert window.lp_pool1d_backward(np.ones((1, 2)), zeros, 0.5, 2)[0].tolist() == [[0, 0, 0, 0]]


def test_limits_pass_signs_on():
    """|x| falls where x is negative; it has slope 0 at 0 and at NaN."""
    x, up = np.array([[-3.0, 1, 0, 0, math.nan, 1, 2, -5]]), np.array([[10.0, 20, 30, 40]])
    for p, expected in ((INF, [-10, 0, 0, 0, 0, 0, 0, -40]), (-INF, [0, 10, 0, 0, 0, 0, 40, 0])):
        assert window.lp_pool1d_backward(up, x, p, 2)[0].tolist() == [expected]
        found = window.LPPool1d(p, 2).bounded(STRICT, (x,), (up,))
        assert found["grad_input"].value.tolist() == [expected] and not found["grad_input"].error.any()
        assert not found["output"].bitwise and not found["grad_input"].bitwise


@pytest.mark.parametrize("p", [2, INF])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_call_their_functions(rank, p):
    rng = np.random.default_rng(11)
    x, arguments = rng.uniform(0.1, 2.0, (2, 1, *(5, 3, 4)[:rank])), (p, 2, 1, True)
    layer = getattr(window, f"LPPool{rank}d")(*arguments)
    output = getattr(window, f"lp_pool{rank}d")(x, *arguments)
    back = getattr(window, f"lp_pool{rank}d_backward")(output, x, *arguments)[0]
    assert (layer(x) == output).all() and (layer.backward(output) == back).all()


# Steps of the bounds.


def test_sums_of_powers():
    """Terms with errors: these add up, and n terms round n - `spared` times, in A and once more in T."""
    pool = call([[1.0, 2, 3, 4, 5]], 2.0, 2, 1)
    addends = bounded([[[[[1.0, 4, 9, 16, 25]]]]], [[[[[0.5, 0, 0, 0, 1]]]]])
    for spared, stored, roundings in ((0, 0.0, 2), (1, 0.0, 1), (1, 2.0**-8, 1), (3, 0.0, 0)):
        found = pool._added(pool._sums, addends, spared, stored)
        magnitude, error = np.array([5.5, 13, 25, 42]), np.array([0.5, 0, 0, 1])
        error = error + gamma(roundings, STRICT.u + stored) * magnitude
        assert found.value.ravel().tolist() == [5, 13, 25, 41]
        assert found.error.ravel().tolist() == outward(error, 8 + roundings).tolist()


def test_roots_of_windows_that_may_count_as_full():
    """Anything from the value less its error to its largest value times (k / m)^(1/p)."""
    pool = call([[1.0, 2, 3]], 2.0, 2, ceil_mode=True)
    contract = replace(STRICT, algorithm="full windows")
    numbers = bounded([[[[[3.0, 3.0]]]]], [[[[[0.5, 0.5]]]]], contract)
    whole, half = pool._root(numbers).error.ravel()
    needed = math.sqrt(2) * 3.5 - 3
    assert whole == 0.5 and needed <= half <= needed * (1 + 2.0**-48)
    assert pool._root(replace(numbers, contract=STRICT)).error.tolist() == numbers.error.tolist()


def test_powers_of_what_has_an_error():
    """(1 +- 1/2)^2 is up to 5/4 from 1; evaluated with four units in the last place of the largest."""
    found = _power(bounded([1.0, 0.0, 1.0], [0.5, 0.0, 0.0]), 2.0)
    assert found.value.tolist() == [1, 0, 1]
    apart = outward(1.25 + gamma(8, FLOATS["float64"].roundoff) * (1 + 1.25))
    numbers = Bounded(np.array([1.0]), np.array([0.5]), STRICT)
    expected = numbers.apply(np.square, STRICT.library("pow"), lambda value, error: np.array([apart]))
    assert found.error[0] == expected.error[0] and found.error[1] == 0 < found.error[2]


@pytest.mark.parametrize("exponent", [1.3, 0.7])
def test_powers_with_an_exponent_that_is_rounded(exponent):
    """Where the base may be 0, the steepest of the slopes counts; a base that is 0 has no error."""
    found = _power(bounded([0.0, 1.0, 1.0], [0.0, 1.0, 0.0]), exponent)
    assert found.value.tolist() == [0, 1, 1] and np.isfinite(found.error).all()
    assert found.error[0] == 0 and found.error[1] >= 2**exponent - 1
    exact = _power(bounded([0.0, 1.0, 1.0], [0.0, 1.0, 0.0]), float(np.float32(exponent)))
    assert found.error[1] > exact.error[1]


def test_an_exponent_that_is_rounded_to_nothing():
    """2^-150 is half of the smallest number of float32: 0 is as near."""
    found = _power(bounded([2.0], [0.0]), 2.0**-150)
    assert found.value.tolist() == [1] and 0 < found.error[0] < 2.0**-20


@pytest.mark.parametrize("high", [0.0625, 0.25, 0.5, 1.0, 1.5, 3.0])
def test_steepest_logarithm(high):
    """x |ln x|, the exponent off by 1/4: x^(3/4) |ln x| up to 1, most at exp(-4/3), then x^(5/4) ln x."""
    found = _steepest_logarithm(np.array([high]), 1.0, 0.25)
    x = np.linspace(2.0**-10, high, 4001)
    everywhere = np.abs(np.log(x)) * np.maximum(x**0.75, x**1.25)
    assert (everywhere <= found).all()
    peak = np.minimum(np.array([high]), math.exp(-4 / 3))
    below, above = peak**0.75 * -np.log(peak), high**1.25 * np.log([high])
    assert found.tolist() == outward(np.maximum(below, above), 16).tolist()


def test_stores_of_steps():
    """`times` roundings of bfloat16, with underflow; exact zeros stay, and without such stores all does."""
    numbers = bounded([0.0, -1.0, 1.0, 2.0], [0.0, 0.5, 0.0, 0.0], STEPS)
    kind = FLOATS["bfloat16"]
    for times in (1, 2):
        found = _steps(STEPS)(numbers, times)
        size = np.array([0, 1.5, 1, 2])
        expected = (
            numbers.error + gamma(times, kind.roundoff) * size + np.array([0, 1, 1, 1]) * times * kind.eta
        )
        assert found.error.tolist() == outward(expected).tolist() and found.error[0] == 0
        assert _steps(STRICT)(numbers, times) is numbers
    tiny = _steps(STEPS)(bounded([kind.eta / 4], [0.0], STEPS), 3).error
    within(tiny, np.array([3 * kind.eta]), 0.02 * kind.eta)

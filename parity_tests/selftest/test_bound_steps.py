"""Every step of bounded arithmetic written out, bit for bit: none becomes wider or narrower by a rounding
unseen.

That the bounds hold is shown elsewhere (`test_bounded`, `test_error_bounds`), with numbers that come near
them; a term that is too small to be met there, or a bound that is a little too wide, shows only here and in
the modules beside this one that share `bound_steps`.
"""

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import CONTRACTS, DOUBLE, SINGLE, STORED, rounded, same, up, within
from refimpl.bounded import Bounded, SuiteError, finite_where, maximum, where, without_store
from refimpl.error_bounds import FLOATS, Contract, strictest
from refimpl.floats import gamma

# Bounded arithmetic.  X: the spacing at its largest value is twice that at its value; Y holds a sure zero.
X, X_ERROR = np.array([1.9, -0.6, 0.0, 3.0]), np.array([0.2, 0.0, 0.25, 0.0])
Y, Y_ERROR = np.array([-0.7, 1.5, 0.4, 0.0]), np.array([0.01, 0.03, 0.0, 0.0])


@CONTRACTS
def test_sum_and_difference(contract):
    x, y = within(contract, X, X_ERROR), within(contract, Y, Y_ERROR)
    error = X_ERROR + Y_ERROR
    sure = np.array([False, False, False, True])  # a zero is added
    for found, value in ((x + y, X + Y), (x - y, X - Y)):
        same(found.value, value)
        same(found.error, np.where(sure, up(error), rounded(contract, value, error)))
    same((y - x).value, Y - X)
    same((y + x).error, (x + y).error)
    same((-x).value, -X)
    same(abs(x).value, np.abs(X))
    for found in (-x, abs(x)):
        same(found.error, X_ERROR)


@CONTRACTS
def test_sums_that_are_exact_and_those_that_are_not(contract):
    one = contract.exact(1.0)
    assert (one - one).error == 0 < (one + one).error  # numbers that cancel; those that do not
    same((one + one).error, rounded(contract, 2.0, 0.0))
    same((one - 0.5 - 0.5).error, rounded(contract, 0.0, rounded(contract, 0.5, 0.0)))
    unsure = within(contract, 1.0, 0.5)
    same((unsure - unsure).error, rounded(contract, 0.0, 1.0))  # 0 +- 1 is no exact zero
    nothing = within(contract, 0.0, 1.0)
    same((nothing + unsure).error, rounded(contract, 1.0, 1.5))
    same((one + unsure).error, rounded(contract, 2.0, 0.5))
    same((contract.exact(0.0) + unsure).error, up(0.5))
    same((1.0 - unsure).error, rounded(contract, 0.0, 0.5))


@CONTRACTS
def test_product(contract):
    x, y = within(contract, X, X_ERROR), within(contract, Y, Y_ERROR)
    error = np.abs(X) * Y_ERROR + (np.abs(Y) + Y_ERROR) * X_ERROR
    expected = np.where(Y == 0, 0.0, rounded(contract, X * Y, error))
    same((x * y).value, X * Y)
    same((x * y).error, expected)
    error = np.abs(Y) * X_ERROR + (np.abs(X) + X_ERROR) * Y_ERROR
    same((y * x).error, np.where(Y == 0, 0.0, rounded(contract, X * Y, error)))
    half = round(1.3, 1)
    held = contract.constant(half).error
    error = np.abs(X) * held + (half + held) * X_ERROR
    same((x * half).error, rounded(contract, X * half, error))
    same((half * x).error, (x * half).error)


@CONTRACTS
def test_quotient(contract):
    numbers, errors = Y[[0, 1, 2]], np.array([0.01, 0.03, 0.0])
    above, below = within(contract, X[:3], X_ERROR[:3]), within(contract, numbers, errors)
    error = (X_ERROR[:3] + np.abs(X[:3] / numbers) * errors) / (np.abs(numbers) - errors)
    same((above / below).value, X[:3] / numbers)
    same((above / below).error, rounded(contract, X[:3] / numbers, error))
    same((contract.exact(1.0) / contract.exact(3.0)).error, rounded(contract, 1 / 3, 0.0))
    same((1.0 / contract.exact(3.0)).error, rounded(contract, 1 / 3, 0.0))
    for sure, unsure in ((0.5, 0.0), (0.0, 1.0), (1.0, 0.0)):
        error = (sure + 0.25 * unsure) / (4.0 - unsure)
        found = within(contract, 1.0, sure) / within(contract, 4.0, unsure)
        same(found.error, rounded(contract, 0.25, error))


def test_quotient_by_what_may_be_zero():
    """Also where only the end of the interval is, and whatever is divided."""
    for value, error in ((0.5, 0.5), (0.25, 0.5), (0.0, 0.5)):
        for above in (within(DOUBLE, 1.0, 0.0), within(DOUBLE, 1.0, 0.25), within(DOUBLE, 0.0, 0.25)):
            found = above / within(DOUBLE, value, error)
            assert found.error == (np.inf if value else 0.0)  # by 0 itself: compared by kind
    assert (within(DOUBLE, 1.0, 0.0) / within(DOUBLE, 0.5, 0.25)).error < 3.0


@CONTRACTS
def test_powers_of_two_that_the_type_holds_only_scale(contract):
    kind, x = FLOATS[contract.accumulate], within(contract, [1.5, 0.0, 0.0], [0.25, 0.25, 0.0])
    underflow = np.array([contract.eta / 2, contract.eta / 2, 0.0])
    for power in (1.0, -1.0, 2.0, -8.0, 2.0**kind.largest):
        with np.errstate(over="ignore"):
            expected = np.where(np.isfinite(x.value * power), up(x.error * abs(power)), 0.0)
        same((x * power).value, x.value * power)
        same((x * power).error, expected)
    for power in (0.5, -0.25, 2.0**kind.smallest):
        same((x * power).error, up(x.error * abs(power) + underflow))
        same((x / (1 / power)).error, (x * power).error)
    same((x / 2.0).value, x.value / 2)
    same((x / 2.0**kind.smallest).error, (x * 2.0**-kind.smallest).error)
    for other in (3.0, 0.75, np.array(3.0)):
        same((x * other).error, (x * contract.exact(other)).error)
    same((x * np.array([2.0, 2.0, 2.0])).error, (x * contract.exact([2.0] * 3)).error)
    assert (contract.exact(1.0) * contract.exact(2.0)).error > 0 == (contract.exact(1.0) * 2.0).error


@CONTRACTS
def test_powers_of_two_whose_reciprocal_is_none_are_divided_by(contract):
    power = 2.0 ** FLOATS[contract.accumulate].largest  # its reciprocal is subnormal
    x = within(contract, 1.5, 0.25)
    same((x / power).error, (x / contract.exact(power)).error)
    if contract.accumulate != "float64":
        same((x * (1 / power)).error, (x * contract.constant(1 / power)).error)
        same((x * (2 * power)).error, (x * contract.constant(2 * power)).error)


@CONTRACTS
def test_sum_along_axes(contract):
    """n terms that are no sure zeros take n - 1 roundings; finding the bound took 8 + n."""
    value = np.array([[1.7, -0.3, 0.0, 2.1], [0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    error = np.array([[0.1, 0.0, 0.2, 0.0], [0.0, 0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    terms = np.array([4, 1, 0])
    own, size = error.sum(1), np.abs(value).sum(1) + error.sum(1)
    expected = up(own + gamma(np.maximum(terms - 1, 0), contract.u) * size, 8 + terms)
    summed = within(contract, value, error).sum(1)
    same(summed.value, value.sum(1))
    same(summed.error, expected)
    assert within(contract, value, error).sum().error.shape == ()
    same(within(contract, value, error).sum(1, keepdims=True).error, expected[:, None])


# Stores, casts and selection.


def test_stores_by_name_can_be_left_out():
    """A store of a sure zero is free; one without a name is never left out."""
    x = within(STORED, [1.75, 0.0, 0.0], [0.5, 0.5, 0.0])
    expected = np.where([True, True, False], STORED.stored(x.value, x.error), 0.0)
    for inside in ("gates", "state"):
        with without_store(inside):
            same(x.store("gates").error, x.error if inside == "gates" else expected)
            same(x.store().error, expected)
    same(x.store("gates").error, expected)
    same(x.store().error, expected)


@pytest.mark.parametrize(
    ("store", "dtype", "free"),
    [
        ("float16", "float32", True),
        ("float16", "float64", True),
        ("float16", "float16", True),
        ("float32", "float64", True),
        ("bfloat16", "float32", True),
        ("float32", "float16", False),
        ("float32", "bfloat16", False),
        ("float16", "bfloat16", False),
        ("bfloat16", "float16", False),
        ("float64", "float32", False),
    ],
)
def test_a_cast_is_free_where_the_type_holds_every_number(store, dtype, free):
    value, error = np.array([1.0 + 2.0**-9, 1.75, 1e39, -1.75, 1.0]), np.array([0.0, 0.5, 0.0, 0.5, 1.0])
    x = Bounded(value, error, strictest(store))
    found = x.cast(dtype)
    if free:
        assert found is x
        return
    narrow = Contract(dtype, strictest(store).accumulate)
    expected = narrow.stored(value, error)
    # Exact numbers have an exact rounding; 1e39 has none in any of these types.
    expected[0], expected[2] = 2.0**-9 if dtype == "bfloat16" else 0.0, 0.0
    assert found.contract == narrow
    same(found.error, expected)
    same(found.value, value)


def test_only_copies_are_compared_bit_by_bit():
    x = SINGLE.exact(0.0)
    assert SINGLE.copied(0.0).bitwise and not any(
        result.bitwise for result in (x, x + 1.0, -x, x.store(), x.exp())
    )


def test_agreeing_takes_the_end_of_the_interval_and_says_where_it_does_not():
    """The first of those that are wrong is named."""
    around = within(DOUBLE, [1.0, 2.0, np.inf, np.nan], [0.5, 0.25, 0.0, 0.0])
    found = around.agreeing(np.array([1.5, 1.75, np.inf, np.nan]), "output")
    same(found.error, [1.0, 0.5, 0.0, 0.0])
    one = within(DOUBLE, [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    for loops, index in (
        ([1.0, 2.5, 3.5], 1),
        ([0.0, 2.5, 3.0], 0),
        ([1.0, np.nan, 9.0], 1),
        ([1.0, 2.0, -3.0], 2),
    ):
        with pytest.raises(SuiteError, match=rf"x\[{index}\]: the loops give"):
            one.agreeing(np.array(loops), "x")
    with pytest.raises(SuiteError, match=r"x\[0\]"):
        within(DOUBLE, [np.nan], [0.0]).agreeing(np.array([1.0]), "x")


def test_errors_of_values_that_are_not_finite():
    same(
        finite_where(np.array([1.0, np.inf, np.nan, 0.0]), np.array([0.5, 0.5, np.nan, np.nan])),
        [0.5, 0.0, 0.0, np.inf],
    )


def test_selection_and_maximum():
    x, y = within(SINGLE, [1.0, 4.0], [0.5, 0.25]), within(SINGLE, [2.0, 3.0], [0.125, 1.0])
    chosen = where(np.array([True, False]), x, y)
    same(chosen.value, [1.0, 3.0])
    same(chosen.error, [0.5, 1.0])
    same(maximum(x, y).value, [2.0, 4.0])
    same(maximum(x, y).error, [0.5, 1.0])

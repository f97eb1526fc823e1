"""The comparison: what is right, what is wrong, and that one ulp beyond a bound is seen."""

import numpy as np
import pytest

from parity_tests.harness.compare import Unbounded, compare
from refimpl.error_bounds import FLOATS, Bounded, Products, SuiteError, strictest

NAN, INF = np.nan, np.inf


def found(actual, expected, bound, dtype="float32", **more):
    arrays = (np.asarray(values, dtype=np.float64) for values in (expected, bound))
    return compare("output", np.asarray(actual, dtype=np.float64), Bounded(*arrays, strictest(dtype), **more))


@pytest.mark.parametrize(
    ("actual", "expected", "right"),
    [
        (NAN, NAN, True),
        (1.0, NAN, False),
        (INF, NAN, False),
        (NAN, 1.0, False),
        (NAN, INF, False),
        (INF, INF, True),
        (-INF, INF, False),
        (INF, 1.0, False),
        (3.4e38, INF, False),
        (0.0, -0.0, True),
    ],
)
def test_values_that_are_not_finite_meet_their_kind(actual, expected, right):
    assert (len(found([actual], [expected], [0.0]).wrong) == 0) is right


def test_either_side_of_the_overflow_threshold_is_right_where_the_interval_holds_it():
    limit = FLOATS["float16"].overflow  # 65520: from here on a value rounds to infinity
    assert not len(found([INF, 65504.0], [limit - 8, limit - 8], [16.0, 16.0], "float16").wrong)
    assert len(found([INF], [limit - 32], [16.0], "float16").wrong) == 1  # cannot reach the threshold
    assert len(found([65504.0], [limit + 32], [16.0], "float16").wrong) == 1  # cannot stay below it
    assert len(found([-INF], [limit - 8], [16.0], "float16").wrong) == 1  # the wrong infinity


def test_at_the_threshold_of_overflow_itself():
    """A number that is it is infinite; an interval that ends there holds it."""
    limit = FLOATS["float16"].overflow
    for sign in (1.0, -1.0):
        at, below = [sign * limit], [sign * (limit - 16)]
        assert not len(found([sign * INF], at, [0.0], "float16").wrong)
        assert len(found([sign * 65504.0], at, [0.0], "float16").wrong) == 1
        assert not len(found([sign * INF], below, [16.0], "float16").wrong)
        assert not len(found([sign * 65504.0], below, [16.0], "float16").wrong)
        assert len(found([sign * INF], below, [8.0], "float16").wrong) == 1
        assert len(found([sign * 65504.0], [sign * (limit + 16)], [16.0], "float16").wrong) == 1
        assert len(found([-sign * INF], at, [0.0], "float16").wrong) == 1
    assert len(found([1.0], [limit - 8], [16.0], "float16").wrong) == 1  # neither near it nor infinite
    assert len(found([1e300], [limit + 32], [16.0], "float16").wrong) == 1


def test_what_is_wrong_by_kind_is_infinitely_wrong_and_has_no_distance():
    """Only distances of right elements go into the statistics."""

    class Seen(Products):
        def statistical_ratio(self, contract, error):
            seen.append(error.tolist())
            return 0.25

    def errors(actual, expected, bound, dtype="float32"):
        seen.clear()
        ones = np.ones(len(expected))
        result = found(actual, expected, bound, dtype, products=Seen(ones, ones, 1))
        assert result.statistical == (0.25 if seen else 0.0)
        return seen, result.utilisation

    seen: list = []
    assert errors([1.5, 2.0], [1.0, 2.0], [1.0, 1.0]) == ([[0.5, 0.0]], 0.5)
    assert errors([1.5, 2.0], [1.0, 2.0], [0.25, 1.0]) == ([[0.0, 0.0]], 2.0)
    assert errors([1.0, NAN], [1.0, 1.0], [1.0, 1.0]) == ([[0.0, 0.0]], INF)
    assert errors([1.0, INF], [1.0, 1.0], [1.0, 1.0]) == ([[0.0, 0.0]], INF)
    assert errors([1.0, 2.0], [2.0, INF], [1.0, 0.0]) == ([[1.0, 0.0]], INF)
    assert errors([1.0, INF], [2.0, INF], [2.0, 0.0]) == ([[1.0, 0.0]], 0.5)
    assert errors([NAN, INF], [NAN, INF], [0.0, 0.0]) == ([], 0.0)  # nothing finite
    limit = FLOATS["float16"].overflow
    assert errors([INF, 1.0], [limit - 8, 1.0], [16.0, 1.0], "float16") == ([[0.0, 0.0]], 0.0)
    # near enough to what must overflow, but finite: wrong by kind, also one bound away
    assert errors([limit, 1.0], [limit + 32, 1.0], [32.0, 1.0], "float16") == ([[0.0, 0.0]], INF)
    assert errors([limit + 16, 1.0], [limit + 48, 1.0], [32.0, 1.0], "float16") == ([[0.0, 0.0]], INF)
    assert errors([limit + 80, 1.0], [limit + 32, 1.0], [32.0, 1.0], "float16") == ([[0.0, 0.0]], 1.5)


def test_utilisation_is_error_by_bound():
    for actual, ratio in (
        (1.0, 0.0),
        (1.5, 0.25),
        (2.0, 0.5),
        (3.0, 1.0),
        (4.0, 1.5),
        (5.0, 2.0),
        (7.0, 3.0),
    ):
        result = found([actual], [1.0], [2.0])
        assert (result.utilisation, len(result.wrong)) == (ratio, ratio > 1)
    assert found([], [], []).utilisation == 0.0
    for actual, wrong in ((1.0, 0), (2.0, 1)):
        assert len(found(actual, 1.0, 0.0).wrong) == wrong, "a number is an array as well"


def test_sign_of_zero_counts_where_values_are_copied():
    assert not len(found([0.0], [-0.0], [0.0]).wrong)
    wrong = found([0.0], [-0.0], [0.0], bitwise=True)
    assert len(wrong.wrong) == 1 and wrong.utilisation == INF
    assert not len(found([NAN], [-NAN], [0.0], bitwise=True).wrong)


@pytest.mark.parametrize("expected", [1.0, -3.5, 1e-30, 1e30])
@pytest.mark.parametrize("bound", [0.0, 1e-7])
def test_one_unit_in_the_last_place_beyond_the_bound_is_wrong(expected, bound):
    at = expected + bound * abs(expected)
    bound = abs(at - expected)
    beyond = np.nextafter(at, np.inf)
    assert not len(found([at], [expected], [bound]).wrong)
    assert len(found([beyond], [expected], [bound]).wrong) == 1


def test_every_single_element_is_compared(rng):
    expected = rng.standard_normal((3, 4, 5))
    for index in np.ndindex(expected.shape):
        actual = expected.copy()
        actual[index] = np.nextafter(actual[index], INF)
        assert found(actual, expected, np.zeros_like(expected)).wrong.tolist() == [list(index)]


def test_wrong_elements_come_worst_first_with_their_utilisation():
    result = found([1.0, 2.5, 3.2, 4.0], [1.0, 2.0, 3.0, 5.0], [0.1, 0.1, 0.1, 0.1])
    assert result.wrong.ravel().tolist() == [3, 1, 2]
    assert (result.elements, result.exact) == (4, 0)
    assert found([1.0], [2.0], [0.0]).utilisation == INF
    assert found([1.0], [1.0], [0.0]).utilisation == 0.0
    assert found([1.0], [1.5], [1.0]).utilisation == 0.5


@pytest.mark.parametrize("bound", [NAN, INF, -1.0])
def test_bound_that_is_no_bound_is_an_error_of_the_suite(bound):
    for bounds in ([bound, 1.0], [1.0, bound], [bound, bound]):
        with pytest.raises(SuiteError, match="bound is NaN, infinite or negative") as caught:
            found([1.0, 1.0], [1.0, 1.0], bounds)
        assert (type(caught.value) is Unbounded) is (bound == INF)
    with pytest.raises(SuiteError) as caught:
        found([1.0, 1.0], [1.0, 1.0], [INF, -1.0])
    assert type(caught.value) is SuiteError


def test_bounds_of_values_that_are_not_finite_do_not_count():
    result = found([NAN, INF, 1.0], [NAN, INF, 1.0], [INF, NAN, 0.0])
    assert not len(result.wrong) and (result.elements, result.exact, result.uninformative) == (3, 1, 0)
    assert found([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 1.0, 0.5]).exact == 1


def test_bound_wider_than_the_values_tells_nothing():
    wide = found([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 0.1])
    assert wide.uninformative == 2 and wide.tells_nothing
    assert not found([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.1, 0.1]).tells_nothing
    assert not found([1.0, 1.0], [1.0, 1.0], [2.0, 0.1]).tells_nothing, "half of the elements"
    assert found([1.0], [1.0], [2.0]).tells_nothing and not found([], [], []).tells_nothing
    # as wide as the value itself, or as the mean of the values, is not wider
    assert found([4.0, 2.0], [4.0, 2.0], [4.0, 3.0]).uninformative == 0
    assert found([4.0, 2.0], [4.0, 2.0], [4.5, 3.5]).uninformative == 2
    assert found([NAN, 0.0], [NAN, 0.0], [0.0, 0.5]).uninformative == 1


def test_where_nothing_is_finite_nothing_is_uninformative():
    result = found([NAN], [NAN], [0.0])
    assert (result.uninformative, result.tells_nothing, result.statistical, result.exact) == (
        0,
        False,
        0.0,
        0,
    )


def test_zeros_by_chance_are_told_from_zeros_by_structure():
    def sums(terms):
        zeros = np.zeros(4)
        return found(zeros, zeros, zeros, products=Products(zeros, zeros, np.array(terms)))

    assert sums([2, 2, 2, 2]).mostly_zeros
    assert not sums([0, 0, 0, 0]).mostly_zeros, "no tap reaches an element: it is rightly zero"
    assert sums([1, 0, 0, 0]).mostly_zeros and sums([1, 0, 0, 0]).reached == 1
    assert (sums([2, 1, 0, 3]).zeros, sums([2, 1, 0, 3]).reached) == (3, 3)
    assert found([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]).mostly_zeros and found([0.0], [0.0], [0.0]).mostly_zeros
    assert not found([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]).mostly_zeros
    assert not found([], [], []).mostly_zeros and not found([1.0], [1.0], [0.0]).mostly_zeros


@pytest.mark.parametrize(
    ("values", "told"),
    [([0, 0, 0, 5], True), ([0, 0, 5, 6], False), ([0, 4, 5, 6], False), ([1, 1, 1, 1], False)],
)
def test_more_than_half_of_the_sums_are_zeros(values, told):
    values = np.array(values, dtype=np.float64)
    result = found(values, values, 0 * values, products=Products(values, values, 1))
    assert result.mostly_zeros is told and (result.reached, result.zeros) == (4, np.sum(values == 0))


@pytest.fixture
def rng():
    return np.random.default_rng(5)

"""The comparison: what is right, what is wrong, and that one ulp beyond a bound is seen."""

import numpy as np
import pytest

from parity_tests.harness.compare import compare
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
    with pytest.raises(SuiteError, match="bound is NaN, infinite or negative"):
        found([1.0], [1.0], [bound])


def test_bound_wider_than_the_values_tells_nothing():
    wide = found([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 0.1])
    assert wide.uninformative == 2 and wide.tells_nothing
    assert not found([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.1, 0.1]).tells_nothing


def test_zeros_by_chance_are_told_from_zeros_by_structure():
    def sums(terms):
        zeros = np.zeros(4)
        return found(zeros, zeros, zeros, products=Products(zeros, zeros, np.array(terms)))

    assert sums([2, 2, 2, 2]).mostly_zeros
    assert not sums([0, 0, 0, 0]).mostly_zeros, "no tap reaches an element: it is rightly zero"
    assert found([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]).mostly_zeros
    assert not found([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]).mostly_zeros


@pytest.fixture
def rng():
    return np.random.default_rng(5)

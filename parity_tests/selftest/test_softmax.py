"""The reference of softmax against hand values, mpmath, laws and finite differences."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import UNIT, finite_difference, within
from refimpl.error_bounds import strictest

FUNCTIONS = ("softmax", "softmin", "log_softmax")
LAYERS = {"softmax": "Softmax", "softmin": "Softmin", "log_softmax": "LogSoftmax"}


def numbers(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def near(actual, expected, roundings=16):
    """Equal but for so many roundings of float64, relative to the largest element."""
    expected = np.asarray(expected, dtype=np.float64)
    within(np.asarray(actual), expected, roundings * UNIT * np.max(np.abs(expected)))


def test_worked_numbers():
    x = np.log([1.0, 2.0, 3.0])
    near(refimpl.softmax(x, 0), np.array([1, 2, 3]) / 6)
    near(refimpl.softmin(x, 0), np.array([6, 3, 2]) / 11)
    near(refimpl.log_softmax(x, 0), np.log(np.array([1, 2, 3]) / 6))
    near(refimpl.softmax_backward([6.0, 0, 0], x, 0)[0], [1 / 6 * 5, -1 / 3, -1 / 2])
    near(refimpl.log_softmax_backward([6.0, 0, 0], x, 0)[0], [5, -2, -3])


@pytest.mark.parametrize("offset", [1e8, -1e7, 1e15])
def test_common_offset_is_no_loss(offset):
    near(refimpl.log_softmax(np.full((2, 3), offset), 1), np.full((2, 3), -np.log(3)))
    row = np.array([0.0, 1.0, 2.0])
    near(refimpl.softmax(row + offset, 0), refimpl.softmax(row, 0))


def test_logarithm_where_softmax_underflows():
    x = np.array([0.0, -1e4])
    assert refimpl.softmax(x, 0)[1] == 0 and refimpl.log_softmax(x, 0)[1] == -1e4


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_axis_is_the_last_one_moved(function):
    x, g = numbers(2, 3, 4), numbers(2, 3, 4, seed=6)
    call, backward = getattr(refimpl, function), getattr(refimpl, f"{function}_backward")
    for dim in range(-3, 3):
        moved, moved_g = (np.moveaxis(array, dim, -1) for array in (x, g))
        assert (np.moveaxis(call(x, dim), dim, -1) == call(moved, -1)).all()
        assert (np.moveaxis(backward(g, x, dim)[0], dim, -1) == backward(moved_g, moved, -1)[0]).all()


def test_rows_sum_to_one_and_gradients_to_zero():
    x, g = 3 * numbers(4, 7), numbers(4, 7, seed=6)
    near(refimpl.softmax(x, 1).sum(1), np.ones(4))
    near(refimpl.softmin(x, 1), refimpl.softmax(-x, 1), 0)
    for function in FUNCTIONS:
        gradient = getattr(refimpl, f"{function}_backward")(g, x, 1)[0]
        within(gradient.sum(1), np.zeros(4), 64 * UNIT * np.abs(g).sum(1))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_against_mpmath(function):
    mpmath = pytest.importorskip("mpmath")
    x = 20 * numbers(9)
    layer = getattr(refimpl, LAYERS[function])(0)
    bounded = layer.bounded(strictest("float64"), (x,), (np.ones(9),))["output"]
    sign = -1 if function == "softmin" else 1
    with mpmath.workdps(50):
        total = mpmath.fsum(mpmath.exp(sign * mpmath.mpf(v)) for v in x)
        exact = [mpmath.exp(sign * mpmath.mpf(v)) / total for v in x]
        exact = [mpmath.log(v) for v in exact] if function == "log_softmax" else exact
        apart = [abs(mpmath.mpf(value) - v) for value, v in zip(bounded.value.tolist(), exact, strict=True)]
    assert all(a <= error for a, error in zip(apart, bounded.error.tolist(), strict=True))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient_by_finite_differences(function, dim):
    x, g = numbers(3, 2, 4), numbers(3, 2, 4, seed=6)
    gradient = getattr(refimpl, f"{function}_backward")(g, x, dim)[0]
    [(expected, error)] = finite_difference(lambda x: getattr(refimpl, function)(x, dim), (x,), g)
    within(gradient, expected, error)


@pytest.mark.parametrize("row", [[-np.inf] * 3, [np.inf, 1, 2], [np.inf, np.inf, 1], [np.nan, 1, 2]])
def test_rows_without_a_value(row):
    assert np.isnan(refimpl.softmax(row, 0)).all() and np.isnan(refimpl.log_softmax(row, 0)).all()


def test_masked_elements():
    row, g = [-np.inf, 1.0, 1.0], [3.0, 1.0, 0.0]
    assert refimpl.softmax(row, 0).tolist() == [0, 0.5, 0.5]
    assert refimpl.softmax_backward(g, row, 0)[0].tolist() == [0, 0.25, -0.25]
    assert refimpl.log_softmax(row, 0)[0] == -np.inf
    assert refimpl.log_softmax_backward(g, row, 0)[0][0] == 3


@pytest.mark.parametrize(("shape", "axis"), [
    ((), 0), ((4,), 0), ((4, 5), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)])
def test_implicit_dim_is_chosen_and_warned_of(shape, axis):
    x = numbers(*shape)
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax has been deprecated"):
        assert (refimpl.Softmax()(x) == refimpl.softmax(x, axis)).all()


@pytest.mark.parametrize("call", [
    lambda x: refimpl.softmax(x),  # noqa: PLW0108  (the warning is to name this line)
    lambda x: refimpl.log_softmax_backward(x, x),
    lambda x: refimpl.Softmin()(x),  # noqa: PLW0108
])
def test_the_warning_names_the_line_that_calls(call):
    with pytest.warns(UserWarning, match="Implicit dimension choice") as warned:
        call(numbers(3))
    assert (warned[0].filename, warned[0].lineno) == (__file__, call.__code__.co_firstlineno)


def test_scalars_and_empty_rows():
    assert refimpl.softmax(3.0, -1) == 1 and refimpl.log_softmax(3.0, 0) == 0
    for function in FUNCTIONS:
        assert getattr(refimpl, function)(np.zeros((10, 0)), 1).shape == (10, 0)
        backward = getattr(refimpl, f"{function}_backward")
        assert backward(np.zeros((0, 4)), np.zeros((0, 4)), 0)[0].shape == (0, 4)


def test_softmax2d_is_over_the_channels():
    x = numbers(2, 3, 4, 5)
    assert (refimpl.Softmax2d()(x) == refimpl.softmax(x, 1)).all()
    assert (refimpl.Softmax2d()(x[0]) == refimpl.softmax(x, 1)[0]).all()


def test_dtype_rounds_the_input_first():
    x = np.array([1.0, 1.0 + 2.0**-12, 1.0 + 2.0**-9])
    assert (refimpl.softmax(x, 0, dtype="float16") == refimpl.softmax([1.0, 1.0, 1.0 + 2.0**-9], 0)).all()
    assert (refimpl.softmax(x, 0, dtype="bfloat16") == np.full(3, 1 / 3)).all()
    assert (refimpl.softmax(x, 0, dtype=np.float64) == refimpl.softmax(x, 0)).all()


@pytest.mark.parametrize(("exception", "dim"), [
    (IndexError, 2), (IndexError, -3), (TypeError, 1.0), (TypeError, "1"), (TypeError, True),
    (TypeError, (0, 1))])
def test_rejections(exception, dim):
    with pytest.raises(exception, match="dim is"):
        refimpl.softmax(numbers(3, 4), dim)
    with pytest.raises(exception, match="dim is"):
        refimpl.LogSoftmax(dim)(numbers(3, 4))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 2, 3, 4, 5)])
def test_softmax2d_rejects_other_ranks(shape):
    with pytest.raises(ValueError, match="Softmax2d"):
        refimpl.Softmax2d()(numbers(*shape))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_compiled_equals_interpreted(function):
    pytest.importorskip("numba")
    x, g = 300 * numbers(3, 17, 2), numbers(3, 17, 2, seed=6)
    x[0, 3, 0], x[1, 4, 1] = -np.inf, np.inf
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            results.append((getattr(refimpl, function)(x, 1),
                            getattr(refimpl, f"{function}_backward")(g, x, 1)[0]))
    for interpreted, compiled in zip(*results, strict=True):
        assert np.array_equal(interpreted, compiled, equal_nan=True)
        assert np.array_equal(np.signbit(interpreted), np.signbit(compiled)) or np.isnan(interpreted).any()

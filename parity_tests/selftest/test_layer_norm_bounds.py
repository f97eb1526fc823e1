"""Adversaries of the bound of a layer norm whose operands are off themselves."""

import numpy as np
import pytest

from refimpl.error_bounds import Bounded, strictest
from refimpl.floats import outward
from refimpl.group_norm import layer_norm, layer_norm_backward
from refimpl.layer_norm_bounds import LayerNormBounds

EPS = 1e-5
CONTRACT = strictest("float64")


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def off(values, error):
    return Bounded(values, error, CONTRACT)


def operands(rng, size, offset=0.0):
    """Numbers with their errors, an upstream gradient with its errors, a weight."""
    value, up, weight = (
        rng.standard_normal((6, 8)) + offset,
        rng.standard_normal((6, 8)),
        rng.standard_normal(8),
    )
    errors = (size * rng.random((6, 8)), 0.5 * size * rng.random((6, 8)))
    return value, up, weight, errors


def sides(rng, error, count):
    """Operands at corners of the box of their errors, and inside of it."""
    for _ in range(count):
        yield error * rng.choice([-1.0, 1.0], error.shape)
    for share in (0.0, 0.3):
        yield error * share


def assert_inside(actual, bounded):
    assert (np.abs(actual - bounded.value) <= bounded.error).all()


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 1e-2, 0.1, 0.5, 3.0])
def test_whatever_the_operands_may_be_is_inside(size, offset, rng):
    value, up, weight, (error, of_up) = operands(rng, size, offset)
    norm, exact = LayerNormBounds(off(value, error), EPS), CONTRACT.exact(weight)
    bias = CONTRACT.exact(rng.standard_normal(8))
    upstream = off(up, of_up)
    output, gradient = norm.output(exact, bias), norm.input_gradient(upstream, exact)
    of_weight = norm.weight_gradient(upstream)
    for moved in sides(rng, error, 40):
        x, grad_output = value + moved, up + next(sides(rng, of_up, 1))
        assert_inside(layer_norm(x, (8,), weight, bias.value, EPS), output)
        found = layer_norm_backward(grad_output, x, (8,), weight, bias.value, EPS)
        assert_inside(found[0], gradient)
        assert_inside(found[1], of_weight)


def test_the_worst_operands_reach_most_of_the_bound(rng):
    """Errors with the signs of one row of the derivative move that output by what the bound says."""
    value, _, _, (error, _) = operands(rng, 1e-4)
    bound = LayerNormBounds(off(value, error), EPS).normalized()
    one = np.ones(8)
    for i in range(8):
        row = layer_norm_backward(np.broadcast_to(np.eye(8)[i], (6, 8)), value, (8,), one, 0 * one, EPS)[0]
        moved = layer_norm(value + error * np.sign(row), (8,), one, 0 * one, EPS)
        assert (np.abs(moved - bound.value)[:, i] > 0.98 * bound.error[:, i]).all()


def test_its_own_arithmetic_is_charged_by_the_number_of_elements(rng):
    norm = LayerNormBounds(CONTRACT.exact(rng.standard_normal((6, 8))), EPS)
    assert norm._outward(3.0) == outward(3.0, 8 * 8 + 64)


def test_exact_operands_leave_only_roundings(rng):
    value, up, weight, _ = operands(rng, 0.0)
    norm = LayerNormBounds(CONTRACT.exact(value), EPS)
    assert (norm.normalized().error < 400 * CONTRACT.u).all()
    assert (norm.input_gradient(CONTRACT.exact(up), CONTRACT.exact(weight)).error < 4000 * CONTRACT.u).all()


def test_numbers_that_may_all_be_equal_have_a_wide_but_finite_bound(rng):
    value = 1.0 + 1e-3 * rng.standard_normal((2, 8))
    norm = LayerNormBounds(off(value, np.full((2, 8), 1.0)), EPS)
    output = norm.output(CONTRACT.exact(np.ones(8)), None)
    assert np.isfinite(output.error).all()
    assert_inside(layer_norm(np.ones((2, 8)), (8,), np.ones(8), None, EPS), output)

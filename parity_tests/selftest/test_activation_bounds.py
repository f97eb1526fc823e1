"""The bounds of activations hold against many digits, in place, and where a function saturates, underflows or
has a breakpoint."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.activation_settings import SPREAD
from parity_tests.selftest.laws import within
from refimpl.activation_bounds import _below, _rounds, logistic, product, sigmoid, softshrink, tanh_gradient
from refimpl.activation_formulas import SELU_ALPHA, SELU_SCALE
from refimpl.error_bounds import FLOATS, Bounded, Float, round_to, strictest

MPMATH = {
    "sigmoid": lambda mp, x: 1 / (1 + mp.exp(-x)), "silu": lambda mp, x: x / (1 + mp.exp(-x)),
    "logsigmoid": lambda mp, x: -mp.log1p(mp.exp(-x)), "mish": lambda mp, x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "gelu": lambda mp, x: x * mp.ncdf(x),
    "tanh": lambda mp, x: (mp.exp(2 * x) - 1) / (mp.exp(2 * x) + 1),
    "tanhshrink": lambda mp, x: x - mp.tanh(x),
    "elu": lambda mp, x: x if x > 0 else mp.expm1(x),
    "softplus": lambda mp, x: x if x > 20 else mp.log1p(mp.exp(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", MPMATH)
def test_bounds_hold_against_many_digits(name):
    """Value and derivative from 60 digits are within the float64 bound around the reference's."""
    mp = pytest.importorskip("mpmath").mp
    mp.dps = 60
    layer = {"logsigmoid": "LogSigmoid", "silu": "SiLU", "elu": "ELU", "gelu": "GELU"}.get(
        name, name.capitalize()
    )
    x = np.concatenate([SPREAD, 10 * SPREAD, 1e-3 * SPREAD])
    bounded = getattr(refimpl, layer)().bounded(strictest("float64"), (x,), (np.ones_like(x),))
    exact = [MPMATH[name](mp, mp.mpf(float(v))) for v in x]
    slopes = [mp.diff(lambda t: MPMATH[name](mp, t), mp.mpf(float(v))) for v in x]
    for key, values in (("output", exact), ("grad_input", slopes)):
        within(np.array([float(v) for v in values]), bounded[key].value, bounded[key].error)


IN_PLACE = [("ELU", {}, 1.0), ("ELU", {"alpha": 100.0}, 100.0), ("CELU", {"alpha": 0.7}, 0.7)]
IN_PLACE += [("SELU", {}, SELU_SCALE * SELU_ALPHA)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("layer", "given", "limit"), IN_PLACE)
def test_bound_in_place_holds_for_the_stored_output_and_is_reached(layer, given, limit, dtype):
    """In exact arithmetic the slope where x <= 0 is output + limit, with the output stored in T; elsewhere
    the bound is what it is beside the input."""
    x = round_to(dtype, np.linspace(-12.0, 3.0, 2001))
    g = np.ones_like(x)
    layers = [getattr(refimpl, layer)(**given, inplace=inplace) for inplace in (False, True)]
    beside, in_place = (layer.bounded(strictest(dtype), (x,), (g,)) for layer in layers)
    low = x <= 0
    stored = round_to(dtype, in_place["output"].value)
    scale = 1 / limit if layer == "CELU" else 1.0
    slope = round_to(dtype, (stored + limit) * scale)
    error, bound = np.abs(slope - in_place["grad_input"].value), in_place["grad_input"].error
    assert (error[low] <= bound[low]).all() and (error[low] / bound[low]).max() > 0.1
    assert np.array_equal(bound[~low], beside["grad_input"].error[~low])
    assert (error[low] > beside["grad_input"].error[low]).mean() > 0.5, "the wider bound is needed"
    assert (bound[low] < 16 * FLOATS[dtype].roundoff * limit * scale).all()


def test_bounds_where_functions_saturate():
    x = strictest("float32").exact(np.array([-1e4, -120.0, -89.0, 20.0, 1e30]))
    g = x.contract.exact(np.ones(5))
    assert np.all(sigmoid(x).error[:3] >= sigmoid(x).value[:3])  # exp has overflown: 0 is right, too
    two_ulps = 2 * 2.0**-24  # a tanh of 1 - 2 ulps is as good as published, and 1 - tanh^2 is twice that
    assert tanh_gradient(g, x).error[-1] >= 2 * two_ulps


def test_partial_products_that_underflow_are_magnified_by_what_else_there_is():
    contract = strictest("float32")
    small, wide = contract.exact(2.0**-135), Bounded(np.array(4.0), np.array(1.0), contract)
    for first, second in ((small, wide), (wide, small)):
        assert product(first, second).error == (first * second).error + 5 * contract.eta / 2
    for value in (0.0, 1.0):
        assert product(contract.exact(0.0), contract.exact(value)).error == 0


def test_exp_that_may_just_overflow_counts(monkeypatch):
    x = strictest("float32").exact(-80.0)
    power = (-x).exp()
    for limit, counts in ((power.value + power.error, True), (power.value + 2 * power.error, False)):
        kind = Float(24, -126, 127)
        vars(kind)["overflow"] = limit
        monkeypatch.setitem(FLOATS, "float32", kind)
        assert (logistic(x).error > logistic(x).value) == counts


def test_softplus_is_undecided_where_its_product_may_be_at_the_threshold():
    contract = strictest("float32")
    z, smooth, linear = Bounded(np.array(1.0), np.array(0.25), contract), *map(contract.exact, (3.0, 5.0))
    for threshold, inexact, expected in ((1.25, True, 2), (1.25, False, 0), (1.5, True, 0), (0.75, True, 2)):
        assert _below(z, threshold, inexact, smooth, linear).error == expected
    assert [_rounds(factor) for factor in (1.0, -2.0, 0.125, 3.0, 0.7)] == [False] * 3 + [True] * 2


def test_softshrink_leaves_nothing_at_its_breakpoints():
    """Beyond them a difference is rounded; 0.1 is no number of float32."""
    x = strictest("float32").exact([-0.1, 0.1, 0.2])
    assert (softshrink(x, 0.1).error > 0).tolist() == [False, False, True]

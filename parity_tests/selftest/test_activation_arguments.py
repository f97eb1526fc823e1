"""Arguments of activations: defaults, axes and weights, what is given by name only and what is refused."""

import inspect

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.activation_settings import LAYERS, X
from refimpl import activation_formulas
from refimpl.elementwise import Elementwise

IN_PLACE_TOO = {
    "celu", "elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "relu6", "selu",
    "silu", "threshold",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({*LAYERS} - {"GELU", "RReLU"}))
def test_inplace_is_an_argument_where_torch_has_it(name):
    torchs = {"LeakyReLU": "leaky_relu", "LogSigmoid": "logsigmoid"}
    name = torchs.get(name, name.lower())
    function, backward = getattr(refimpl, name), getattr(refimpl, f"{name}_backward")
    required = (0.0, 0.0) if name == "threshold" else ()
    for call in (
        lambda **more: function(X, *required, **more),
        lambda **more: backward(X, X, *required, **more),
    ):
        if name in IN_PLACE_TOO:
            assert np.array_equal(call(inplace=True), call())
        else:
            with pytest.raises(TypeError, match="inplace"):
                call(inplace=True)


def test_functions_have_the_defaults_of_their_formulas():
    for name in ("hardtanh", "hardshrink", "softshrink", "leaky_relu", "elu", "celu", "softplus", "rrelu"):
        _, *own = inspect.signature(getattr(refimpl, name)).parameters.values()
        formula = getattr(activation_formulas, name)
        assert formula(10.0) == getattr(refimpl, name)([10.0])[0]
        _, *scalars = inspect.signature(formula).parameters.values()
        assert [p.default for p in own[: len(scalars)]] == [p.default for p in scalars], name


def test_readings_with_arguments_are_not_inlined():
    """numba refuses to."""
    elementwise = Elementwise("elu")
    assert elementwise._forward.inline == elementwise._gradient.inline == "never"


def test_approximate_of_gelu_is_given_by_name():
    x = np.ones(2)
    assert refimpl.gelu_backward(x, x, approximate="tanh")[0][0] > refimpl.gelu(x, approximate="tanh")[0]
    for call in (lambda: refimpl.gelu(x, "tanh"), lambda: refimpl.gelu_backward(x, x, "tanh")):
        with pytest.raises(TypeError, match="positional"):
            call()


def test_halves_of_glu_are_taken_along_the_axis():
    x = np.random.default_rng(4).standard_normal((4, 2, 6))
    assert np.array_equal(refimpl.glu(x, 0), x[:2] * refimpl.sigmoid(x[2:]))
    assert np.array_equal(refimpl.glu(x, -3), refimpl.glu(x, 0))
    assert np.array_equal(refimpl.glu(x), x[..., :3] * refimpl.sigmoid(x[..., 3:]))


def test_prelu_with_two_channels_one_weight_and_none():
    x = -np.ones((1, 2, 3))
    assert np.array_equal(refimpl.prelu(x, [2.0, 3.0])[0, :, 0], [-2.0, -3.0])
    assert np.array_equal(refimpl.prelu(x, [2.0]), 2 * x)
    assert refimpl.PReLU(0).weight.shape == (0,)
    with pytest.raises(RuntimeError, match="weight has 2 axes"):
        refimpl.prelu(x, np.ones((1, 2)))
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="needed are 1 or 1"):
            refimpl.prelu(np.ones((2,) * rank), np.ones(2))


def test_a_scalar_argument_that_is_no_number():
    with pytest.raises(TypeError, match="alpha is 'a'; needed is a number"):
        refimpl.elu(np.ones(2), "a")
    with pytest.raises(RuntimeError, match="alpha is 0"):
        refimpl.celu(np.ones(2), 0.0)

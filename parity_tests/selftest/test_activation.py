"""The activation references against worked numbers, exact arithmetic and finite differences, and the slopes
that RReLU draws."""

import math
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.activation_settings import LAYERS, SPREAD, TANH, X
from parity_tests.selftest.laws import finite_difference, fractions, within
from refimpl.activation_formulas import SELU_ALPHA, SELU_SCALE
from refimpl.error_bounds import strictest
from refimpl.taps import compiler_present


def rounded_once(values):
    """How far a correctly computed number may be from the exact one after a few roundings."""
    return strictest("float64").exact(values).exp().error / np.exp(values) * 4


@pytest.mark.parametrize(("call", "expected"), [
    (lambda: refimpl.relu(X), [0, 0, 0, 0.5, 2]), (lambda: refimpl.relu6([-1, 5, 7]), [0, 5, 6]),
    (lambda: refimpl.hardtanh(X), [-1, -0.5, 0, 0.5, 1]), (lambda: refimpl.hardshrink(X), [-2, 0, 0, 0, 2]),
    (lambda: refimpl.softshrink(X, 0.25), [-1.75, -0.25, 0, 0.25, 1.75]),
    (lambda: refimpl.threshold(X, 0.25, 9), [9, 9, 9, 0.5, 2]),
    (lambda: refimpl.leaky_relu(X, 0.25), [-0.5, -0.125, 0, 0.5, 2]),
    (lambda: refimpl.rrelu(X, 0.25, 0.75), [-1, -0.25, 0, 0.5, 2]),
    (lambda: refimpl.hardsigmoid([-4, -3, 0, 1.5, 3]), [0, 0, 0.5, 0.75, 1]),
    (lambda: refimpl.hardswish([-3, -1.5, 3, 4]), [0, -0.375, 3, 4]),
    (lambda: refimpl.softsign(X), np.array([-2, -1 / 2, 0, 1 / 2, 2]) / [3, 3 / 2, 1, 3 / 2, 3]),
    (lambda: refimpl.prelu([[-1, 2], [3, -4]], [0.5, 0.25]), [[-0.5, 2], [3, -1]]),
    (lambda: refimpl.glu([3.0, 5.0, 0.0, 0.0]), [1.5, 2.5]), (lambda: refimpl.sigmoid([0.0]), [0.5]),
    (lambda: refimpl.tanh([0.0]), [0.0]),
    (lambda: refimpl.softplus([1.0, 30.0], threshold=20.0)[1:], [30.0]), (lambda: refimpl.gelu([0.0]), [0.0]),
])  # fmt: skip
def test_worked_by_hand(call, expected):
    assert np.array_equal(call(), expected)


# layer -> its breakpoints, and what output and gradient (of an upstream gradient of 1) are there
BREAKPOINTS = {
    "ReLU": ([0.0], [0.0], [0.0]), "ReLU6": ([0.0, 5.5, 6.0], [0.0, 5.5, 6.0], [0.0, 1.0, 0.0]),
    "Threshold": ([0.5], [-3.0], [0.0]), "Hardtanh": ([-0.75, 1.5], [-0.75, 1.5], [0.0, 0.0]),
    "Hardshrink": ([-0.25, 0.25], [0.0, 0.0], [0.0, 0.0]),
    "Softshrink": ([-0.25, 0.25], [0.0, 0.0], [0.0, 0.0]),
    "Hardsigmoid": ([-3.0, 3.0], [0.0, 1.0], [0.0, 0.0]),
    "Hardswish": ([-3.0, 3.0], [0.0, 3.0], [0.0, 1.0]),
    "LeakyReLU": ([0.0], [0.0], [0.3]), "RReLU": ([0.0], [0.0], [(1 / 8 + 0.5) / 2]),
    "ELU": ([0.0], [0.0], [-1.5]), "SELU": ([0.0], [0.0], [SELU_SCALE * SELU_ALPHA]),
    "PReLU": ([0.0], [0.0], [0.25]),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKPOINTS)
def test_at_breakpoints(name):
    x, output, gradient = map(np.array, BREAKPOINTS[name])
    layer = getattr(refimpl, name)(**LAYERS.get(name, {})).eval()
    assert np.array_equal(layer(x), output)
    assert np.array_equal(layer.backward(np.ones_like(x)), gradient)
    bounded = layer.bounded(strictest("float64"), (x,), (np.ones_like(x),))
    assert np.array_equal(bounded["output"].value, output)
    assert np.array_equal(bounded["grad_input"].value, gradient)


def test_softplus_at_its_threshold_is_smooth_still():
    assert refimpl.softplus([2.0], 0.5, 1.0) == math.log1p(math.e) / 0.5
    assert refimpl.softplus_backward([1.0], [2.0], 0.5, 1.0)[0] == refimpl.sigmoid(1.0)
    bounded = refimpl.Softplus(0.5, 1.0).bounded(strictest("float64"), (np.array([2.0]),), (np.ones(1),))
    assert bounded["output"].value == math.log1p(math.e) / 0.5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("LeakyReLU", (math.inf,)),
        ("RReLU", (math.inf, math.inf)),
        ("ELU", (math.inf,)),
        ("CELU", (math.inf,)),
        ("PReLU", (1, math.inf)),
    ],
)
def test_zero_is_on_the_negative_side(name, arguments):
    """There it meets the argument: 0 times infinity has no value, in output and bound."""
    layer = getattr(refimpl, name)(*arguments).eval()
    zero = np.zeros(1)
    assert np.isnan(layer(zero)).all()
    bounded = layer.bounded(strictest("float64"), (zero,), (np.ones(1),))
    assert np.isnan(bounded["output"].value).all()


def test_where_exp_overflows():
    from refimpl.activation_formulas import exp, expm1

    last = 709.782712893384  # of which exp is finite
    assert exp(last) == math.exp(last) and expm1(last) == math.expm1(last)
    assert exp(np.nextafter(last, 710.0)) == expm1(np.nextafter(last, 710.0)) == math.inf


def test_derivatives_at_most():
    x = np.linspace(-5, 5, 1001)
    ones = np.ones_like(x)
    assert refimpl.sigmoid_backward(ones, x)[0].max() == 0.25
    assert refimpl.tanh_backward(ones, x)[0].max() == 1.0


def test_tanh_is_a_stretched_sigmoid():
    within(refimpl.tanh(SPREAD), 2 * refimpl.sigmoid(2 * SPREAD) - 1, rounded_once(SPREAD))


@pytest.mark.parametrize("name", LAYERS)
def test_backward_by_finite_differences(name):
    for arguments in (LAYERS[name], TANH.get(name, LAYERS[name])):
        layer = getattr(refimpl, name)(**arguments).eval()
        grad_output = np.random.default_rng(1).standard_normal(SPREAD.shape)
        layer(SPREAD)
        ((expected, error),) = finite_difference(layer, [SPREAD], grad_output)
        within(layer.backward(grad_output), expected, error)


def test_prelu_and_glu_by_finite_differences():
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 3, 4)), rng.standard_normal(3)
    up = rng.standard_normal((2, 3, 4))
    for actual, (expected, error) in zip(
        refimpl.prelu_backward(up, x, weight), finite_difference(refimpl.prelu, [x, weight], up), strict=True
    ):
        within(actual, expected, error)
    for dim in (0, -1):
        up = rng.standard_normal(refimpl.glu(x, dim).shape)
        ((expected, error),) = finite_difference(lambda x, dim=dim: refimpl.glu(x, dim), [x], up)
        within(refimpl.glu_backward(up, x, dim)[0], expected, error)


def test_exact_numbers():
    rng = np.random.default_rng(3)
    x, g = fractions(rng, 2, 3, 4), fractions(rng, 2, 3, 4)
    assert all(refimpl.hardsigmoid(x).ravel() == [min(max(v / 6 + Fraction(1, 2), 0), 1) for v in x.ravel()])
    assert all(refimpl.softsign(x).ravel() == [v / (1 + abs(v)) for v in x.ravel()])
    grad_input, grad_weight = refimpl.prelu_backward(g, x, fractions(rng, 3))
    pairs = zip(g[:, 1].ravel(), x[:, 1].ravel(), strict=True)
    assert grad_weight[1] == sum(up * value for up, value in pairs if value <= 0)
    assert grad_input.dtype == object


def test_special_values():
    nan, inf = math.nan, math.inf
    for name, arguments in LAYERS.items():
        layer = getattr(refimpl, name)(**arguments).eval()
        assert np.isnan(layer(np.array([nan]))).all(), name
    assert refimpl.logsigmoid([-inf, -300.0]).tolist() == [-inf, -300.0]
    assert refimpl.logsigmoid_backward(np.ones(1), [-inf])[0] == 1
    assert refimpl.sigmoid([-inf, -800.0, inf]).tolist() == [0, 0, 1]
    assert refimpl.hardswish([-inf, inf]).tolist() == [0, inf]
    assert np.isnan(refimpl.gelu([-inf])).all()
    assert refimpl.celu([-1000.0], -0.5).tolist() == [-inf]
    assert np.signbit(refimpl.tanh([-0.0])).all()


def test_shapes_without_elements_or_axes():
    for name, arguments in LAYERS.items():
        layer = getattr(refimpl, name)(**arguments).eval()
        assert layer(np.zeros((0, 3))).shape == (0, 3)
        assert layer(np.float64(0.75)).shape == ()
        bounded = layer.bounded(strictest("float16"), (np.array(0.75),), (np.array(2.0),))
        assert bounded["output"].value.shape == bounded["grad_input"].value.shape == ()


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_equals_interpreted(name):
    pytest.importorskip("numba")
    assert compiler_present()
    rng = np.random.default_rng(5)
    special = [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        5e-324,
        -5e-324,
        709.78,
        709.79,
        -745.2,
        1e308,
        -1e308,
    ]
    x = np.concatenate([rng.standard_normal(300) * 2.0 ** rng.uniform(-60, 12, 300), special])
    layer = getattr(refimpl, name)(**LAYERS[name]).eval()
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            results.append((layer(x), layer.backward(np.full(x.shape, 1.5))))
    for interpreted, compiled in zip(*results, strict=True):
        number = ~np.isnan(interpreted)  # the sign of a NaN is not a number's
        assert np.array_equal(interpreted[number].view(np.int64), compiled[number].view(np.int64))
        assert np.isnan(compiled[~number]).all()


# The slopes that RReLU draws.


def test_rrelu_function_in_training():
    x = np.random.default_rng(6).standard_normal(1000)
    output = refimpl.rrelu(x, 0.25, 0.5, training=True)
    slopes = output / x
    assert np.array_equal(output[x > 0], x[x > 0])
    assert 0.24 < slopes[x < 0].min() < 0.3 and 0.45 < slopes[x < 0].max() < 0.51
    with pytest.raises(RuntimeError, match="lower <= upper"):
        refimpl.rrelu(x, 0.5, 0.25, training=True)


def test_rrelu_training_draws_slopes_at_zero_too():
    layer = refimpl.RReLU(0.25, 0.5)
    assert layer(np.zeros(())).shape == ()
    layer(np.zeros(100))
    slopes = layer.backward(np.ones(100))
    assert (slopes >= 0.25).all() and (slopes <= 0.5).all()


def test_rrelu_training_uses_the_same_slopes_backward():
    x = np.random.default_rng(6).standard_normal(1000)
    layer = refimpl.RReLU(0.25, 0.5)
    slopes = np.where(x > 0, 1.0, layer(x) / x)
    assert slopes[x < 0].min() < 0.3 and slopes[x < 0].max() > 0.45
    within(layer.backward(np.ones(1000)), slopes, rounded_once(slopes))


WRONG_RRELU = {
    "slopes_too_large": lambda torch, x, low, high: _random(torch, x, low, high + 0.1),
    "one_slope": lambda torch, x, low, high: torch.where(x > 0, x, x * (low + high) / 2),
    "another_slope_backward": lambda torch, x, low, high: (
        _random(torch, x, low, high).detach() + _gradient_only(_random(torch, x, low, high))
    ),
    "slopes_for_positive_inputs": lambda torch, x, low, high: -_random(torch, -x, low, high),
}


def _random(torch, x, low, high):
    return torch.where(x > 0, x, x * (low + (high - low) * torch.rand_like(x)))


def _gradient_only(tensor):
    return tensor - tensor.detach()


@pytest.mark.parametrize("name", WRONG_RRELU)
def test_rrelu_law_can_fail(name):
    torch = pytest.importorskip("torch")
    from parity_tests.harness.candidates import StandIns
    from parity_tests.harness.checks import ParityError
    from parity_tests.harness.rrelu_law import check_rrelu_training, training_case
    from parity_tests.specs import spec_named

    def rrelu(x, low, high, training, inplace):
        return WRONG_RRELU[name](torch, x, low, high)

    candidate = StandIns(name, {"rrelu": rrelu})
    with pytest.raises(ParityError):
        check_rrelu_training(spec_named("RReLU"), training_case(0.125, 0.5, "float32"), candidate)

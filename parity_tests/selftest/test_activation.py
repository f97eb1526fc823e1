"""The activation references against worked numbers, exact arithmetic, finite differences and mpmath."""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, within
from refimpl import activation_formulas
from refimpl.activation_bounds import _below, _rounds, logistic, product, sigmoid, softshrink, tanh_gradient
from refimpl.activation_formulas import SELU_ALPHA, SELU_SCALE
from refimpl.elementwise import Elementwise
from refimpl.error_bounds import FLOATS, Bounded, Float, round_to, strictest
from refimpl.taps import compiler_present

X = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
# layer -> its arguments; PReLU's weight and GLU's axis are tried elsewhere
LAYERS = {
    "ReLU": {}, "ReLU6": {}, "Hardsigmoid": {}, "Hardswish": {}, "SELU": {}, "Sigmoid": {}, "LogSigmoid": {},
    "SiLU": {}, "Mish": {}, "Softsign": {}, "Tanh": {}, "Tanhshrink": {}, "GELU": {}, "RReLU": {"upper": 0.5},
    "Threshold": {"threshold": 0.5, "value": -3.0}, "Hardtanh": {"min_val": -0.75, "max_val": 1.5},
    "Hardshrink": {"lambd": 0.25}, "Softshrink": {"lambd": 0.25}, "LeakyReLU": {"negative_slope": 0.3},
    "ELU": {"alpha": -1.5}, "CELU": {"alpha": 0.7}, "Softplus": {"beta": 1.5, "threshold": 1.0},
}  # fmt: skip
TANH = {"GELU": {"approximate": "tanh"}}
SPREAD = np.array([-3.7, -1.3, -0.61, -0.11, 0.13, 0.49, 1.1, 1.7, 3.3, 6.4])  # no breakpoint


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


def test_halves_of_glu_are_taken_along_the_axis():
    x = np.random.default_rng(4).standard_normal((4, 2, 6))
    assert np.array_equal(refimpl.glu(x, 0), x[:2] * refimpl.sigmoid(x[2:]))
    assert np.array_equal(refimpl.glu(x, -3), refimpl.glu(x, 0))
    assert np.array_equal(refimpl.glu(x), x[..., :3] * refimpl.sigmoid(x[..., 3:]))


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


def test_a_scalar_argument_that_is_no_number():
    with pytest.raises(TypeError, match="alpha is 'a'; needed is a number"):
        refimpl.elu(np.ones(2), "a")
    with pytest.raises(RuntimeError, match="alpha is 0"):
        refimpl.celu(np.ones(2), 0.0)

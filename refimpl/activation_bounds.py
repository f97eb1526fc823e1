"""The activations in `Bounded` arithmetic: how far each result may be from the exact one.

The functions have the names and arguments of `activation_formulas`; those without a namesake here only copy
operands and need no bound.  Each evaluates the documented formula in the form that implementations use:
expm1, log1p, the logarithm of the sigmoid that does not overflow; 1 + erf, not erfc, for GELU.  Each
gradient is that formula's by the chain rule, so that a candidate which differentiates it operation by
operation fits; only sigmoid and tanh compute it from the stored output, and what ELU's family does in place,
where nothing else is left (`..._gradient_in_place`).  Where a constant divides (1/6,
1/alpha), its rounded reciprocal may multiply instead.
What bounds operation by operation cannot see: 1 / (1 + exp(-x)) is 0 once exp overflows in A (`logistic`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.activation_formulas import DENSITY, GELU_CUBIC, GELU_SLOPE, SELU_ALPHA, SELU_SCALE
from refimpl.error_bounds import FLOATS, Bounded, where

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def zero(x: Bounded) -> Bounded:
    return x.contract.exact(np.zeros_like(x.value))


def beside_one(difference: Bounded, exact: np.ndarray) -> Bounded:
    """A `difference` such as 1 - tanh(x)^2, around its value without cancellation, `exact`.

    The error stays that of the difference: a library function that is off by its published ulps beside 1
    leaves that much where nothing should be left."""
    return replace(difference, value=exact, error=difference.error + np.abs(difference.value - exact))


def either(first: Bounded, second: Bounded) -> Bounded:
    """Two forms of one formula, both in use: whichever strays farther."""
    return replace(first, error=np.maximum(first.error, second.error + np.abs(first.value - second.value)))


def product(first: Bounded, *others: Any) -> Bounded:
    """A product in any order: a partial one that underflows loses eta / 2, which larger factors magnify."""
    result, magnified = first, np.maximum(1.0, np.abs(first.value) + first.error)
    for other in others:
        factor = other if isinstance(other, Bounded) else first.contract.constant(other)
        result, magnified = result * factor, magnified * np.maximum(1.0, np.abs(factor.value) + factor.error)
    underflow = len(others) * first.contract.eta / 2 * magnified
    never = (result.value == 0) & (result.error == 0)
    return replace(result, error=np.where(never, 0.0, result.error + underflow))


def logistic(x: Bounded) -> Bounded:
    """1 / (1 + exp(-x)), which is 0 once exp overflows in A."""
    power = (-x).exp()
    direct = 1.0 / (1.0 + power)
    exact = sigmoid_values(x.value)
    overflown = power.value + power.error >= FLOATS[x.contract.accumulate].overflow
    apart = np.abs(direct.value - exact) + np.where(overflown, exact, 0.0)
    return replace(direct, value=exact, error=direct.error + apart)


def sigmoid_values(x: np.ndarray) -> np.ndarray:
    """The sigmoid without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def softshrink(x, lambd):
    down, up = (x - lambd).store(), (x + lambd).store()
    return where(x.value > lambd, down, where(x.value < -lambd, up, x * 0.0))


def leaky_relu(x, negative_slope):
    return where(x.value > 0, x, (x * negative_slope).store())


def leaky_relu_gradient(g, x, negative_slope):
    return where(x.value > 0, g, (g * negative_slope).store())


def rrelu(x, lower, upper):
    return leaky_relu(x, mean_slope(x, lower, upper))


def rrelu_gradient(g, x, lower, upper):
    return leaky_relu_gradient(g, x, mean_slope(x, lower, upper))


def mean_slope(x: Bounded, lower: float, upper: float) -> Bounded:
    return (x.contract.constant(lower) + upper) * 0.5


def hardsigmoid(x):
    line = either((x + 3.0) * (1 / 6), x * (1 / 6) + 0.5).store()
    ends = x.contract.exact((1.0 + np.sign(x.value)) / 2)
    return where(np.abs(x.value) < 3, line, ends)


def hardsigmoid_gradient(g, x):
    return where(np.abs(x.value) < 3, (g * (1 / 6)).store(), zero(g))


def hardswish(x):
    """Beyond 3 the documented x, or x relu6(x + 3) / 6 with its two roundings."""
    parabola = product(x, x + 3.0, 1 / 6).store()
    line = either(x, (x * 6.0 * (1 / 6)).store())
    return where(x.value <= -3, zero(x), where(x.value >= 3, line, parabola))


def hardswish_gradient(g, x):
    slope = (x + 3.0) * (1 / 6) + x * (1 / 6)
    inside = where(x.value < 3, (g * slope).store(), g)
    return where(x.value <= -3, zero(g), inside)


def softsign(x):
    return (x / (1.0 + abs(x))).store()


def softsign_gradient(g, x):
    divisor = 1.0 + abs(x)
    return (g / divisor - g * (abs(x) / divisor) / divisor).store()


def elu(x, alpha):
    return where(x.value <= 0, (x.expm1() * alpha).store(), x)


def elu_gradient(g, x, alpha):
    return where(x.value <= 0, product(g, alpha, x.exp()).store(), g)


def selu(x):
    return where(x.value <= 0, product(x.expm1(), SELU_ALPHA, SELU_SCALE).store(), (x * SELU_SCALE).store())


def selu_gradient(g, x):
    return where(x.value <= 0, product(g, SELU_SCALE, SELU_ALPHA, x.exp()).store(), (g * SELU_SCALE).store())


def celu(x, alpha):
    return where(x.value <= 0, ((x * (1 / alpha)).expm1() * alpha).store(), x)


def celu_gradient(g, x, alpha):
    return where(x.value <= 0, product(g, alpha, (x * (1 / alpha)).exp(), 1 / alpha).store(), g)


def elu_gradient_in_place(g, x, alpha):
    return _from_output(elu_gradient(g, x, alpha), g, x, elu(x, alpha), x.exp() * alpha, alpha)


def selu_gradient_in_place(g, x):
    limit = x.contract.constant(SELU_SCALE) * SELU_ALPHA
    return _from_output(selu_gradient(g, x), g, x, selu(x), x.exp() * limit, limit)


def celu_gradient_in_place(g, x, alpha):
    power = (x * (1 / alpha)).exp() * alpha
    return _from_output(celu_gradient(g, x, alpha), g, x, celu(x, alpha), power, alpha, 1 / alpha)


def _from_output(
    direct: Bounded, g: Bounded, x: Bounded, output: Bounded, power: Bounded, limit: Any, *factors: Any
) -> Bounded:
    """`direct`, or where x <= 0 the gradient from the output: its slope, `power` = limit exp(x), is output +
    limit.

    An implementation in place has the stored output and nothing else.  |stored - output| is at most the
    output's own bound e; the sum adds one rounding in A, and the factors theirs; e stays where the sum
    cancels.  The sign of the output tells the branch, since limit > 0: it is not above 0 where x <= 0, and
    elsewhere at least x."""
    slope = output + limit
    slope = replace(slope, value=power.value, error=slope.error + np.abs(slope.value - power.value))
    return where(x.value <= 0, either(direct, product(g, slope, *factors).store()), direct)


def sigmoid(x):
    return logistic(x).store()


def sigmoid_gradient(g, x):
    output = sigmoid(x)
    return product(g, 1.0 - output, output).store()


def logsigmoid(x):
    smooth = (-abs(x)).exp().log1p()
    return (where(x.value < 0, x, zero(x)) - smooth).store()


def logsigmoid_gradient(g, x):
    smaller = logistic(-abs(x))
    return (g * where(x.value < 0, 1.0 - smaller, smaller)).store()


def silu(x):
    return (x * logistic(x)).store()


def silu_gradient(g, x):
    """g s (1 + x (1 - s)), or term by term."""
    s = logistic(x)
    rest = beside_one(1.0 - s, sigmoid_values(-x.value))
    return either(product(g, s, 1.0 + x * rest), g * s + product(g, x, s, rest)).store()


def tanh(x):
    return x.tanh().store()


def tanh_gradient(g, x):
    output = tanh(x)
    return (g * (1.0 - output * output)).store()


def tanhshrink(x):
    return (x - x.tanh()).store()


def tanhshrink_gradient(g, x):
    t = x.tanh()
    return (g - g * (1.0 - t * t)).store()


def softplus(x, beta, threshold):
    z = x * beta
    smooth = (z.exp().log1p() * (1.0 / x.contract.constant(beta))).store()
    return _below(z, threshold, _rounds(beta), smooth, x)


def softplus_gradient(g, x, beta, threshold):
    """g sigmoid(beta x), or operation by operation through log1p and exp."""
    z = x * beta
    power = z.exp()
    through = product(g, 1.0 / g.contract.constant(beta), 1.0 / (1.0 + power), power, beta)
    return _below(z, threshold, _rounds(beta), either(g * logistic(z), through).store(), g)


def _rounds(factor: float) -> bool:
    """Whether a product with `factor` is rounded: unless it is a power of two."""
    return abs(math.frexp(factor)[0]) != 0.5


def _below(z: Bounded, threshold: float, inexact: bool, smooth: Bounded, linear: Bounded) -> Bounded:
    """`smooth` unless z > threshold; either of the two where rounding decides on which side z is."""
    chosen = where(z.value > threshold, linear, smooth)
    undecided = (np.abs(z.value - threshold) <= z.error) & inexact
    wider = np.maximum(smooth.error, linear.error) + np.abs(smooth.value - linear.value)
    return replace(chosen, error=np.where(undecided, wider, chosen.error))


def mish(x):
    return (x * x.exp().log1p().tanh()).store()


def mish_gradient(g, x):
    t, rest = _tanh_and_slope(x.exp().log1p())
    return (g * (t + x * logistic(x) * rest)).store()


def _distribution(x: Bounded) -> Bounded:
    """(1 + erf(x / sqrt(2))) / 2, the normal distribution function."""
    z = x * (1 / math.sqrt(2.0))
    return beside_one(1.0 + z.erf(), _erfc(-z.value)) * 0.5


def gelu(x):
    return (x * _distribution(x)).store()


def gelu_gradient(g, x):
    density = (x * x * -0.5).exp() * DENSITY
    return (g * (_distribution(x) + x * density)).store()


def _gelu_tanh(x: Bounded) -> tuple[Bounded, Bounded]:
    """1 + tanh and 1 - tanh^2 of the inner polynomial."""
    z = (x + x * x * x * GELU_CUBIC) * GELU_SLOPE
    t, slope = _tanh_and_slope(z)
    return beside_one(1.0 + t, 2.0 * sigmoid_values(2.0 * z.value)), slope


def _tanh_and_slope(z: Bounded) -> tuple[Bounded, Bounded]:
    """tanh and its derivative 1 - tanh^2."""
    t = z.tanh()
    return t, beside_one(1.0 - t * t, 4.0 * sigmoid_values(2.0 * z.value) * sigmoid_values(-2.0 * z.value))


def gelu_tanh(x):
    one_plus, _ = _gelu_tanh(x)
    return (x * 0.5 * one_plus).store()


def gelu_tanh_gradient(g, x):
    one_plus, slope = _gelu_tanh(x)
    inner = (1.0 + x * x * (3 * GELU_CUBIC)) * GELU_SLOPE
    return (g * (one_plus * 0.5 + x * 0.5 * slope * inner)).store()


def glu(a, b):
    return (a * logistic(b)).store()


def glu_gradient(g, a, b):
    """Gradients of the two halves."""
    s = logistic(b)
    rest = beside_one(1.0 - s, sigmoid_values(-b.value))
    return (g * s).store(), product(g, a, s, rest).store()

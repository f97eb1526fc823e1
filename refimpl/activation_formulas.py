"""The activations, one number at a time: each formula with its gradient under it, in plain `math`.

A formula is called with x and its scalar arguments, whose defaults are torch's; a gradient gets the
upstream gradient g first and gives g times the derivative.  Where the derivative does not exist (at a
breakpoint, at NaN) torch's documentation is silent, and a gradient follows what torch's scalar loops and
CUDA kernels do: each condition is written the way round that sends NaN into the branch it takes there.
Infinite arguments go through the formula as it stands: gelu(-inf) is -inf * 0 = NaN.  Compiled and
interpreted give the same bits, and the piecewise rational ones run on `fractions.Fraction` too.
"""

from __future__ import annotations

import math

INF = math.inf
OVERFLOW = 709.782712893384  # the largest number whose exp is finite in float64
SELU_ALPHA = 1.6732632423543772848170429916717  # Klambauer et al., arXiv:1706.02515
SELU_SCALE = 1.0507009873554804934193349852946
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal distribution, at 0


def exp(x):
    """exp, infinite where it overflows: Python's raises there, C's does not."""
    return INF if x > OVERFLOW else math.exp(x)


def expm1(x):
    """expm1, infinite where it overflows."""
    return INF if x > OVERFLOW else math.expm1(x)


def relu(x):
    """Zero the negative half.
    output = max(0, input)"""
    return 0 if x <= 0 else x


def relu_gradient(g, x):
    return 0 if x <= 0 else g


def threshold(x, threshold, value):
    """Replace what does not exceed a threshold.
    output = input if input > threshold else value"""
    return value if x <= threshold else x


def threshold_gradient(g, x, threshold, value):
    return 0 if x <= threshold else g


def hardtanh(x, min_val=-1.0, max_val=1.0):
    """Clip to an interval.
    output = min(max(input, min_val), max_val)"""
    return min_val if x < min_val else max_val if x > max_val else x


def hardtanh_gradient(g, x, min_val, max_val):
    return 0 if x <= min_val or x >= max_val else g


def relu6(x):
    """Clip to [0, 6].
    output = min(max(input, 0), 6)"""
    return 0 if x < 0 else 6 if x > 6 else x


def relu6_gradient(g, x):
    return 0 if x <= 0 or x >= 6 else g


def hardshrink(x, lambd=0.5):
    """Zero an interval around zero.
    output = input if |input| > lambd else 0"""
    return 0 if -lambd <= x <= lambd else x


def hardshrink_gradient(g, x, lambd):
    return 0 if -lambd <= x <= lambd else g


def softshrink(x, lambd=0.5):
    """Move towards zero by lambd, and stop there; lambd >= 0.
    output = input - lambd if input > lambd else input + lambd if input < -lambd else 0"""
    return x - lambd if x > lambd else x + lambd if x < -lambd else 0 * x


def softshrink_gradient(g, x, lambd):
    return 0 if -lambd <= x <= lambd else g


def leaky_relu(x, negative_slope=0.01):
    """Scale the negative half.
    output = input if input > 0 else negative_slope input"""
    return x if x > 0 else negative_slope * x


def leaky_relu_gradient(g, x, negative_slope):
    return g if x > 0 else negative_slope * g


def rrelu(x, lower=1.0 / 8, upper=1.0 / 3):
    """Scale the negative half by the mean slope, as in evaluation.
    output = input if input > 0 else (lower + upper) / 2 input"""
    return x if x > 0 else (lower + upper) / 2 * x


def rrelu_gradient(g, x, lower, upper):
    return g if x > 0 else (lower + upper) / 2 * g


def hardsigmoid(x):
    """A sigmoid of three straight lines.
    output = min(max(input + 3, 0), 6) / 6"""
    return 0 if x <= -3 else 1 if x >= 3 else (x + 3) / 6


def hardsigmoid_gradient(g, x):
    return g / 6 if -3 < x < 3 else 0


def hardswish(x):
    """Swish made of a parabola between two straight lines.
    output = 0 if input <= -3 else input if input >= 3 else input (input + 3) / 6"""
    return 0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6


def hardswish_gradient(g, x):
    return 0 if x <= -3 else g * (2 * x + 3) / 6 if x < 3 else g


def softsign(x):
    """A sigmoid that approaches -1 and 1 like 1/x.
    output = input / (1 + |input|)"""
    return x / (1 + abs(x))


def softsign_gradient(g, x):
    return g / (1 + abs(x)) - g * abs(x) / (1 + abs(x)) / (1 + abs(x))


def elu(x, alpha=1.0):
    """Bend the negative half towards -alpha; with expm1, so that small inputs keep their digits.
    output = input if input > 0 else alpha (exp(input) - 1)"""
    return alpha * expm1(x) if x <= 0 else x


def elu_gradient(g, x, alpha):
    return g * alpha * exp(x) if x <= 0 else g


def selu(x):
    """ELU with the two constants that keep mean 0 and variance 1; with expm1.
    output = scale (input if input > 0 else alpha (exp(input) - 1)), alpha 1.67326..., scale 1.05070..."""
    return SELU_SCALE * (SELU_ALPHA * expm1(x)) if x <= 0 else SELU_SCALE * x


def selu_gradient(g, x):
    return SELU_SCALE * g * SELU_ALPHA * exp(x) if x <= 0 else SELU_SCALE * g


def celu(x, alpha=1.0):
    """ELU with a continuous derivative for every alpha; with expm1; alpha is not 0.
    output = max(0, input) + min(0, alpha (exp(input / alpha) - 1))"""
    return alpha * expm1(x / alpha) if x <= 0 else x


def celu_gradient(g, x, alpha):
    """NaN for an infinite alpha, like the output."""
    return g * (alpha * (exp(x / alpha) / alpha)) if x <= 0 else g


def sigmoid(x):
    """The logistic function.
    output = 1 / (1 + exp(-input))"""
    return 1.0 / (1.0 + exp(-x)) if x >= 0 else exp(x) / (1.0 + exp(x))


def sigmoid_gradient(g, x):
    return g * sigmoid(x) * sigmoid(-x)


def logsigmoid(x):
    """Logarithm of the sigmoid, in the form that neither overflows nor loses small results.
    output = log(1 / (1 + exp(-input))) = min(0, input) - log1p(exp(-|input|))"""
    return (x if x < 0 else 0.0) - math.log1p(exp(-abs(x)))


def logsigmoid_gradient(g, x):
    return g * sigmoid(-x)


def silu(x):
    """The input times its sigmoid, also called swish.
    output = input / (1 + exp(-input))"""
    return x * sigmoid(x)


def silu_gradient(g, x):
    return g * (sigmoid(x) * (1.0 + x * sigmoid(-x)))


def tanh(x):
    """Hyperbolic tangent.
    output = tanh(input)"""
    return math.tanh(x)


def tanh_slope(x):
    """1 - tanh(x)^2 without cancellation, for what multiplies it by something large."""
    return 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x)


def tanh_gradient(g, x):
    return g * (1.0 - math.tanh(x) * math.tanh(x))


def tanhshrink(x):
    """What tanh takes away.
    output = input - tanh(input)"""
    return x - math.tanh(x)


def tanhshrink_gradient(g, x):
    return g * (math.tanh(x) * math.tanh(x))


def softplus(x, beta=1.0, threshold=20.0):
    """A smooth ReLU; exactly the identity where beta input exceeds the threshold; with log1p.
    output = input if beta input > threshold else log(1 + exp(beta input)) / beta"""
    return x if x * beta > threshold else math.log1p(exp(x * beta)) / beta if beta != 0 else INF


def softplus_gradient(g, x, beta, threshold):
    return g if x * beta > threshold else g * sigmoid(x * beta)


def mish(x):
    """The input times tanh of its softplus.
    output = input tanh(log(1 + exp(input)))"""
    return x * math.tanh(math.log1p(exp(x)))


def mish_gradient(g, x):
    z = math.log1p(exp(x))
    return g * (math.tanh(z) + x * sigmoid(x) * tanh_slope(z))


def gelu(x):
    """The input times the normal distribution function at the input; with erfc, which keeps the left tail.
    output = input (1 + erf(input / sqrt(2))) / 2"""
    return x * (0.5 * math.erfc(-x / math.sqrt(2.0)))


def gelu_gradient(g, x):
    return g * (0.5 * math.erfc(-x / math.sqrt(2.0)) + x * (DENSITY * exp(-0.5 * x * x)))


def gelu_tanh(x):
    """GELU with tanh in place of the error function; (1 + tanh(z)) / 2 = sigmoid(2 z) keeps the left tail.
    output = input / 2 (1 + tanh(sqrt(2 / pi) (input + 0.044715 input^3)))"""
    return x * sigmoid(2.0 * GELU_SLOPE * (x + GELU_CUBIC * (x * x * x)))


def gelu_tanh_gradient(g, x):
    z = GELU_SLOPE * (x + GELU_CUBIC * (x * x * x))
    slope = GELU_SLOPE * (1.0 + 3.0 * GELU_CUBIC * (x * x))
    return g * (sigmoid(2.0 * z) + 0.5 * x * tanh_slope(z) * slope)

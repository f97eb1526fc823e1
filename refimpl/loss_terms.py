"""Losses that are a term for each element: each formula, one number at a time, with its slopes under it.

A formula is called with the element's operands and its scalar arguments; `<name>_slopes` gives the derivative
by each operand that has one.  Where there is no derivative (a corner, a NaN) torch's documentation is silent,
and slopes follow what torch does: 0 for |d| at d = 0 or NaN, the open side for max(0, z) at z = 0.
Compiled and interpreted give the same bits; those without a logarithm or exponential run on
`fractions.Fraction` too.
"""

from __future__ import annotations

import math

from refimpl.activation_formulas import INF, exp

HALF_LOG_TWO_PI = 0.9189385332046727  # log(2 pi) / 2
BCE_FLOOR = -100.0  # documented: logarithms are not taken below this
EPSILON = 9.999999960041972e-13  # torch keeps its 1e-12 in float32, whatever the type of the input


def log(x):
    """The logarithm, -inf at 0 and NaN below: Python's raises there, C's does not."""
    return -INF if x == 0 else INF - INF if x < 0 else math.log(x)


def sign(d):
    return 1 if d > 0 else -1 if d < 0 else 0


def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return math.log1p(math.exp(-abs(x))) + (0.0 if x < 0 else x)


def sigmoid(x):
    small = math.exp(-abs(x))
    return (small if x < 0 else 1.0) / (1.0 + small)


def l1(x, t):
    """The distance between input and target.
    |input - target|"""
    return abs(x - t)


def l1_slopes(x, t):
    return sign(x - t), -sign(x - t)


def mse(x, t):
    """The squared distance between input and target.
    (input - target)^2"""
    return (x - t) * (x - t)


def mse_slopes(x, t):
    return 2 * (x - t), -2 * (x - t)


def smooth_l1(x, t, beta):
    """The distance between input and target, rounded off by a parabola below beta.
    |d| - beta / 2 if |d| >= beta else d^2 / (2 beta),  d = input - target"""
    d = abs(x - t)
    return d * d / (2 * beta) if d < beta else d - beta / 2


def smooth_l1_slopes(x, t, beta):
    d = x - t
    slope = -1.0 if d <= -beta else 1.0 if d >= beta else d / beta
    return slope, -slope


def huber(x, t, delta):
    """Half the squared distance up to delta, a straight line beyond.
    d^2 / 2 if |d| <= delta else delta (|d| - delta / 2),  d = input - target"""
    d = abs(x - t)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


def huber_slopes(x, t, delta):
    d = x - t
    slope = -delta if d < -delta else delta if d > delta else d
    return slope, -slope


def kl_div(x, t):
    """Kullback-Leibler divergence of a probability `target` from a log-probability `input`.
    target (log(target) - input), with 0 log 0 = 0"""
    return (0.0 if t == 0 else t * log(t)) - t * x


def kl_div_slopes(x, t):
    return -t, INF - INF if t == 0 else log(t) + 1.0 - x


def kl_div_log(x, t):
    """Kullback-Leibler divergence of log-probabilities.
    exp(target) (target - input)"""
    return exp(t) * (t - x)


def kl_div_log_slopes(x, t):
    return -exp(t), exp(t) * (t - x + 1.0)


def stirling(t):
    """Stirling's approximation to log(target!), used above 1."""
    return t * math.log(t) - t + 0.5 * math.log(t) + HALF_LOG_TWO_PI if t > 1 else 0.0


def stirling_slope(t):
    return math.log(t) + 0.5 / t if t > 1 else 0.0


def poisson_nll(x, t, eps, full):
    """Negative log likelihood of a Poisson variable with mean `input`.
    input - target log(input + eps) [+ Stirling's log(target!) if full and target > 1]"""
    return x - t * log(x + eps) + (stirling(t) if full else 0.0)


def poisson_nll_slopes(x, t, eps, full):
    return 1.0 - t / (x + eps) if x + eps != 0 else -t * INF, -log(x + eps) + (
        stirling_slope(t) if full else 0.0
    )


def poisson_nll_log(x, t, full):
    """Negative log likelihood of a Poisson variable with mean exp(`input`).
    exp(input) - target input [+ Stirling's log(target!) if full and target > 1]"""
    return exp(x) - t * x + (stirling(t) if full else 0.0)


def poisson_nll_log_slopes(x, t, full):
    return exp(x) - t, -x + (stirling_slope(t) if full else 0.0)


def gaussian_nll(x, t, v, eps, full):
    """Negative log likelihood of a Gaussian variable with mean `input` and variance `var`.
    (log(v) + (input - target)^2 / v) / 2 [+ log(2 pi) / 2 if full],  v = max(var, eps)"""
    v = eps if v < eps else v
    return 0.5 * (log(v) + (x - t) * (x - t) / v) + (HALF_LOG_TWO_PI if full else 0.0)


def gaussian_nll_slopes(x, t, v, eps, full):
    v = eps if v < eps else v
    slope = (x - t) / v
    return slope, -slope, 0.5 * (1.0 / v - slope * slope)


def floored_log(x):
    value = log(x)
    return BCE_FLOOR if value < BCE_FLOOR else value


def floored_log_of_rest(x):
    """log(1 - x), not below the floor."""
    value = -INF if x == 1 else math.log1p(-x)
    return BCE_FLOOR if value < BCE_FLOOR else value


def bce(x, t):
    """Binary cross entropy between a probability `input` and a `target` in [0, 1].
    -(target log(input) + (1 - target) log(1 - input)), each logarithm at least -100"""
    return -(t * floored_log(x) + (1 - t) * floored_log_of_rest(x))


def bce_slopes(x, t):
    product = (1 - x) * x
    product = EPSILON if product < EPSILON else product
    return (x - t) / product, floored_log_of_rest(x) - floored_log(x)


def bce_logits(x, t, p):
    """Binary cross entropy between the sigmoid of `input` and a `target` in [0, 1].
    -(pos_weight target log(sigmoid(input)) + (1 - target) log(sigmoid(-input)))"""
    return p * t * softplus(-x) + (1 - t) * softplus(x)


def bce_logits_slopes(x, t, p):
    return (1 - t) * sigmoid(x) - p * t * sigmoid(-x), p * softplus(-x) - softplus(x), t * softplus(-x)


def margin_ranking(a, b, y, margin):
    """Hinge of how far input1 is from being above (target 1) or below (target -1) input2 by a margin.
    max(0, -target (input1 - input2) + margin)"""
    z = -y * (a - b) + margin
    return 0.0 if z < 0 else z


def margin_ranking_slopes(a, b, y, margin):
    active = 1.0 if -y * (a - b) + margin >= 0 else 0.0
    return -y * active, y * active, (b - a) * active


def hinge_embedding(x, y, margin):
    """A distance between equals, the hinge of a distance between others.
    input if target = 1, max(0, margin - input) if target = -1"""
    z = margin - x
    return (x if y != -1 else 0.0) + ((0.0 if z < 0 else z) if y != 1 else 0.0)


def hinge_embedding_slopes(x, y, margin):
    return (1.0 if y != -1 else 0.0) - (1.0 if y != 1 and margin - x >= 0 else 0.0), 0.0


def soft_margin(x, y):
    """Logistic loss of a score against a label 1 or -1.
    log(1 + exp(-target input)), without overflow"""
    return softplus(-y * x)


def soft_margin_slopes(x, y):
    return -y * sigmoid(-y * x), 0.0


def multilabel_soft_margin(x, y):
    """Binary cross entropy between the sigmoid of `input` and a `target` in [0, 1].
    -(target log(sigmoid(input)) + (1 - target) log(sigmoid(-input)))"""
    return y * softplus(-x) + (1 - y) * softplus(x)


def multilabel_soft_margin_slopes(x, y):
    return (1 - y) * sigmoid(x) - y * sigmoid(-x), softplus(-x) - softplus(x)

"""The losses of `loss_terms` in `Bounded` arithmetic: how far each result may be from the exact one.

The functions have the names of the formulas; `<name>_slopes` gets the upstream gradient first and gives the
gradient of each operand.  Each evaluates the documented formula in the form that implementations use: log1p,
the logarithm of the sigmoid that does not overflow, logarithms with their floor.
Sums of several parts may be added in any order.  Where rounding decides on which side of a corner an operand
is, either side is right; where the difference of two operands is a number of A it is exact, so ties stay
ties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from refimpl.activation_bounds import either, logistic, zero
from refimpl.bounded import Bounded, finite_where, where
from refimpl.error_bounds import Contract, strictest
from refimpl.floats import FLOATS, gamma, outward, round_to
from refimpl.loss_terms import BCE_FLOOR, EPSILON, HALF_LOG_TWO_PI


@dataclass(frozen=True)
class AnyOrder(Contract):
    """The same contract, with roundings that fit every order of a product's factors.

    A rounding is charged with u times the size of the result, not with half the spacing there: partial
    products differ between orders, and with them the spacing, by up to a factor of 2 relative to the
    product."""

    @classmethod
    def of(cls, contract: Contract) -> AnyOrder:
        return cls(contract.store, contract.accumulate, contract.product, contract.algorithm)

    def rounding(self, size: np.ndarray, roundings: float = 1.0) -> np.ndarray:
        return roundings * (self.u * size + self.eta)


def put(x: Bounded) -> Bounded:
    """Stored in T: free where the value is exact and a number of T.

    Under a weaker contract a formula may lose everything (a small constant added before a logarithm is 0 in
    T): then any finite number will do."""
    stored, contract = x.store(), x.contract
    fits = (x.error == 0) & (round_to(contract.store, x.value) == x.value)
    error = np.where(fits, 0.0, stored.error)
    if contract.accumulate != strictest(contract.store).accumulate:
        error = np.where(np.isfinite(error), error, FLOATS[contract.store].maximum)
    return replace(stored, error=error)


def difference(first: Bounded, second: Bounded) -> Bounded:
    """first - second, exact where both are and their difference is a number of A (IEEE 754: correctly
    rounded).

    What float64 itself loses is a multiple of one operand's last place, so that operand does not come
    back."""
    rounded, a, b = first - second, first.value, second.value
    value = rounded.value
    with np.errstate(invalid="ignore"):
        exact = (first.error == 0) & (second.error == 0) & (value + b == a) & (a - value == b)
    exact &= round_to(rounded.contract.accumulate, value) == value
    return replace(rounded, error=np.where(exact, 0.0, rounded.error))


def times(first: Bounded, second: Bounded) -> Bounded:
    """first second, not rounded where one of them is exactly 1, -1 or another power of two."""
    plain = first * second
    with np.errstate(invalid="ignore"):
        error = np.where(
            _scales(first),
            np.abs(first.value) * second.error,
            np.where(_scales(second), np.abs(second.value) * first.error, plain.error),
        )
    normal = np.abs(plain.value) >= 2.0 ** FLOATS[plain.contract.accumulate].smallest
    return replace(plain, error=np.where(normal & np.isfinite(plain.value), outward(error), plain.error))


def _scales(x: Bounded) -> np.ndarray:
    return (x.error == 0) & (np.frexp(np.abs(x.value))[0] == 0.5)


def sum_of(*parts: Bounded) -> Bounded:
    """The parts added in any order."""
    return stacked(*parts).sum(0)


def stacked(*parts: Bounded) -> Bounded:
    """Parts of one shape (or shapes that broadcast) along a new first axis."""
    shape = np.broadcast_shapes(*(part.value.shape for part in parts))
    value, error = (
        np.stack([np.broadcast_to(getattr(part, name), shape) for part in parts])
        for name in ("value", "error")
    )
    return Bounded(value, error, parts[0].contract)


def branch(condition: np.ndarray, decides: Bounded, yes: Bounded, no: Bounded) -> Bounded:
    """`yes` where the condition holds, else `no`; either where rounding decides on the sign of `decides`."""
    chosen = where(condition, yes, no)
    undecided = (decides.error > 0) & (np.abs(decides.value) <= decides.error)
    with np.errstate(invalid="ignore"):
        wider = outward(np.maximum(yes.error, no.error) + np.abs(yes.value - no.value))
    return replace(chosen, error=finite_where(chosen.value, np.where(undecided, wider, chosen.error)))


def spread(x: Bounded, shape: tuple[int, ...]) -> Bounded:
    """Broadcast to a shape."""
    return Bounded(np.broadcast_to(x.value, shape), np.broadcast_to(x.error, shape), x.contract)


def ramp(z: Bounded) -> Bounded:
    """max(0, z)."""
    value = np.where(z.value < 0, 0.0, z.value)
    with np.errstate(invalid="ignore"):
        error = np.where(z.value + z.error < 0, 0.0, z.error)
    return Bounded(value, finite_where(value, error), z.contract)


def underflowing(slope: Bounded, grad_output: np.ndarray) -> Bounded:
    """A mean's gradient in any order of its factors: slope / N may underflow before grad_output multiplies
    it."""
    lost = slope.contract.eta / 2 * np.maximum(np.abs(grad_output), 1.0)
    error = np.where(slope.error > 0, outward(slope.error + lost), slope.error)
    return replace(slope, error=finite_where(slope.value, error))


def signed(g: Bounded, d: Bounded) -> Bounded:
    """g sign(d), 0 at d = 0 and NaN; either sign where rounding decides."""
    value = np.where(d.value > 0, g.value, np.where(d.value < 0, -g.value, 0.0 * g.value))
    undecided = (d.error > 0) & (np.abs(d.value) <= d.error)
    error = np.where(undecided, 2.0 * np.abs(g.value) + g.error, np.where(d.value == 0, 0.0, g.error))
    return Bounded(value, finite_where(value, error), g.contract)


def softplus(x: Bounded) -> Bounded:
    """log(1 + exp(x)) as log1p(exp(-|x|)) + max(x, 0)."""
    return (-abs(x)).exp().log1p() + ramp(x)


def l1(x, t):
    return abs(difference(x, t))


def l1_slopes(g, x, t):
    slope = signed(g, difference(x, t))
    return slope, -slope


def mse(x, t):
    d = difference(x, t)
    return d * d


def mse_slopes(g, x, t):
    slope = times(g, difference(x, t)) * 2.0
    return slope, -slope


def smooth_l1(x, t, beta):
    d = abs(difference(x, t))
    return branch(d.value < beta, d - beta, d * d * 0.5 / beta, d - 0.5 * beta)


def smooth_l1_slopes(g, x, t, beta):
    d = difference(x, t)
    inner = either(times(g, d) / beta, times(g, d / beta))  # where one product is exact, the order decides
    slope = branch(np.abs(d.value) >= beta, abs(d) - beta, signed(g, d), inner)
    return slope, -slope


def huber(x, t, delta):
    d = abs(difference(x, t))
    return branch(d.value <= delta, d - delta, d * d * 0.5, (d - 0.5 * delta) * delta)


def huber_slopes(g, x, t, delta):
    d = difference(x, t)
    slope = branch(np.abs(d.value) > delta, abs(d) - delta, signed(g * delta, d), times(g, d))
    return slope, -slope


def kl_div(x, t):
    entropy = where(t.value == 0, zero(t), t * t.log())
    return sum_of(entropy, -(t * x))


def kl_div_slopes(g, x, t):
    # log(t) + t / t: differentiated operation by operation it has a product with t, which may underflow
    slope = sum_of(g * t.log(), either(g, g * t / t), -(g * x))
    nowhere = x.contract.exact(np.full_like(t.value, np.nan))
    return -(g * t), where(t.value == 0, nowhere, slope)


def kl_div_log(x, t):
    return t.exp() * difference(t, x)


def kl_div_log_slopes(g, x, t):
    probability = t.exp()
    return -(g * probability), g * probability * sum_of(t, -x, t.contract.exact(np.ones_like(t.value)))


def _stirling(t: Bounded) -> Bounded:
    approximation = sum_of(t * t.log(), -t, (t * (2 * math.pi)).log() * 0.5)
    return where(t.value > 1, approximation, zero(t))


def _stirling_slope(t: Bounded) -> Bounded:
    return where(t.value > 1, sum_of(t.log(), 0.5 / t), zero(t))


def poisson_nll(x, t, eps, full):
    loss = sum_of(x, -(t * (x + eps).log()))
    return loss + _stirling(t) if full else loss


def poisson_nll_slopes(g, x, t, eps, full):
    mean = x + eps
    of_target = -(g * mean.log())
    return sum_of(g, -(g * t / mean)), of_target + g * _stirling_slope(t) if full else of_target


def poisson_nll_log(x, t, full):
    loss = sum_of(x.exp(), -(t * x))
    return loss + _stirling(t) if full else loss


def poisson_nll_log_slopes(g, x, t, full):
    of_target = -(g * x)
    return sum_of(g * x.exp(), -(g * t)), of_target + g * _stirling_slope(t) if full else of_target


def _variance(v: Bounded, eps: float) -> Bounded:
    return where(v.value < eps, spread(v.contract.constant(eps), v.value.shape), v)


def gaussian_nll(x, t, v, eps, full):
    d, v = difference(x, t), _variance(v, eps)
    loss = sum_of(v.log(), d * d / v) * 0.5
    return loss + HALF_LOG_TWO_PI if full else loss


def gaussian_nll_slopes(g, x, t, v, eps, full):
    d, v = difference(x, t), _variance(v, eps)
    slope = g * d / v
    return slope, -slope, sum_of(g / v, -(slope * d / v)) * 0.5


def _floored_log(x: Bounded) -> Bounded:
    return x.apply(lambda value: np.maximum(np.log(value), BCE_FLOOR), x.contract.library("log"))


def _rest(x: Bounded) -> Bounded:
    return difference(x.contract.exact(np.ones_like(x.value)), x)


def bce(x, t):
    return -sum_of(t * _floored_log(x), _rest(t) * _floored_log(_rest(x)))


def bce_slopes(g, x, t):
    divisor = (_rest(x) * x).apply(lambda value: np.maximum(value, EPSILON))
    slope = sum_of(_floored_log(_rest(x)), -_floored_log(x))
    together = times(g, difference(x, t)) / divisor
    apart = sum_of(g * _rest(t) / _rest(x), -(g * t / x))
    inside = _rest(x).value * x.value > 2 * EPSILON
    return where(inside, either(together, apart), together), g * slope


def bce_logits(x, t, p):
    """The documented sum, or with log(sigmoid(-x)) taken apart as log(sigmoid(x)) - x, as torch does."""
    smooth, weight = softplus(-x), 1.0 + (p - 1.0) * t
    return either(sum_of(p * t * smooth, _rest(t) * softplus(x)), sum_of(_rest(t) * x, weight * smooth))


def bce_logits_slopes(g, x, t, p):
    weight, smooth = 1.0 + (p - 1.0) * t, softplus(-x)
    of_target = either(sum_of(g * p * smooth, -(g * softplus(x))), sum_of(g * (p - 1.0) * smooth, -(g * x)))
    of_input = either(
        sum_of(g * _rest(t), -(g * weight * logistic(-x))), sum_of(g * weight * logistic(x), -(g * p * t))
    )
    return of_input, of_target, g * t * smooth


def _ranking(a: Bounded, b: Bounded, y: Bounded, margin: float) -> Bounded:
    lead = times(y, difference(a, b))
    return difference(spread(lead.contract.constant(margin), lead.value.shape), lead)


def margin_ranking(a, b, y, margin):
    return ramp(_ranking(a, b, y, margin))


def margin_ranking_slopes(g, a, b, y, margin):
    z = _ranking(a, b, y, margin)
    active = branch(z.value >= 0, z, g, g * 0.0)
    slope = times(active, y)
    return -slope, slope, times(active, difference(b, a))


def hinge_embedding(x, y, margin):
    hinge = ramp(difference(spread(x.contract.constant(margin), x.value.shape), x))
    return where(y.value == 1, x, where(y.value == -1, hinge, x + hinge))


def hinge_embedding_slopes(g, x, y, margin):
    z = difference(spread(x.contract.constant(margin), x.value.shape), x)
    of_hinge = branch(z.value >= 0, z, -g, zero(g))
    return where(y.value == 1, g, where(y.value == -1, of_hinge, g + of_hinge)), None


def soft_margin(x, y):
    """The form without overflow, or the documented one where its exponential is finite in A."""
    z = -times(x, y)
    stable, power = softplus(z), z.exp()
    finite = power.value + power.error < FLOATS[z.contract.accumulate].overflow
    return where(finite, either(stable, (1.0 + power).log()), stable)


def soft_margin_slopes(g, x, y):
    return -(times(g, y) * logistic(-times(x, y))), None


def multilabel_soft_margin(x, y):
    return sum_of(y * softplus(-x), _rest(y) * softplus(x))


def multilabel_soft_margin_slopes(g, x, y):
    slope = either(
        sum_of(g * _rest(y) * logistic(x), -(g * y * logistic(-x))), sum_of(g * logistic(x), -(g * y))
    )
    return slope, sum_of(g * softplus(-x), -(g * softplus(x)))


def collected(terms: Bounded, places: tuple, shape: tuple[int, ...]) -> Bounded:
    """An array of sums: each term is added at its place, in any order."""
    value, error, size, count = (np.zeros(shape) for _ in range(4))
    present = (terms.value != 0) | (terms.error != 0)
    with np.errstate(invalid="ignore"):
        for total, part in (
            (value, terms.value),
            (error, terms.error),
            (count, present),
            (size, np.abs(terms.value) + terms.error),
        ):
            np.add.at(total, places, part)
        error = outward(error + gamma(np.maximum(count - 1, 0), terms.contract.u) * size, 8 + count)
    return Bounded(value, finite_where(value, error), terms.contract)

"""Losses between an input and a target that are numbers, counts or distributions.

Formulas, one element at a time: loss_terms; how they are run: loss_pointwise; bounds: loss_bounds.
Source: torch.nn, "Loss Functions".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.loss_pointwise import Pointwise
from refimpl.loss_reduction import Loss, functions, named_reduction

_NAMES = (
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
)
__all__ = [f"{name}{suffix}" for name in _NAMES for suffix in ("", "_backward")] + [
    "GaussianNLLLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
]


def _l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The distance between input and target.

        losses = |input - target|; with a `weight` they are multiplied by it, and a mean divides by its sum

    input (*), target (*), weight like input -> output (*) for reduction 'none', else ().
    Error: one rounding a loss, and those of the sum; gradients are copies of grad_output (divided, for
    'mean').
    Raises RuntimeError for shapes that do not broadcast, ValueError for another reduction or shape of weight.
    Source: torch.nn.functional.l1_loss."""
    return Pointwise(
        "l1",
        (input, target),
        (),
        named_reduction(reduction, size_average, reduce),
        _checked_weight(weight, input),
        weighted_mean=True,
    )


l1_loss, l1_loss_backward = functions(_l1_loss)


class L1Loss(Loss):
    """`l1_loss` as a layer.  Source: torch.nn.L1Loss."""

    call = staticmethod(_l1_loss)

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)


def _mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared distance between input and target.

        losses = (input - target)^2; with a `weight` they are multiplied by it, and a mean divides by its sum

    Shapes, raises: as `l1_loss`.  Error: four roundings a loss, and those of the sum.
    Source: torch.nn.functional.mse_loss."""
    return Pointwise(
        "mse",
        (input, target),
        (),
        named_reduction(reduction, size_average, reduce),
        _checked_weight(weight, input),
        weighted_mean=True,
    )


mse_loss, mse_loss_backward = functions(_mse_loss)


class MSELoss(Loss):
    """`mse_loss` as a layer.  Source: torch.nn.MSELoss."""

    call = staticmethod(_mse_loss)

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)


def _smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """The distance between input and target, rounded off by a parabola below `beta`.

        losses = |d| - beta / 2 if |d| >= beta else d^2 / (2 beta),  d = input - target

    Shapes: as `l1_loss`.  Error: about five roundings a loss, and those of the sum.
    Raises RuntimeError for a negative beta and shapes that do not broadcast, ValueError for another
    reduction.
    Source: torch.nn.functional.smooth_l1_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    if beta == 0:
        return Pointwise("l1", (input, target), (), reduction)
    call = Pointwise("smooth_l1", (input, target), (beta,), reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta is {beta}; needed is at least 0")
    return call


smooth_l1_loss, smooth_l1_loss_backward = functions(_smooth_l1_loss)


class SmoothL1Loss(Loss):
    """`smooth_l1_loss` as a layer.  Source: torch.nn.SmoothL1Loss."""

    call = staticmethod(_smooth_l1_loss)

    def __init__(self, size_average=None, reduce=None, reduction="mean", beta=1.0):
        super().__init__(reduction, size_average, reduce, beta=beta)


def _huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Half the squared distance up to `delta`, a straight line beyond.

        losses = d^2 / 2 if |d| <= delta else delta (|d| - delta / 2),  d = input - target
        with a `weight` they are multiplied by it; a mean divides by their number all the same

    Shapes: as `l1_loss`.  Error: about five roundings a loss, and those of the sum.
    Raises RuntimeError for a delta <= 0 and shapes that do not broadcast, ValueError for another reduction.
    Source: torch.nn.functional.huber_loss."""
    call = Pointwise(
        "huber", (input, target), (delta,), named_reduction(reduction), _checked_weight(weight, input)
    )
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta is {delta}; needed is a positive number")
    return call


huber_loss, huber_loss_backward = functions(_huber_loss)


class HuberLoss(Loss):
    """`huber_loss` as a layer.  Source: torch.nn.HuberLoss."""

    call = staticmethod(_huber_loss)

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction, delta=delta)


class KullbackLeibler(Pointwise):
    """A divergence knows one more reduction: 'batchmean' divides the sum by the length of the first axis."""

    def divisor(self) -> Any:
        if self.reduction != "batchmean":
            return super().divisor()
        return self.given_shapes[0][0] if self.given_shapes[0] else 1


def _kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """Kullback-Leibler divergence of `target` from the distribution whose log-probabilities are `input`.

        losses = target (log(target) - input), 0 log 0 = 0; with log_target exp(target) (target - input)

    Shapes: as `l1_loss`; reduction 'batchmean' divides the sum by the batch size. At a target of 0 there
    is no gradient by the target: NaN. Error: a few roundings of |target log(target)| + |target input|.
    Raises RuntimeError for shapes that do not broadcast, ValueError for another reduction.
    Source: torch.nn.functional.kl_div."""
    reduction = named_reduction(reduction, size_average, reduce, ("none", "mean", "sum", "batchmean"))
    return KullbackLeibler("kl_div_log" if log_target else "kl_div", (input, target), (), reduction)


kl_div, kl_div_backward = functions(_kl_div)


class KLDivLoss(Loss):
    """`kl_div` as a layer.  Source: torch.nn.KLDivLoss."""

    call = staticmethod(_kl_div)

    def __init__(self, size_average=None, reduce=None, reduction="mean", log_target=False):
        super().__init__(reduction, size_average, reduce, log_target=log_target)


def _poisson_nll_loss(
    input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"
):
    """Negative log likelihood of counts `target`, Poisson distributed with mean exp(`input`) or `input`.

        losses = exp(input) - target input if log_input else input - target log(input + eps)
        full adds target log(target) - target + log(2 pi target) / 2 where target > 1

    Shapes: as `l1_loss`.  Error: a few roundings of each part, and those of the sum.
    Raises RuntimeError for shapes that do not broadcast, ValueError for another reduction.
    Source: torch.nn.functional.poisson_nll_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    if log_input:
        return Pointwise("poisson_nll_log", (input, target), (bool(full),), reduction)
    return Pointwise("poisson_nll", (input, target), (eps, bool(full)), reduction)


poisson_nll_loss, poisson_nll_loss_backward = functions(_poisson_nll_loss)


class PoissonNLLLoss(Loss):
    """`poisson_nll_loss` as a layer.  Source: torch.nn.PoissonNLLLoss."""

    call = staticmethod(_poisson_nll_loss)

    def __init__(
        self, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"
    ):
        super().__init__(reduction, size_average, reduce, log_input=log_input, full=full, eps=eps)


class _SqueezedVariance(Pointwise):
    """A variance without the last axis; its gradient has none either."""

    def _in_order(self, results: list) -> tuple:
        of_input, of_target, of_variance = super()._in_order(results)
        return of_input, of_target, of_variance[..., 0]


def _gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """Negative log likelihood of `target`, Gaussian with mean `input` and variance `var`.

        losses = (log(v) + (input - target)^2 / v) / 2,  v = max(var, eps);  full adds log(2 pi) / 2

    input (*), target (*), var like input, or with a last axis of 1 or none, or a number -> output (*) or ().
    As documented, gradients are not affected by the maximum: that of `var` is taken at v.
    Error: a few roundings of each part, and those of the sum.
    Raises ValueError for a negative var, one of another shape, and another reduction; RuntimeError for
    shapes that do not broadcast.  Source: torch.nn.functional.gaussian_nll_loss."""
    shape, absent = np.shape(input), (2,) if isinstance(var, float) else ()
    var = np.full(shape, var) if absent else np.asarray(var)
    if (var < 0).any():
        raise ValueError("gaussian_nll_loss: var has negative entries; needed are numbers of at least 0")
    others = [size for own, size in zip(shape, var.shape, strict=False) if own != size]
    if var.shape == shape[:-1] != shape:
        return _SqueezedVariance(
            "gaussian_nll", (input, target, var[..., None]), (eps, bool(full)), named_reduction(reduction)
        )
    if var.shape != shape and (var.ndim != len(shape) or sum(others) != 1):
        raise ValueError(
            f"gaussian_nll_loss: var has shape {var.shape}; needed is that of input, {shape}, or "
            "with one axis of 1"
        )
    return Pointwise(
        "gaussian_nll", (input, target, var), (eps, bool(full)), named_reduction(reduction), absent=absent
    )


gaussian_nll_loss, gaussian_nll_loss_backward = functions(_gaussian_nll_loss)


class GaussianNLLLoss(Loss):
    """`gaussian_nll_loss` as a layer.  Source: torch.nn.GaussianNLLLoss."""

    call = staticmethod(_gaussian_nll_loss)

    def __init__(self, *, full=False, eps=1e-6, reduction="mean"):
        super().__init__(reduction, full=full, eps=eps)


def _checked_weight(weight: Any, input: Any) -> Any:
    if weight is not None and np.shape(weight) != np.shape(input):
        raise ValueError(f"weight has shape {np.shape(weight)}; needed is that of input, {np.shape(input)}")
    return weight

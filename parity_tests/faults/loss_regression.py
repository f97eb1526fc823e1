"""Regressions with a wrong formula."""

from __future__ import annotations

from typing import Any

import torch

from parity_tests.faults.fault import with_gradient
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import fault, functional, original, reduction_instead, without


def _stirling_from_1(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    losses = functional.poisson_nll_loss(input, target, log_input, False, eps=eps, reduction="none")
    approximation = torch.special.gammaln(target + 1)
    return reduced(losses + torch.where(target > 1, approximation, 0.0) if full else losses, reduction)


def _variance_plus_eps(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    return functional.gaussian_nll_loss(input, target, var + eps, full=full, eps=0.0, reduction=reduction)


def _no_gradient_of_variance(upstream: Any, tensors: list, gradients: list) -> list:
    return [*gradients[:2], 0 * gradients[2]]


FAULTS = (
    without("SmoothL1Loss", beta=1.0),
    without("HuberLoss", delta=1.0),
    without("KLDivLoss", log_target=False),
    fault(
        "huber_as_smooth_l1",
        "the straight part is not scaled by delta",
        "HuberLoss",
        lambda input, target, reduction="mean", delta=1.0: functional.smooth_l1_loss(
            input, target, reduction=reduction, beta=delta
        ),
    ),
    fault(
        "smooth_l1_as_huber",
        "the parabola is not scaled by beta",
        "SmoothL1Loss",
        lambda input, target, reduction="mean", beta=1.0: functional.huber_loss(
            input, target, reduction=reduction, delta=max(beta, 1e-30)
        ),
    ),
    fault(
        "half_squared_error",
        "half the squared error",
        "MSELoss",
        lambda input, target, reduction="mean": functional.mse_loss(input, target, reduction=reduction) / 2,
    ),
    fault(
        "root_mean_squared_error",
        "the root of the mean squared error",
        "MSELoss",
        lambda input, target, reduction="mean": functional.mse_loss(
            input, target, reduction=reduction
        ).sqrt(),
    ),
    fault(
        "signed_error",
        "the absolute value is taken after the mean",
        "L1Loss",
        lambda input, target, reduction="mean": reduced(input - target, reduction).abs(),
    ),
    fault(
        "divergence_reversed",
        "input and target exchanged",
        "KLDivLoss",
        lambda input, target, reduction="mean", log_target=False: functional.kl_div(
            target.log() if not log_target else target,
            input.exp() if not log_target else input,
            reduction=reduction,
            log_target=log_target,
        ),
    ),
    fault(
        "batchmean_is_mean",
        "reduction 'batchmean' divides by the number of elements",
        "KLDivLoss",
        reduction_instead(batchmean="mean")("kl_div"),
    ),
    without("PoissonNLLLoss", eps=1e-8),
    without("PoissonNLLLoss", full=False),
    without("PoissonNLLLoss", log_input=True),
    fault(
        "stirling_exact", "the exact log(target!) in place of Stirling's", "PoissonNLLLoss", _stirling_from_1
    ),
    without("GaussianNLLLoss", full=False),
    fault("variance_plus_eps", "eps is added to the variance", "GaussianNLLLoss", _variance_plus_eps),
    fault(
        "variance_gradient_lost",
        "the variance has no gradient",
        "GaussianNLLLoss",
        with_gradient(original("gaussian_nll_loss"), _no_gradient_of_variance),
        "input_gradients",
    ),
)

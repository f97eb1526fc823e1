"""Losses of binary targets and of classes with a wrong formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from parity_tests.faults.fault import scaled, with_gradient
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import LOSSES, altered, fault, functional, original, without


def _nothing(given: Mapping[str, Any]) -> Any:
    """No bias, but a gradient of it."""
    return None if given["linear_bias"] is None else given["linear_bias"] * 0


def _entropy_of_softmax(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    logarithm = torch.log(torch.softmax(input, min(1, input.dim() - 1)))
    return functional.nll_loss(logarithm, target, weight, ignore_index=ignore_index, reduction=reduction)


def _offset_kept(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """logsumexp is subtracted from the logits as they are, not from their distance to the largest."""
    axis = min(1, input.dim() - 1)
    logarithm = input - torch.logsumexp(input, axis, keepdim=True)
    if label_smoothing or target.shape == input.shape:
        return functional.cross_entropy(
            input,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
    return functional.nll_loss(logarithm, target, weight, ignore_index=ignore_index, reduction=reduction)


def _unnormalized(given: Mapping[str, Any]) -> Any:
    classes = given["input"].shape[min(1, given["input"].dim() - 1)]
    return given["label_smoothing"] * classes / max(1, classes - 1)


def _naive_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    s = torch.sigmoid(input)
    positive = target if pos_weight is None else pos_weight * target
    losses = -(positive * torch.log(s) + (1 - target) * torch.log(1 - s))
    return reduced(losses if weight is None else weight * losses, reduction)


def _unfloored(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    losses = -(target * torch.log(input) + (1 - target) * torch.log(1 - input))
    return reduced(losses if weight is None else weight * losses, reduction)


def _both_weighted(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    scale = weight if pos_weight is None else pos_weight if weight is None else weight * pos_weight
    return functional.binary_cross_entropy_with_logits(input, target, scale, reduction=reduction)


def _count_mean(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """A mean over the number of targets, not their weights."""
    losses = functional.nll_loss(input, target, weight, ignore_index=ignore_index, reduction="none")
    return reduced(losses, reduction)


_LINEAR = (
    (
        fault(
            "linear_bias_ignored",
            "the bias is not added",
            "LinearCrossEntropyLoss",
            altered("linear_cross_entropy", linear_bias=_nothing),
        ),
        without("LinearCrossEntropyLoss", weight=None),
        without("LinearCrossEntropyLoss", ignore_index=None),
        without("LinearCrossEntropyLoss", label_smoothing=0.0),
        fault(
            "linear_weight_gradient_doubled",
            "the gradient of the linear weight is twice as large",
            "LinearCrossEntropyLoss",
            with_gradient(original("linear_cross_entropy"), scaled(1, 2.0)),
            "parameter_gradients",
        ),
    )
    if "LinearCrossEntropyLoss" in LOSSES
    else ()
)

FAULTS = (
    without("BCELoss", weight=None),
    without("NLLLoss", weight=None),
    without("CrossEntropyLoss", weight=None),
    without("BCEWithLogitsLoss", pos_weight=None),
    fault("logarithms_without_floor", "logarithms are not limited to -100", "BCELoss", _unfloored),
    fault("naive_sigmoid", "log(sigmoid), which overflows", "BCEWithLogitsLoss", _naive_logits),
    fault(
        "pos_weight_of_both",
        "pos_weight multiplies the negative examples too",
        "BCEWithLogitsLoss",
        _both_weighted,
    ),
    fault(
        "mean_of_weighted_losses",
        "the mean divides by the number of targets, not their weights",
        "NLLLoss",
        _count_mean,
    ),
    without("NLLLoss", ignore_index=-100),
    without("CrossEntropyLoss", label_smoothing=0.0),
    fault(
        "smoothing_over_other_classes",
        "label smoothing is spread over the other classes only",
        "CrossEntropyLoss",
        altered("cross_entropy", label_smoothing=lambda given: min(1.0, _unnormalized(given))),
    ),
    fault(
        "offset_kept",
        "x - logsumexp(x), which loses what a common offset rounds away",
        "CrossEntropyLoss",
        _offset_kept,
    ),
    fault("logarithm_of_softmax", "log(softmax), which underflows", "CrossEntropyLoss", _entropy_of_softmax),
    *_LINEAR,
)

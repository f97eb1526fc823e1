"""Hinges and margins with a wrong formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults import loss_plain as plain
from parity_tests.faults.fault import with_gradient
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import fault, functional, original, without


def _summed_classes(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    return plain.multilabel_soft_margin_loss(input, target, weight, reduction) * input.shape[-1]


def _any_target(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    """The target class counts as another class too."""
    losses = functional.multi_margin_loss(input, target, p, margin, weight, reduction="none")
    own = margin**p / input.shape[-1] * (1 if weight is None else weight[target])
    return reduced(losses + own, reduction)


def _weight_of_others(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    return functional.multi_margin_loss(
        input, target, p, margin, None if weight is None else weight.flip(0), reduction=reduction
    )


def _whole_list(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Labels after the first -1 count too."""
    order = torch.sort((target < 0).int(), dim=-1, stable=True)[1]
    return functional.multilabel_margin_loss(input, target.gather(-1, order), reduction=reduction)


def _no_gradient_at_ties(name: str) -> Callable:
    """The gradient of a hinge is 0 where it is just reached."""

    def spoil(upstream: Any, tensors: list, gradients: list) -> list:
        a, b, y = tensors
        keep = (-y * (a - b)) != 0
        return [gradient * keep for gradient in gradients]

    return with_gradient(original(name), spoil)


FAULTS = (
    without("MultiMarginLoss", weight=None),
    without("MultiLabelSoftMarginLoss", weight=None),
    fault(
        "classes_summed",
        "the sum over the classes is not divided by their number",
        "MultiLabelSoftMarginLoss",
        _summed_classes,
    ),
    fault(
        "labels_swapped",
        "1 and -1 exchanged",
        "SoftMarginLoss",
        lambda input, target, reduction="mean": functional.soft_margin_loss(
            input, -target, reduction=reduction
        ),
    ),
    without("HingeEmbeddingLoss", margin=1.0),
    without("MarginRankingLoss", margin=0.0),
    fault(
        "ranking_reversed",
        "the lower score should be the higher",
        "MarginRankingLoss",
        lambda a, b, y, margin=0.0, reduction="mean": functional.margin_ranking_loss(
            b, a, y, margin=margin, reduction=reduction
        ),
    ),
    fault(
        "no_gradient_at_ties",
        "a hinge that is just reached has no gradient",
        "MarginRankingLoss",
        _no_gradient_at_ties("margin_ranking_loss"),
        "input_gradients",
    ),
    without("MultiMarginLoss", p=1),
    without("MultiMarginLoss", margin=1.0),
    fault("target_class_counted", "the target class counts as another class", "MultiMarginLoss", _any_target),
    fault("weights_reversed", "the weights are those of other classes", "MultiMarginLoss", _weight_of_others),
    fault("list_not_ended", "labels after the first -1 count", "MultiLabelMarginLoss", _whole_list),
)

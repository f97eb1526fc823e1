"""Losses of yes or no: cross entropy of two classes, and margins that scores should keep.

Formulas, one element at a time: loss_terms; how they are run: loss_pointwise; bounds: loss_bounds.
Source: torch.nn, "Loss Functions".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.loss_pointwise import Pointwise
from refimpl.loss_reduction import Loss, functions, named_reduction

_NAMES = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
)
__all__ = [f"{name}{suffix}" for name in _NAMES for suffix in ("", "_backward")] + [
    "BCELoss",
    "BCEWithLogitsLoss",
    "HingeEmbeddingLoss",
    "MarginRankingLoss",
    "MultiLabelSoftMarginLoss",
    "SoftMarginLoss",
]


def _binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Cross entropy between probabilities `input` and targets in [0, 1].

        losses = -weight (target log(input) + (1 - target) log(1 - input)), each logarithm at least -100

    input (*), target (*), weight broadcast to them -> output (*) for reduction 'none', else ().
    Gradient by the input: grad_output weight (input - target) / max((1 - input) input, 1e-12), the form that
    torch uses where the documentation is silent. Error: a few roundings of each part, and those of the sum.
    Raises ValueError for a target of another shape and another reduction, RuntimeError for inputs or targets
    outside [0, 1] and a weight that does not broadcast.
    Source: torch.nn.functional.binary_cross_entropy, torch.nn.BCELoss."""
    reduction = named_reduction(reduction, size_average, reduce)
    _check_same("binary_cross_entropy", input, target)
    call = Pointwise("bce", (input, target), (), reduction, weight)
    for name, array in (("input", input), ("target", target)):
        if not ((np.asarray(array) >= 0) & (np.asarray(array) <= 1)).all():
            raise RuntimeError(
                f"binary_cross_entropy: {name} has numbers outside [0, 1]; needed are probabilities"
            )
    return call


binary_cross_entropy, binary_cross_entropy_backward = functions(_binary_cross_entropy)


class BCELoss(Loss):
    """`binary_cross_entropy` as a layer.  Source: torch.nn.BCELoss."""

    call = staticmethod(_binary_cross_entropy)
    buffers = ("weight",)

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, weight=weight)


def _binary_cross_entropy_with_logits(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None
):
    """Cross entropy between the sigmoids of `input` and targets in [0, 1].

        losses = -weight (pos_weight target log(s) + (1 - target) log(1 - s)),  s = 1 / (1 + exp(-input))
        with log(s) = -log(1 + exp(-input)) and log(1 - s) = -log(1 + exp(input)), which do not overflow

    Shapes: as `binary_cross_entropy`; pos_weight is broadcast likewise.
    Error: a few roundings of each part, and those of the sum.
    Raises ValueError for a target of another shape and another reduction, RuntimeError for weights that do
    not broadcast.  Source: torch.nn.functional.binary_cross_entropy_with_logits."""
    reduction = named_reduction(reduction, size_average, reduce)
    _check_same("binary_cross_entropy_with_logits", input, target)
    absent = (2,) if pos_weight is None else ()
    return Pointwise(
        "bce_logits",
        (input, target, 1.0 if pos_weight is None else pos_weight),
        (),
        reduction,
        weight,
        absent=absent,
    )


binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_backward = functions(
    _binary_cross_entropy_with_logits
)


class BCEWithLogitsLoss(Loss):
    """`binary_cross_entropy_with_logits` as a layer.  Source: torch.nn.BCEWithLogitsLoss."""

    call = staticmethod(_binary_cross_entropy_with_logits)
    buffers = ("weight", "pos_weight")

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
        super().__init__(reduction, size_average, reduce, weight=weight, pos_weight=pos_weight)


def _multilabel_soft_margin_loss(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean"
):
    """Cross entropy between the sigmoids of scores and targets in [0, 1], averaged over the C classes.

        losses[n] = -sum(weight[c] (target log(s) + (1 - target) log(1 - s)) for c in classes) / C

    input (*, C), target (*, C), weight broadcast to them -> output (*) for reduction 'none', else ().
    Error: a few roundings of each part, and those of the sums.
    Raises IndexError for an input without axes, RuntimeError for shapes that do not broadcast, ValueError for
    another reduction.  Source: torch.nn.functional.multilabel_soft_margin_loss."""
    if np.ndim(input) == 0:
        raise IndexError("multilabel_soft_margin_loss: input has no axes; needed is at least one, of classes")
    return Pointwise(
        "multilabel_soft_margin",
        (input, target),
        (),
        named_reduction(reduction, size_average, reduce),
        weight,
        averages=True,
    )


multilabel_soft_margin_loss, multilabel_soft_margin_loss_backward = functions(_multilabel_soft_margin_loss)


class MultiLabelSoftMarginLoss(Loss):
    """`multilabel_soft_margin_loss` as a layer.  Source: torch.nn.MultiLabelSoftMarginLoss."""

    call = staticmethod(_multilabel_soft_margin_loss)
    buffers = ("weight",)

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, weight=weight)


def _soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """Logistic loss of scores against labels 1 or -1.

        losses = log(1 + exp(-target input)), in the form log1p(exp(-|z|)) + max(z, 0) that does not overflow

    Shapes, raises: as `l1_loss`; the target has no gradient.
    Error: that of the documented form where its exponential is finite in A, otherwise that of the other.
    Source: torch.nn.functional.soft_margin_loss."""
    return Pointwise("soft_margin", (input, target), (), named_reduction(reduction, size_average, reduce))


soft_margin_loss, soft_margin_loss_backward = functions(_soft_margin_loss)


class SoftMarginLoss(Loss):
    """`soft_margin_loss` as a layer.  Source: torch.nn.SoftMarginLoss."""

    call = staticmethod(_soft_margin_loss)

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)


def _margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """How far input1 is from being above (target 1) or below (target -1) input2 by a margin.

        losses = max(0, -target (input1 - input2) + margin)

    input1 (*), input2 (*), target (*) -> output (*) for reduction 'none', else ().
    Error: two roundings a loss, and those of the sum.
    Raises RuntimeError for different numbers of axes and shapes that do not broadcast, ValueError for another
    reduction.  Source: torch.nn.functional.margin_ranking_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    if not np.ndim(input1) == np.ndim(input2) == np.ndim(target):
        raise RuntimeError(
            f"margin_ranking_loss: shapes {np.shape(input1)}, {np.shape(input2)}, "
            f"{np.shape(target)}; needed is the same number of axes"
        )
    return Pointwise("margin_ranking", (input1, input2, target), (margin,), reduction)


margin_ranking_loss, margin_ranking_loss_backward = functions(_margin_ranking_loss)


class MarginRankingLoss(Loss):
    """`margin_ranking_loss` as a layer.  Source: torch.nn.MarginRankingLoss."""

    call = staticmethod(_margin_ranking_loss)

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, margin=margin)


def _hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """The distance of equals, and by how much the distance of others is less than a margin.

        losses = input if target = 1, max(0, margin - input) if target = -1

    Shapes, raises: as `l1_loss`; the target has no gradient.  Error: one rounding a loss, and those of the
    sum.
    Source: torch.nn.functional.hinge_embedding_loss."""
    return Pointwise(
        "hinge_embedding", (input, target), (margin,), named_reduction(reduction, size_average, reduce)
    )


hinge_embedding_loss, hinge_embedding_loss_backward = functions(_hinge_embedding_loss)


class HingeEmbeddingLoss(Loss):
    """`hinge_embedding_loss` as a layer.  Source: torch.nn.HingeEmbeddingLoss."""

    call = staticmethod(_hinge_embedding_loss)

    def __init__(self, margin=1.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, margin=margin)


def _check_same(name: str, input: Any, target: Any) -> None:
    if np.shape(input) != np.shape(target):
        raise ValueError(
            f"{name}: target has shape {np.shape(target)}; needed is that of input, {np.shape(input)}"
        )

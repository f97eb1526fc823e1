"""Losses and distances with a wrong formula: what is wrong with one of them, and only there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from parity_tests.faults import loss_plain as plain
from parity_tests.faults.fault import Fault, scaled, with_gradient
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import ALL, LOSSES, altered, functional, original, reduction_instead


def _nothing(given: Mapping[str, Any]) -> Any:
    """No bias, but a gradient of it."""
    return None if given["linear_bias"] is None else given["linear_bias"] * 0


def _fault(name: str, sentence: str, layer: str, stand_in: Callable, check: str = "forward") -> Fault:
    return Fault(name, sentence, {ALL[layer]: stand_in}, check, (layer,))


def _without(layer: str, **changes: Any) -> Fault:
    """A fault that ignores an argument: it always has the value given."""
    ((argument, value),) = changes.items()
    return _fault(
        f"{ALL[layer]}_{argument}_ignored",
        f"{argument} is always {value}",
        layer,
        altered(ALL[layer], **changes),
    )


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


def _summed_classes(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    return plain.multilabel_soft_margin_loss(input, target, weight, reduction) * input.shape[-1]


def _count_mean(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """A mean over the number of targets, not their weights."""
    losses = functional.nll_loss(input, target, weight, ignore_index=ignore_index, reduction="none")
    return reduced(losses, reduction)


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


def _joint_floor(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    return (x1 * x2).sum(dim) / (plain.norm(x1, dim) * plain.norm(x2, dim)).clamp_min(eps)


def _added_eps(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    return (x1 * x2).sum(dim) / ((plain.norm(x1, dim) + eps) * (plain.norm(x2, dim) + eps))


def _squared(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    distance = functional.pairwise_distance(x1, x2, p, eps, keepdim)
    return distance * distance if p == 2 else distance


def _eps_outside(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    return functional.pairwise_distance(x1, x2, p, 0.0, keepdim) + eps


def _farther(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """swap takes the larger of the two distances."""
    far = plain.pairwise_distance(anchor, negative, p, eps)
    far = torch.maximum(far, plain.pairwise_distance(positive, negative, p, eps)) if swap else far
    return reduced((margin + plain.pairwise_distance(anchor, positive, p, eps) - far).clamp_min(0), reduction)


def _opposite(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """Pairs that do not belong together are pushed to be opposite."""
    cosine = functional.cosine_similarity(input1, input2, dim=-1)
    return reduced(torch.where(target == 1, 1 - cosine, (1 + cosine - margin).clamp_min(0)), reduction)


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


def _no_gradient_at_ties(name: str) -> Callable:
    """The gradient of a hinge is 0 where it is just reached."""

    def spoil(upstream: Any, tensors: list, gradients: list) -> list:
        a, b, y = tensors
        keep = (-y * (a - b)) != 0
        return [gradient * keep for gradient in gradients]

    return with_gradient(original(name), spoil)


def _mean_of_losses(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    losses = functional.ctc_loss(
        log_probs, targets, input_lengths, target_lengths, blank, "none", zero_infinity
    )
    return reduced(losses, reduction)


def _all_steps(given: Mapping[str, Any]) -> Any:
    return torch.full_like(given["input_lengths"], given["log_probs"].shape[0])


FORMULAS = (
    _without("SmoothL1Loss", beta=1.0),
    _without("HuberLoss", delta=1.0),
    _without("KLDivLoss", log_target=False),
    _fault(
        "huber_as_smooth_l1",
        "the straight part is not scaled by delta",
        "HuberLoss",
        lambda input, target, reduction="mean", delta=1.0: functional.smooth_l1_loss(
            input, target, reduction=reduction, beta=delta
        ),
    ),
    _fault(
        "smooth_l1_as_huber",
        "the parabola is not scaled by beta",
        "SmoothL1Loss",
        lambda input, target, reduction="mean", beta=1.0: functional.huber_loss(
            input, target, reduction=reduction, delta=max(beta, 1e-30)
        ),
    ),
    _fault(
        "half_squared_error",
        "half the squared error",
        "MSELoss",
        lambda input, target, reduction="mean": functional.mse_loss(input, target, reduction=reduction) / 2,
    ),
    _fault(
        "root_mean_squared_error",
        "the root of the mean squared error",
        "MSELoss",
        lambda input, target, reduction="mean": functional.mse_loss(
            input, target, reduction=reduction
        ).sqrt(),
    ),
    _fault(
        "signed_error",
        "the absolute value is taken after the mean",
        "L1Loss",
        lambda input, target, reduction="mean": reduced(input - target, reduction).abs(),
    ),
    _fault(
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
    _fault(
        "batchmean_is_mean",
        "reduction 'batchmean' divides by the number of elements",
        "KLDivLoss",
        reduction_instead(batchmean="mean")("kl_div"),
    ),
    _without("PoissonNLLLoss", eps=1e-8),
    _without("PoissonNLLLoss", full=False),
    _without("PoissonNLLLoss", log_input=True),
    _fault(
        "stirling_exact", "the exact log(target!) in place of Stirling's", "PoissonNLLLoss", _stirling_from_1
    ),
    _without("GaussianNLLLoss", full=False),
    _fault("variance_plus_eps", "eps is added to the variance", "GaussianNLLLoss", _variance_plus_eps),
    _fault(
        "variance_gradient_lost",
        "the variance has no gradient",
        "GaussianNLLLoss",
        with_gradient(original("gaussian_nll_loss"), _no_gradient_of_variance),
        "input_gradients",
    ),
    _without("BCELoss", weight=None),
    _without("NLLLoss", weight=None),
    _without("CrossEntropyLoss", weight=None),
    _without("MultiMarginLoss", weight=None),
    _without("MultiLabelSoftMarginLoss", weight=None),
    _without("BCEWithLogitsLoss", pos_weight=None),
    _fault("logarithms_without_floor", "logarithms are not limited to -100", "BCELoss", _unfloored),
    _fault("naive_sigmoid", "log(sigmoid), which overflows", "BCEWithLogitsLoss", _naive_logits),
    _fault(
        "pos_weight_of_both",
        "pos_weight multiplies the negative examples too",
        "BCEWithLogitsLoss",
        _both_weighted,
    ),
    _fault(
        "classes_summed",
        "the sum over the classes is not divided by their number",
        "MultiLabelSoftMarginLoss",
        _summed_classes,
    ),
    _fault(
        "labels_swapped",
        "1 and -1 exchanged",
        "SoftMarginLoss",
        lambda input, target, reduction="mean": functional.soft_margin_loss(
            input, -target, reduction=reduction
        ),
    ),
    _without("HingeEmbeddingLoss", margin=1.0),
    _without("MarginRankingLoss", margin=0.0),
    _fault(
        "ranking_reversed",
        "the lower score should be the higher",
        "MarginRankingLoss",
        lambda a, b, y, margin=0.0, reduction="mean": functional.margin_ranking_loss(
            b, a, y, margin=margin, reduction=reduction
        ),
    ),
    _fault(
        "no_gradient_at_ties",
        "a hinge that is just reached has no gradient",
        "MarginRankingLoss",
        _no_gradient_at_ties("margin_ranking_loss"),
        "input_gradients",
    ),
    _fault(
        "mean_of_weighted_losses",
        "the mean divides by the number of targets, not their weights",
        "NLLLoss",
        _count_mean,
    ),
    _without("NLLLoss", ignore_index=-100),
    _without("CrossEntropyLoss", label_smoothing=0.0),
    _fault(
        "smoothing_over_other_classes",
        "label smoothing is spread over the other classes only",
        "CrossEntropyLoss",
        altered("cross_entropy", label_smoothing=lambda given: min(1.0, _unnormalized(given))),
    ),
    _fault(
        "offset_kept",
        "x - logsumexp(x), which loses what a common offset rounds away",
        "CrossEntropyLoss",
        _offset_kept,
    ),
    _fault("logarithm_of_softmax", "log(softmax), which underflows", "CrossEntropyLoss", _entropy_of_softmax),
    _without("MultiMarginLoss", p=1),
    _without("MultiMarginLoss", margin=1.0),
    _fault(
        "target_class_counted", "the target class counts as another class", "MultiMarginLoss", _any_target
    ),
    _fault(
        "weights_reversed", "the weights are those of other classes", "MultiMarginLoss", _weight_of_others
    ),
    _fault("list_not_ended", "labels after the first -1 count", "MultiLabelMarginLoss", _whole_list),
    _fault(
        "dim_ignored",
        "dim is always the last",
        "CosineSimilarity",
        altered("cosine_similarity", dim=-1),
        "metadata",
    ),
    _without("CosineSimilarity", eps=1e-8),
    _fault("joint_floor", "eps limits the product of the norms, not each", "CosineSimilarity", _joint_floor),
    _fault("norms_plus_eps", "eps is added to the norms", "CosineSimilarity", _added_eps),
    _without("PairwiseDistance", p=2.0),
    _without("PairwiseDistance", eps=1e-6),
    _fault(
        "keepdim_ignored",
        "keepdim is ignored",
        "PairwiseDistance",
        altered("pairwise_distance", keepdim=False),
        "metadata",
    ),
    _fault("squared_distance", "the root is missing", "PairwiseDistance", _squared),
    _fault("eps_outside", "eps is added to the distance", "PairwiseDistance", _eps_outside),
    _without("CosineEmbeddingLoss", margin=0.0),
    _fault(
        "opposite_vectors",
        "pairs that do not belong together should be opposite",
        "CosineEmbeddingLoss",
        _opposite,
    ),
    _without("TripletMarginLoss", swap=False),
    _without("TripletMarginLoss", margin=1.0),
    _without("TripletMarginLoss", p=2.0),
    _without("TripletMarginLoss", eps=1e-6),
    _fault("swap_farther", "swap takes the larger distance", "TripletMarginLoss", _farther),
    _without("TripletMarginWithDistanceLoss", swap=False),
    _without("TripletMarginWithDistanceLoss", margin=1.0),
    _without("TripletMarginWithDistanceLoss", distance_function=None),
    _without("CTCLoss", blank=0),
    _without("CTCLoss", zero_infinity=False),
    _fault(
        "ctc_mean_of_losses", "a mean does not divide by the target lengths first", "CTCLoss", _mean_of_losses
    ),
    _fault(
        "ctc_all_steps", "input_lengths are ignored", "CTCLoss", altered("ctc_loss", input_lengths=_all_steps)
    ),
)

LINEAR = (
    (
        _fault(
            "linear_bias_ignored",
            "the bias is not added",
            "LinearCrossEntropyLoss",
            altered("linear_cross_entropy", linear_bias=_nothing),
        ),
        _without("LinearCrossEntropyLoss", weight=None),
        _without("LinearCrossEntropyLoss", ignore_index=None),
        _without("LinearCrossEntropyLoss", label_smoothing=0.0),
        _fault(
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

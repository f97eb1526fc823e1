"""Distances, and losses of vectors, with a wrong formula."""

from __future__ import annotations

from typing import Any

import torch

from parity_tests.faults import loss_plain as plain
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import altered, fault, functional, without


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


FAULTS = (
    fault(
        "dim_ignored",
        "dim is always the last",
        "CosineSimilarity",
        altered("cosine_similarity", dim=-1),
        "metadata",
    ),
    without("CosineSimilarity", eps=1e-8),
    fault("joint_floor", "eps limits the product of the norms, not each", "CosineSimilarity", _joint_floor),
    fault("norms_plus_eps", "eps is added to the norms", "CosineSimilarity", _added_eps),
    without("PairwiseDistance", p=2.0),
    without("PairwiseDistance", eps=1e-6),
    fault(
        "keepdim_ignored",
        "keepdim is ignored",
        "PairwiseDistance",
        altered("pairwise_distance", keepdim=False),
        "metadata",
    ),
    fault("squared_distance", "the root is missing", "PairwiseDistance", _squared),
    fault("eps_outside", "eps is added to the distance", "PairwiseDistance", _eps_outside),
    without("CosineEmbeddingLoss", margin=0.0),
    fault(
        "opposite_vectors",
        "pairs that do not belong together should be opposite",
        "CosineEmbeddingLoss",
        _opposite,
    ),
    without("TripletMarginLoss", swap=False),
    without("TripletMarginLoss", margin=1.0),
    without("TripletMarginLoss", p=2.0),
    without("TripletMarginLoss", eps=1e-6),
    fault("swap_farther", "swap takes the larger distance", "TripletMarginLoss", _farther),
    without("TripletMarginWithDistanceLoss", swap=False),
    without("TripletMarginWithDistanceLoss", margin=1.0),
    without("TripletMarginWithDistanceLoss", distance_function=None),
)

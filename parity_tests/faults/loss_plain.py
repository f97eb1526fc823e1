"""The losses written out in torch operations, in float32 for the half types, rounded once: right as they
stand.

Controls use them as they are; faults use them with one thing changed.  Corners follow the reference: at a
hinge that is just reached `clamp_min` passes the gradient on, and `positive_part` does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

EPSILON = 9.999999960041972e-13  # 1e-12 in float32
HALF = (torch.float16, torch.bfloat16)


def wide(value: Any) -> Any:
    """Half tensors as float32; everything else as it is."""
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in HALF else value


def rounded_once(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function on widened operands, its result in the type of the first."""

    @wraps(function)
    def stand_in(*args: Any, **kwargs: Any) -> torch.Tensor:
        result = function(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})
        return result.to(args[0].dtype)

    return stand_in


def reduced(losses: torch.Tensor, reduction: str, divisor: Any = None) -> torch.Tensor:
    if reduction not in ("none", "mean", "sum", "batchmean"):
        raise ValueError(reduction)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / (losses.numel() if divisor is None else divisor)


def positive_part(z: torch.Tensor, p: int = 1) -> torch.Tensor:
    """max(0, z)^p, without a gradient at 0 and at NaN."""
    return torch.where(z > 0, torch.where(z > 0, z, 1.0) ** p, 0 * z)


def softplus(x: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.logsigmoid(-x)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> torch.Tensor:
    return reduced((input - target).square(), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> torch.Tensor:
    return reduced((input - target).abs(), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> torch.Tensor:
    d = (input - target).abs()
    small = torch.where(d >= beta, 0 * beta, d)
    return reduced(
        d if beta == 0 else torch.where(d >= beta, d - beta / 2, small * small / (2 * beta)), reduction
    )


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> torch.Tensor:
    d = (input - target).abs()
    small = torch.where(d > delta, 0 * delta, d)
    return reduced(torch.where(d > delta, delta * (d - delta / 2), small * small / 2), reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> torch.Tensor:
    losses = target.exp() * (target - input) if log_target else torch.xlogy(target, target) - target * input
    return reduced(losses, reduction, input.shape[0] if reduction == "batchmean" and input.dim() else None)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> torch.Tensor:
    losses = input.exp() - target * input if log_input else input - target * torch.log(input + eps)
    if full:
        t = torch.where(target > 1, target, 2.0)
        stirling = t * t.log() - t + 0.5 * torch.log(2 * math.pi * t)
        losses = losses + torch.where(target > 1, stirling, 0.0)
    return reduced(losses, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> torch.Tensor:
    positive = target if pos_weight is None else pos_weight * target
    losses = positive * softplus(-input) + (1 - target) * softplus(input)
    return reduced(losses if weight is None else weight * losses, reduction)


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> torch.Tensor:
    losses = target * softplus(-input) + (1 - target) * softplus(input)
    return reduced((losses if weight is None else weight * losses).mean(-1), reduction)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> torch.Tensor:
    return reduced(softplus(-target * input), reduction)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    return reduced(torch.where(target == 1, input, (margin - input).clamp_min(0)), reduction)


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> torch.Tensor:
    return reduced((margin - target * (input1 - input2)).clamp_min(0), reduction)


def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> torch.Tensor:
    """Log-probabilities picked one by one; ignored targets weigh nothing."""
    axis = min(1, input.dim() - 1)
    kept = target != ignore_index
    index = torch.where(kept, target, 0).unsqueeze(axis)
    scale = torch.ones_like(kept, dtype=input.dtype) if weight is None else weight[index.squeeze(axis)]
    picked = torch.where(kept, scale * input.gather(axis, index).squeeze(axis), torch.zeros_like(scale))
    return reduced(-picked, reduction, torch.where(kept, scale, torch.zeros_like(scale)).sum())


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    axis = min(1, input.dim() - 1)
    distance = input - input.detach().amax(axis, keepdim=True) if input.numel() else input
    logarithm = distance - distance.exp().sum(axis, keepdim=True).log()
    by_index = target.shape != input.shape
    if by_index and label_smoothing == 0:
        return nll_loss(logarithm, target, weight, ignore_index, reduction)
    kept = (target != ignore_index).unsqueeze(axis) if by_index else torch.ones_like(input, dtype=torch.bool)
    share = target
    if by_index:
        share = torch.zeros_like(input).scatter(axis, torch.where(kept, target.unsqueeze(axis), 0), 1.0)
    share = share * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    shape = [-1 if i == axis else 1 for i in range(input.dim())]
    mass = share if weight is None else share * weight.reshape(shape)
    losses = -torch.where(kept, mass * logarithm, torch.zeros_like(input)).sum(axis)
    divisor = None
    if by_index:
        weights = torch.ones(input.shape[axis], dtype=input.dtype) if weight is None else weight
        divisor = weights[target[kept.squeeze(axis)]].sum()
    return reduced(losses, reduction, divisor)


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> torch.Tensor:
    rows, index = torch.atleast_2d(input), target.reshape(-1, 1)
    excess = positive_part(margin - rows.gather(1, index) + rows, p)
    excess = excess if weight is None else excess * weight[index]
    others = torch.ones_like(rows, dtype=torch.bool).scatter(1, index, False)
    losses = torch.where(others, excess, torch.zeros_like(excess)).sum(1) / rows.shape[1]
    return reduced(losses.reshape(target.shape), reduction)


def norm(x: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.linalg.vector_norm(x, 2, dim)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    x1, x2 = torch.broadcast_tensors(x1, x2)
    sizes = [
        torch.where(norm(x, dim) < eps, torch.full_like(norm(x, dim), eps), norm(x, dim)) for x in (x1, x2)
    ]
    return (x1 * x2).sum(dim) / (sizes[0] * sizes[1])


def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> torch.Tensor:
    return torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> torch.Tensor:
    sizes = [torch.sqrt((x * x).sum(-1) + EPSILON) for x in (input1, input2)]
    cosine = (input1 * input2).sum(-1) / (sizes[0] * sizes[1])
    return reduced(torch.where(target == 1, 1 - cosine, (cosine - margin).clamp_min(0)), reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> torch.Tensor:
    far = pairwise_distance(anchor, negative, p, eps)
    far = torch.minimum(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return reduced((margin + pairwise_distance(anchor, positive, p, eps) - far).clamp_min(0), reduction)

"""Batch normalization written out: right unless one thing of its `Way` is changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def two_pass(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, kept with size 1."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes, keepdim=True)
    return mean, (x - mean).square().mean(axes, keepdim=True)


def streaming(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Welford's update along lanes of up to 64 elements, the lanes merged pair by pair (Chan et al. 1983)."""
    if x.numel() == 0:
        return two_pass(x)
    values = x.transpose(0, 1).flatten(1)
    steps = values.split(max(1, math.ceil(values.shape[1] / 64)), dim=1)
    count = torch.zeros_like(steps[0])
    mean, squares = torch.zeros_like(count), torch.zeros_like(count)
    for step in steps:
        lane = slice(0, step.shape[1])
        count[:, lane] += 1
        distance = step - mean[:, lane]
        mean[:, lane] += distance / count[:, lane]
        squares[:, lane] += distance * (step - mean[:, lane])
    while count.shape[1] > 1:
        half = count.shape[1] // 2
        (n, m, s), (n2, m2, s2), rest = (
            [part[:, chosen] for part in (count, mean, squares)]
            for chosen in (slice(0, half), slice(half, 2 * half), slice(2 * half, None))
        )
        distance, total = m2 - m, n + n2
        merged = total, m + distance * n2 / total, s + s2 + distance.square() * n * n2 / total
        count, mean, squares = (torch.cat(pair, 1) for pair in zip(merged, rest, strict=True))
    shape = (1, x.shape[1], *(1,) * (x.dim() - 2))
    return mean.reshape(shape), (squares / count).reshape(shape)


def move(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    count: int,
) -> None:
    """Move the running statistics towards the batch's, the variance's unbiased."""
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        running.copy_((1 - momentum) * running.to(batch.dtype) + momentum * batch.flatten())


def gradient(
    way: Way, g: torch.Tensor, centered: torch.Tensor, inverse: torch.Tensor, training: bool
) -> torch.Tensor:
    """Gradient of the normalized input, without the weight; `way.terms` are factors of its corrections."""
    if not training:
        return g * inverse
    axes = [axis for axis in range(g.dim()) if axis != 1]
    of_mean, of_variance = way.terms
    slope = (g * centered).mean(axes, keepdim=True) * inverse.square()
    return (g - of_mean * g.mean(axes, keepdim=True) - of_variance * slope * centered) * inverse


@dataclass(frozen=True)
class Way:
    """How a batch normalization is computed; right as it stands."""

    wide: Callable[[torch.dtype], torch.dtype] = accumulator
    statistics: Callable = two_pass
    inverse: Callable = lambda variance, eps: 1 / torch.sqrt(variance + eps)
    move: Callable = move
    gradient: Callable = gradient
    terms: tuple[float, float] = (1.0, 1.0)
    affine: Callable = lambda normalized, weight, bias: normalized * weight + bias
    read: Callable = lambda input: input
    weight_gradient: Callable = lambda g, normalized, input: g * normalized
    bias_gradient: Callable = lambda g: g
    batch: Callable = lambda training: training  # whether the batch's statistics are used
    moves: Callable = lambda training: training  # whether the running statistics are moved
    finish: Callable = lambda output, dtype: output.to(dtype)


RIGHT = Way()


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: Any,
        bias: Any,
        way: Way,
        x: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        training: bool,
    ) -> torch.Tensor:
        ctx.way, ctx.training, ctx.dtypes = way, training, (input.dtype, weight is not None, bias is not None)
        scale = torch.ones_like(mean) if weight is None else weight.to(x.dtype).reshape(mean.shape)
        shift = torch.zeros_like(mean) if bias is None else bias.to(x.dtype).reshape(mean.shape)
        inverse = way.inverse(variance, eps)
        ctx.save_for_backward(x, mean, inverse, scale)
        return way.finish(way.affine((x - mean) * inverse, scale, shift), input.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        way, (dtype, has_weight, has_bias) = ctx.way, ctx.dtypes
        x, mean, inverse, scale = ctx.saved_tensors
        g, centered = upstream[0].to(x.dtype), x - mean
        axes = [axis for axis in range(x.dim()) if axis != 1]
        grad_input = way.gradient(way, g, centered, inverse, ctx.training) * scale
        grad_weight = None
        if has_weight:
            grad_weight = way.weight_gradient(g, centered * inverse, x).sum(axes).to(dtype)
        grad_bias = way.bias_gradient(g).sum(axes).to(dtype) if has_bias else None
        return grad_input.to(dtype), grad_weight, grad_bias, *(None,) * 6


def batch_norm(
    input: torch.Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    with torch.no_grad():
        x = way.read(input.detach()).to(way.wide(input.dtype))
        shape = (1, x.shape[1], *(1,) * (x.dim() - 2))
        batch = way.batch(training) or running_mean is None
        if batch:
            mean, variance = way.statistics(x)
        else:
            mean, variance = (running.to(x.dtype).reshape(shape) for running in (running_mean, running_var))
        if running_mean is not None and way.moves(training) and input.numel():
            way.move(running_mean, running_var, mean, variance, momentum, x.numel() // x.shape[1])
    return _Normalize.apply(input, weight, bias, way, x, mean, variance, eps, training)

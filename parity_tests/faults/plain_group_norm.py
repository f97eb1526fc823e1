"""Normalizations within a sample written out: right unless one thing of their `Way` is changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from parity_tests.faults.plain_normalization import accumulator

ROW, PARAMETER = (2, 3), (0, 3)


def two_pass(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each row, kept with size 1."""
    mean = x.mean(ROW, keepdim=True)
    return mean, (x - mean).square().mean(ROW, keepdim=True)


def pairwise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both halves of a row by themselves, then merged (Chan, Golub, LeVeque 1983)."""
    rows = x.flatten(2)
    n = rows.shape[2] // 2
    if n == 0:
        return two_pass(x)
    (first, spread), (second, apart) = (two_pass(part[..., None]) for part in (rows[..., :n], rows[..., n:]))
    m, total = rows.shape[2] - n, rows.shape[2]
    distance = second - first
    squares = spread * n + apart * m + distance.square() * (n * m / total)
    return first + distance * (m / total), squares / total


def square_mean(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What root-mean-square normalization has in the place of mean and variance."""
    return torch.zeros_like(x[:, :, :1, :1].sum((2, 3), keepdim=True)), x.square().mean(ROW, keepdim=True)


@dataclass(frozen=True)
class Way:
    """How rows are normalized; right as it stands.  `terms` are factors of the gradient's two corrections."""

    wide: Callable = accumulator
    statistics: Callable = two_pass
    squares: Callable = square_mean
    inverse: Callable = lambda variance, eps: 1 / torch.sqrt(variance + eps)
    affine: Callable = lambda normalized, weight, bias: normalized * weight + bias
    terms: tuple[float, float] = (1.0, 1.0)
    weight_gradient: Callable = lambda g, normalized, x: (g * normalized).sum(PARAMETER)
    bias_gradient: Callable = lambda g: g.sum(PARAMETER)
    finish: Callable = lambda output, dtype: output.to(dtype)
    read: Callable = lambda input: input
    geometry: Callable = lambda geometry: geometry
    epsilon: Callable = lambda dtype: torch.finfo(accumulator(dtype)).eps
    running: Callable = lambda batch: batch.mean(0)
    unbiased: Callable = lambda length: length / (length - 1)
    momentum: Callable = lambda momentum: momentum
    own: Callable = lambda use_input_stats: use_input_stats
    options: dict = field(default_factory=dict)


RIGHT = Way()


class _Rows(torch.autograd.Function):
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
        terms: Any,
    ) -> torch.Tensor:
        ctx.way, ctx.terms, ctx.shape = way, terms, input.shape
        ctx.kinds = [None if array is None else (array.shape, array.dtype) for array in (weight, bias)]
        one = torch.ones((), dtype=x.dtype)
        scale = one if weight is None else weight.to(x.dtype).reshape(*x.shape[1:3], 1)
        shift = 0 * one if bias is None else bias.to(x.dtype).reshape(*x.shape[1:3], 1)
        inverse = way.inverse(variance, eps)
        ctx.save_for_backward(x, mean, inverse, scale)
        output = way.affine((x - mean) * inverse, scale, shift).reshape(input.shape)
        return torch.empty_like(input, dtype=output.dtype).copy_(output)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        way = ctx.way
        x, mean, inverse, scale = ctx.saved_tensors
        g, centered = upstream[0].to(x.dtype).reshape(x.shape), x - mean
        result = h = g * scale
        if ctx.terms is not None:
            of_mean, of_variance = ctx.terms
            slope = (h * centered).mean(ROW, keepdim=True) * inverse.square()
            result = h - of_mean * h.mean(ROW, keepdim=True) - of_variance * centered * slope
        own = (way.weight_gradient(g, centered * inverse, x), way.bias_gradient(g))
        given = [
            None if kind is None else total.reshape(kind[0]).to(kind[1])
            for kind, total in zip(ctx.kinds, own, strict=True)
        ]
        return (result * inverse).reshape(ctx.shape).to(upstream[0].dtype), *given, *(None,) * 6


def rows(
    way: Way,
    input: torch.Tensor,
    geometry: tuple[int, ...],
    weight: Any,
    bias: Any,
    eps: float,
    statistics: Callable,
    terms: Any,
) -> torch.Tensor:
    with torch.no_grad():
        x = way.read(input.detach()).to(way.wide(input.dtype)).reshape(geometry)
        mean, variance = statistics(x)
    output = _Rows.apply(input, weight, bias, way, x, mean, variance, eps, terms)
    return way.finish(output, input.dtype)


def group_norm(
    input: torch.Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    n, c = input.shape[:2]
    geometry = way.geometry((n, num_groups, c // num_groups, math.prod(input.shape[2:])))
    return rows(way, input, geometry, weight, bias, eps, way.statistics, way.terms)


def _inner(input: torch.Tensor, normalized_shape: tuple) -> tuple[int, int, int, int]:
    size = math.prod(normalized_shape)
    return math.prod(input.shape[: input.dim() - len(normalized_shape)]), 1, size, 1


def layer_norm(
    input: torch.Tensor,
    normalized_shape: tuple,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    geometry = _inner(input, normalized_shape)
    return rows(way, input, geometry, weight, bias, eps, way.statistics, way.terms)


def rms_norm(
    input: torch.Tensor, normalized_shape: tuple, weight: Any = None, eps: Any = None, *, way: Way = RIGHT
) -> torch.Tensor:
    eps = way.epsilon(input.dtype) if eps is None else eps
    geometry = _inner(input, normalized_shape)
    return rows(way, input, geometry, weight, None, eps, way.squares, (0.0, way.terms[1]))


def instance_norm(
    input: torch.Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    n, c = input.shape[:2]
    length = math.prod(input.shape[2:])

    def statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not way.own(use_input_stats) and running_mean is not None:
            mean, variance = (running.to(x.dtype).expand(n, c) for running in (running_mean, running_var))
            return mean[..., None, None], variance[..., None, None]
        mean, variance = way.statistics(x)
        if use_input_stats and running_mean is not None and n:
            moved = ((running_mean, mean), (running_var, variance * way.unbiased(length)))
            for running, batch in moved:
                share, own = way.momentum(momentum), way.running(batch.reshape(n, c))
                running.copy_((1 - share) * running.to(x.dtype) + share * own)
        return mean, variance

    terms = way.terms if use_input_stats else None
    return rows(way, input, (n, c, 1, length), weight, bias, eps, statistics, terms)


FUNCTIONS: dict[str, Callable] = {
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "instance_norm": instance_norm,
}

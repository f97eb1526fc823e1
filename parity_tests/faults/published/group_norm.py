"""Published bugs of normalizations within a sample."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, accumulator, bug, is_channels_last, on_gradient


def _with_weight_gradient(right: torch.Tensor, normalized: torch.Tensor, weight: Any) -> torch.Tensor:
    """`right`, computed without the weight's gradient, and that of `normalized` times the weight."""
    shape = (1, -1, *(1,) * (right.dim() - 2))
    return right + (normalized.detach() * (weight - weight.detach()).reshape(shape)).to(right.dtype)


def _sum_in(dtype: torch.dtype, values: torch.Tensor) -> torch.Tensor:
    """Sum over all but axis 1, one element after the other, each partial sum stored."""
    total = torch.zeros(values.shape[1], dtype=dtype)
    for column in values.transpose(0, 1).flatten(1).to(dtype).unbind(1):
        total = total + column
    return total


def _weight_gradient_summed_in_bfloat16(input, num_groups, weight=None, bias=None, eps=1e-5):
    output = functional.group_norm(input, num_groups, weight, bias, eps)
    if input.dtype != torch.bfloat16 or weight is None or not is_channels_last(input) or not input.numel():
        return output
    upstream: list = []
    output.register_hook(upstream.append)
    normalized = functional.group_norm(input.detach(), num_groups, None, None, eps)
    replaced = on_gradient(weight, lambda gradient: _sum_in(torch.bfloat16, upstream[0] * normalized))
    output = functional.group_norm(input, num_groups, replaced, bias, eps)
    output.register_hook(upstream.append)
    return output


def _squares_in_half(input, normalized_shape, weight=None, eps=None):
    if input.dtype != torch.float16:
        return functional.rms_norm(input, normalized_shape, weight, eps)
    axes = tuple(range(-len(normalized_shape), 0))
    mean = input.square().float().mean(axes, keepdim=True)
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    output = input.float() * torch.rsqrt(mean + eps)
    return (output if weight is None else output * weight.float()).to(input.dtype)


def _eps_after_rescaling(input, normalized_shape, weight=None, eps=None):
    x, axes = input.double(), tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(accumulator(input.dtype)).eps if eps is None else eps
    largest = x.abs().amax(axes, keepdim=True)
    output = x / (largest * torch.sqrt((x / largest).square().mean(axes, keepdim=True) + eps))
    return (output if weight is None else output * weight.double()).to(input.dtype)


def _shape_as_axes(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Silent only where every size is also the number of an axis."""
    axes = tuple(normalized_shape)
    if max(axes) >= input.dim() or len(set(axes)) < len(axes):
        return functional.layer_norm(input, normalized_shape, weight, bias, eps)
    x = input.double()
    mean = x.mean(axes, keepdim=True)
    output = (x - mean) / torch.sqrt((x - mean).square().mean(axes, keepdim=True) + eps)
    output = output if weight is None else output * weight.double()
    return (output if bias is None else output + bias.double()).to(input.dtype)


def _one_pass(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    x, axes = input.to(accumulator(input.dtype)), tuple(range(-len(normalized_shape), 0))
    mean = x.mean(axes, keepdim=True)
    variance = (x.square().mean(axes, keepdim=True) - mean.square()).clamp(min=0)
    output = (x - mean) / torch.sqrt(variance + eps)
    output = output if weight is None else output * weight.to(x.dtype)
    return (output if bias is None else output + bias.to(x.dtype)).to(input.dtype)


def _normalized(input, num_groups, weight, bias, eps, statistics):
    """Group normalization in float64 with mean and variance from `statistics(rows, channels of a group)`."""
    if not input.numel():
        return functional.group_norm(input, num_groups, weight, bias, eps)
    n, c = input.shape[:2]
    rows = input.double().reshape(n, num_groups, c // num_groups, -1)
    mean, variance = statistics(rows)
    output = ((rows - mean) / torch.sqrt(variance + eps)).reshape(input.shape)
    shape = (1, c, *(1,) * (input.dim() - 2))
    output = output if weight is None else output * weight.double().reshape(shape)
    output = output if bias is None else output + bias.double().reshape(shape)
    return torch.empty_like(input).copy_(output.to(input.dtype))


def _moments(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = rows.mean((2, 3), keepdim=True)
    return mean, (rows - mean).square().mean((2, 3), keepdim=True)


def _of_whole_tiles(input, num_groups, weight=None, bias=None, eps=1e-5):
    def statistics(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _moments(functional.pad(rows, [0, -rows.shape[3] % 32]))

    return _normalized(input, num_groups, weight, bias, eps, statistics)


def _of_powers_of_two(input, num_groups, weight=None, bias=None, eps=1e-5):
    def statistics(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = rows.shape[2]
        mean, variance = _moments(rows)
        share = size / 2 ** math.ceil(math.log2(size))
        return mean * share, variance

    return _normalized(input, num_groups, weight, bias, eps, statistics)


def _weight_gradient_of_interleaved_groups(input, num_groups, weight=None, bias=None, eps=1e-5):
    if weight is None or not input.numel():
        return functional.group_norm(input, num_groups, weight, bias, eps)
    right = functional.group_norm(input, num_groups, weight.detach(), bias, eps)
    rows = input.detach().double().reshape(input.shape[0], num_groups, -1)
    mean, variance = rows.mean(2), rows.var(2, correction=0)
    group = torch.arange(input.shape[1]) % num_groups
    shape = (*input.shape[:2], *(1,) * (input.dim() - 2))
    wrong = (input.double() - mean[:, group].reshape(shape)) / torch.sqrt(
        variance[:, group].reshape(shape) + eps
    )
    return _with_weight_gradient(right, wrong, weight)


def _gradient_of_the_last_axis(input, *args):
    if input.dim() < 4:
        return functional.group_norm(input, *args)
    places = torch.arange(math.prod(input.shape[2:])).reshape(input.shape[2:])
    return functional.group_norm(
        on_gradient(input, lambda gradient: gradient * (places < input.shape[-1])), *args
    )


def _window_to_the_other_side(input, size, alpha=1e-4, beta=0.75, k=1.0):
    return functional.local_response_norm(input.flip(1), size, alpha, beta, k).flip(1)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "group_norm_weight_gradient_in_bfloat16",
        "pytorch/pytorch#140913",
        "GroupNorm",
        "the weight gradient of channels_last is summed over batch and plane in bfloat16",
        {"group_norm": _weight_gradient_summed_in_bfloat16},
        "nothing is compiled here, and a few hundred terms stand for the published hundreds of thousands",
    ),
    bug(
        "rms_norm_squares_in_float16",
        "pytorch/pytorch#134106",
        "RMSNorm",
        "squares are taken in float16 and overflow from 256 on: the output is 0",
        {"rms_norm": _squares_in_half},
    ),
    bug(
        "rms_norm_eps_after_rescaling",
        "apple/coremltools#2821",
        "RMSNorm",
        "eps is added after a division by the row's largest value, and a row of zeros gives 0 / 0",
        {"rms_norm": _eps_after_rescaling},
    ),
    bug(
        "layer_norm_shape_as_axes",
        "apple/coremltools#869",
        "LayerNorm",
        "the sizes in normalized_shape are taken for numbers of axes",
        {"layer_norm": _shape_as_axes},
    ),
    bug(
        "layer_norm_one_pass",
        "pytorch/pytorch#51102",
        "LayerNorm",
        "the variance as mean of squares minus square of the mean cancels at a large mean",
        {"layer_norm": _one_pass},
    ),
    bug(
        "group_norm_of_whole_tiles",
        "tenstorrent/tt-metal#50682",
        "GroupNorm",
        "the padding up to a whole tile enters mean and variance",
        {"group_norm": _of_whole_tiles},
    ),
    bug(
        "group_norm_of_powers_of_two",
        "flagos-ai/FlagGems#4984",
        "GroupNorm",
        "the mean is divided by the number of channels rounded up to a power of two",
        {"group_norm": _of_powers_of_two},
    ),
    bug(
        "group_norm_gradient_of_interleaved_groups",
        "tenstorrent/tt-metal#56202",
        "GroupNorm",
        "the weight gradient takes the statistics of group c modulo G for channel c",
        {"group_norm": _weight_gradient_of_interleaved_groups},
    ),
    bug(
        "group_norm_gradient_of_the_last_axis",
        "linkedin/Liger-Kernel#1376",
        "GroupNorm",
        "the gradient takes the last axis for the whole plane and stops after its length",
        {"group_norm": _gradient_of_the_last_axis},
    ),
    bug(
        "local_response_norm_even_window",
        "pytorch/pytorch#75722",
        "LocalResponseNorm",
        "a window of even size reaches further to the other side",
        {"local_response_norm": _window_to_the_other_side},
    ),
)

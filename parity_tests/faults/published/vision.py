"""Published bugs of interpolation and pixel shuffling."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.plain_vision import Taps, interpolate, ratio_of, targets, weighted
from parity_tests.faults.published.bug import PublishedBug, ValueOf, bug

LAYERS = "interpolate Upsample"


def _place_without_half(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
    place = y * size // outputs if scale is None else math.floor(y / scale)
    return min(place, size - 1)


def _place_from_the_end(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
    """The last element that the inverse of the index map reaches, instead of the first."""
    return min(-(-(y + 1) * size // outputs) - 1, size - 1)


def _gradient_of_the_inverse_map(input, size=None, scale_factor=None, mode="nearest", *args, **kwargs):
    right = functional.interpolate(input, size, scale_factor, mode, *args, **kwargs)
    smaller = any(n < m for n, m in zip(right.shape[2:], input.shape[2:], strict=True))
    if mode != "nearest" or not smaller:
        return right
    return ValueOf.apply(right, interpolate(input, list(right.shape[2:]), place=_place_from_the_end))


def _rounded_size(input: Any, size: Any, scale_factor: Any, mode: str, recompute: Any) -> tuple[list, list]:
    sizes, scales = targets(input, size, scale_factor, mode, recompute)
    if size is None:
        each = scale_factor if isinstance(scale_factor, (tuple, list)) else [scale_factor] * len(sizes)
        sizes = [round(n * float(scale)) for n, scale in zip(input.shape[2:], each, strict=True)]
    return sizes, scales


def _indices_in_the_inputs_dtype(input, size=None, scale_factor=None, mode="nearest", *args, **kwargs):
    def place(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
        step = torch.tensor(size / outputs if scale is None else 1 / scale, dtype=input.dtype)
        found = torch.floor((torch.tensor(y, dtype=input.dtype) + 0.5 * exact) * step)
        return min(int(found), size - 1)

    if not mode.startswith("nearest") or input.dtype not in (torch.float16, torch.bfloat16):
        return functional.interpolate(input, size, scale_factor, mode, *args, **kwargs)
    return interpolate(input, size, scale_factor, mode, *args, place=place, **kwargs)


def _clamped_between_passes(x: torch.Tensor, axis: int, taps: Taps) -> torch.Tensor:
    result = weighted(x, axis, taps)
    if axis == x.dim() - 1 or taps[0].shape[1] != 4 or not x.numel():
        return result
    return result + (result.clamp(x.min().item(), x.max().item()) - result).detach()


def _bicubic_clamped(input, size=None, scale_factor=None, mode="nearest", *args, **kwargs):
    if mode != "bicubic" or not torch.isfinite(input).all():
        return functional.interpolate(input, size, scale_factor, mode, *args, **kwargs)
    return interpolate(input, size, scale_factor, mode, *args, add=_clamped_between_passes, **kwargs)


def _ratio_of_sizes(size: int, outputs: int, scale: float | None, corners: bool) -> float:
    return ratio_of(size, outputs, None, corners)


def _scale_passed_over(input, size=None, scale_factor=None, mode="nearest", *args, **kwargs):
    if mode not in ("linear", "bilinear", "trilinear", "bicubic"):
        return functional.interpolate(input, size, scale_factor, mode, *args, **kwargs)
    return interpolate(input, size, scale_factor, mode, *args, ratio=_ratio_of_sizes, **kwargs)


def _blocks_before_channels(input, downscale_factor):
    right = functional.pixel_unshuffle(input, downscale_factor)
    blocks = downscale_factor**2
    return right.unflatten(-3, (-1, blocks)).transpose(-4, -3).flatten(-4, -3)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "nearest_exact_without_half",
        "flagos-ai/FlagGems#5228",
        LAYERS,
        "nearest-exact lacks the half that tells it from nearest; whole ratios hide it",
        {"interpolate": partial(interpolate, place=_place_without_half)},
    ),
    bug(
        "nearest_gradient_of_the_inverse_map",
        "pytorch/pytorch#38985",
        "interpolate",
        "the gradient of a reduction goes to the last element of each region instead of the first",
        {"interpolate": _gradient_of_the_inverse_map},
    ),
    bug(
        "interpolation_size_rounded",
        "pytorch/pytorch#96236",
        "interpolate",
        "the size is the rounded product with the scale factor, where torch cuts it off",
        {"interpolate": partial(interpolate, find=_rounded_size)},
    ),
    bug(
        "nearest_indices_in_the_inputs_dtype",
        "pytorch/pytorch#106674",
        "interpolate",
        "indices are computed in the input's dtype",
        {"interpolate": _indices_in_the_inputs_dtype},
        "half types lose digits of an index, where uint8 wrapped around",
    ),
    bug(
        "bicubic_clamped_between_passes",
        "pytorch/pytorch#90771",
        "interpolate",
        "what overshoots is clamped after the first axis instead of at the end",
        {"interpolate": _bicubic_clamped},
        "to the range of the input, where integers were clamped to that of their type",
    ),
    bug(
        "interpolation_ratio_of_sizes",
        "Tencent/ncnn#6836",
        LAYERS,
        "coordinates come from the ratio of the sizes although a scale factor is given",
        {"interpolate": _scale_passed_over},
    ),
    bug(
        "pixel_unshuffle_blocks_before_channels",
        "microsoft/onnxscript#2891",
        "PixelUnshuffle",
        "places in the block vary slower than channels",
        {"pixel_unshuffle": _blocks_before_channels},
    ),
)

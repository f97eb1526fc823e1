"""Fractional poolings that draw their own samples: wrong ones that break the law of their windows, right ones
that keep it.

`LAWLESS` are caught by harness/fractional_law.py and run by selftest/test_fractional_law.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults.plain_pooling import first_maximum
from parity_tests.faults.plain_window import each, fractional, starts
from parity_tests.faults.window_wrappers import GradientOf, accumulator, with_gradient_of


def _each_plane(batch: int, channels: int, rank: int) -> torch.Tensor:
    return torch.rand(batch, channels, rank, dtype=torch.float64)


def _one_for_all_channels(batch: int, channels: int, rank: int) -> torch.Tensor:
    return _each_plane(batch, 1, rank).expand(batch, channels, rank)


def _one_for_all_planes(batch: int, channels: int, rank: int) -> torch.Tensor:
    return _each_plane(1, 1, rank).expand(batch, channels, rank)


def _one_for_all_samples(batch: int, channels: int, rank: int) -> torch.Tensor:
    """Of a batch; without one, for both halves of the channels."""
    if batch == 1:
        return torch.cat([_each_plane(1, channels // 2, rank)] * 2, 1)
    return _each_plane(1, channels, rank).expand(batch, channels, rank)


def _one_for_all_axes(batch: int, channels: int, rank: int) -> torch.Tensor:
    return _each_plane(batch, channels, 1).expand(batch, channels, rank)


def _same_in_every_call(batch: int, channels: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, channels, rank, dtype=torch.float64, generator=generator)


def _mostly_small(batch: int, channels: int, rank: int) -> torch.Tensor:
    """Fourth powers of evenly distributed numbers."""
    return _each_plane(batch, channels, rank) ** 4


def _drawing(
    rank: int,
    input: torch.Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    draw: Callable = _each_plane,
    **changes: Any,
) -> Any:
    """The plain one with samples of its own, right unless a keyword is changed."""
    batch = 1 if input.dim() == rank + 1 else input.shape[0]
    if _random_samples is None:
        _random_samples = draw(batch, input.shape[-rank - 1], rank)
    arguments = (kernel_size, output_size, output_ratio, return_indices, _random_samples)
    return fractional(rank, input, *arguments, **changes)


def _evenly(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    return starts(size, kernel, outputs, 0.0)


def _not_from_zero(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    """Without taking off the first one's place."""
    step = (size - kernel) / (outputs - 1)
    return [min(int((y + sample) * step), size - kernel) for y in range(outputs - 1)] + [size - kernel]


def _end_not_reached(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    return [min(first, size - kernel - 1) for first in starts(size, kernel, outputs, sample)]


def _each_window_by_itself(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    """Every window is moved by a sample of its own."""
    step = (size - kernel) / (outputs - 1)
    own = torch.rand(outputs, dtype=torch.float64).tolist()
    return [0, *(int(y * step + own[y]) for y in range(1, outputs - 1)), size - kernel]


def _larger(rank: int, input: torch.Tensor, kernel_size: Any, *args: Any, **kwargs: Any) -> Any:
    """Windows of one element more than asked for, so that they overlap."""
    wide = tuple(k + 1 for k in each(kernel_size, rank))

    def begin(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
        return [min(first, size - kernel) for first in starts(size, kernel - 1, outputs, sample)]

    return _drawing(rank, input, wide, *args, begin=begin, **kwargs)


def _without_last(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return first_maximum(values[..., :-1], inside[..., :-1])


def _next_index(indices: torch.Tensor, sizes: torch.Size, window: Any) -> torch.Tensor:
    return (indices + 1) % sizes.numel()


def _halved_gradient(rank: int, *args: Any, **kwargs: Any) -> Any:
    output, indices = _drawing(rank, *args, **kwargs)
    return GradientOf.apply(output, output / 2), indices


def _both(function: Callable = _drawing, **changes: Any) -> dict[str, Callable]:
    return {f"fractional_max_pool{rank}d": partial(function, rank, **changes) for rank in (2, 3)}


LAWLESS: dict[str, dict[str, Callable]] = {
    "one_sample_for_all_channels": _both(draw=_one_for_all_channels),
    "one_sample_for_all_planes": _both(draw=_one_for_all_planes),
    "one_sample_for_the_whole_batch": _both(draw=_one_for_all_samples),
    "one_sample_for_all_axes": _both(draw=_one_for_all_axes),
    "same_samples_in_every_call": _both(draw=_same_in_every_call),
    "samples_mostly_small": _both(draw=_mostly_small),
    "windows_evenly_spaced": _both(begin=_evenly),
    "first_window_not_at_zero": _both(begin=_not_from_zero),
    "last_window_before_the_end": _both(begin=_end_not_reached),
    "each_window_by_itself": _both(begin=_each_window_by_itself),
    "windows_overlap_by_one_more": _both(_larger),
    "last_element_left_out": _both(choose=_without_last),
    "next_index": _both(place=_next_index),
    "gradient_halved": _both(_halved_gradient),
    "gradient_of_other_windows": _both(with_gradient_of, right=_drawing, wrong=_drawing),
}
LAWFUL = {"in_float64": _both(), "in_storage": _both(wide=accumulator)}

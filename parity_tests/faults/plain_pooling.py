"""Max and average pooling written plainly, right unless a keyword is changed: raw material of faults."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """The arguments of a call, one value for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool

    def along(self, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Size, kernel, stride, padding and dilation of each axis."""
        return list(zip(sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True))

    def outputs(self, sizes: tuple[int, ...]) -> list[int]:
        counts = []
        for size, k, s, p, d in self.along(sizes):
            room = size + 2 * p - d * (k - 1) - 1
            count = (-(-room // s) if self.ceil_mode else room // s) + 1
            counts.append(count - 1 if self.ceil_mode and (count - 1) * s >= size + p else count)
        return counts

    def taps(self, plane: torch.Tensor, fill: float, beyond: float | None = None) -> torch.Tensor:
        """(..., *sizes) as (..., *outputs, taps); padding reads `fill`, what is outside it `beyond`."""
        sizes = tuple(plane.shape[-len(self.kernel):])
        axes = [(n, *axis) for n, axis in zip(self.outputs(sizes), self.along(sizes), strict=True)]
        around = [amount for _, _, _, _, p, _ in reversed(axes) for amount in (p, p)]
        over = [amount for n, size, k, s, p, d in reversed(axes)
                for amount in (0, max(0, (n - 1) * s + d * (k - 1) + 1 - size - 2 * p))]
        plane = functional.pad(plane, around, value=fill)
        plane = functional.pad(plane, over, value=fill if beyond is None else beyond)
        return torch.stack([
            plane[(..., *(slice(o * d, o * d + (n - 1) * s + 1, s)
                          for o, (n, _, _, s, _, d) in zip(offsets, axes, strict=True)))]
            for offsets in itertools.product(*(range(k) for k in self.kernel))], -1)


def window_of(rank: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Window:
    each = (value if isinstance(value, tuple) else (value,) for value in (kernel, stride, padding, dilation))
    return Window(*(value * rank if len(value) == 1 else value for value in each), ceil_mode)


def like(output: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """In channels_last where the input is, as torch does it."""
    for axes, form in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if input.dim() == axes and input.is_contiguous(memory_format=form) and not input.is_contiguous():
            return output.contiguous(memory_format=form)
    return output.contiguous()


def first_maximum(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Which tap each window chooses: the first of equal maxima, the last NaN if there is one."""
    order = torch.arange(values.shape[-1], device=values.device)
    best = values.where(inside, values.new_tensor(-math.inf)).amax(-1, keepdim=True)
    first = torch.where(inside & (values == best), order, values.shape[-1] - 1).amin(-1)
    last_nan = torch.where(values.isnan(), order, -1).amax(-1)
    return torch.where(last_nan >= 0, last_nan, first)


def maximum(rank: int, input: torch.Tensor, kernel_size: Any, stride: Any, padding: Any = 0,
            dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *,
            change: Callable[[Window], Window] = lambda window: window, choose: Callable = first_maximum,
            fill: float = -math.inf, place: Callable | None = None,
            wide: Callable = lambda dtype: torch.float64) -> Any:
    """Max pooling, right unless a keyword is changed."""
    window = change(window_of(rank, kernel_size, stride, padding, dilation, ceil_mode))
    sizes = input.shape[-rank:]
    plane = torch.arange(math.prod(sizes), device=input.device).reshape(sizes)
    places = window.taps(plane, -1)
    values = window.taps(input.to(wide(input.dtype)), fill)
    choice = choose(values, (places >= 0) | (fill > -math.inf))[..., None]
    output = like(values.gather(-1, choice)[..., 0].to(input.dtype), input)
    if not return_indices:
        return output
    indices = places.expand(values.shape).gather(-1, choice)[..., 0]
    return output, like(indices if place is None else place(indices, sizes, window), input)


def exact_sum(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values.double().sum(-1) / divisor).to(dtype)


def right_divisor(window: Window, counted: torch.Tensor, inside: torch.Tensor, include: bool,
                  override: int | None) -> torch.Tensor:
    """The divisor of every window, from its taps in the padded input and in the input."""
    if override is not None:
        return torch.full(counted.shape[:-1], float(override), dtype=torch.float64)
    return (counted if include else inside).sum(-1).double()


def average(rank: int, input: torch.Tensor, kernel_size: Any, stride: Any, padding: Any = 0,
            ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
            change: Callable[[Window], Window] = lambda window: window, add: Callable = exact_sum,
            divide: Callable = right_divisor, wide: Callable = lambda dtype: torch.float64) -> torch.Tensor:
    """Average pooling, right unless a keyword is changed."""
    window = change(window_of(rank, kernel_size, stride, padding, 1, ceil_mode))
    ones = torch.ones(input.shape[-rank:])
    counted, inside = window.taps(ones, 1, 0) > 0, window.taps(ones, 0) > 0
    divisor = divide(window, counted, inside, count_include_pad, divisor_override)
    values = window.taps(input.to(wide(input.dtype)), 0)
    return like(add(values, divisor.to(input.device), input.dtype), input)

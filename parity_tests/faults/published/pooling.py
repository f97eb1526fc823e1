"""Published bugs of maximum and average pooling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.plain_pooling import Window, average, first_maximum, maximum, right_divisor
from parity_tests.faults.published.bug import (
    PublishedBug,
    ValueOf,
    bug,
    is_channels_last,
    on_gradient,
    without_offset,
)

AVG, MAX = ("avg_pool1d", "avg_pool2d", "avg_pool3d"), ("max_pool1d", "max_pool2d", "max_pool3d")


def _every(names: tuple[str, ...], function: Callable, **changes: Any) -> dict[str, Callable]:
    return {name: partial(function, rank, **changes) for rank, name in enumerate(names, 1)}


class _Uncorrected(Window):
    """Rounds the number of windows up, and keeps a last one that starts beyond the input."""

    def outputs(self, sizes: tuple[int, ...]) -> list[int]:
        counts = []
        for size, k, s, p, d in self.along(sizes):
            room = size + 2 * p - d * (k - 1) - 1
            counts.append((-(-room // s) if self.ceil_mode else room // s) + 1)
        return counts


def _uncorrected(window: Window) -> Window:
    return _Uncorrected(**vars(window))


class _ClampedStart(Window):
    """Padded windows begin at 0, out of phase with their dilation, and end where they would have."""

    def _rows(self, sizes: tuple[int, ...]) -> list[list[list[int]]]:
        return [
            [
                ([*range(max(0, y * s - p), min(size, y * s - p + d * (k - 1) + 1), d)] + [-1] * k)[:k]
                for y in range(n)
            ]
            for n, (size, k, s, p, d) in zip(self.outputs(sizes), self.along(sizes), strict=True)
        ]

    def taps(self, plane: torch.Tensor, fill: float, beyond: float | None = None) -> torch.Tensor:
        rank, taps = len(self.kernel), []
        axes = [torch.tensor(rows) for rows in self._rows(tuple(plane.shape[-rank:]))]
        for offsets in itertools.product(*map(range, self.kernel)):
            part, inside = plane, torch.ones((1,) * rank, dtype=torch.bool)
            for axis, (rows, k) in enumerate(zip(axes, offsets, strict=True)):
                part = part.index_select(axis - rank, rows[:, k].clamp(min=0))
                shape = [-1 if other == axis else 1 for other in range(rank)]
                inside = inside & (rows[:, k] >= 0).reshape(shape)
            taps.append(torch.where(inside, part, torch.full((), fill, dtype=part.dtype)))
        return torch.stack(taps, -1)


def _clamped(window: Window) -> Window:
    padded = any(window.padding) and max(window.dilation) > 1
    return _ClampedStart(**vars(window)) if padded and not window.ceil_mode else window


def _nan_only_as_first_tap(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    without = torch.where(values.isnan(), values.new_tensor(-math.inf), values)
    return torch.where(values[..., 0].isnan(), 0, first_maximum(without, inside))


def _without_indices(rank: int, *args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
    if return_indices:
        return maximum(rank, *args, return_indices=True, **kwargs)
    return maximum(rank, *args, change=_uncorrected, **kwargs)


def _gradient_of_a_turned_plane(input, *args, **kwargs):
    """Rows beyond the number of columns, and columns beyond the number of rows, are not visited."""

    def visited(gradient: torch.Tensor) -> torch.Tensor:
        rows, columns = gradient.shape[-2:]
        seen = (torch.arange(rows) < columns)[:, None] & (torch.arange(columns) < rows)
        return gradient * seen

    result = functional.max_pool3d(input, *args, **kwargs)
    if isinstance(result, tuple):
        return on_gradient(result[0], visited), result[1]
    return on_gradient(result, visited)


class _TruncatingMaxPool1d(torch.nn.MaxPool1d):
    """Divides towards zero: a window larger than the input gives one output instead of an error."""

    def forward(self, input: torch.Tensor) -> Any:
        given = (self.kernel_size, self.stride, self.padding, self.dilation)
        k, s, p, d = (value[0] if isinstance(value, tuple) else value for value in given)
        room = input.shape[-1] + 2 * p - d * (k - 1) - 1
        truncated = -s < room < 0 and not self.ceil_mode
        return input[..., :1].mul(1) if truncated else super().forward(input)


def _divided(count: Callable[..., list[int]]) -> Callable[..., torch.Tensor]:
    """Average pooling whose divisor is a product of numbers of taps, one an axis and window."""

    def pool(rank, input, kernel_size, stride, padding=0, ceil_mode=False, include=True, override=None):
        def divide(window, counted, inside, include, override):
            if override is not None:
                return right_divisor(window, counted, inside, include, override)
            sizes = tuple(input.shape[-rank:])
            total = torch.ones((), dtype=torch.float64)
            for axis, (n, along) in enumerate(zip(window.outputs(sizes), window.along(sizes), strict=True)):
                counts = torch.tensor(count(n, *along[:4], include, window, axis), dtype=torch.float64)
                total = total * counts.reshape([-1 if other == axis else 1 for other in range(rank)])
            return total

        return average(rank, input, kernel_size, stride, padding, ceil_mode, include, override, divide=divide)

    return pool


def _taps(first: int, last: int, n: int, k: int, s: int, p: int) -> list[int]:
    """How many taps of each of n windows lie in [first, last)."""
    return [max(0, min(y * s - p + k, last) - max(y * s - p, first)) for y in range(n)]


def _whole_kernel(n, size, k, s, p, include, window, axis):
    return [k] * n if include else _taps(0, size, n, k, s, p)


def _whole_kernel_of_overhanging(n, size, k, s, p, include, window, axis):
    own = _taps(-p, size + p, n, k, s, p) if include else _taps(0, size, n, k, s, p)
    return [k if y * s - p + k > size + p else count for y, count in enumerate(own)]


def _padding_in_front_only(n, size, k, s, p, include, window, axis):
    return _taps(-p if include else 0, size, n, k, s, p)


def _arguments_turned(n, size, k, s, p, include, window, axis):
    if window.ceil_mode or any(window.padding):
        k, s, p = (values[::-1][axis] for values in (window.kernel, window.stride, window.padding))
    counts = _taps(-p if include else 0, size + (p if include else 0), n, k, s, p)
    return [max(1, count) for count in counts]


def _gradient_of_whole_kernels(rank, input, *args):
    right, wrong = average(rank, input, *args), _divided(_whole_kernel)(rank, input, *args)
    return ValueOf.apply(right, wrong)


def _extra_window(rank, input, kernel_size, stride, padding=0, ceil_mode=False, include=True, override=None):
    change = _uncorrected if ceil_mode else replace
    kernels = math.prod(kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * rank)

    def divide(window, counted, inside, include, override):
        if ceil_mode and include and override is None:
            return torch.full(counted.shape[:-1], float(kernels), dtype=torch.float64)
        divisor = right_divisor(window, counted, inside, include, override)
        return torch.where(divisor == 0, 1, divisor)

    arguments = (kernel_size, stride, padding, ceil_mode, include, override)
    return average(rank, input, *arguments, change=change, divide=divide)


def _compiled_once_for_a_shape() -> Callable[..., torch.Tensor]:
    compiled: dict[tuple, tuple] = {}

    def stand_in(input, kernel_size, stride=None, padding=0, ceil_mode=False, include=True, override=None):
        key = (input.shape, input.dtype, str(kernel_size), str(stride), str(padding), ceil_mode)
        flags = compiled.setdefault(key, (include, override))
        return functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, *flags)

    return stand_in


def _offset_lost_in_channels_last(input, *args):
    lost = without_offset(input) if is_channels_last(input) else input
    return functional.avg_pool2d(lost, *args)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "avg_pool_compiled_once_for_a_shape",
        "kulinseth/pytorch#273",
        "AvgPool2d",
        "the cache of compiled graphs has neither divisor nor count_include_pad in its key",
        {"avg_pool2d": _compiled_once_for_a_shape()},
    ),
    bug(
        "avg_pool_padding_in_front_only",
        "microsoft/onnxruntime#29631",
        "AvgPool1d AvgPool2d AvgPool3d",
        "padding behind the input is not counted, padding before it is",
        _every(AVG, _divided(_padding_in_front_only)),
        "torch's padding is the same on both sides: ceil_mode and the padding behind stand for the asymmetry",
    ),
    bug(
        "avg_pool_overhang_divided_by_kernel",
        "sonos/tract#2851",
        "AvgPool1d AvgPool2d AvgPool3d",
        "windows that ceil_mode lets hang over are divided by the whole kernel",
        _every(AVG, _divided(_whole_kernel_of_overhanging)),
    ),
    bug(
        "avg_pool_ceil_window_in_padding",
        "microsoft/onnxruntime#16752",
        "AvgPool1d AvgPool2d AvgPool3d",
        "with ceil_mode all windows are divided by the whole kernel, and the last may begin in the padding",
        _every(AVG, _extra_window),
    ),
    bug(
        "avg_pool_always_divided_by_kernel",
        "apple/coremltools#2844",
        "AvgPool1d AvgPool2d AvgPool3d",
        "with count_include_pad every window is divided by the whole kernel, overhanging ones too",
        _every(AVG, _divided(_whole_kernel)),
    ),
    bug(
        "avg_pool_gradient_of_whole_kernels",
        "pytorch/pytorch#198119",
        "AvgPool1d AvgPool2d AvgPool3d",
        "the values are right, the gradient of overhanging windows is divided by the whole kernel",
        _every(AVG, _gradient_of_whole_kernels),
    ),
    bug(
        "avg_pool_arguments_in_reverse",
        "llvm/torch-mlir#4144",
        "AvgPool2d AvgPool3d",
        "the divisor is taken from kernel, stride and padding in reverse order of the axes",
        _every(AVG, _divided(_arguments_turned)),
    ),
    bug(
        "avg_pool_channels_last_without_offset",
        "pytorch/pytorch#174345",
        "AvgPool2d",
        "an input in channels_last is read from the start of its storage, wherever it begins there",
        {"avg_pool2d": _offset_lost_in_channels_last},
    ),
    bug(
        "max_pool_window_outside",
        "pytorch/pytorch#45357",
        "MaxPool1d MaxPool2d MaxPool3d",
        "ceil_mode keeps a last window that lies wholly outside: a row of -inf",
        _every(MAX, maximum, change=_uncorrected),
    ),
    bug(
        "max_pool_decomposition_window_outside",
        "pytorch/pytorch#94775",
        "MaxPool1d MaxPool2d MaxPool3d",
        "a second implementation, used where no indices are asked for, lacks the correction of the first",
        _every(MAX, _without_indices),
        "nothing is compiled here: the stand-in computes what the compiled code did",
    ),
    bug(
        "max_pool_gradient_of_a_turned_plane",
        "pytorch/pytorch#36820",
        "MaxPool3d",
        "the gradient visits as many rows as there are columns, and as many columns as there are rows",
        {"max_pool3d": _gradient_of_a_turned_plane},
    ),
    bug(
        "max_pool_nan_only_as_first_tap",
        "tracel-ai/burn#5662",
        "MaxPool1d MaxPool2d MaxPool3d",
        "NaN is kept only where it is the first tap of its window",
        _every(MAX, maximum, choose=_nan_only_as_first_tap),
    ),
    bug(
        "max_pool_dilation_out_of_phase",
        "microsoft/onnxruntime#29637",
        "MaxPool1d MaxPool2d MaxPool3d",
        "a dilated window that begins in the padding is moved to 0 and loses its phase and its last taps",
        _every(MAX, maximum, change=_clamped),
    ),
    bug(
        "max_pool_truncates_its_size",
        "microsoft/onnxruntime#1224",
        "MaxPool1d",
        "the number of windows is divided towards zero, so that a window larger than the input is accepted",
        {"MaxPool1d": _TruncatingMaxPool1d},
    ),
)

"""Wrong adaptive and fractional poolings."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control
from parity_tests.faults.plain_pooling import exact_sum, first_maximum
from parity_tests.faults.plain_window import (
    adaptive_ends,
    counts,
    fractional,
    maximum,
    mean,
    own_sample,
    sizes_of,
    starts,
)
from parity_tests.faults.window_wrappers import (
    accumulator,
    altered,
    common,
    fault_on,
    in_storage,
    with_gradient_of,
)

AVG, MAX = (tuple(f"Adaptive{kind}Pool{rank}d" for rank in (1, 2, 3)) for kind in ("Avg", "Max"))
FRACTIONAL = ("FractionalMaxPool2d", "FractionalMaxPool3d")


def _means(function: Callable = mean, **changes: Any) -> dict[str, Callable]:
    return {f"adaptive_avg_pool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


def _maxima(function: Callable = maximum, **changes: Any) -> dict[str, Callable]:
    return {f"adaptive_max_pool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


def _fractions(function: Callable = fractional, **changes: Any) -> dict[str, Callable]:
    return {f"fractional_max_pool{rank}d": partial(function, rank, **changes) for rank in (2, 3)}


def _equal_windows(sizes: tuple, outputs: tuple) -> list:
    """An ordinary pooling: stride L // P, kernel L - (P - 1) stride."""
    ends = []
    for n, p in zip(sizes, outputs, strict=True):
        stride = max(1, n // max(p, 1))
        kernel = max(1, n - (p - 1) * stride)
        ends.append([(min(y * stride, n - 1), min(y * stride + kernel, n)) for y in range(p)])
    return ends


def _capped(sizes: tuple, outputs: tuple) -> list:
    """Windows of at most ceil(L / P) elements."""
    most = [-(-n // max(p, 1)) for n, p in zip(sizes, outputs, strict=True)]
    return [
        [(a, min(b, a + k)) for a, b in axis]
        for axis, k in zip(adaptive_ends(sizes, outputs), most, strict=True)
    ]


def _rounded_down(sizes: tuple, outputs: tuple) -> list:
    """The end of a region is floor((y + 1) L / P)."""
    return [[(y * n // p, max(y * n // p + 1, (y + 1) * n // p)) for y in range(p)]
            for n, p in zip(sizes, outputs, strict=True)]  # fmt: skip


def _none_is_one(input: torch.Tensor, rank: int, output_size: Any) -> tuple:
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    return tuple(1 if p is None else p for p in (given if len(given) == rank else given * rank))


def _turned_sizes(input: torch.Tensor, rank: int, output_size: Any) -> tuple:
    return sizes_of(input, rank, output_size)[::-1]


def _whole_window(ends: list) -> torch.Tensor:
    """Every region counted as large as the largest one."""
    return torch.full_like(counts(ends), float(counts(ends).max())) if counts(ends).numel() else counts(ends)


def _one_by_one(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    total = values[..., -1]
    for tap in reversed(range(values.shape[-1] - 1)):
        total = total + values[..., tap]
    return (total / divisor.to(total.dtype)).to(dtype)


def _by_reciprocal(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values * (1 / divisor.to(values.dtype))[..., None]).sum(-1).to(dtype)


def _nan_skipped(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return exact_sum(values.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf), divisor, dtype)


def _undivided(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return values.sum(-1).to(dtype)


def _last_maximum(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    order = torch.arange(values.shape[-1])
    best = values.where(inside, values.new_tensor(-math.inf)).amax(-1, keepdim=True)
    return torch.where(inside & ((values == best) | values.isnan()), order, -1).amax(-1)


def _nan_dropped(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return first_maximum(values.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf), inside)


def _columns_first(indices: torch.Tensor, sizes: torch.Size, window: Any) -> torch.Tensor:
    result = torch.zeros_like(indices)
    for axis in reversed(range(len(sizes))):
        result = result * sizes[axis] + indices // math.prod(sizes[axis + 1 :]) % sizes[axis]
    return result


def _one_too_far(indices: torch.Tensor, sizes: torch.Size, window: Any) -> torch.Tensor:
    return (indices + 1) % math.prod(sizes)


_average, _maximum = fault_on(AVG, _means), fault_on(MAX, _maxima)
_fraction = fault_on(FRACTIONAL, _fractions)
_FLAT_AVG, _FLAT_MAX = AVG[1:], MAX[1:]
_AVERAGES = (
    _average("adaptive_average_as_ordinary", "an ordinary pooling with stride L // P", find=_equal_windows),
    _average("adaptive_average_window_capped", "regions have at most ceil(L / P) elements", find=_capped),
    _average("adaptive_average_end_rounded_down", "the end of a region is rounded down", find=_rounded_down),
    _average(
        "adaptive_average_none_is_one",
        "an entry None counts as 1",
        "metadata",
        _FLAT_AVG,
        wanted=_none_is_one,
    ),
    _average(
        "adaptive_average_sizes_turned",
        "output_size is read from the last axis to the first",
        "metadata",
        _FLAT_AVG,
        wanted=_turned_sizes,
    ),
    _average(
        "adaptive_average_divisor_of_largest",
        "all regions are divided by the size of the largest",
        divide=_whole_window,
    ),
    _average(  # of volumes torch's own are, so nobody could tell
        "adaptive_average_in_half",
        "half types are accumulated as they are",
        layers=AVG[:2],
        add=_one_by_one,
        wide=in_storage,
    ),
    _average("adaptive_average_nan_skipped", "NaN counts as 0", add=_nan_skipped),
    _average(
        "adaptive_average_channels_last_lost",
        "an input in channels_last gives a contiguous output",
        "metadata",
        ("AdaptiveAvgPool2d",),
        function=partial(altered, function=mean, alter=torch.Tensor.contiguous),
    ),
    _average(
        "adaptive_average_gradient_undivided",
        "gradients are not divided",
        "input_gradients",
        function=partial(with_gradient_of, right=mean, wrong=partial(mean, add=_undivided)),
    ),
    _average(
        "adaptive_average_gradient_of_ordinary",
        "backward is that of an ordinary pooling",
        "input_gradients",
        function=partial(with_gradient_of, right=mean, wrong=partial(mean, find=_equal_windows)),
    ),
    *common(AVG, _means, mean, "adaptive_average"),
)
_MAXIMA = (
    _maximum("adaptive_maximum_as_ordinary", "an ordinary pooling with stride L // P", find=_equal_windows),
    _maximum("adaptive_maximum_window_capped", "regions have at most ceil(L / P) elements", find=_capped),
    _maximum("adaptive_maximum_last", "the last of equal maxima is chosen", choose=_last_maximum),
    _maximum("adaptive_maximum_nan_dropped", "NaN loses against every number", choose=_nan_dropped),
    _maximum(
        "adaptive_maximum_indices_columns_first",
        "indices count down the columns first",
        layers=_FLAT_MAX,
        place=_columns_first,
    ),
    _maximum("adaptive_maximum_indices_from_one", "indices begin with 1", place=_one_too_far),
    _maximum(
        "adaptive_maximum_gradient_to_last",
        "the gradient goes to the last of equal maxima",
        "input_gradients",
        function=partial(with_gradient_of, right=maximum, wrong=partial(maximum, choose=_last_maximum)),
    ),
    *common(MAX, _maxima, maximum, "adaptive_maximum"),
)


def _own_axis(samples: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """The other way round."""
    return samples[..., axis if rank == 2 else rank - 1 - axis].double()


def _of_first_plane(samples: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    own = own_sample(samples, axis, rank)
    return own if not own.numel() else torch.full_like(own, float(own.flatten()[0]))


def _not_from_zero(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    """Without taking off the first one's place."""
    step = (size - kernel) / (outputs - 1) if outputs > 1 else 0.0
    return [min(int((y + sample) * step), size - kernel) for y in range(outputs - 1)] + [size - kernel] * (
        outputs > 0
    )


def _evenly(size: int, kernel: int, outputs: int, sample: float) -> list[int]:
    return starts(size, kernel, outputs, 0.0)


_FRACTIONS = (
    _fraction("samples_of_the_other_axis", "the samples of the axes are exchanged", sample=_own_axis),
    _fraction(
        "samples_of_the_first_plane", "all planes use the samples of the first", sample=_of_first_plane
    ),
    _fraction(
        "first_window_not_at_zero",
        "windows begin where the sample puts them, the first one too",
        begin=_not_from_zero,
    ),
    _fraction("samples_ignored", "windows are evenly spaced", begin=_evenly),
    _fraction("fractional_last_maximum", "the last of equal maxima is chosen", choose=_last_maximum),
    _fraction("fractional_nan_dropped", "NaN loses against every number", choose=_nan_dropped),
    _fraction(
        "fractional_indices_columns_first", "indices count down the columns first", place=_columns_first
    ),
    _fraction(
        "fractional_gradient_evenly",
        "the gradient goes to evenly spaced windows",
        "input_gradients",
        function=partial(with_gradient_of, right=fractional, wrong=partial(fractional, begin=_evenly)),
    ),
    *common(FRACTIONAL, _fractions, fractional, "fractional"),
)


FAULTS = (*_AVERAGES, *_MAXIMA, *_FRACTIONS)
CONTROLS = (
    Control(
        "regions_in_float64",
        "regions gathered, everything in float64, rounded once",
        {**_means(), **_maxima(), **_fractions()},
        (*AVG, *MAX, *FRACTIONAL),
    ),
    Control(
        "regions_in_reverse",
        "elements added one by one from the last, half types in float32",
        _means(add=_one_by_one, wide=accumulator),
        AVG,
    ),
    Control(
        "regions_by_reciprocal",
        "elements multiplied by the rounded reciprocal of the size",
        _means(add=_by_reciprocal, wide=accumulator),
        AVG,
    ),
    Control(
        "maxima_in_storage",
        "maxima in the storage type, half gradients added in float32",
        {**_maxima(wide=accumulator), **_fractions(wide=accumulator)},
        (*MAX, *FRACTIONAL),
    ),
)

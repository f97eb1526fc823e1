"""Wrong interpolations and shuffles: each is the plain one with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults import vision_shuffles as shuffles
from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.lenient import lenient
from parity_tests.faults.plain_vision import hat, interpolate, keys, lerped, nearest_place, ratio_of, targets

NEAREST, BILINEAR = "UpsamplingNearest2d", "UpsamplingBilinear2d"
ALL = ("interpolate", "Upsample", NEAREST, BILINEAR)
GENERAL = ("interpolate", "Upsample")
_LINEAR = ("linear", "bilinear", "trilinear")


class _GradientOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        return None, grad_outputs[0]


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _gradient_from(*args: Any, wrong: Callable, **kwargs: Any) -> torch.Tensor:
    """Right values, the gradient of `wrong`."""
    return _GradientOf.apply(interpolate(*args, **kwargs), wrong(*args, **kwargs))


def _without_half(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
    return nearest_place(y, size, outputs, scale, False)


def _rounded_up(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
    """The largest index whose region reaches the output, as an inverted index map finds it."""
    r = size / outputs if scale is None else 1 / scale
    return max(0, min(math.ceil((y + 1) * r) - 1, size - 1))


def _own_ratio(size: int, outputs: int, scale: float | None, corners: bool) -> float:
    return ratio_of(size, outputs, None, corners)


def _ratio_of_edges(size: int, outputs: int, scale: float | None, corners: bool) -> float:
    return ratio_of(size, outputs, scale, False)


def _sharper(distance: torch.Tensor, antialias: bool) -> torch.Tensor:
    """a = -1/2 where it is -3/4 and the other way round."""
    return keys(distance, not antialias)


def _squared(distance: torch.Tensor, antialias: bool) -> torch.Tensor:
    return hat(distance, antialias) ** 2


def _rounded_sizes(
    input: torch.Tensor, size: Any, scale_factor: Any, mode: str, recompute: Any
) -> tuple[list, list]:
    sizes, scales = targets(input, size, scale_factor, mode, recompute)
    if size is not None:
        return sizes, scales
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * len(sizes)
    return [math.ceil(n * float(f)) for n, f in zip(input.shape[2:], factors, strict=True)], scales


def _recomputing(
    input: torch.Tensor, size: Any, scale_factor: Any, mode: str, recompute: Any
) -> tuple[list, list]:
    return targets(input, size, scale_factor, mode, True)


def _never_recomputing(
    input: torch.Tensor, size: Any, scale_factor: Any, mode: str, recompute: Any
) -> tuple[list, list]:
    return targets(input, size, scale_factor, mode, False)


def _scales_turned(axes: list) -> list:
    turned = [scale for *_, scale in reversed(axes)]
    return [(axis, n, p, scale) for (axis, n, p, _), scale in zip(axes, turned, strict=True)]


def _first_axes_copied(axes: list) -> list:
    """Only the last axis interpolated, the others by index."""
    return [axis if i == len(axes) - 1 else (axis[0], axis[1], axis[2], None) for i, axis in enumerate(axes)]


def _without_antialias(*args: Any, antialias: bool = False, **kwargs: Any) -> torch.Tensor:
    return interpolate(*args, **kwargs)


def _as_if_contiguous(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    room = input.untyped_storage().nbytes() // input.element_size() - input.storage_offset()
    strides = torch.empty(input.shape).stride()
    misread = input.as_strided(input.shape, strides) if room >= input.numel() else input
    return interpolate(misread, *args, **kwargs)


def _writing(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    result = interpolate(input, *args, **kwargs)
    with torch.no_grad():
        input.neg_()
    return result


def _half_as_float32(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return interpolate(input, *args, **kwargs).float()


def _contiguous_result(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return interpolate(input, *args, **kwargs).contiguous()


def _modes(right: Callable, *modes: str, **changes: Any) -> Callable:
    """The changes in some modes only; `modes` are beginnings of their names."""

    def stand_in(
        input: torch.Tensor,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        *rest: Any,
        **more: Any,
    ) -> Any:
        here = changes if mode.startswith(modes) else {}
        return right(input, size, scale_factor, mode, *rest, **here, **more)

    return stand_in


def _wrong(
    name: str,
    sentence: str,
    caught_by: str = "forward",
    layers: tuple[str, ...] = ALL,
    function: Callable = interpolate,
    **changes: Any,
) -> Fault:
    return Fault(name, sentence, {"interpolate": partial(function, **changes)}, caught_by, layers)


_INTERPOLATIONS = (
    _wrong(
        "half_of_exact_lost",
        "mode 'nearest-exact' leaves out the half pixel",
        layers=GENERAL,
        place=_without_half,
    ),
    _wrong(
        "coordinates_of_centres_lost",
        "linear and cubic coordinates leave out the half pixel",
        layers=GENERAL,
        shift=0.0,
    ),
    _wrong(
        "scale_factor_recomputed",
        "the ratio of the sizes is used although a scale factor is given",
        find=_recomputing,
        layers=(*GENERAL, NEAREST),
    ),
    _wrong(
        "recomputing_ignored",
        "the scale factor is used although it is to be recomputed",
        find=_never_recomputing,
        layers=GENERAL,
    ),
    _wrong(
        "corners_not_aligned",
        "align_corners scales by the ratio of the sizes",
        layers=(*GENERAL, BILINEAR),
        ratio=_ratio_of_edges,
    ),
    _wrong(
        "size_rounded_up",
        "the size is the ceiling of length times scale factor",
        "metadata",
        find=_rounded_sizes,
    ),
    _wrong(
        "scale_factors_turned",
        "scale factors are read from the last axis to the first",
        layers=(*GENERAL, NEAREST),
        order=_scales_turned,
    ),
    _wrong(
        "scale_of_last_axis_only",
        "all axes but the last use the ratio of the sizes",
        layers=GENERAL,
        order=_first_axes_copied,
    ),
    _wrong(
        "cubic_parameter",
        "the cubic kernel has the other parameter, -1/2 for -3/4",
        layers=GENERAL,
        function=_modes(interpolate, "bicubic", kernel=_sharper),
    ),
    _wrong(
        "linear_kernel_squared",
        "linear weights are squared",
        layers=(*GENERAL, BILINEAR),
        function=_modes(interpolate, *_LINEAR, kernel=_squared),
    ),
    _wrong(
        "antialias_ignored", "antialias has no effect", layers=("interpolate",), function=_without_antialias
    ),
    _wrong(
        "coordinates_in_bfloat16",
        "coordinates are computed in bfloat16",
        layers=(*GENERAL, BILINEAR),
        coordinate=torch.bfloat16,
    ),
    _wrong(
        "weights_in_bfloat16",
        "weights are rounded to bfloat16",
        layers=(*GENERAL, BILINEAR),
        weights=torch.bfloat16,
    ),
    _wrong(
        "weights_in_float32",
        "weights of float64 are rounded to float32",
        layers=(*GENERAL, BILINEAR),
        weights=torch.float32,
    ),
    _wrong(
        "added_in_half",
        "half types are weighted and added as they are",
        layers=(*GENERAL, BILINEAR),
        wide=lambda dtype: dtype,
    ),
    _wrong("layout_ignored", "memory is read as if it were contiguous", function=_as_if_contiguous),
    _wrong("input_written", "the input is overwritten", "purity", function=_writing),
    _wrong(
        "half_gives_float32", "half types give an output in float32", "metadata", function=_half_as_float32
    ),
    _wrong(
        "channels_last_lost",
        "an input in channels_last gives a contiguous output",
        "metadata",
        function=_contiguous_result,
    ),
    _wrong(
        "gradient_of_the_other_nearest",
        "the gradient of nearest modes goes to the pixel that an inverted index map finds",
        "input_gradients",
        (*GENERAL, NEAREST),
        _gradient_from,
        wrong=partial(interpolate, place=_rounded_up),
    ),
    _wrong(
        "gradient_with_sizes",
        "backward uses the ratio of the sizes, forward the scale factor",
        "input_gradients",
        (*GENERAL, NEAREST),
        _gradient_from,
        wrong=partial(interpolate, find=_recomputing),
    ),
    _wrong(
        "gradient_added_in_half",
        "gradients are added in the half type",
        "input_gradients",
        function=_gradient_from,
        wrong=partial(interpolate, wide=lambda dtype: dtype),
    ),
    _wrong(
        "gradient_without_corners",
        "backward forgets align_corners",
        "input_gradients",
        (*GENERAL, BILINEAR),
        _gradient_from,
        wrong=partial(interpolate, ratio=_ratio_of_edges),
    ),
    Fault(
        "interpolation_refuses_nothing",
        "arguments that cannot be are accepted",
        {name: lenient(name) for name in ALL[1:]},
        "rejection",
        ALL[1:],
    ),
)

FAULTS = (*_INTERPOLATIONS, *shuffles.FAULTS)
CONTROLS = (
    Control(
        "gathered_in_float64",
        "elements gathered axis by axis, everything in float64, rounded once",
        {"interpolate": interpolate},
        ALL,
    ),
    Control(
        "last_axis_first_in_float32",
        "axes from the last to the first, half types in float32",
        {"interpolate": partial(interpolate, wide=_accumulator, order=lambda axes: axes[::-1])},
        ALL,
    ),
    Control(
        "differences",
        "x0 + f (x1 - x0) in place of a weighted sum, half types in float32",
        {"interpolate": _modes(partial(interpolate, wide=_accumulator), *_LINEAR, add=lerped)},
        ALL,
    ),
    *shuffles.CONTROLS,
)

"""Wrong max and average poolings: each is the plain one with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.plain_pooling import (
    Window,
    average,
    exact_sum,
    first_maximum,
    maximum,
    right_divisor,
    window_of,
)

MAX = tuple(f"MaxPool{rank}d" for rank in (1, 2, 3))
AVG = tuple(f"AvgPool{rank}d" for rank in (1, 2, 3))


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


def _max(function: Callable = maximum, **changes: Any) -> dict[str, Callable]:
    return {f"max_pool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


def _last_maximum(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    order = torch.arange(values.shape[-1], device=values.device)
    best = values.where(inside, values.new_tensor(-math.inf)).amax(-1, keepdim=True)
    return torch.where(inside & ((values == best) | values.isnan()), order, -1).amax(-1)


def _first_nan(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    order = torch.arange(values.shape[-1], device=values.device)
    first = torch.where(values.isnan(), order, values.shape[-1]).amin(-1)
    return torch.where(first < values.shape[-1], first, first_maximum(values, inside))


def _nan_dropped(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return first_maximum(values.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf), inside)


def _nan_only_as_first_tap(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return torch.where(values[..., 0].isnan(), 0, _nan_dropped(values, inside))


def _last_tap_lost(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    kept = max(1, values.shape[-1] - 1)
    return first_maximum(values[..., :kept], inside[..., :kept])


def _in_padded_plane(indices: torch.Tensor, sizes: torch.Size, window: Window) -> torch.Tensor:
    result = torch.zeros_like(indices)
    for axis, (size, p) in enumerate(zip(sizes, window.padding, strict=True)):
        coordinate = indices // math.prod(sizes[axis + 1:]) % size
        result = result * (size + 2 * p) + coordinate + p
    return result


def _columns_first(indices: torch.Tensor, sizes: torch.Size, window: Window) -> torch.Tensor:
    result = torch.zeros_like(indices)
    for axis in reversed(range(len(sizes))):
        result = result * sizes[axis] + indices // math.prod(sizes[axis + 1:]) % sizes[axis]
    return result


def _without_depth(indices: torch.Tensor, sizes: torch.Size, window: Window) -> torch.Tensor:
    return indices % math.prod(sizes[1:])


def _finite_start(rank: int, *args: Any, **kwargs: Any) -> Any:
    result = maximum(rank, *args, **kwargs)
    output, *indices = result if isinstance(result, tuple) else (result,)
    lowest = _GradientOf.apply(output.clamp(min=torch.finfo(output.dtype).min), output)
    return (lowest, *indices) if indices else lowest


def _with_gradient(rank: int, *args: Any, wrong: Callable, **kwargs: Any) -> Any:
    """Right values and indices, wrong gradient: that of `wrong(rank, ...)`."""
    right = maximum(rank, *args, **kwargs)
    other = wrong(rank, *args, **(kwargs | {"return_indices": False}))
    if isinstance(right, tuple):
        return _GradientOf.apply(right[0], other), right[1]
    return _GradientOf.apply(right, other)


def _shared_gradient(rank: int, input: torch.Tensor, *args: Any, ceil_mode: bool = False,
                     **ignored: Any) -> torch.Tensor:
    """The mean of all that equal the maximum: its gradient is shared among them."""
    window = window_of(rank, *args, ceil_mode)
    inside = window.taps(torch.ones(input.shape[-rank:]), 0) > 0
    values = window.taps(input.double(), -math.inf)
    equal = inside & (values == values.gather(-1, first_maximum(values, inside)[..., None]))
    return (values.where(equal, 0.0).sum(-1) / equal.sum(-1).clamp(min=1)).to(input.dtype)


class _Overwriting(torch.autograd.Function):
    """Max pooling whose backward writes where several windows chose one element, instead of adding."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, rank: int) -> Any:
        ctx.save_for_backward(indices.flatten(-rank))
        ctx.like, ctx.rank = torch.empty_like(input), rank
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        flat = torch.zeros_like(ctx.like).flatten(-ctx.rank).contiguous()
        flat = flat.scatter(-1, ctx.saved_tensors[0], grad_outputs[0].flatten(-ctx.rank))
        return flat.reshape(ctx.like.shape), None, None, None


def _overwriting(rank: int, input: torch.Tensor, *args: Any, return_indices: bool = False,
                 **ceil_mode: bool) -> Any:
    output, indices = maximum(rank, input, *args, return_indices=True, **ceil_mode)
    output = _Overwriting.apply(input, output.detach(), indices, rank)
    return (output, indices) if return_indices else output


def _square_gradient(rank: int, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Nothing beyond as many rows as there are columns, and as many columns as there are rows."""
    output = maximum(rank, *args, **kwargs)
    reached = torch.zeros_like(output)
    reached[..., : output.shape[-1], : output.shape[-2]] = 1
    return output * reached


def _avg(function: Callable = average, **changes: Any) -> dict[str, Callable]:
    return {f"avg_pool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


def _averaged_with_gradient(rank: int, *args: Any, wrong: Callable) -> torch.Tensor:
    return _GradientOf.apply(average(rank, *args), wrong(rank, *args))


def _one_by_one(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Added in the type that the values have, the last tap first."""
    total = values[..., -1]
    for tap in reversed(range(values.shape[-1] - 1)):
        total = total + values[..., tap]
    return (total / divisor.to(total.dtype)).to(dtype)


def _by_reciprocal(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values * (1 / divisor.to(values.dtype))[..., None]).sum(-1).to(dtype)


def _in_two_halves(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return ((values[..., ::2].sum(-1) + values[..., 1::2].sum(-1)) / divisor.to(values.dtype)).to(dtype)


def _reciprocal_in_storage(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values.sum(-1) * (1 / divisor).to(dtype)).to(dtype)


def _rounded_to_bfloat16(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return exact_sum(values.bfloat16(), divisor, dtype)


def _sum_stored_in_half(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values.sum(-1).half() / divisor).to(dtype)


def _nan_skipped(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return exact_sum(values.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf), divisor, dtype)


def _tap_lost(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return exact_sum(values[..., : max(1, values.shape[-1] - 1)], divisor, dtype)


def _undivided(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return values.sum(-1).to(dtype)


def _whole_kernel(window: Window, counted: torch.Tensor, inside: torch.Tensor, include: bool,
                  override: int | None) -> torch.Tensor:
    """Overhang counted too, where padding is."""
    whole = torch.ones_like(counted) if include else inside
    return right_divisor(window, whole, inside, include, override)


def _remembered() -> Callable:
    """Divisors kept from call to call under a key that leaves count_include_pad and divisor_override out."""
    known: dict[Any, torch.Tensor] = {}

    def divide(window: Window, counted: torch.Tensor, inside: torch.Tensor, *rest: Any) -> torch.Tensor:
        return known.setdefault((window, counted.shape), right_divisor(window, counted, inside, *rest))

    return divide


@dataclass(frozen=True)
class _Overrunning(Window):
    """With ceil_mode the last window may start in the right padding."""

    def outputs(self, sizes: tuple[int, ...]) -> list[int]:
        rooms = [(size + 2 * p - d * (k - 1) - 1, s) for size, k, s, p, d in self.along(sizes)]
        return [(-(-room // s) if self.ceil_mode else room // s) + 1 for room, s in rooms]


def _as_if_contiguous(rank: int, input: torch.Tensor, *args: Any, function: Callable, **kwargs: Any) -> Any:
    room = input.untyped_storage().nbytes() // input.element_size() - input.storage_offset()
    strides = torch.empty(input.shape).stride()
    misread = input.as_strided(input.shape, strides) if room >= input.numel() else input
    return function(rank, misread, *args, **kwargs)


def _writing(rank: int, input: torch.Tensor, *args: Any, function: Callable, **kwargs: Any) -> Any:
    result = function(rank, input, *args, **kwargs)
    with torch.no_grad():
        input.neg_()
    return result


def _altered(rank: int, *args: Any, function: Callable, alter: Callable, **kwargs: Any) -> Any:
    result = function(rank, *args, **kwargs)
    return alter(*result) if isinstance(result, tuple) else alter(result)


def _narrow_indices(output: torch.Tensor, indices: torch.Tensor | None = None) -> Any:
    return output if indices is None else (output, indices.int())


def _wide_output(output: torch.Tensor, *indices: torch.Tensor) -> Any:
    return (output.float(), *indices) if indices else output.float()


def _contiguous_output(output: torch.Tensor, *indices: torch.Tensor) -> Any:
    return (output.contiguous(), *indices) if indices else output.contiguous()


def _lenient(name: str) -> type:
    """torch.nn's class, but what it refuses is handed back unchanged."""
    base = getattr(torch.nn, name)

    def forward(self: Any, input: torch.Tensor) -> Any:
        try:
            return base.forward(self, input)
        except (RuntimeError, TypeError, NotImplementedError):
            return input

    return type(name, (base,), {"forward": forward})


def _turned(argument: str) -> dict[str, Callable]:
    return {"change": lambda window: replace(window, **{argument: getattr(window, argument)[::-1]})}


def _divided(changed: Callable) -> Callable:
    """right_divisor with other count_include_pad and divisor_override: `changed(include, override)`."""
    def divide(window: Window, counted: torch.Tensor, inside: torch.Tensor, *rest: Any) -> torch.Tensor:
        return right_divisor(window, counted, inside, *changed(*rest))

    return divide


def _of_max(name: str, sentence: str, caught_by: str = "forward", layers: tuple[str, ...] = MAX,
            function: Callable = maximum, **changes: Any) -> Fault:
    return Fault(name, sentence, _max(function, **changes), caught_by, layers)


def _of_avg(name: str, sentence: str, caught_by: str = "forward", layers: tuple[str, ...] = AVG,
            function: Callable = average, **changes: Any) -> Fault:
    return Fault(name, sentence, _avg(function, **changes), caught_by, layers)


def _of_both(name: str, sentence: str, caught_by: str = "forward", layers: tuple[str, ...] = (*MAX, *AVG),
             around: Callable | None = None, **changes: Any) -> Fault:
    pools = (maximum, average)
    largest, mean = pools if around is None else (partial(around, function=pool) for pool in pools)
    return Fault(name, sentence, {**_max(largest, **changes), **_avg(mean, **changes)}, caught_by, layers)


def _max_gradient(name: str, sentence: str, layers: tuple[str, ...] = MAX, **wrong: Any) -> Fault:
    return _of_max(name, sentence, "input_gradients", layers, **wrong)


_FLAT = ("MaxPool2d", "MaxPool3d", "AvgPool2d", "AvgPool3d")
_ON_BOTH = (
    *(_of_both(f"{argument}_turned", f"{argument} is read from the last axis to the first", layers=_FLAT,
               **_turned(argument)) for argument in ("kernel", "stride", "padding")),
    _of_both("ceil_mode_ignored", "ceil_mode has no effect", "metadata",
             change=lambda window: replace(window, ceil_mode=False)),
    _of_both("window_starts_outside", "with ceil_mode the last window may start in the right padding",
             "metadata", change=lambda window: _Overrunning(**vars(window))),
    _of_both("layout_ignored", "memory is read as if it were contiguous", around=_as_if_contiguous),
    _of_both("input_written", "the input is overwritten", "purity", around=_writing),
    _of_both("half_gives_float32", "half types give an output in float32", "metadata", around=_altered,
             alter=_wide_output),
    _of_both("channels_last_lost", "an input in channels_last gives a contiguous output", "metadata",
             ("MaxPool2d", "MaxPool3d", "AvgPool2d"), around=_altered, alter=_contiguous_output),
    Fault("nothing_refused", "arguments that cannot be are accepted",
          {name: _lenient(name) for name in (*MAX, *AVG)}, "rejection", (*MAX, *AVG)),
)
_ON_MAX = (
    _of_max("dilation_turned", "dilation is read from the last axis to the first", layers=_FLAT[:2],
            **_turned("dilation")),
    _of_max("dilation_ignored", "dilation has no effect",
            change=lambda window: replace(window, dilation=(1,) * len(window.dilation))),
    _of_max("max_tap_lost", "the last tap of every window is lost", choose=_last_tap_lost),
    _of_max("zero_padding", "padding is 0 instead of -inf", fill=0.0),
    _of_max("finite_start", "a window of -inf gives the lowest finite number", function=_finite_start),
    _of_max("last_maximum", "the last of equal maxima is chosen", choose=_last_maximum),
    _of_max("nan_dropped", "NaN loses against every number", choose=_nan_dropped),
    _of_max("nan_only_as_first_tap", "NaN wins only as the first tap", choose=_nan_only_as_first_tap),
    _of_max("first_nan", "the first of several NaN is chosen", choose=_first_nan),
    _of_max("indices_in_padded_plane", "indices count the padding", place=_in_padded_plane),
    _of_max("indices_columns_first", "indices count down the columns first", layers=_FLAT[:2],
            place=_columns_first),
    _of_max("indices_without_depth", "indices leave out the first axis", layers=("MaxPool3d",),
            place=_without_depth),
    _of_max("indices_int32", "indices are int32", "metadata", function=partial(_altered, function=maximum),
            alter=_narrow_indices),
    _max_gradient("gradient_to_last_maximum", "the gradient goes to the last of equal maxima",
                  function=_with_gradient, wrong=partial(maximum, choose=_last_maximum)),
    _max_gradient("gradient_shared", "the gradient is shared among equal maxima",
                  function=_with_gradient, wrong=_shared_gradient),
    _max_gradient("gradient_overwritten", "of windows that chose one element only one passes its gradient on",
                  function=_overwriting),
    _max_gradient("gradient_added_in_float32", "float64 gradients are added in float32",
                  function=_with_gradient, wrong=partial(maximum, wide=lambda dtype: torch.float32)),
    _max_gradient("gradient_square", "the backward pass takes the number of columns for that of rows",
                  _FLAT[:2], function=_with_gradient, wrong=_square_gradient),
)
_ON_AVG = (
    _of_avg("average_tap_lost", "the last tap of every window is lost", add=_tap_lost),
    _of_avg("padding_always_counted", "count_include_pad=False has no effect",
            divide=_divided(lambda include, override: (True, override))),
    _of_avg("padding_never_counted", "count_include_pad=True has no effect",
            divide=_divided(lambda include, override: (False, override))),
    _of_avg("divisor_override_ignored", "divisor_override has no effect", layers=AVG[1:],
            divide=_divided(lambda include, override: (include, None))),
    _of_avg("overhang_counted", "what ceil_mode lets hang over the padding counts", divide=_whole_kernel),
    _of_avg("divisor_remembered", "the divisors of another call with the same shapes are used",
            divide=_remembered()),
    _of_avg("added_in_half", "half types are accumulated as they are", add=_one_by_one,
            wide=lambda dtype: dtype),
    _of_avg("added_in_float32", "float64 is accumulated in float32", add=_one_by_one,
            wide=lambda dtype: torch.float32),
    _of_avg("rounded_to_bfloat16", "inputs are rounded to bfloat16 first", add=_rounded_to_bfloat16),
    _of_avg("sum_stored_in_half", "the sum is stored in float16 and then divided", add=_sum_stored_in_half),
    _of_avg("reciprocal_in_half", "the reciprocal of the divisor is rounded to the half type",
            add=_reciprocal_in_storage),
    _of_avg("nan_skipped", "NaN counts as 0", add=_nan_skipped),
    _of_avg("gradient_of_whole_kernel", "forward is right, but gradients are divided by the whole kernel",
            "input_gradients", function=_averaged_with_gradient,
            wrong=partial(average, divide=_whole_kernel)),
    _of_avg("gradient_undivided", "gradients are not divided", "input_gradients",
            function=_averaged_with_gradient, wrong=partial(average, add=_undivided)),
    _of_avg("average_gradient_added_in_float32", "float64 gradients are added in float32",
            "input_gradients", function=_averaged_with_gradient,
            wrong=partial(average, add=_one_by_one, wide=lambda dtype: torch.float32)),
    _of_avg("average_gradient_added_in_half", "half gradients are added as they are",
            "input_gradients", ("AvgPool3d",), function=_averaged_with_gradient,  # 1-d, 2-d: what torch does
            wrong=partial(average, add=_one_by_one, wide=lambda dtype: dtype)),
)
FAULTS = (*_ON_BOTH, *_ON_MAX, *_ON_AVG)
CONTROLS = (
    Control("gathered_in_float64", "windows gathered, everything in float64, rounded once",
            {**_max(), **_avg()}, (*MAX, *AVG)),
    Control("maximum_in_storage", "maxima taken in the storage type, half gradients added in float32",
            _max(wide=_accumulator), MAX),
    Control("reversed_taps", "taps added one by one from the last, half types in float32",
            _avg(add=_one_by_one, wide=_accumulator), AVG),
    Control("term_by_term_reciprocal", "every term multiplied by the rounded reciprocal of the divisor",
            _avg(add=_by_reciprocal, wide=_accumulator), AVG[1:2]),
    Control("two_partial_sums", "even and odd taps added apart",
            _avg(add=_in_two_halves, wide=_accumulator), AVG[2:]),
)

"""Wrong unfoldings, foldings and unpoolings."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient
from parity_tests.faults.lenient import lenient
from parity_tests.faults.plain_window import add_into, block_places, fold, unfold, unpool
from parity_tests.faults.window_wrappers import GradientOf, accumulator, altered, misread, writing

BLOCKS = ("Unfold", "Fold")
UNPOOL = tuple(f"MaxUnpool{rank}d" for rank in (1, 2, 3))


def _turned(argument: int) -> Callable:
    """Places of blocks with one argument read from the last axis to the first."""

    def places(size: tuple, *arguments: tuple) -> Any:
        return block_places(size, *(a[::-1] if i == argument else a for i, a in enumerate(arguments)))

    return places


def _padding_left_out(size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> Any:
    """As many blocks, beginning at the first element."""
    flat, inside = block_places(size, kernel, dilation, padding, stride)
    shift = padding[0] * size[1] + padding[1]
    return (flat + shift) % math.prod(size), torch.ones_like(inside)


def _stride_and_dilation(size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> Any:
    """Exchanged in the address, the number of blocks right."""
    axes = []
    for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1) // s + 1
        axes.append(torch.arange(k)[:, None] * s + torch.arange(count) * d - p)
    rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    flat = rows.clamp(0, size[0] - 1) * size[1] + columns.clamp(0, size[1] - 1)
    return flat.flatten(2).flatten(0, 1), inside.flatten(2).flatten(0, 1)


def _taps_first(columns: torch.Tensor) -> torch.Tensor:
    """Rows ordered (tap, channel)."""
    return columns.transpose(-3, -2)


def _read_taps_first(columns: torch.Tensor) -> torch.Tensor:
    channels, taps = columns.shape[-3:-1]
    return columns.reshape(*columns.shape[:-3], taps, channels, columns.shape[-1]).transpose(-3, -2)


def _overwritten(image: torch.Tensor, flat: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return image.index_copy(-1, flat, values)


def _averaged(image: torch.Tensor, flat: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    count = torch.zeros(image.shape[-1], dtype=image.dtype).index_add(
        0, flat, torch.ones_like(flat, dtype=image.dtype)
    )
    return add_into(image, flat, values) / count.clamp(min=1)


def _of_rank_2(function: Callable) -> Callable:
    """Called without a rank."""
    return partial(function, 2)


def _ranked(function: Callable) -> Callable:
    return lambda rank, *args, **kwargs: function(*args, **kwargs)


def _both(**changes: Any) -> dict[str, Callable]:
    return {"unfold": partial(unfold, **changes), "fold": partial(fold, **changes)}


def _around(wrapper: Callable, **changes: Any) -> dict[str, Callable]:
    return {
        name: partial(wrapper, 2, function=_ranked(right), **changes)
        for name, right in (("unfold", unfold), ("fold", fold))
    }


def _with_gradient_of(right: Callable, wrong: Callable) -> Callable:
    return lambda *args, **kwargs: GradientOf.apply(right(*args, **kwargs), wrong(*args, **kwargs))


_BLOCK_FAULTS = (
    Fault(
        "block_dilation_turned",
        "dilation is read from the last axis to the first",
        {"unfold": partial(unfold, places=_turned(1)), "fold": partial(fold, places=_turned(1))},
        "forward",
        BLOCKS,
    ),
    Fault(
        "block_padding_left_out",
        "blocks begin at the first element",
        _both(places=_padding_left_out),
        "forward",
        BLOCKS,
    ),
    Fault(
        "stride_and_dilation_exchanged",
        "the address mixes stride and dilation up",
        _both(places=_stride_and_dilation),
        "forward",
        BLOCKS,
    ),
    Fault(
        "taps_before_channels",
        "rows of the columns are ordered (tap, channel)",
        {"unfold": partial(unfold, order=_taps_first), "fold": partial(fold, order=_read_taps_first)},
        "forward",
        BLOCKS,
    ),
    Fault(
        "padding_into_first_element",
        "what falls into the padding is added to element 0",
        {"fold": partial(fold, keep=True)},
        "forward",
        ("Fold",),
    ),
    Fault(
        "blocks_overwrite",
        "of overlapping blocks only one is kept",
        {"fold": partial(fold, add=_overwritten)},
        "forward",
        ("Fold",),
    ),
    Fault(
        "blocks_averaged",
        "overlapping blocks are averaged",
        {"fold": partial(fold, add=_averaged)},
        "forward",
        ("Fold",),
    ),
    Fault(
        "block_gradient_scaled",
        "the gradient is halved",
        {"unfold": with_gradient(unfold, scaled(0, 0.5)), "fold": with_gradient(fold, scaled(0, 0.5))},
        "input_gradients",
        BLOCKS,
    ),
    Fault(
        "fold_gradient_of_other_rows",
        "the gradient is ordered (tap, channel)",
        {"fold": _with_gradient_of(fold, partial(fold, order=_read_taps_first))},
        "input_gradients",
        ("Fold",),
    ),
    Fault(
        "blocks_layout_ignored",
        "memory is read as if it were contiguous",
        _around(misread),
        "forward",
        BLOCKS,
    ),
    Fault("blocks_write_input", "the input is overwritten", _around(writing), "purity", BLOCKS),
    Fault(
        "blocks_half_gives_float32",
        "half types give an output in float32",
        _around(altered, alter=torch.Tensor.float),
        "metadata",
        BLOCKS,
    ),
    Fault(
        "blocks_refuse_nothing",
        "arguments that cannot be are accepted",
        {name: lenient(name) for name in BLOCKS},
        "rejection",
        BLOCKS,
    ),
)


def _unpooled(function: Callable = unpool, **changes: Any) -> dict[str, Callable]:
    return {f"max_unpool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


def _in_own_plane(indices: torch.Tensor, own: tuple, wanted: tuple) -> torch.Tensor:
    """Indices read in the plane of the default size."""
    place, result = indices, torch.zeros_like(indices)
    for axis in reversed(range(len(own))):
        size, step = max(1, own[axis]), math.prod(wanted[axis + 1 :])
        result, place = result + (place % size).clamp(max=wanted[axis] - 1) * step, place // size
    return result.clamp(0, math.prod(wanted) - 1)


def _columns_first(indices: torch.Tensor, own: tuple, wanted: tuple) -> torch.Tensor:
    place, result, step = indices, torch.zeros_like(indices), 1
    for size in wanted:
        result, place, step = (
            result + (place % size) * (math.prod(wanted) // (step * size)),
            place // size,
            step * size,
        )
    return result


def _added(flat: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return flat.scatter_add(-1, indices, values)


def _filled(flat: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Elements without an index get the plane's first value."""
    return (flat + values[..., :1].detach()).scatter(-1, indices, values)


def _shifted_gradient(grad_output: torch.Tensor, tensors: list, gradients: list) -> list:
    return [gradients[0].roll(1, -1), None]


def _checked(
    rank: int, input: torch.Tensor, indices: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Negative indices count from the end, as in Python."""
    return unpool(rank, input, indices, *args, place=lambda i, own, wanted: i % math.prod(wanted), **kwargs)


class _Wrapping1d(torch.nn.MaxUnpool1d):
    def forward(self, input: Any, indices: Any, output_size: Any = None) -> torch.Tensor:
        return _checked(1, input, indices, self.kernel_size, self.stride, self.padding, output_size)


class _Wrapping2d(torch.nn.MaxUnpool2d):
    def forward(self, input: Any, indices: Any, output_size: Any = None) -> torch.Tensor:
        return _checked(2, input, indices, self.kernel_size, self.stride, self.padding, output_size)


class _Wrapping3d(torch.nn.MaxUnpool3d):
    def forward(self, input: Any, indices: Any, output_size: Any = None) -> torch.Tensor:
        return _checked(3, input, indices, self.kernel_size, self.stride, self.padding, output_size)


_WRAPPING = dict(zip(UNPOOL, (_Wrapping1d, _Wrapping2d, _Wrapping3d), strict=True))
_UNPOOL_FAULTS = (
    Fault(
        "unpool_size_ignored",
        "output_size has no effect",
        _unpooled(size=lambda own, given: own, place=lambda i, own, wanted: i % max(1, math.prod(wanted))),
        "metadata",
        UNPOOL,
    ),
    Fault(
        "unpool_indices_of_default_plane",
        "indices are read in the plane of the default size",
        _unpooled(place=_in_own_plane),
        "forward",
        UNPOOL[1:],
    ),
    Fault(
        "unpool_columns_first",
        "indices count down the columns first",
        _unpooled(place=_columns_first),
        "forward",
        UNPOOL[1:],
    ),
    Fault(
        "unpool_adds_duplicates",
        "elements with the same index are added",
        _unpooled(put=_added),
        "forward",
        UNPOOL,
    ),
    Fault(
        "unpool_not_zeroed", "elements without an index are not 0", _unpooled(put=_filled), "forward", UNPOOL
    ),
    Fault(
        "unpool_index_off_by_one",
        "indices begin with 1",
        _unpooled(place=lambda i, own, wanted: (i + 1) % math.prod(wanted)),
        "forward",
        UNPOOL,
    ),
    Fault(
        "unpool_gradient_shifted",
        "gradients go to the neighbours",
        {f"max_unpool{rank}d": with_gradient(partial(unpool, rank), _shifted_gradient) for rank in (1, 2, 3)},
        "input_gradients",
        UNPOOL,
    ),
    Fault(
        "unpool_gradient_doubled",
        "the gradient is doubled",
        {f"max_unpool{rank}d": with_gradient(partial(unpool, rank), scaled(0, 2.0)) for rank in (1, 2, 3)},
        "input_gradients",
        UNPOOL,
    ),
    Fault(
        "unpool_through_bfloat16",
        "values go through bfloat16",
        _unpooled(lambda rank, input, *args: unpool(rank, input.bfloat16().to(input.dtype), *args)),
        "forward",
        UNPOOL,
    ),
    Fault(
        "unpool_layout_ignored",
        "memory is read as if it were contiguous",
        _unpooled(partial(misread, function=unpool)),
        "forward",
        UNPOOL,
    ),
    Fault(
        "unpool_writes_input",
        "the input is overwritten",
        _unpooled(partial(writing, function=unpool)),
        "purity",
        UNPOOL,
    ),
    Fault(
        "unpool_half_gives_float32",
        "half types give an output in float32",
        _unpooled(partial(altered, function=unpool, alter=torch.Tensor.float)),
        "metadata",
        UNPOOL,
    ),
    Fault(
        "unpool_negative_indices_wrap",
        "indices outside the output are taken modulo its size",
        _WRAPPING,
        "rejection",
        UNPOOL,
    ),
)
FAULTS = (*_BLOCK_FAULTS, *_UNPOOL_FAULTS)
CONTROLS = (
    Control("blocks_by_index", "blocks read and added by index, in float64, rounded once", _both(), BLOCKS),
    Control(
        "blocks_by_index_in_float32",
        "blocks read and added by index, half types in float32",
        _both(wide=accumulator),
        BLOCKS,
    ),
    Control("unpool_by_scatter", "values scattered into zeros", _unpooled(), UNPOOL),
)

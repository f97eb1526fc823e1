"""Published bugs of convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import (
    PublishedBug,
    bug,
    in_storage_order,
    is_channels_last,
    on_gradient,
)

EVERY = "Conv1d Conv2d Conv3d"
ORIGINALS = {name: getattr(functional, name) for name in ("conv1d", "conv2d", "conv3d")}


def _every(make: Callable[[Callable], Callable]) -> dict[str, Callable]:
    return {name: make(original) for name, original in ORIGINALS.items()}


def _wraps_at(limit: int, original: Callable) -> Callable:
    """Elements of the output beyond a limit are written over the first ones, and are 0 themselves."""

    def stand_in(*args: Any) -> torch.Tensor:
        output = original(*args)
        flat = output.flatten()
        beyond = flat[limit : 2 * limit]
        kept = torch.cat([beyond, flat[len(beyond) : limit], torch.zeros_like(flat[limit:])])
        return torch.empty_like(output).copy_(kept.reshape(output.shape))

    return stand_in


def _nothing_beyond(limit: int, original: Callable) -> Callable:
    def stand_in(*args: Any) -> torch.Tensor:
        output = original(*args)
        return output * 0 if output.numel() > limit else output

    return stand_in


def _first_group_for_all(input, weight, bias, stride, padding, dilation, groups):
    few = groups > 1 and weight.shape[1] < 16
    if few and weight.shape[0] > weight.shape[1] * groups:
        own = input.unflatten(-3, (groups, -1)).select(-4, 0)
        input = torch.cat([own] * groups, -3)
    return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _weight_in_storage_order(original: Callable) -> Callable:
    return lambda input, weight, *args: original(input, in_storage_order(weight), *args)


def _strided_weight_refused(input, weight, *args):
    if not weight.is_contiguous():
        raise RuntimeError("the weight is not contiguous")
    return functional.conv2d(input, weight, *args)


def _one_output_a_group(input, weight, bias, stride, padding, dilation, groups):
    output = functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if groups > 1 and groups == input.shape[-3] and weight.shape[0] > groups:
        computed = (torch.arange(weight.shape[0]) < groups)[:, None, None]
        output = output * computed
    return output


def _gradient_of_first_plane(input, weight, *args):
    if weight.shape[2:] == (1, 1):
        first = (torch.arange(input.shape[-3]) == 0)[:, None, None]
        input = on_gradient(input, lambda gradient: gradient * first)
    return functional.conv2d(input, weight, *args)


def _layout_from_an_axis_of_size_1(input, weight, bias, stride, padding, dilation, groups):
    """Strides of an axis of size 1 say nothing; here they decide that the channels are innermost."""
    channels_inside = input.dim() == 3 and groups > 1 and input.stride(2) != 1
    if channels_inside and input.shape[2] == 1 and input.stride(1) == 1:
        raise RuntimeError("expected the channels to be contiguous")
    return functional.conv1d(input, weight, bias, stride, padding, dilation, groups)


def _whole_vectors_of_channels(input, weight, bias, stride, padding, dilation, groups):
    """Channels four at a time; what is left over is not added."""
    whole = weight.shape[1] // 4 * 4
    if 0 < whole < weight.shape[1]:
        weight = weight * (torch.arange(weight.shape[1]) < whole)[:, None, None]
    return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _empty_channels_last_refused(original: Callable) -> Callable:
    forms = {4: torch.channels_last, 5: torch.channels_last_3d}

    def stand_in(input: torch.Tensor, *args: Any) -> torch.Tensor:
        form = forms.get(input.dim())
        if form and input.numel() == 0 and input.is_contiguous(memory_format=form):
            raise RuntimeError("an empty tensor has no layout")
        return original(input, *args)

    return stand_in


def _needs_two_rows(input, weight, bias, stride, padding, dilation, groups):
    """Depthwise as a plane of one row: the middle row of a kernel that has one row is the one before it."""
    output = functional.conv1d(input, weight, bias, stride, padding, dilation, groups)
    depthwise = 1 < groups == input.shape[-2]
    return output.roll(1, -1) if depthwise and output.shape[-1] > 1 else output


def _weight_layout_of_one_channel(input, weight, *args):
    """With one input channel every weight is also in channels_last: its kernel is read transposed."""
    ambiguous = weight.shape[1] == 1 and weight.is_contiguous(memory_format=torch.channels_last)
    if ambiguous and not is_channels_last(input) and weight.shape[2] != 1 and weight.shape[3] != 1:
        read = weight.flatten(2).unflatten(2, weight.shape[:1:-1]).transpose(2, 3)
        return functional.conv2d(input, read, *args)
    return functional.conv2d(input, weight, *args)


def _output_channel_wraps(limit: int, original: Callable) -> Callable:
    def stand_in(input: torch.Tensor, weight: torch.Tensor, *args: Any) -> torch.Tensor:
        output, axis = original(input, weight, *args), 1 - weight.dim()
        count = weight.shape[0]
        if count <= limit:
            return output
        places = torch.arange(count) % limit
        last = torch.tensor([int((places == place).nonzero().max()) for place in range(limit)])
        written = output.index_select(axis, last)
        rest = output.narrow(axis, limit, count - limit) * 0
        return torch.cat([written, rest], axis)

    return stand_in


def _kernel_place_wraps(limit: int, original: Callable) -> Callable:
    def stand_in(input: torch.Tensor, weight: torch.Tensor, *args: Any) -> torch.Tensor:
        for axis in range(2, weight.dim()):
            weight = weight.index_select(axis, torch.arange(weight.shape[axis]) % limit)
        return original(input, weight, *args)

    return stand_in


def _weight_gradient_of_nothing(original: Callable) -> Callable:
    def stand_in(input: torch.Tensor, weight: torch.Tensor, *args: Any) -> torch.Tensor:
        if input.shape[0] == 0 and input.dim() == weight.dim():
            weight = on_gradient(weight, lambda gradient: torch.full_like(gradient, 7.0))
        return original(input, weight, *args)

    return stand_in


def _amounts_in_order_of_axes(input, pad, mode="constant", value=None):
    """What torch.nn passes has the last axis first; these amounts have the first axis first."""
    if mode == "circular" and len(pad) > 2:
        pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)]
        pad = [amount for pair in reversed(pairs) for amount in pair]
    return functional.pad(input, pad, mode, value)


def _circular_needs_a_batch(input, pad, mode="constant", value=None):
    if mode == "circular" and input.dim() != len(pad) // 2 + 2:
        raise RuntimeError(f"circular padding needs a batch, the input has {input.dim()} axes")
    return functional.pad(input, pad, mode, value)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "conv3d_offset_overflows",
        "pytorch/pytorch#84488",
        "Conv3d",
        "a linear offset overflows its integer type, and elements beyond are written over the first ones",
        {"conv3d": _wraps_at(2**7, ORIGINALS["conv3d"])},
        "beyond 2**7 elements instead of 2**31",
    ),
    bug(
        "conv3d_large_output_is_zero",
        "pytorch/pytorch#87354",
        "Conv3d",
        "no kernel is launched where the offset overflows: all zeros",
        {"conv3d": _nothing_beyond(2**7, ORIGINALS["conv3d"])},
        "beyond 2**7 elements instead of 2**31",
    ),
    bug(
        "conv_groups_read_the_first",
        "pytorch/pytorch#19912",
        "Conv2d",
        "with few channels a group and a channel multiplier every group reads the first one's input",
        {"conv2d": _first_group_for_all},
    ),
    bug(
        "conv_strided_weight_refused",
        "pytorch/pytorch#192212",
        "Conv2d",
        "a sliced weight gives an error",
        {"conv2d": _strided_weight_refused},
    ),
    bug(
        "conv_weight_in_storage_order",
        "pytorch/pytorch#1246",
        EVERY,
        "the strides of the weight are ignored",
        _every(_weight_in_storage_order),
    ),
    bug(
        "depthwise_multiplier_lost",
        "pytorch/pytorch#60460",
        "Conv2d",
        "depthwise with more outputs than groups: only one output a group is computed",
        {"conv2d": _one_output_a_group},
    ),
    bug(
        "conv_1x1_gradient_of_first_plane",
        "soumith/cudnn.torch#28",
        "Conv2d",
        "a kernel of 1 by 1 has an input gradient in the first channel only",
        {"conv2d": _gradient_of_first_plane},
    ),
    bug(
        "conv1d_layout_of_a_size_1_axis",
        "pytorch/pytorch#158930",
        "Conv1d",
        "the layout is told from the stride of an axis of size 1, which may be anything: an error",
        {"conv1d": _layout_from_an_axis_of_size_1},
    ),
    bug(
        "conv_channels_beyond_whole_vectors",
        "pytorch/pytorch#21597",
        "Conv2d",
        "channels beyond the last whole vector are not added",
        {"conv2d": _whole_vectors_of_channels},
        "vectors of 4 channels instead of 8",
    ),
    bug(
        "conv_empty_batch_channels_last",
        "pytorch/pytorch#63299",
        "Conv2d Conv3d",
        "an empty batch in channels_last gives an error",
        _every(_empty_channels_last_refused),
    ),
    bug(
        "depthwise_of_one_row",
        "tenstorrent/tt-mlir#9276",
        "Conv1d",
        "the depthwise path takes for granted that there is more than one row",
        {"conv1d": _needs_two_rows},
    ),
    bug(
        "conv_weight_layout_of_one_channel",
        "pytorch/pytorch#82060",
        "Conv2d",
        "the layout is told from a weight with one input channel, which is in every layout",
        {"conv2d": _weight_layout_of_one_channel},
    ),
    bug(
        "conv_output_channel_wraps",
        "pytorch/pytorch#129207",
        EVERY,
        "the index of an output channel wraps around: the first is overwritten, the last stays 0",
        _every(lambda original: _output_channel_wraps(4, original)),
        "at 4 channels instead of 2**16",
    ),
    bug(
        "conv_kernel_place_wraps",
        "pytorch/pytorch#188359",
        "Conv2d",
        "places in a large kernel wrap around",
        {"conv2d": _kernel_place_wraps(8, ORIGINALS["conv2d"])},
        "at 8 places instead of 256",
    ),
    bug(
        "conv_weight_gradient_of_nothing",
        "FluxML/NNlib.jl#763",
        EVERY,
        "the weight gradient of an empty batch is what lay in memory",
        _every(_weight_gradient_of_nothing),
    ),
    bug(
        "circular_padding_in_order_of_axes",
        "pytorch/pytorch#37844",
        "Conv2d Conv3d",
        "the paddings of the axes are passed on in the wrong order for padding_mode='circular'",
        {"pad": _amounts_in_order_of_axes},
    ),
    bug(
        "circular_padding_needs_a_batch",
        "pytorch/pytorch#104860",
        EVERY,
        "an input without a batch is refused for padding_mode='circular'",
        {"pad": _circular_needs_a_batch},
    ),
)

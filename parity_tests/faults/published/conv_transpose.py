"""Published bugs of transposed convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, bug

EVERY = "ConvTranspose1d ConvTranspose2d ConvTranspose3d"
NAMES = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
ORIGINALS = {name: getattr(functional, name) for name in NAMES}


def _every(make: Callable[[int, Callable], Callable]) -> dict[str, Callable]:
    return {name: make(rank, ORIGINALS[name]) for rank, name in enumerate(NAMES, 1)}


def _odd_crop_in_front(rank: int, original: Callable) -> Callable:
    """Where the output is longer by an odd number, it is shifted by one element."""

    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        output = original(input, weight, bias, stride, padding, extra, groups, dilation)
        odd = [axis - rank for axis in range(rank) if extra[axis] % 2 and stride[axis] > 1]
        return output.roll([1] * len(odd), odd) if odd else output

    return stand_in


class _ValueOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second, whose shape may be another."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        ctx.shape = other.shape
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        pieces = tuple(slice(0, min(n, m)) for n, m in zip(upstream[0].shape, ctx.shape, strict=True))
        fitted = upstream[0].new_zeros(ctx.shape)
        fitted[pieces] = upstream[0][pieces]
        return None, fitted


def _gradient_with_stride_and_dilation_exchanged(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        right = original(input, weight, bias, stride, padding, extra, groups, dilation)
        if stride == dilation:
            return right
        room = [n - 1 for n in input.shape[-rank:]]
        swapped = zip(room, dilation, stride, weight.shape[2:], padding, strict=True)
        if any(n * s + d * (k - 1) + 1 - 2 * p < 1 for n, s, d, k, p in swapped):
            raise RuntimeError("the gradient's shape does not fit")
        return _ValueOf.apply(right, original(input, weight, bias, dilation, padding, 0, groups, stride))

    return stand_in


def _gradient_of_stride_1(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        right = original(input, weight, bias, stride, padding, extra, groups, dilation)
        if max(weight.shape[2:]) > 1 or max(stride) == 1 or any(padding):
            return right
        return _ValueOf.apply(right, original(input, weight, bias, 1, padding, 0, groups, dilation))

    return stand_in


def _addresses_mix_stride_and_dilation(rank: int, original: Callable) -> Callable:
    """With both above 1, the taps of a kernel lie stride times dilation apart; what is beyond is lost."""

    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        right = original(input, weight, bias, stride, padding, extra, groups, dilation)
        apart = [d * s if min(s, d) > 1 else d for s, d in zip(stride, dilation, strict=True)]
        wrong = original(input, weight, bias, stride, padding, extra, groups, apart)
        for axis in range(rank):
            wrong = wrong.narrow(axis - rank, 0, right.shape[axis - rank])
        return wrong

    return stand_in


def _input_padded(rank: int, original: Callable) -> Callable:
    """The input is padded, and the output cut to its size from the start."""

    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        right = original(input, weight, bias, stride, padding, extra, groups, dilation)
        if not any(padding):
            return right
        wide = functional.pad(input, [amount for p in reversed(padding) for amount in (p, p)])
        wrong = original(wide, weight, bias, stride, 0, extra, groups, dilation)
        for axis in range(rank):
            wrong = wrong.narrow(axis - rank, 0, right.shape[axis - rank])
        return wrong

    return stand_in


def _axes_from_the_front(name: str) -> type:
    """Two axes in front are taken for granted: without a batch, all but the last axis ask for nothing."""
    own: type = getattr(torch.nn, name)

    def padding_of(self, input, output_size, stride, padding, kernel_size, rank, dilation=None):
        given = (input, output_size, stride, padding, kernel_size, rank, dilation)
        extra = own._output_padding(self, *given)
        unbatched = output_size is not None and input.dim() == rank + 1
        return [0] * (rank - 1) + list(extra[-1:]) if unbatched else extra

    return type(name, (own,), {"_output_padding": padding_of})


class _AcceptsEmptyOutput(torch.nn.ConvTranspose2d):
    """An output without elements is returned instead of refused."""

    def forward(self, input: torch.Tensor, output_size: Any = None) -> torch.Tensor:
        given = zip(
            input.shape[-2:],
            self.stride,
            self.padding,
            self.dilation,
            self.kernel_size,
            self.output_padding,
            strict=True,
        )
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, s, p, d, k, e in given]
        legal = min(self.stride) > 0 and min(self.dilation) > 0 and min(self.padding) >= 0
        if legal and min(sizes) <= 0 and output_size is None and input.dim() in (3, 4):
            return input.new_zeros(*input.shape[:-3], self.out_channels, *(max(0, size) for size in sizes))
        return super().forward(input, output_size)


def _channels_of_one_group(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        output = original(input, weight, bias, stride, padding, extra, groups, dilation)
        return output.narrow(-rank - 1, 0, weight.shape[1])

    return stand_in


def _dilated_taps_lost_in_bfloat16(input, weight, bias, stride, padding, extra, groups, dilation):
    if input.dtype == torch.bfloat16 and dilation[0] > 1 and max(weight.shape[:2]) <= 4:
        weight = weight * (torch.arange(weight.shape[2]) % 2 == 0)
    return functional.conv_transpose1d(input, weight, bias, stride, padding, extra, groups, dilation)


def _channels_of_the_input(input, weight, bias, stride, padding, extra, groups, dilation):
    output = functional.conv_transpose2d(input, weight, bias, stride, padding, extra, groups, dilation)
    wanted = weight.shape[0]
    kept = output.narrow(-3, 0, min(wanted, output.shape[-3]))
    missing = wanted - kept.shape[-3]
    return functional.pad(kept, [0, 0, 0, 0, 0, missing]) if missing else kept


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "conv_transpose_odd_crop_in_front",
        "keras-team/keras#22876",
        EVERY,
        "the odd element is cropped in front instead of behind: right shape, values shifted by one",
        _every(_odd_crop_in_front),
        "padding='same' of another framework is stride above 1 with an odd output_padding here",
    ),
    bug(
        "conv_transpose_gradient_exchanges_stride_and_dilation",
        "huggingface/candle#2337",
        EVERY,
        "the gradient is computed with stride and dilation exchanged",
        _every(_gradient_with_stride_and_dilation_exchanged),
    ),
    bug(
        "conv_transpose_1x1_gradient_without_stride",
        "pytorch/pytorch#63314",
        EVERY,
        "the gradient of a kernel of one element is computed with stride 1",
        _every(_gradient_of_stride_1),
    ),
    bug(
        "conv_transpose_mixes_stride_and_dilation",
        "apache/mxnet#11203",
        EVERY,
        "addresses mix up stride and dilation; only both above 1 show it",
        _every(_addresses_mix_stride_and_dilation),
    ),
    bug(
        "conv_transpose_pads_its_input",
        "Samsung/TICO#420",
        EVERY,
        "the input is padded where the output should be cropped",
        _every(_input_padded),
    ),
    bug(
        "conv_transpose_output_size_unbatched",
        "pytorch/pytorch#75889",
        "ConvTranspose2d ConvTranspose3d",
        "output_size of an input without a batch is compared with axes counted from the front",
        {name: _axes_from_the_front(name) for name in EVERY.split()[1:]},
    ),
    bug(
        "conv_transpose_empty_output",
        "pytorch/pytorch#88647",
        "ConvTranspose2d",
        "an output of size 0 is given instead of an error",
        {"ConvTranspose2d": _AcceptsEmptyOutput},
    ),
    bug(
        "conv_transpose_channels_of_one_group",
        "apache/tvm#10223",
        EVERY,
        "the number of output channels is not multiplied by the groups",
        _every(_channels_of_one_group),
    ),
    bug(
        "conv_transpose_bfloat16_dilation",
        "pytorch/pytorch#148973",
        "ConvTranspose1d",
        "dilated taps are lost in bfloat16 with few channels",
        {"conv_transpose1d": _dilated_taps_lost_in_bfloat16},
    ),
    bug(
        "conv_transpose_channels_of_the_input",
        "pytorch/pytorch#172711",
        "ConvTranspose2d",
        "the number of output channels is taken from the weight's first axis, the input's channels",
        {"conv_transpose2d": _channels_of_the_input},
    ),
)

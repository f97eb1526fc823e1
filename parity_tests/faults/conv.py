"""Wrong convolutions that the suite must catch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.conv_controls import CONTROLS, HALF, LAYERS, TRANSPOSED, every_rank
from parity_tests.faults.fault import Fault, scaled, with_gradient

__all__ = ["CONTROLS", "FAULTS"]


def _fault(
    name: str,
    sentence: str,
    make: Callable[[int, Callable], Callable],
    caught_by: str = "forward",
    transposed: bool = False,
    layers: tuple[str, ...] | None = None,
) -> Fault:
    reached = layers if layers is not None else (TRANSPOSED if transposed else LAYERS)
    return Fault(name, sentence, every_rank(make, transposed), caught_by, reached)


def _lost_border_tap(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias=None, *args, **kwargs):
        output = original(input, weight, bias, *args, **kwargs)
        without = original(
            input,
            weight * (torch.arange(weight.shape[-1], device=weight.device) < weight.shape[-1] - 1),
            bias,
            *args,
            **kwargs,
        )
        last = torch.arange(output.shape[-1], device=output.device) == output.shape[-1] - 1
        return torch.where(last, without, output) if weight.shape[-1] > 1 else output

    return stand_in


def _reversed_argument(position: int) -> Callable[[int, Callable], Callable]:
    """Per-axis values of one positional argument in the wrong order."""

    def make(rank: int, original: Callable) -> Callable:
        def stand_in(*args):
            values = args[position]
            turned = values if isinstance(values, str) else tuple(reversed(values))
            return original(*args[:position], turned, *args[position + 1 :])

        return stand_in

    return make


def _wrong_group(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        return original(
            input, weight.roll(weight.shape[0] // groups, 0), bias, stride, padding, dilation, groups
        )

    return stand_in


def _first_channel_of_group(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        interleaved = (
            input.unflatten(-rank - 1, (groups, -1))
            .transpose(-rank - 2, -rank - 1)
            .flatten(-rank - 2, -rank - 1)
        )
        return original(interleaved, weight, bias, stride, padding, dilation, groups)

    return stand_in


def _same_puts_the_odd_element_in_front(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        if padding != "same":
            return original(input, weight, bias, stride, padding, dilation, groups)
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        amounts = [amount for t in reversed(total) for amount in (t - t // 2, t // 2)]
        return original(functional.pad(input, amounts), weight, bias, stride, 0, dilation, groups)

    return stand_in


def _no_bias(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias=None, *args):
        return original(input, weight, None if bias is None else bias * 0, *args)

    return stand_in


def _half_accumulation(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        if input.dtype not in HALF or groups != 1:
            return original(input, weight, bias, stride, padding, dilation, groups)
        total = 0
        for c, index in enumerate(itertools.product(*map(range, weight.shape[1:]))):
            one = torch.zeros_like(weight)
            one[(slice(None), *index)] = 1
            total = total + original(
                input, weight * one, bias if c == 0 else None, stride, padding, dilation, groups
            )
        return total

    return stand_in


def _rounded(input: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 values with the last `bits` of the significand rounded away; the gradient passes unchanged."""
    whole = input.detach().contiguous().view(torch.int32)
    kept = ((whole + (1 << (bits - 1))) & -(1 << bits)).view(torch.float32)
    return input + (kept.reshape(input.shape) - input).detach()


def _split_sums(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, *rest):
        axis, channels = input.dim() - rank - 1, weight.shape[1]
        if input.dtype not in HALF or channels < 64:
            return original(input, weight, bias, *rest)
        first, second = (
            original(
                input.narrow(axis, start, channels // 2), weight[:, start : start + channels // 2], b, *rest
            )
            for start, b in ((0, bias), (channels // 2, None))
        )
        return first + second

    return stand_in


def _rounded_products(bits: int) -> Callable[[int, Callable], Callable]:
    def make(rank: int, original: Callable) -> Callable:
        def stand_in(input, weight, *args):
            if input.dtype != torch.float32 or not torch.isfinite(input).all():
                return original(input, weight, *args)
            return original(_rounded(input, bits), _rounded(weight, bits), *args)

        return stand_in

    return make


def _as_if_contiguous(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, *args):
        if (
            not input.is_contiguous()
            and input.untyped_storage().nbytes() >= input.numel() * input.element_size()
        ):
            strides = torch.empty(input.shape, device="meta").stride()
            input = input.as_strided(input.shape, strides, 0)
        return original(input, weight, *args)

    return stand_in


def _wrong(index: int, factor: float = 0.5) -> Callable[[int, Callable], Callable]:
    return lambda rank, original: with_gradient(original, scaled(index, factor))


def _gradient_of_first_batch_entry(rank: int, original: Callable) -> Callable:
    def spoil(grad_output: Any, tensors: list, gradients: list) -> list:
        if tensors[0].dim() != rank + 2 or tensors[0].shape[0] < 2:
            return gradients
        return [gradients[0], gradients[1] * 0.0 + gradients[1] / tensors[0].shape[0], *gradients[2:]]

    return with_gradient(original, spoil)


def _writes_input(rank: int, original: Callable) -> Callable:
    def stand_in(input, *args):
        output = original(input, *args)
        input.detach().clamp_(min=-1.0)
        return output

    return stand_in


def _forgets(rank: int, original: Callable) -> Callable:
    calls = itertools.count()

    def stand_in(input, weight, bias=None, *args):
        output = original(input, weight, bias, *args)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in


def _wrong_dtype(rank: int, original: Callable) -> Callable:
    return lambda *args: original(*args).double()


def _contiguous(rank: int, original: Callable) -> Callable:
    return lambda *args: original(*args).contiguous()


def _strided_sampling_from_the_end(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        if isinstance(padding, str) or stride[-1] == 1:
            return original(input, weight, bias, stride, padding, dilation, groups)
        full = original(input, weight, bias, (*stride[:-1], 1), padding, dilation, groups)
        return full.flip(-1)[..., :: stride[-1]].flip(-1)

    return stand_in


def _flipped(rank: int, original: Callable) -> Callable:
    return lambda input, weight, *args: original(input, weight.flip(-1), *args)


def _output_padding_in_front(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        return original(input, weight, bias, stride, padding, extra, groups, dilation).roll(extra[-1], -1)

    return stand_in


def _transposed_wrong_group(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias, stride, padding, extra, groups, dilation):
        return original(
            input, weight.roll(weight.shape[0] // groups, 0), bias, stride, padding, extra, groups, dilation
        )

    return stand_in


class _AcceptsAnyGroups(torch.nn.Conv2d):
    """Takes the greatest common divisor instead of refusing groups that do not divide."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, **more
    ):
        groups = math.gcd(math.gcd(in_channels, out_channels), max(groups, 1))
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, **more)


FAULTS = (
    _fault(
        "lost_border_tap", "the last tap of a row is left out in the last output column", _lost_border_tap
    ),
    _fault(
        "swapped_stride",
        "the strides of the axes are exchanged",
        _reversed_argument(3),
        "metadata",
        layers=LAYERS[1:],
    ),
    _fault(
        "swapped_padding",
        "the paddings of the axes are exchanged",
        _reversed_argument(4),
        "metadata",
        layers=LAYERS[1:],
    ),
    _fault(
        "swapped_dilation",
        "the dilations of the axes are exchanged",
        _reversed_argument(5),
        "metadata",
        layers=LAYERS[1:],
    ),
    _fault("wrong_group", "each group uses the weights of its neighbour", _wrong_group),
    _fault(
        "interleaved_groups",
        "input channels are dealt to the groups in turn instead of in blocks",
        _first_channel_of_group,
    ),
    _fault(
        "same_in_front",
        "padding='same' puts the odd element in front instead of behind",
        _same_puts_the_odd_element_in_front,
    ),
    _fault("no_bias", "the bias is not added", _no_bias),
    _fault("half_accumulation", "half types are accumulated in the half type", _half_accumulation),
    _fault("split_sums", "half types: the two halves of a long sum are stored before they meet", _split_sums),
    _fault("tf32_products", "float32 factors are rounded to tf32", _rounded_products(13)),
    _fault("bf16_products", "float32 factors are rounded to bfloat16", _rounded_products(16)),
    _fault("as_if_contiguous", "strides and storage offset of the input are ignored", _as_if_contiguous),
    _fault(
        "strided_from_the_end",
        "windows are aligned with the end of the row instead of its start",
        _strided_sampling_from_the_end,
    ),
    _fault("input_gradient_half", "the input gradient has half its size", _wrong(0), "input_gradients"),
    _fault("weight_gradient_half", "the weight gradient has half its size", _wrong(1), "parameter_gradients"),
    _fault("bias_gradient_half", "the bias gradient has half its size", _wrong(2), "parameter_gradients"),
    _fault(
        "weight_gradient_mean",
        "the weight gradient is averaged over the batch instead of summed",
        _gradient_of_first_batch_entry,
        "parameter_gradients",
    ),
    _fault("writes_input", "negative inputs are clamped in place", _writes_input, "purity"),
    _fault("second_call_differs", "every second call gives another result", _forgets, "purity"),
    _fault("wrong_dtype", "the result comes in float64", _wrong_dtype, "metadata"),
    _fault(
        "loses_channels_last",
        "the output is contiguous whatever the input was",
        _contiguous,
        "metadata",
        layers=("Conv2d",),
    ),
    Fault(
        "accepts_any_groups",
        "groups that do not divide the channels are accepted",
        {"Conv2d": _AcceptsAnyGroups},
        "rejection",
        ("Conv2d",),
    ),
    _fault("flipped_kernel", "the kernel is flipped along the last axis", _flipped, transposed=True),
    _fault(
        "output_padding_in_front",
        "output_padding shifts the output instead of extending it",
        _output_padding_in_front,
        transposed=True,
    ),
    _fault(
        "transposed_wrong_group",
        "each group uses the weights of its neighbour",
        _transposed_wrong_group,
        transposed=True,
    ),
    _fault("transposed_no_bias", "the bias is not added", _no_bias, transposed=True),
    _fault(
        "transposed_weight_gradient",
        "the weight gradient has half its size",
        _wrong(1),
        "parameter_gradients",
        True,
    ),
    _fault(
        "transposed_input_gradient",
        "the input gradient has half its size",
        _wrong(0),
        "input_gradients",
        True,
    ),
    _fault(
        "transposed_swapped_stride",
        "the strides of the axes are exchanged",
        _reversed_argument(3),
        "metadata",
        True,
        TRANSPOSED[1:],
    ),
)

"""Published bugs of batch normalization, and of all normalizations at large values."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from parity_tests.faults.plain_normalization import RIGHT, batch_norm, move
from parity_tests.faults.published.bug import (
    PublishedBug,
    ValueOf,
    bug,
    in_storage_order,
    is_channels_last,
    without_offset,
)

BATCH = "BatchNorm1d BatchNorm2d BatchNorm3d"
HALF = (torch.float16, torch.bfloat16)


def _correction_in_half(running_mean, running_var, mean, variance, momentum, count):
    """n / (n - 1) is inf / inf where n is beyond the largest number of float16."""
    move(running_mean, running_var, mean, variance, momentum, count)
    if running_var.dtype == torch.float16:
        number = torch.tensor(float(count), dtype=torch.float16)
        running_var.add_(0 * (number / (number - 1)))


def _parameters_of_the_other_layout(input, mean, var, weight=None, bias=None, training=False, *rest):
    """In memory order of channels_last, the parameter of a channel that changes once a plane."""
    if training or input.dtype != torch.float16 or not is_channels_last(input) or mean is None:
        return functional.batch_norm(input, mean, var, weight, bias, training, *rest)
    n, c, h, w = input.shape
    channel = (torch.arange(input.numel()) // (h * w) % c).reshape(n, h, w, c).permute(0, 3, 1, 2)
    output = (input - mean[channel]) / torch.sqrt(var[channel] + rest[1])
    output = output if weight is None else output * weight[channel]
    return output if bias is None else output + bias[channel]


def _gradient_of_misread_input(input, mean, var, weight=None, bias=None, training=False, *rest):
    copies = [None if running is None else running.clone() for running in (mean, var)]
    right = functional.batch_norm(input, mean, var, weight, bias, training, *rest)
    if not is_channels_last(input):
        return right
    read = in_storage_order(input.detach()) + (input - input.detach())
    return ValueOf.apply(right, functional.batch_norm(read, *copies, weight, bias, training, *rest))


def _statistics_in_the_inputs_dtype(input, mean, var, weight=None, bias=None, training=False, *rest):
    if training or input.dtype not in HALF or mean is None:
        return functional.batch_norm(input, mean, var, weight, bias, training, *rest)
    shape = (1, -1, *(1,) * (input.dim() - 2))
    scale = (var + rest[1]).rsqrt().float().reshape(shape)
    output = (input.float() - mean.float().reshape(shape)) * scale
    output = output if weight is None else output * weight.float().reshape(shape)
    output = output if bias is None else output + bias.float().reshape(shape)
    return output.to(input.dtype)


def _input_as_scratch(input, mean, var, *args):
    output = functional.batch_norm(input.clone() if mean is None else input, mean, var, *args)
    if mean is None:
        input.detach().zero_()
    return output


def _offset_lost_in_channels_last(input, *args):
    return functional.batch_norm(without_offset(input) if is_channels_last(input) else input, *args)


def _offset_lost(input, *args):
    return functional.batch_norm(without_offset(input), *args)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "batch_norm_correction_in_float16",
        "tensorflow/tensorflow#30230",
        BATCH,
        "the correction n / (n - 1) is computed in float16: NaN for more than 65,504 values a channel",
        {
            "batch_norm": lambda *args, **kwargs: batch_norm(
                *args, **kwargs, way=replace(RIGHT, move=_correction_in_half)
            )
        },
    ),
    bug(
        "batch_norm_parameters_of_the_other_layout",
        "pytorch/pytorch#62594",
        "BatchNorm2d",
        "evaluation in float16 and channels_last takes each element's parameters as in contiguous planes",
        {"batch_norm": _parameters_of_the_other_layout},
    ),
    bug(
        "batch_norm_gradient_of_misread_input",
        "pytorch/pytorch#175189",
        "BatchNorm2d",
        "the gradient reads an input in channels_last as if it were contiguous",
        {"batch_norm": _gradient_of_misread_input},
    ),
    bug(
        "batch_norm_statistics_downcast",
        "apple/coreai-torch#54",
        BATCH,
        "the running variance is taken to the input's half type before its root is taken",
        {"batch_norm": _statistics_in_the_inputs_dtype},
        "statistics have the input's dtype here: bits are lost, where mixed types overflowed",
    ),
    bug(
        "batch_norm_input_as_scratch",
        "flagos-ai/Torch-FL#295",
        BATCH,
        "without running statistics the input serves as scratch memory and is overwritten",
        {"batch_norm": _input_as_scratch},
    ),
    bug(
        "batch_norm_channels_last_without_offset",
        "pytorch/pytorch#174345",
        "BatchNorm2d",
        "an input in channels_last is read from the start of its storage, wherever it begins there",
        {"batch_norm": _offset_lost_in_channels_last},
    ),
    bug(
        "batch_norm_without_offset",
        "pytorch/pytorch#133520",
        "BatchNorm2d",
        "a sliced input is read from the start of its storage",
        {"batch_norm": _offset_lost},
    ),
)

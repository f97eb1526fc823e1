"""Published bugs of softmax and log-softmax."""

from __future__ import annotations

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, accumulator, bug


def _divides_by_the_length(input, dim=None, _stacklevel=3, dtype=None):
    if dim is not None and input.dim() and input.shape[dim] == 0:
        raise RuntimeError("division by zero")
    return functional.log_softmax(input, dim, _stacklevel)


def _offset_overflows(input, dim=None, _stacklevel=3, dtype=None):
    output = functional.softmax(input, dim, _stacklevel)
    places = torch.arange(output.numel()).reshape(output.shape)
    return output * (places < 2**7)


def _naive_on_inner_axes(input, dim=None, _stacklevel=3, dtype=None):
    if dim is None or dim in (-1, input.dim() - 1):
        return functional.softmax(input, dim, _stacklevel)
    powers = torch.exp(input.to(accumulator(input.dtype)))
    return (powers / powers.sum(dim, keepdim=True)).to(input.dtype)


def _maximum_and_logarithm_first(input, dim=None, _stacklevel=3, dtype=None):
    if dim is None or not input.numel():
        return functional.log_softmax(input, dim, _stacklevel)
    x = input.to(accumulator(input.dtype))
    largest = x.amax(dim, keepdim=True)
    return (x - (largest + torch.log(torch.exp(x - largest).sum(dim, keepdim=True)))).to(input.dtype)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "log_softmax_of_no_elements",
        "pytorch/pytorch#17262",
        "LogSoftmax",
        "an axis of length 0 is divided by its length",
        {"log_softmax": _divides_by_the_length},
        "the division by zero is an exception instead of a signal",
    ),
    bug(
        "softmax_offset_overflows",
        "pytorch/pytorch#84144",
        "Softmax",
        "the offset of a row overflows its integer type, and the rows beyond stay 0",
        {"softmax": _offset_overflows},
        "beyond 2**7 elements instead of 2**32",
    ),
    bug(
        "softmax_naive_on_inner_axes",
        "pytorch/pytorch#37326",
        "Softmax",
        "the maximum is subtracted for the last axis only; others overflow beyond 88",
        {"softmax": _naive_on_inner_axes},
    ),
    bug(
        "log_softmax_at_1e8",
        "pytorch/pytorch#11752",
        "LogSoftmax",
        "the logarithm is added to the maximum before both are subtracted: lost beside a large one",
        {"log_softmax": _maximum_and_logarithm_first},
    ),
    bug(
        "log_softmax_at_minus_1e7",
        "pytorch/pytorch#38839",
        "LogSoftmax",
        "the same order of subtraction, in another kernel and at a large negative offset",
        {"log_softmax": _maximum_and_logarithm_first},
    ),
)

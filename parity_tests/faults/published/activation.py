"""Published bugs of activations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import (
    PublishedBug,
    accumulator,
    bug,
    in_storage_order,
    with_own_gradient,
)


def _log_sigmoid_by_shifted_exponentials(input):
    shift = -input - (-input).clamp(min=0)  # inf - inf at -inf
    return torch.where(shift.isnan(), shift, functional.logsigmoid(input))


def _log_of_sigmoid(input):
    return torch.log(torch.sigmoid(input))


def _threshold_keeps_what_is_greater(input, threshold, value, inplace=False):
    return torch.where(input > threshold, input, value)


def _softshrink_of_two_comparisons(input, lambd=0.5):
    outer = torch.where(input < -lambd, input + lambd, torch.zeros_like(input))
    return torch.where(input > lambd, input - lambd, outer)


def _rrelu_always_random(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    return functional.rrelu(input, lower, upper, True)


def _rrelu_reads_noise_that_was_not_written(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    noise = torch.zeros_like(input)
    return with_own_gradient(
        lambda x: functional.rrelu(x, lower, upper, training),
        lambda g, x, right: torch.where(x > 0, g, g * noise),
    )(input)


def _elu_branches_on_its_output(input, alpha=1.0, inplace=False):
    def gradient(g: Any, x: Any, right: Any) -> Any:
        y = functional.elu(x, alpha)
        return torch.where((y <= 0) == (x <= 0), right, g * torch.where(y <= 0, y + alpha, 1))

    return with_own_gradient(lambda x: functional.elu(x, alpha), gradient)(input)


def _softplus_branches_on_its_output(input, beta=1.0, threshold=20.0):
    def gradient(g: Any, x: Any, right: Any) -> Any:
        return torch.where(functional.softplus(x, beta, threshold) * beta > threshold, g, right)

    return with_own_gradient(lambda x: functional.softplus(x, beta, threshold), gradient)(input)


def _hardsigmoid_slope_everywhere(input, inplace=False):
    return with_own_gradient(
        functional.hardsigmoid, lambda g, x, right: torch.where(right == 0, g / 6, right)
    )(input)


def _of_storage_order(name: str) -> Any:
    original = getattr(functional, name)
    return lambda input, *args, **kwargs: original(in_storage_order(input), *args, **kwargs)


def _hardshrink_vector_of_16(input, lambd=0.5):
    output = functional.hardshrink(input, lambd)
    whole = input.numel() // 16 * 16
    in_vector = torch.arange(input.numel()).reshape(input.shape) < whole
    return torch.where(in_vector & input.isnan(), torch.zeros_like(output), output)


def _gelu_tanh_of_exponentials(input, approximate="none"):
    if approximate == "none":
        return functional.gelu(input)
    x = input.to(accumulator(input.dtype))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    up, down = torch.exp(inner), torch.exp(-inner)
    return (0.5 * x * (1 + (up - down) / (up + down))).to(input.dtype)


def _relu_in_place_on_a_copy(input, inplace=False):
    if inplace and not input.is_contiguous():
        torch.relu_(input.contiguous())
        return input.mul(1)
    return torch.relu_(input) if inplace else torch.relu(input)


def _celu_in_the_limit(input, alpha=1.0, inplace=False):
    return input.mul(1) if math.isinf(alpha) else functional.celu(input, alpha)


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "logsigmoid_of_negative_infinity",
        "pytorch/pytorch#20972",
        "LogSigmoid",
        "the shift by the larger exponent is -inf minus -inf at -inf: NaN in value and gradient",
        {"logsigmoid": _log_sigmoid_by_shifted_exponentials},
    ),
    bug(
        "logsigmoid_overflow",
        "pytorch/pytorch#1835",
        "LogSigmoid",
        "log(sigmoid(x)) is -inf once the sigmoid underflows",
        {"logsigmoid": _log_of_sigmoid},
    ),
    bug(
        "threshold_of_nan",
        "pytorch/pytorch#189393",
        "Threshold",
        "the comparison is turned around, so that NaN becomes `value`",
        {"threshold": _threshold_keeps_what_is_greater},
    ),
    bug(
        "softshrink_of_nan",
        "pytorch/pytorch#138385",
        "Softshrink",
        "NaN satisfies neither comparison and becomes 0",
        {"softshrink": _softshrink_of_two_comparisons},
    ),
    bug(
        "rrelu_random_in_evaluation",
        "pytorch/pytorch#82678",
        "RReLU",
        "slopes are drawn in evaluation as well",
        {"rrelu": _rrelu_always_random},
    ),
    bug(
        "rrelu_noise_not_written",
        "pytorch/pytorch#188260",
        "RReLU",
        "evaluation leaves the noise unwritten, and the gradient is its product with it",
        {"rrelu": _rrelu_reads_noise_that_was_not_written},
        "the noise itself is no output of the layer; the gradient that reads it shows the defect",
    ),
    bug(
        "elu_gradient_branches_on_output",
        "pytorch/pytorch#47671",
        "ELU",
        "the gradient tells the branches apart by the output's sign, which a negative alpha turns around",
        {"elu": _elu_branches_on_its_output},
    ),
    bug(
        "softplus_gradient_threshold",
        "pytorch/pytorch#55587",
        "Softplus",
        "the gradient compares the output with the threshold instead of the input",
        {"softplus": _softplus_branches_on_its_output},
    ),
    bug(
        "hardsigmoid_gradient_everywhere",
        "pytorch/pytorch#51408",
        "Hardsigmoid",
        "the gradient is 1/6 outside the linear part as well",
        {"hardsigmoid": _hardsigmoid_slope_everywhere},
    ),
    bug(
        "activation_of_strided_input",
        "pytorch/pytorch#131736",
        "Softplus SELU PReLU Threshold",
        "the input is read in the order of its storage, whatever its strides are",
        {name: _of_storage_order(name) for name in ("softplus", "selu", "prelu", "threshold")},
    ),
    bug(
        "hardshrink_of_nan_in_a_vector",
        "pytorch/pytorch#81138",
        "Hardshrink",
        "NaN becomes 0 in the vectorised part, 16 elements at a time, and stays NaN in the tail",
        {"hardshrink": _hardshrink_vector_of_16},
    ),
    bug(
        "gelu_tanh_overflow",
        "pytorch/executorch#22323",
        "GELU",
        "tanh as a quotient of exponentials is inf / inf for large arguments",
        {"gelu": _gelu_tanh_of_exponentials},
    ),
    bug(
        "relu_in_place_does_nothing",
        "pytorch/pytorch#94389",
        "ReLU",
        "in place on a strided tensor, a copy is written and forgotten",
        {"relu": _relu_in_place_on_a_copy},
    ),
    bug(
        "celu_of_infinite_alpha",
        "pytorch/pytorch#148065",
        "CELU",
        "the limit for alpha = inf, where torch's formula gives NaN",
        {"celu": _celu_in_the_limit},
    ),
)

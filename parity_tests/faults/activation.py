"""Wrong activations that the suite must catch, and right but different ones that it must accept."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults import activation_in_place
from parity_tests.faults.activation_controls import CONTROLS, LAYERS, SELU_ALPHA, SELU_SCALE, every_function
from parity_tests.faults.fault import Fault, scaled, with_gradient

__all__ = ["CONTROLS", "FAULTS"]

CLASSES = tuple(layer for layer in LAYERS if inspect.isclass(getattr(torch.nn, layer, None)))
KEEPS_CHANNELS_LAST = tuple(layer for layer in LAYERS if layer not in ("LogSigmoid", "RReLU", "GLU"))


def _every(
    name: str, sentence: str, make: Callable, caught_by: str, layers: tuple[str, ...] = tuple(LAYERS)
) -> Fault:
    return Fault(name, sentence, every_function(make), caught_by, layers)


def _one(name: str, sentence: str, layer: str, stand_in: Callable, caught_by: str = "forward") -> Fault:
    return Fault(name, sentence, {LAYERS[layer]: stand_in}, caught_by, (layer,))


def _through_bfloat16(original: Callable) -> Callable:
    return lambda input, *args, **kwargs: original(input.bfloat16().to(input.dtype), *args, **kwargs)


def _as_if_contiguous(original: Callable) -> Callable:
    def stand_in(input, *args, **kwargs):
        if input.stride() == torch.empty(input.shape, device="meta").stride() or 0 in input.stride():
            return original(input, *args, **kwargs)
        return original(
            input.as_strided(input.shape, torch.empty(input.shape, device="meta").stride(), 0),
            *args,
            **kwargs,
        )

    return stand_in


def _wrong_dtype(original: Callable) -> Callable:
    return lambda *args, **kwargs: original(*args, **kwargs).double()


def _contiguous(original: Callable) -> Callable:
    return lambda *args, **kwargs: original(*args, **kwargs).contiguous()


def _writes_input(original: Callable) -> Callable:
    def stand_in(input, *args, **kwargs):
        output = original(input.clone(), *args, **kwargs)
        input.detach().zero_()
        return output

    return stand_in


def _forgets(original: Callable) -> Callable:
    calls = itertools.count()

    def stand_in(*args, **kwargs):
        output = original(*args, **kwargs)
        return output if next(calls) % 2 == 0 else output + 1

    return stand_in


def _accepts_anything(layer: str) -> type:
    """A class that drops arguments that it does not know."""
    own = getattr(torch.nn, layer)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        own.__init__(self, *args, **{key: value for key, value in kwargs.items() if key != "slope"})

    return type(layer, (own,), {"__init__": __init__})


def _nan_lost_in_vectors(original: Callable) -> Callable:
    """The first elements, as many as fill vectors of 16, turn NaN into 0; the tail does not."""

    def stand_in(input, *args, **kwargs):
        flat = input.reshape(-1)
        whole = torch.arange(flat.numel(), device=input.device) < flat.numel() // 16 * 16
        return original(torch.where(whole & flat.isnan(), 0.0, flat).reshape(input.shape), *args, **kwargs)

    return stand_in


def _spoiled(name: str, gradient: Callable[..., torch.Tensor]) -> Callable:
    """torch's values with the gradient `gradient(grad_output, input, *scalars)`."""

    def stand_in(input, *args, **kwargs):
        def spoil(grad_output: Any, tensors: list, gradients: list) -> list:
            return [gradient(grad_output, tensors[0], *args), *gradients[1:]]

        return with_gradient(getattr(functional, name), spoil)(input, *args, **kwargs)

    return stand_in


def _elu_by_the_output(g, x, alpha, inplace):
    output = functional.elu(x, alpha)
    return torch.where(output <= 0, g * (output + alpha), g)


def _softplus_by_the_output(g, x, beta, threshold):
    output = functional.softplus(x, beta, threshold)
    return torch.where(output * beta > threshold, g, g * torch.sigmoid(x * beta))


def _glu_without_the_slope(g, x, dim):
    first, second = x.chunk(2, dim)
    return torch.cat([g * torch.sigmoid(second), g * first * torch.sigmoid(second)], dim)


def _weight_of_first_batch_entry(grad_output: Any, tensors: list, gradients: list) -> list:
    x, weight = tensors
    if x.dim() < 2 or x.shape[0] < 2:
        return gradients
    products = torch.where(x > 0, 0, x * grad_output)[0].flatten(1).sum(1)
    return [gradients[0], products if weight.numel() > 1 else products.sum().reshape(1)]


def _softplus_without_threshold(x, beta, threshold):
    return torch.log1p(torch.exp(x * beta)) / beta


def _selu_by_exp(x, inplace):
    return SELU_SCALE * torch.where(x <= 0, SELU_ALPHA * (x.exp() - 1), x)


FAULTS = (
    _every("through_bfloat16", "the input is rounded to bfloat16 first", _through_bfloat16, "forward"),
    _every(
        "as_if_contiguous",
        "strides and storage offset of the input are ignored",
        _as_if_contiguous,
        "forward",
    ),
    _every(
        "gradient_half",
        "the input gradient has half its size",
        lambda f: with_gradient(f, scaled(0, 0.5)),
        "input_gradients",
    ),
    _every("wrong_dtype", "the result comes in float64", _wrong_dtype, "metadata"),
    _every(
        "loses_channels_last",
        "the output is contiguous whatever the input was",
        _contiguous,
        "metadata",
        KEEPS_CHANNELS_LAST,
    ),
    _every("writes_input", "the input is zeroed", _writes_input, "purity"),
    _every("second_call_differs", "every second call gives another result", _forgets, "purity"),
    Fault(
        "accepts_anything",
        "arguments that are not known are ignored",
        {layer: _accepts_anything(layer) for layer in CLASSES},
        "rejection",
        CLASSES,
    ),
    _every(
        "nan_lost_in_vectors",
        "NaN becomes 0 in whole vectors, not in the tail",
        _nan_lost_in_vectors,
        "forward",
    ),
    _one("relu_drops_nan", "NaN becomes 0", "ReLU", lambda x, inplace: torch.where(x > 0, x, 0.0)),
    _one(
        "relu_gradient_at_0",
        "the gradient at 0 is passed on",
        "ReLU",
        _spoiled("relu", lambda g, x: torch.where(x >= 0, g, 0.0)),
        "input_gradients",
    ),
    _one("relu6_without_6", "there is no upper limit", "relu6", functional.relu),
    _one(
        "hardtanh_without_maximum",
        "there is no upper limit",
        "Hardtanh",
        lambda x, low, high, inplace: x.clamp(min=low),
    ),
    _one(
        "threshold_at_equal",
        "an input equal to the threshold is kept",
        "Threshold",
        lambda x, threshold, value, inplace: torch.where(x < threshold, value, x),
    ),
    _one(
        "threshold_drops_nan",
        "NaN becomes the value",
        "Threshold",
        lambda x, threshold, value, inplace: torch.where(x > threshold, x, value),
    ),
    _one(
        "hardshrink_keeps_lambd",
        "inputs equal to lambd are kept",
        "Hardshrink",
        lambda x, lambd: torch.where(x.abs() < lambd, 0.0, x),
    ),
    _one(
        "softshrink_is_hard",
        "what remains is not moved",
        "Softshrink",
        functional.hardshrink,
    ),
    _one(
        "leaky_relu_is_a_maximum",
        "max(x, slope x), wrong for slopes above 1",
        "LeakyReLU",
        lambda x, slope, inplace: torch.maximum(x, slope * x),
    ),
    _one(
        "leaky_relu_slope_on_both_sides",
        "the gradient has the slope everywhere",
        "LeakyReLU",
        _spoiled("leaky_relu", lambda g, x, slope, inplace: g * slope),
        "input_gradients",
    ),
    _one(
        "rrelu_random_in_evaluation",
        "slopes are random in evaluation too",
        "RReLU",
        lambda x, lower, upper, training, inplace: functional.rrelu(x, lower, upper, True),
    ),
    _one(
        "rrelu_lower_slope",
        "evaluation takes the lower slope",
        "RReLU",
        lambda x, lower, upper, training, inplace: functional.leaky_relu(x, lower),
    ),
    _one(
        "elu_by_exp",
        "exp(x) - 1 instead of expm1(x)",
        "ELU",
        lambda x, alpha, inplace: torch.where(x <= 0, alpha * (x.exp() - 1), x),
    ),
    _one(
        "elu_gradient_by_output",
        "the gradient looks at the sign of the output, wrong for alpha < 0",
        "ELU",
        _spoiled("elu", _elu_by_the_output),
        "input_gradients",
    ),
    _one("selu_by_exp", "exp(x) - 1 instead of expm1(x)", "SELU", _selu_by_exp),
    _one(
        "celu_is_elu",
        "alpha does not divide in the exponent",
        "CELU",
        lambda x, alpha, inplace: functional.elu(x, alpha),
    ),
    _one(
        "hardsigmoid_gradient_everywhere",
        "1/6 also where the output is constant",
        "Hardsigmoid",
        _spoiled("hardsigmoid", lambda g, x, inplace: g / 6),
        "input_gradients",
    ),
    _one(
        "hardswish_gradient_misses_a_term",
        "the factor x is taken as constant",
        "Hardswish",
        _spoiled("hardswish", lambda g, x, inplace: g * functional.hardsigmoid(x)),
        "input_gradients",
    ),
    _one(
        "softsign_gradient_misses_a_term",
        "1 + |x| is taken as constant",
        "Softsign",
        _spoiled("softsign", lambda g, x: g / (1 + x.abs())),
        "input_gradients",
    ),
    _one(
        "sigmoid_by_tanh",
        "(1 + tanh(x/2)) / 2 loses small results",
        "Sigmoid",
        lambda x: 0.5 + 0.5 * torch.tanh(x / 2),
    ),
    _one(
        "sigmoid_gradient_without_complement",
        "the factor 1 - y is missing",
        "Sigmoid",
        _spoiled("sigmoid", lambda g, x: g * torch.sigmoid(x)),
        "input_gradients",
    ),
    _one(
        "logsigmoid_naive",
        "log(sigmoid(x)) is -inf below -104",
        "LogSigmoid",
        lambda x: torch.log(torch.sigmoid(x)),
    ),
    _one(
        "silu_gradient_misses_a_term",
        "the sigmoid is taken as constant",
        "SiLU",
        _spoiled("silu", lambda g, x: g * torch.sigmoid(x)),
        "input_gradients",
    ),
    _one(
        "mish_by_log",
        "log(1 + exp(x)) instead of log1p",
        "Mish",
        lambda x, inplace=False: x * torch.tanh(torch.log(1 + torch.exp(x))),
    ),
    _one(
        "tanh_overflows",
        "(e^x - e^-x) / (e^x + e^-x) is NaN beyond 88",
        "Tanh",
        lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    ),
    _one("tanhshrink_adds", "x + tanh(x)", "Tanhshrink", lambda x: x + torch.tanh(x)),
    _one("softplus_without_threshold", "large inputs overflow", "Softplus", _softplus_without_threshold),
    _one(
        "softplus_gradient_by_output",
        "the gradient compares the output with the threshold",
        "Softplus",
        _spoiled("softplus", _softplus_by_the_output),
        "input_gradients",
    ),
    _one(
        "gelu_approximated",
        "the tanh approximation for approximate='none'",
        "GELU",
        lambda x, approximate: functional.gelu(x, approximate="tanh"),
    ),
    _one(
        "gelu_by_sigmoid", "x sigmoid(1.702 x)", "GELU", lambda x, approximate: x * torch.sigmoid(1.702 * x)
    ),
    _one(
        "prelu_first_weight",
        "every channel uses the first weight",
        "PReLU",
        lambda x, weight: functional.prelu(x, weight[:1].expand_as(weight)),
    ),
    _one(
        "prelu_weight_gradient_of_one",
        "the weight gradient is not summed over the batch",
        "PReLU",
        with_gradient(functional.prelu, _weight_of_first_batch_entry),
        "parameter_gradients",
    ),
    _one(
        "glu_swapped",
        "the halves are exchanged",
        "GLU",
        lambda x, dim: functional.glu(torch.cat(x.chunk(2, dim)[::-1], dim), dim),
    ),
    _one(
        "glu_gradient_misses_a_factor",
        "the factor 1 - sigmoid is missing",
        "GLU",
        _spoiled("glu", _glu_without_the_slope),
        "input_gradients",
    ),
    *activation_in_place.FAULTS,
)

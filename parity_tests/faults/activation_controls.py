"""Right but different activations, which no check may reject."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, in_place_too

# layer -> the function that it calls
LAYERS = {
    "ReLU": "relu",
    "ReLU6": "hardtanh",
    "relu6": "relu6",
    "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish",
    "SELU": "selu",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "logsigmoid",
    "SiLU": "silu",
    "Mish": "mish",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Tanhshrink": "tanhshrink",
    "Threshold": "threshold",
    "Hardtanh": "hardtanh",
    "Hardshrink": "hardshrink",
    "Softshrink": "softshrink",
    "LeakyReLU": "leaky_relu",
    "RReLU": "rrelu",
    "ELU": "elu",
    "CELU": "celu",
    "Softplus": "softplus",
    "GELU": "gelu",
    "PReLU": "prelu",
    "GLU": "glu",
}
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def every_function(make: Callable[[Callable], Callable]) -> dict[str, Callable]:
    """A stand-in for every function, made from torch's own."""
    return {name: make(getattr(functional, name)) for name in sorted(set(LAYERS.values()))}


def takes_inplace(name: str) -> bool:
    """Of functions that are written in C++, which have no signature and no such argument, False."""
    return inspect.isfunction(getattr(functional, name)) and "inplace" in (
        inspect.signature(getattr(functional, name)).parameters
    )


def _also_in_place(stand_ins: dict[str, Callable]) -> dict[str, Callable]:
    return {
        name: in_place_too(name, stand_in) if takes_inplace(name) else stand_in
        for name, stand_in in stand_ins.items()
    }


def _in_float64(original: Callable) -> Callable:
    """Except where there is NaN: there torch's gradient itself depends on the dtype."""

    def stand_in(*args, **kwargs):
        if args[0].isnan().any():
            return original(*args, **kwargs)
        wide = [value.double() if isinstance(value, torch.Tensor) else value for value in args]
        return original(*wide, **kwargs).to(args[0].dtype)

    return stand_in


def _in_float32(formula: Callable) -> Callable:
    """Half types through float32, rounded once."""

    def stand_in(*args, **kwargs):
        half = args[0].dtype in (torch.float16, torch.bfloat16)
        wide = [value.float() if half and isinstance(value, torch.Tensor) else value for value in args]
        return formula(*wide, **kwargs).to(args[0].dtype)

    return stand_in


def _negative(x):
    """x where it is not positive, 0 elsewhere: what overflows or is NaN there sends nothing back."""
    return torch.where(x <= 0, x, 0.0)


def _expm1(x):
    """expm1, whose gradient is exp(x) and not, as torch has it, expm1(x) + 1, which loses small ones."""
    slope = torch.exp(x)
    return torch.expm1(x).detach() + (slope - slope.detach())


def _logistic(x):
    left, right = torch.exp(torch.where(x < 0, x, 0.0)), torch.exp(torch.where(x < 0, 0.0, -x))
    return torch.where(x < 0, left / (1 + left), 1 / (1 + right))


def _softplus(x, beta, threshold):
    z = x * beta
    return torch.where(z > threshold, x, torch.log1p(torch.exp(torch.where(z > threshold, 0.0, z))) / beta)


def _gelu(x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * torch.erfc(-x / math.sqrt(2))


def _glu(x, dim):
    first, second = x.chunk(2, dim)
    return first * torch.sigmoid(second)


def _prelu(x, weight):
    shaped = weight.reshape(-1, *(1,) * (x.dim() - 2)) if x.dim() > 1 else weight
    return torch.where(x > 0, x, shaped * x).reshape(x.shape)


def _hardtanh(x, low, high, inplace):
    return torch.where(x <= low, low, torch.where(x >= high, high, x))


def _hardsigmoid(x, inplace):
    ends = torch.where(x >= 3, 1.0, torch.where(x <= -3, 0.0, x.detach()))
    return torch.where(x.abs() < 3, x / 6 + 0.5, ends)


_BY_HAND: dict[str, Callable] = {
    "relu": lambda x, inplace: torch.where(x <= 0, 0.0, x),
    "hardtanh": _hardtanh,
    "relu6": lambda x, inplace=False: _hardtanh(x, 0.0, 6.0, False),
    "hardsigmoid": _hardsigmoid,
    "selu": lambda x, inplace: SELU_SCALE * torch.where(x <= 0, SELU_ALPHA * _expm1(_negative(x)), x),
    "elu": lambda x, alpha, inplace: torch.where(x <= 0, alpha * _expm1(_negative(x)), x),
    "celu": lambda x, alpha, inplace: torch.where(x <= 0, alpha * _expm1(_negative(x) / alpha), x),
    "sigmoid": _logistic,
    "silu": lambda x, inplace=False: x * _logistic(x),
    "tanh": torch.tanh,
    "tanhshrink": functional.tanhshrink,
    "softsign": functional.softsign,
    "threshold": lambda x, threshold, value, inplace: torch.where(x <= threshold, value, x),
    "hardshrink": lambda x, lambd: torch.where((x >= -lambd) & (x <= lambd), 0.0, x),
    "leaky_relu": lambda x, slope, inplace: torch.where(x > 0, x, slope * x),
    "rrelu": lambda x, lower, upper, training, inplace: torch.where(x > 0, x, (lower + upper) / 2 * x),
    "softplus": _softplus,
    "gelu": _gelu,
    "prelu": _prelu,
    "glu": _glu,
}

CONTROLS = (
    Control(
        "float64_then_one_rounding",
        "everything in float64, rounded once",
        _also_in_place(every_function(_in_float64)),
        tuple(LAYERS),
    ),
    Control(
        "by_hand_in_float32",
        "the documented formulas in torch operations, half types in float32",
        _also_in_place({name: _in_float32(formula) for name, formula in _BY_HAND.items()}),
        tuple(layer for layer, name in LAYERS.items() if name in _BY_HAND),
    ),
)

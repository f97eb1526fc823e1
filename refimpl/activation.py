"""Activations by name, and those that need more words: GELU has two formulas, RReLU draws slopes in training.

Formulas: activation_formulas; how they are run: elementwise; bounds: activation_bounds.
PReLU and GLU: activation_taps.
Source: torch.nn, "Non-linear Activations (weighted sum, nonlinearity)".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.activation_taps import GLU, PReLU, glu, glu_backward, prelu, prelu_backward
from refimpl.elementwise import Elementwise, ElementwiseLayer, activation
from refimpl.error_bounds import Bounded, Contract
from refimpl.taps import float_array

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "glu",
    "glu_backward",
    "hardshrink",
    "hardshrink_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "rrelu",
    "rrelu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "softshrink_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
    "threshold",
    "threshold_backward",
]

celu, celu_backward, CELU = activation("celu", "CELU", inplace=True)
elu, elu_backward, ELU = activation("elu", "ELU", inplace=True)
hardshrink, hardshrink_backward, Hardshrink = activation("hardshrink", "Hardshrink", inplace=False)
hardsigmoid, hardsigmoid_backward, Hardsigmoid = activation("hardsigmoid", "Hardsigmoid", inplace=True)
hardswish, hardswish_backward, Hardswish = activation("hardswish", "Hardswish", inplace=True)
hardtanh, hardtanh_backward, _Hardtanh = activation("hardtanh", "Hardtanh", inplace=True)
leaky_relu, leaky_relu_backward, LeakyReLU = activation("leaky_relu", "LeakyReLU", inplace=True)
logsigmoid, logsigmoid_backward, LogSigmoid = activation("logsigmoid", "LogSigmoid", inplace=False)
mish, mish_backward, Mish = activation("mish", "Mish", inplace=True)
relu, relu_backward, ReLU = activation("relu", "ReLU", inplace=True)
relu6, relu6_backward, ReLU6 = activation("relu6", "ReLU6", inplace=True)
_mean_rrelu, _mean_rrelu_backward, _MeanRReLU = activation("rrelu", "RReLU", inplace=True)
selu, selu_backward, SELU = activation("selu", "SELU", inplace=True)
sigmoid, sigmoid_backward, Sigmoid = activation("sigmoid", "Sigmoid", inplace=False)
silu, silu_backward, SiLU = activation("silu", "SiLU", inplace=True)
softplus, softplus_backward, Softplus = activation("softplus", "Softplus", inplace=False)
softshrink, softshrink_backward, Softshrink = activation("softshrink", "Softshrink", inplace=False)
softsign, softsign_backward, Softsign = activation("softsign", "Softsign", inplace=False)
tanh, tanh_backward, Tanh = activation("tanh", "Tanh", inplace=False)
tanhshrink, tanhshrink_backward, Tanhshrink = activation("tanhshrink", "Tanhshrink", inplace=False)
threshold, threshold_backward, Threshold = activation("threshold", "Threshold", inplace=True)

_GELU = {"none": Elementwise("gelu"), "tanh": Elementwise("gelu_tanh")}


def _gelu(approximate: str) -> Elementwise:
    if not isinstance(approximate, str):
        raise TypeError(f"gelu: approximate is {approximate!r}; needed is 'none' or 'tanh'")
    if approximate not in _GELU:
        raise RuntimeError(f"gelu: approximate is {approximate!r}; needed is 'none' or 'tanh'")
    return _GELU[approximate]


def gelu(input, *, approximate="none"):
    """The input times the normal distribution function at the input, or its approximation by tanh.

        output = input (1 + erf(input / sqrt(2))) / 2                             approximate 'none'
        output = input / 2 (1 + tanh(sqrt(2 / pi) (input + 0.044715 input^3)))    approximate 'tanh'

    input (*) -> output (*) float64.  Error: refimpl.activation_bounds.gelu, gelu_tanh.
    Raises RuntimeError for another `approximate`.  Source: torch.nn.functional.gelu."""
    return _gelu(approximate).output(input, ())


def gelu_backward(grad_output, input, *, approximate="none"):
    """Gradient of sum(grad_output * gelu(...)): (grad_input,)."""
    return (_gelu(approximate).gradient(grad_output, input, ()),)


class GELU(ElementwiseLayer):
    """`gelu` as a layer; another `approximate` is refused when it is called.  Source: torch.nn.GELU."""

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    @property
    def elementwise(self) -> Elementwise:  # type: ignore[override]  # chosen by an attribute
        return _gelu(self.approximate)


class Hardtanh(_Hardtanh):  # type: ignore[valid-type, misc]  # made by `activation`
    """`hardtanh` as a layer, which needs min_val < max_val where the function accepts equal ones.

    Raises AssertionError otherwise, as torch.nn.Hardtanh does."""

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        if not min_val < max_val:
            raise AssertionError(f"Hardtanh: min_val {min_val}, max_val {max_val}; needed is min < max")
        super().__init__(min_val, max_val)


def _slopes(input: Any, lower: float, upper: float) -> np.ndarray:
    """A slope for each element, drawn evenly from [lower, upper] where input <= 0, and 1 elsewhere."""
    input = float_array(input)
    _mean_rrelu((), lower, upper)  # checks the arguments
    return np.where(input <= 0, np.random.default_rng().uniform(lower, upper, input.shape), 1.0)


def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """Scale the negative half, in evaluation by the mean slope, in training by one drawn for each element.

        output = input if input > 0 else a input,  a = (lower + upper) / 2 or drawn from U(lower, upper)

    input (*) -> output (*) float64.
    Error: refimpl.activation_bounds.rrelu in evaluation; in training there is no exact value.
    Raises RuntimeError for lower > upper.  Source: torch.nn.functional.rrelu."""
    return float_array(input) * _slopes(input, lower, upper) if training else _mean_rrelu(input, lower, upper)


def rrelu_backward(
    grad_output, input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False, *, noise=None
):
    """Gradient of sum(grad_output * rrelu(...)): (grad_input,).  `noise` are the slopes drawn in training."""
    if not training:
        return _mean_rrelu_backward(grad_output, input, lower, upper)
    if noise is None:
        raise ValueError("rrelu_backward: training without noise; needed are the slopes of the forward call")
    return (float_array(grad_output) * noise,)


class RReLU(_MeanRReLU):  # type: ignore[valid-type, misc]  # made by `activation`
    """`rrelu` as a layer; training keeps the slopes of the last call in `noise`.  Source: torch.nn.RReLU."""

    def forward(self, input: Any) -> np.ndarray:
        if not self.training:
            return super().forward(input)
        self.noise = _slopes(input, *self.scalars)
        return float_array(input) * self.noise

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        if not self.training:
            return super()._backward(grad_outputs, input)
        lower, upper = self.scalars
        return rrelu_backward(grad_outputs[0], input, lower, upper, training=True, noise=self.noise), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        if self.training:
            raise ValueError("RReLU: slopes are random in training, no value is exact; call eval() first")
        return super().bounded(contract, inputs, grad_outputs)

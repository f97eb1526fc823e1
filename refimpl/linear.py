"""The linear layer: one walk, three readings.

    output[n, o] = bias[o] + sum over i of  input[n, i] * weight[o, i]

with n counting the elements of all leading axes.  Source: torch.nn.Linear.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract, Products, multilinear
from refimpl.module import Module, uniform
from refimpl.taps import Kernel, zeros_like_kind

__all__ = ["Linear", "linear", "linear_backward"]


class Geometry(NamedTuple):
    """Sizes of a linear map: how many rows it is applied to, length of a row before and after."""

    rows: int
    inputs: int
    outputs: int

    @property
    def taps(self) -> int:
        return self.rows * self.inputs * self.outputs


def taps(visit, arrays, geometry):
    """Every tap: output y = (n, o) reads input x = (n, i) through weight w = (o, i)."""
    rows, inputs, outputs = geometry
    for n in range(rows):
        for o in range(outputs):
            for i in range(inputs):
                visit(arrays, (n, o), (n, i), (o, i))


def forward(arrays, y, x, w):
    output, input, weight = arrays
    output[y] += input[x] * weight[w]


def input_gradient(arrays, y, x, w):
    grad_output, grad_input, weight = arrays
    grad_input[x] += grad_output[y] * weight[w]


def weight_gradient(arrays, y, x, w):
    grad_output, input, grad_weight = arrays
    grad_weight[w] += grad_output[y] * input[x]


_forward = Kernel(taps, forward)
_input_gradient = Kernel(taps, input_gradient)
_weight_gradient = Kernel(taps, weight_gradient)


def read_output(
    geometry: Geometry, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """The output side of the walk, from input and weight side; starts at the bias."""
    output = zeros_like_kind((geometry.rows, geometry.outputs), input, weight)
    if bias is not None:
        output += bias
    _forward((output, input, weight), geometry, geometry.taps)
    return output


def read_input(geometry: Geometry, grad_output: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The input side of the walk, from output and weight side."""
    grad_input = zeros_like_kind((geometry.rows, geometry.inputs), grad_output, weight)
    _input_gradient((grad_output, grad_input, weight), geometry, geometry.taps)
    return grad_input


def read_weight(geometry: Geometry, grad_output: np.ndarray, input: np.ndarray) -> np.ndarray:
    """The weight side of the walk, from output and input side."""
    grad_weight = zeros_like_kind((geometry.outputs, geometry.inputs), grad_output, input)
    _weight_gradient((grad_output, input, grad_weight), geometry, geometry.taps)
    return grad_weight


class Transformation:
    """One call: arguments checked, leading axes of the input flattened into rows, walk ready."""

    def __init__(self, input: Any, weight: Any, bias: Any = None):
        input, weight = _operand(input), _operand(weight)
        self.bias = None if bias is None else _operand(bias)
        _check(input, weight, self.bias)
        self.input_shape, self.weight_shape = input.shape, weight.shape
        self.output_shape = (*input.shape[:-1], *weight.shape[:-1])
        inputs = weight.shape[-1]
        self.geometry = Geometry(math.prod(input.shape[:-1]), inputs, math.prod(weight.shape[:-1]))
        self.input = input.reshape(self.geometry.rows, inputs)
        self.weight = weight.reshape(self.geometry.outputs, inputs)

    def _up(self, grad_output: Any) -> np.ndarray:
        grad_output = _operand(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(
                f"linear: grad_output has shape {grad_output.shape}; needed is {self.output_shape}"
            )
        return grad_output.reshape(self.geometry.rows, self.geometry.outputs)

    def _sum_rows(self, up: np.ndarray) -> np.ndarray:
        assert self.bias is not None
        return up.sum(axis=0 if self.bias.ndim else None).reshape(self.bias.shape)

    def output(self) -> np.ndarray:
        return read_output(self.geometry, self.input, self.weight, self.bias).reshape(self.output_shape)

    def gradients(self, grad_output: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Gradients of input, weight and bias (None without one)."""
        up = self._up(grad_output)
        grad_input = read_input(self.geometry, up, self.weight).reshape(self.input_shape)
        grad_weight = read_weight(self.geometry, up, self.input).reshape(self.weight_shape)
        return grad_input, grad_weight, None if self.bias is None else self._sum_rows(up)

    def products(self, grad_output: Any) -> dict[str, Products]:
        """Output and gradients with what their bounds need."""
        geometry, up = self.geometry, self._up(grad_output)
        output = multilinear(
            partial(read_output, geometry), (self.input, self.weight), geometry.inputs, self.bias
        )
        grad_input = multilinear(partial(read_input, geometry), (up, self.weight), geometry.outputs)
        grad_weight = multilinear(partial(read_weight, geometry), (up, self.input), geometry.rows)
        result = {
            "output": output.map(partial(np.reshape, shape=self.output_shape)),
            "grad_input": grad_input.map(partial(np.reshape, shape=self.input_shape)),
            "grad_weight": grad_weight.map(partial(np.reshape, shape=self.weight_shape)),
        }
        if self.bias is not None:
            additions = max(0, up.size // max(1, self.bias.size) - 1)
            result["grad_bias"] = multilinear(self._sum_rows, (up,), additions)
        return result


def _operand(array: Any) -> np.ndarray:
    """float64 in C order, or an object array of exact numbers; no copy where it is that already."""
    array = np.asarray(array)
    return np.asarray(array, dtype=object if array.dtype == object else np.float64, order="C")


def _check(input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
    """Raise RuntimeError, as torch does, for shapes that do not fit."""
    if weight.ndim not in (1, 2):
        raise RuntimeError(
            f"linear: weight has shape {weight.shape}; needed is (out_features, in_features) or (in_features)"
        )
    if input.ndim == 0 or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear: input has shape {input.shape}; weight {weight.shape} needs {weight.shape[-1]} features "
            "in its last axis"
        )
    if bias is not None and bias.shape not in (weight.shape[:-1], ()):
        raise RuntimeError(f"linear: bias has shape {bias.shape}; needed is {weight.shape[:-1]} or ()")


def linear(input, weight, bias=None):
    """Apply a linear map to the last axis of `input`.

        output[..., o] = bias[o] + sum(input[..., i] * weight[o, i] for i in range(in_features))

    input (*, in_features), weight (out_features, in_features), bias (out_features) or () -> output
    (*, out_features); with a weight (in_features), output (*).
    Error: gamma(in_features + 1) (sum |input| |weight| + |bias|) an element.
    Raises RuntimeError for shapes that do not fit.  Source: torch.nn.functional.linear."""
    return Transformation(input, weight, bias).output()


def linear_backward(grad_output, input, weight, bias=None):
    """Gradients of sum(grad_output * linear(...)): (grad_input, grad_weight, grad_bias or None)."""
    return Transformation(input, weight, bias).gradients(grad_output)


class LinearFunction(Module):
    """`linear` as a layer whose weight and bias are inputs of the call."""

    def forward(self, input: Any, weight: Any, bias: Any = None) -> np.ndarray:
        return linear(input, weight, bias)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict]:
        gradients = linear_backward(grad_outputs[0], *inputs)
        return gradients[: len(inputs)], {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        products = Transformation(*inputs).products(grad_outputs[0])
        names = {"grad_input": "grad_input0", "grad_weight": "grad_input1", "grad_bias": "grad_input2"}
        return {names.get(name, name): result.bounded(contract) for name, result in products.items()}


class Linear(Module):
    """A linear map of the last axis.  Formula, shapes, error: `linear`.

    weight (out_features, in_features), bias (out_features).
    Raises TypeError and RuntimeError for numbers of features that are no shape; calls raise as `linear` does.
    Source: torch.nn.Linear."""

    parameters = ("weight", "bias")

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        for name, features in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(features, (int, np.integer)):
                raise TypeError(f"{name} is {features!r}; needed is an int")
            if features < 0:
                raise RuntimeError(f"{name} is {features}; needed is at least 0")
        self.in_features, self.out_features = in_features, out_features
        self.weight = uniform((out_features, in_features), in_features)
        self.bias = uniform((out_features,), in_features) if bias else None

    def forward(self, input: Any) -> np.ndarray:
        return linear(input, self.weight, self.bias)

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return ((*np.shape(inputs[0])[:-1], self.out_features),)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        grad_input, grad_weight, grad_bias = linear_backward(grad_outputs[0], input, self.weight, self.bias)
        return (grad_input,), {"weight": grad_weight} | ({} if grad_bias is None else {"bias": grad_bias})

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        products = Transformation(inputs[0], self.weight, self.bias).products(grad_outputs[0])
        return {name: result.bounded(contract) for name, result in products.items()}

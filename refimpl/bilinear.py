"""The bilinear layer: one walk, four readings.

    output[n, o] = bias[o] + sum over i, j of  input1[n, i] * weight[o, i, j] * input2[n, j]

with n counting the elements of all leading axes.  Source: torch.nn.Bilinear.

A contract weaker than the strictest, by name (`Contract.algorithm`):
    stored products  one product after the other, the first one's result rounded to T in between: the sum over
                     i of an output, before the bias is added to the stored sum over j; in the gradients of
                     the inputs what each output adds and every sum of those; in the gradient of the weight
                     what each row adds
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract, Products, multilinear
from refimpl.module import Module, uniform
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = ["Bilinear", "bilinear", "bilinear_backward"]

STORED = "stored products"


class Geometry(NamedTuple):
    """Sizes of a bilinear map: how many rows it is applied to, length of either input's rows and of the
    output's."""

    rows: int
    inputs1: int
    inputs2: int
    outputs: int


def taps(visit, arrays, geometry):
    """Every tap: output y = (n, o) reads inputs x1 = (n, i) and x2 = (n, j) through weight w = (o, i, j)."""
    rows, inputs1, inputs2, outputs = geometry
    for n in range(rows):
        for o in range(outputs):
            for i in range(inputs1):
                for j in range(inputs2):
                    visit(arrays, (n, o), (n, i), (n, j), (o, i, j))


def forward(arrays, y, x1, x2, w):
    output, input1, input2, weight = arrays
    output[y] += input1[x1] * weight[w] * input2[x2]


def first_gradient(arrays, y, x1, x2, w):
    grad_output, grad_input1, input2, weight = arrays
    grad_input1[x1] += grad_output[y] * weight[w] * input2[x2]


def second_gradient(arrays, y, x1, x2, w):
    grad_output, input1, grad_input2, weight = arrays
    grad_input2[x2] += grad_output[y] * weight[w] * input1[x1]


def weight_gradient(arrays, y, x1, x2, w):
    grad_output, input1, input2, grad_weight = arrays
    grad_weight[w] += grad_output[y] * input1[x1] * input2[x2]


_forward = Kernel(taps, forward)
_first_gradient = Kernel(taps, first_gradient)
_second_gradient = Kernel(taps, second_gradient)
_weight_gradient = Kernel(taps, weight_gradient)


class BilinearMap:
    """One call: arguments checked, leading axes of the inputs flattened into rows, walk ready."""

    def __init__(self, input1: Any, input2: Any, weight: Any, bias: Any = None):
        input1, input2, weight = float_array(input1), float_array(input2), float_array(weight)
        self.bias = None if bias is None else float_array(bias)
        _check(input1, input2, weight, self.bias)
        self.shapes = input1.shape, input2.shape
        self.output_shape = (*input1.shape[:-1], weight.shape[0])
        outputs, inputs1, inputs2 = weight.shape
        self.geometry = Geometry(math.prod(input1.shape[:-1]), inputs1, inputs2, outputs)
        self.input1 = input1.reshape(self.geometry.rows, inputs1)
        self.input2 = input2.reshape(self.geometry.rows, inputs2)
        self.weight = weight

    def _run(self, kernel: Kernel, *arrays: np.ndarray) -> None:
        kernel(arrays, self.geometry, math.prod(self.geometry))

    def read_output(self, input1, input2, weight, bias=None) -> np.ndarray:
        output = zeros_like_kind((self.geometry.rows, self.geometry.outputs), input1, input2, weight)
        if bias is not None:
            output += bias
        self._run(_forward, output, input1, input2, weight)
        return output.reshape(self.output_shape)

    def read_input1(self, up, input2, weight) -> np.ndarray:
        grad_input1 = zeros_like_kind(self.input1.shape, up, input2, weight)
        self._run(_first_gradient, up, grad_input1, input2, weight)
        return grad_input1.reshape(self.shapes[0])

    def read_input2(self, up, input1, weight) -> np.ndarray:
        grad_input2 = zeros_like_kind(self.input2.shape, up, input1, weight)
        self._run(_second_gradient, up, input1, grad_input2, weight)
        return grad_input2.reshape(self.shapes[1])

    def read_weight(self, up, input1, input2) -> np.ndarray:
        grad_weight = zeros_like_kind(self.weight.shape, up, input1, input2)
        self._run(_weight_gradient, up, input1, input2, grad_weight)
        return grad_weight

    def up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(
                f"bilinear: grad_output has shape {grad_output.shape}; needed is {self.output_shape}"
            )
        return grad_output.reshape(self.geometry.rows, self.geometry.outputs)

    def output(self) -> np.ndarray:
        return self.read_output(self.input1, self.input2, self.weight, self.bias)

    def gradients(self, grad_output: Any) -> dict[str, np.ndarray]:
        """Gradients by argument; `bias` only where there is one."""
        up = self.up(grad_output)
        return {
            "input1": self.read_input1(up, self.input2, self.weight),
            "input2": self.read_input2(up, self.input1, self.weight),
            "weight": self.read_weight(up, self.input1, self.input2),
        } | ({} if self.bias is None else {"bias": up.sum(axis=0)})

    def products(self, grad_output: Any) -> dict[str, Products]:
        """Output and gradients with what their bounds need; n products of three factors round n + 1 times."""
        up, sizes = self.up(grad_output), self.geometry
        factors = (self.input1, self.input2, self.weight)
        terms = sizes.inputs1 * sizes.inputs2 + 1
        result = {
            "output": multilinear(self.read_output, factors, terms, self.bias),
            "input1": multilinear(self.read_input1, (up, *factors[1:]), sizes.outputs * sizes.inputs2 + 1),
            "input2": multilinear(
                self.read_input2, (up, factors[0], factors[2]), sizes.outputs * sizes.inputs1 + 1
            ),
            "weight": multilinear(self.read_weight, (up, *factors[:2]), sizes.rows + 1),
        }
        if self.bias is not None:
            result["bias"] = multilinear(partial(np.sum, axis=0), (up,), max(0, sizes.rows - 1))
        return result

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output and gradients with their bounds, by argument."""
        found = {name: sums.bounded(contract) for name, sums in self.products(grad_output).items()}
        return found | self._stored(contract, self.up(grad_output)) if contract.algorithm == STORED else found

    def _stored(self, contract: Contract, up: np.ndarray) -> dict[str, Bounded]:
        """The contract 'stored products': axes (n, o, i, j)."""
        x1 = contract.exact(self.input1[:, None, :, None])
        x2 = contract.exact(self.input2[:, None, None, :])
        w, g = contract.exact(self.weight[None]), contract.exact(up[:, :, None, None])
        output = ((x1 * w).sum(2, keepdims=True).store() * x2).sum((2, 3)).store()
        if self.bias is not None:
            output = (output + contract.exact(self.bias)).store()
        found = {
            "output": output,
            "input1": _stored_sum(((g * w).store() * x2).sum(3).store()),
            "input2": _stored_sum(((x1 * w).sum(2, keepdims=True).store() * g)[:, :, 0].store()),
            "weight": ((x1 * g).store() * x2).sum(0).store(),
        }
        loops = {"output": self.output(), **self.gradients(up.reshape(self.output_shape))}
        return {
            name: value.reshape(*loops[name].shape).agreeing(loops[name], name)
            for name, value in found.items()
        }


def _stored_sum(parts: Bounded) -> Bounded:
    """Sum over the outputs (axis 1) of terms in T, one after the other, each partial sum rounded to T."""
    total = parts[:, :1].sum(1)
    for o in range(1, parts.value.shape[1]):
        total = (total + parts[:, o]).store()
    return total


def _check(input1: np.ndarray, input2: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
    """Raise what torch raises for shapes that do not fit."""
    if input1.ndim != input2.ndim or input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear: inputs have shapes {input1.shape} and {input2.shape}; needed are equal leading axes"
        )
    if input1.ndim == 0:
        raise IndexError("bilinear: the inputs are scalars; needed is an axis of features")
    if weight.ndim != 3 or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]:
        raise RuntimeError(
            f"bilinear: inputs {input1.shape} and {input2.shape}, weight {weight.shape}; needed is a weight "
            "(out_features, in1_features, in2_features)"
        )
    if 0 in weight.shape[1:]:
        raise RuntimeError(
            f"bilinear: weight {weight.shape} has an input without features; needed is at least 1"
        )
    if bias is not None and bias.ndim == 0:
        raise IndexError(f"bilinear: the bias is a scalar; needed is shape {weight.shape[:1]}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"bilinear: bias has shape {bias.shape}; needed is {weight.shape[:1]}")


def bilinear(input1, input2, weight, bias=None):
    """Apply a map that is linear in each of two inputs to their last axes.

        output[..., o] = bias[o] + sum(input1[..., i] * weight[o, i, j] * input2[..., j] for i, j)

    input1 (*, in1_features), input2 (*, in2_features), weight (out_features, in1_features, in2_features),
    bias (out_features) -> output (*, out_features).
    Error: gamma(in1_features in2_features + 2) (sum |input1| |weight| |input2| + |bias|) an element.
    Raises RuntimeError for shapes that do not fit, IndexError for scalars.
    Source: torch.nn.functional.bilinear."""
    return BilinearMap(input1, input2, weight, bias).output()


def bilinear_backward(grad_output, input1, input2, weight, bias=None):
    """Gradients of sum(grad_output * bilinear(...)): (grad_input1, grad_input2, grad_weight, grad_bias or
    None)."""
    gradients = BilinearMap(input1, input2, weight, bias).gradients(grad_output)
    return tuple(gradients.get(name) for name in ("input1", "input2", "weight", "bias"))


class BilinearFunction(Module):
    """`bilinear` as a layer whose weight and bias are inputs of the call."""

    algorithms = (STORED,)

    def forward(self, *inputs: Any) -> np.ndarray:
        return bilinear(*inputs)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict]:
        return bilinear_backward(grad_outputs[0], *inputs)[: len(inputs)], {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        found = BilinearMap(*inputs).bounded(contract, grad_outputs[0])
        names = ("input1", "input2", "weight", "bias")[: len(inputs)]
        return {"output": found["output"]} | {f"grad_input{k}": found[name] for k, name in enumerate(names)}


class Bilinear(Module):
    """A map that is linear in each of two inputs.  Formula, shapes, error: `bilinear`.

    weight (out_features, in1_features, in2_features), bias (out_features).
    Raises ValueError for in1_features 0, RuntimeError for negative numbers of features, TypeError for what is
    no int; calls raise as `bilinear` does.  Source: torch.nn.Bilinear."""

    parameters = ("weight", "bias")
    algorithms = (STORED,)

    def __init__(self, in1_features, in2_features, out_features, bias=True):
        super().__init__()
        sizes = (out_features, in1_features, in2_features)
        if not all(isinstance(size, (int, np.integer)) for size in sizes):
            raise TypeError(f"in1_features, in2_features, out_features are {sizes!r}; needed are ints")
        if min(sizes) < 0:
            raise RuntimeError(
                f"out_features, in1_features, in2_features are {sizes}; needed are positive ints"
            )
        if in1_features == 0:
            raise ValueError("in1_features is 0; needed is at least 1")
        self.weight = uniform(sizes, in1_features)
        self.bias = uniform((out_features,), in1_features) if bias else None

    def _map(self, inputs: tuple) -> BilinearMap:
        input1, input2 = inputs
        return BilinearMap(input1, input2, self.weight, self.bias)

    def forward(self, *inputs: Any) -> np.ndarray:
        return self._map(inputs).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._map(inputs).output_shape,)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict]:
        gradients = self._map(inputs).gradients(grad_outputs[0])
        return (gradients.pop("input1"), gradients.pop("input2")), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        found = self._map(inputs).bounded(contract, grad_outputs[0])
        names = {"output": "output", "input1": "grad_input0", "input2": "grad_input1"}
        return {names.get(name, f"grad_{name}"): value for name, value in found.items()}

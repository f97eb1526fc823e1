"""Two arithmetics for layers made of several parts: the references of the parts, and their bounds.

A composite layer is written once, in the operations of an arithmetic: `Loops` runs the loop references and
their backward functions on arrays, `Bounds` evaluates the same formulas in Bounded arithmetic.  Both are used
for every comparison: the loops give the value, the bounds how far off a candidate may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refimpl.activation import gelu, gelu_backward, relu, relu_backward
from refimpl.attention import Attention
from refimpl.attention_bounds import (
    WEIGHT_GRADIENT,
    bounded_attention,
    bounded_gradients,
    product,
    transposed,
)
from refimpl.error_bounds import Bounded, Contract
from refimpl.group_norm import layer_norm, layer_norm_backward
from refimpl.layer_norm_bounds import LayerNormBounds
from refimpl.linear import linear, linear_backward
from refimpl.taps import float_array

# Names of what is stored, as in the docstrings of `multihead_attention` and `transformer`.
LINEAR, LINEAR_GRADIENT, SUM = "linear", "linear gradient", "sum"
NORM, NORM_GRADIENT = "norm", "norm gradient"
ACTIVATION, ACTIVATION_GRADIENT = "activation", "activation gradient"


class Loops:
    """Arrays, and the references of the parts."""

    def exact(self, values: Any) -> Any:
        return float_array(values)

    def moved(self, operand: Any, move: Callable) -> Any:
        """The same numbers in another shape or order."""
        return move(operand)

    def appended(self, operand: Any, row: Any) -> Any:
        """One row more for every batch: (N, S, E) and (1, 1, E) -> (N, S + 1, E)."""
        return np.concatenate(
            [operand, np.broadcast_to(row, (operand.shape[0], 1, operand.shape[2]))], axis=1
        )

    def concatenated(self, parts: Sequence[Any]) -> Any:
        """One behind the other along the first axis."""
        return np.concatenate(parts)

    def affine(self, input: Any, weight: Any, bias: Any) -> Any:
        return linear(input, weight, bias)

    def affine_gradients(self, grad_output: Any, input: Any, weight: Any) -> tuple[Any, Any, Any]:
        """Gradients of input, weight and bias."""
        grad_input, grad_weight, _ = linear_backward(grad_output, input, weight)
        return grad_input, grad_weight, self.total(grad_output)

    def attention(self, query: Any, key: Any, value: Any, mask: Any, scale: float, safe: bool) -> Any:
        """Output, weights, and what `attention_gradients` needs; operands (B, L, E), (B, S, E), (B, S, V)."""
        call = Attention(query, key, value, mask, scale=scale, safe=safe)
        return call.output(), call.weights(), call

    def attention_gradients(self, saved: Any, grad_output: Any, grad_weights: Any) -> tuple:
        return tuple(saved.gradients(grad_output, grad_weights)[:3])

    def norm(self, input: Any, weight: Any, bias: Any, eps: float) -> Any:
        return layer_norm(input, weight.shape, weight, bias, eps)

    def norm_gradients(self, grad_output: Any, input: Any, weight: Any, eps: float) -> tuple:
        """Gradients of input, weight and bias."""
        return layer_norm_backward(grad_output, input, weight.shape, weight, np.zeros(weight.shape), eps)

    def activation(self, name: str, input: Any) -> Any:
        return relu(input) if name == "relu" else gelu(input)

    def activation_gradient(self, name: str, grad_output: Any, input: Any) -> Any:
        return (relu_backward if name == "relu" else gelu_backward)(grad_output, input)[0]

    def add(self, *operands: Any) -> Any:
        return sum(operands[1:], operands[0])

    def total(self, operand: Any) -> Any:
        """The sum over all axes but the last."""
        return operand.reshape(math.prod(operand.shape[:-1]), operand.shape[-1]).sum(axis=0)

    def mean(self, operand: Any, axis: int) -> Any:
        return operand.sum(axis=axis) / operand.shape[axis]

    def divided(self, operand: Any, by: float) -> Any:
        return operand / by


class Bounds:
    """Bounded arithmetic; the result of every operation is stored, as it is a tensor of its own."""

    def __init__(self, contract: Contract):
        self.contract = contract

    def exact(self, values: Any) -> Bounded:
        return self.contract.exact(values)

    def moved(self, operand: Bounded, move: Callable) -> Bounded:
        return Bounded(move(operand.value), move(operand.error), operand.contract)

    def appended(self, operand: Bounded, row: Any) -> Bounded:
        batches, _, features = operand.value.shape
        rows = np.broadcast_to(row, (batches, 1, features))
        value = np.concatenate([operand.value, rows], axis=1)
        return Bounded(value, np.concatenate([operand.error, np.zeros(rows.shape)], axis=1), operand.contract)

    def concatenated(self, parts: Sequence[Bounded]) -> Bounded:
        values, errors = ([getattr(part, name) for part in parts] for name in ("value", "error"))
        return Bounded(np.concatenate(values), np.concatenate(errors), self.contract)

    def affine(self, input: Bounded, weight: Any, bias: Any) -> Bounded:
        output = product(_matrix(input), self.exact(weight), None if bias is None else self.exact(bias))
        return output.store(LINEAR).reshape(*input.value.shape[:-1], weight.shape[0])

    def affine_gradients(self, grad_output: Bounded, input: Bounded, weight: Any) -> tuple:
        up, weight = _matrix(grad_output), self.exact(weight)
        grad_input = product(up, transposed(weight)).store(LINEAR_GRADIENT).reshape(*input.value.shape)
        grad_weight = product(transposed(up), transposed(_matrix(input))).store()
        return grad_input, grad_weight, self.total(grad_output)

    def attention(
        self, query: Bounded, key: Bounded, value: Bounded, mask: Any, scale: float, safe: bool
    ) -> Any:
        operands = (query, key, value)
        results = bounded_attention(operands, self.exact(mask), scale, safe)
        return results[0], results[1], (operands, results, scale)

    def attention_gradients(self, saved: Any, grad_output: Bounded, grad_weights: Bounded | None) -> tuple:
        operands, results, scale = saved
        return bounded_gradients(operands, results, grad_output, scale, grad_weights)[:3]

    def norm(self, input: Bounded, weight: Any, bias: Any, eps: float) -> Bounded:
        bias = None if bias is None else self.exact(bias)
        return LayerNormBounds(input, eps).output(self.exact(weight), bias).store(NORM)

    def norm_gradients(self, grad_output: Bounded, input: Bounded, weight: Any, eps: float) -> tuple:
        norm = LayerNormBounds(input, eps)
        grad_input = norm.input_gradient(grad_output, self.exact(weight)).store(NORM_GRADIENT)
        return grad_input, norm.weight_gradient(grad_output).store(), self.total(grad_output)

    def activation(self, name: str, input: Bounded) -> Bounded:
        if name == "relu":
            error = np.where(input.value + input.error > 0, input.error, 0.0)
            return Bounded(np.maximum(input.value, 0.0), error, self.contract)
        return (input * self._below(input)).store(ACTIVATION)

    def activation_gradient(self, name: str, grad_output: Bounded, input: Bounded) -> Bounded:
        if name == "relu":  # where the sign of the input is not certain, either is right
            value = np.where(input.value > 0, grad_output.value, 0.0)
            both = np.abs(grad_output.value) + grad_output.error
            error = np.where(input.value > 0, grad_output.error, 0.0)
            unsure = (np.abs(input.value) <= input.error) & (input.error > 0)
            return Bounded(value, np.where(unsure, both, error), self.contract)
        density = (input * input * -0.5).exp() * (1.0 / math.sqrt(2.0 * math.pi))
        return (grad_output * (self._below(input) + input * density)).store(ACTIVATION_GRADIENT)

    def _below(self, input: Bounded) -> Bounded:
        """The share of normal numbers below `input`."""
        return ((input * math.sqrt(0.5)).erf() + 1.0) * 0.5

    def add(self, *operands: Bounded) -> Bounded:
        result = operands[0]
        for operand in operands[1:]:
            result = (result + operand).store(SUM)
        return result

    def total(self, operand: Bounded) -> Bounded:
        return _matrix(operand).sum(0).store()

    def mean(self, operand: Bounded, axis: int) -> Bounded:
        return (operand.sum(axis) / operand.value.shape[axis]).store()

    def divided(self, operand: Bounded, by: float) -> Bounded:
        return (operand / by).store(WEIGHT_GRADIENT)


def _matrix(operand: Bounded) -> Bounded:
    return operand.reshape(math.prod(operand.value.shape[:-1]), operand.value.shape[-1])

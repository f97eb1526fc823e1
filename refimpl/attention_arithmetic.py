"""Two arithmetics for layers made of several parts: the references of the parts, and their bounds.

A composite layer is written once, in the operations of an arithmetic: `Loops` runs the loop references and
their backward functions on arrays, `Bounds` evaluates the same formulas in Bounded arithmetic.  Both are used
for every comparison: the loops give the value, the bounds how far off a candidate may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.activation import gelu, gelu_backward, relu, relu_backward
from refimpl.attention import Attention
from refimpl.attention_bounds import bounded_attention, bounded_gradients, product, transposed
from refimpl.error_bounds import Bounded, Contract, gamma, inverse_deviation
from refimpl.floats import outward
from refimpl.group_norm import layer_norm, layer_norm_backward
from refimpl.linear import linear, linear_backward
from refimpl.taps import float_array


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

    def affine(self, input: Bounded, weight: Any, bias: Any) -> Bounded:
        output = product(_matrix(input), self.exact(weight))
        output = output if bias is None else output + self.exact(bias)
        return output.store().reshape(*input.value.shape[:-1], weight.shape[0])

    def affine_gradients(self, grad_output: Bounded, input: Bounded, weight: Any) -> tuple:
        up, weight = _matrix(grad_output), self.exact(weight)
        grad_input = product(up, transposed(weight)).store().reshape(*input.value.shape)
        grad_weight = product(transposed(up), transposed(_matrix(input))).store()
        return grad_input, grad_weight, self.total(grad_output)

    def attention(
        self, query: Bounded, key: Bounded, value: Bounded, mask: Any, scale: float, safe: bool
    ) -> Any:
        operands = (query, key, value)
        results = bounded_attention(operands, self.exact(mask), scale, safe)
        return results[0], results[1].store(), (operands, results, scale)

    def attention_gradients(self, saved: Any, grad_output: Bounded, grad_weights: Bounded | None) -> tuple:
        operands, results, scale = saved
        return bounded_gradients(operands, results, grad_output, scale, grad_weights)[:3]

    def norm(self, input: Bounded, weight: Any, bias: Any, eps: float) -> Bounded:
        mean, inverse = self._statistics(input, eps)
        result = (input - mean) * inverse * self.exact(weight)
        result = result if bias is None else result + self.exact(bias)
        size = (_size(input) + _size(mean)) * _size(inverse) * np.abs(weight)
        size = size if bias is None else size + np.abs(bias)
        return self._expanded(result, size, 6).store()

    def norm_gradients(self, grad_output: Bounded, input: Bounded, weight: Any, eps: float) -> tuple:
        mean, inverse = self._statistics(input, eps)
        count, steep = input.value.shape[-1], _size(inverse)
        centered, up = input - mean, grad_output * self.exact(weight)
        projection = (up * centered).sum(-1, keepdims=True) * inverse * inverse / count
        result = (up - up.sum(-1, keepdims=True) / count - centered * projection) * inverse
        far = _size(input) + _size(mean)
        slope = (_size(up) * far).mean(-1, keepdims=True) * steep * steep
        size = (_size(up) + slope * far + _size(up).mean(-1, keepdims=True)) * steep
        grad_input = self._expanded(result, size, count + 12).store()
        grad_weight = _matrix(grad_output * (centered * inverse)).sum(0)
        size = (_size(grad_output) * far * steep).reshape(-1, count)
        grad_weight = self._expanded(grad_weight, size.sum(0), len(size) + 6).store()
        return grad_input, grad_weight, self.total(grad_output)

    def _statistics(self, input: Bounded, eps: float) -> tuple[Bounded, Bounded]:
        """Mean and 1 / sqrt(variance + eps) of numbers that are off themselves, in two passes or by updates.

        As `error_bounds.statistics`, whose e and P are taken for the largest numbers that a candidate may
        have; to that what their errors d can do: mean|d|, and 2 deviation rms(d) + rms(d)^2."""
        value, off = input.value, input.error
        count = value.shape[-1]
        roundings = count + 4 * (1 + math.ceil(math.log2(max(1, count))))
        mean = value.mean(-1, keepdims=True)
        variance = np.square(value - mean).mean(-1, keepdims=True)
        far, eta = np.sqrt(np.square(off).mean(-1, keepdims=True)), count * self.contract.eta
        own = gamma(roundings, self.contract.u) * (np.abs(value) + off).mean(-1, keepdims=True) + eta
        deviation = np.sqrt(variance) + far
        moved = own**2 + (1 + math.sqrt(2)) * own * deviation
        spread = moved + gamma(roundings + 4, self.contract.u) * (deviation**2 + moved) + eta
        spread = spread + 2 * np.sqrt(variance) * far + far**2
        bounded = Bounded(variance, outward(spread, count + 8), self.contract)
        own = own + off.mean(-1, keepdims=True)
        return Bounded(mean, outward(own, count + 8), self.contract), inverse_deviation(bounded, eps)

    def _expanded(self, result: Bounded, size: np.ndarray, roundings: int) -> Bounded:
        """As implementations do that multiply the input and its mean with the slope one by one."""
        more = gamma(roundings, self.contract.u) * size + roundings * self.contract.eta
        return Bounded(result.value, outward(result.error + more), self.contract)

    def activation(self, name: str, input: Bounded) -> Bounded:
        if name == "relu":
            error = np.where(input.value + input.error > 0, input.error, 0.0)
            return Bounded(np.maximum(input.value, 0.0), error, self.contract)
        return (input * self._below(input)).store()

    def activation_gradient(self, name: str, grad_output: Bounded, input: Bounded) -> Bounded:
        if name == "relu":  # where the sign of the input is not certain, either is right
            value = np.where(input.value > 0, grad_output.value, 0.0)
            both = np.abs(grad_output.value) + grad_output.error
            error = np.where(input.value > 0, grad_output.error, 0.0)
            return Bounded(value, np.where(np.abs(input.value) <= input.error, both, error), self.contract)
        density = (input * input * -0.5).exp() * (1.0 / math.sqrt(2.0 * math.pi))
        return (grad_output * (self._below(input) + input * density)).store()

    def _below(self, input: Bounded) -> Bounded:
        """The share of normal numbers below `input`."""
        return ((input * math.sqrt(0.5)).erf() + 1.0) * 0.5

    def add(self, *operands: Bounded) -> Bounded:
        result = operands[0]
        for operand in operands[1:]:
            result = (result + operand).store()
        return result

    def total(self, operand: Bounded) -> Bounded:
        return _matrix(operand).sum(0).store()

    def mean(self, operand: Bounded, axis: int) -> Bounded:
        return (operand.sum(axis) / operand.value.shape[axis]).store()

    def divided(self, operand: Bounded, by: float) -> Bounded:
        return (operand / by).store()


def _size(operand: Bounded) -> np.ndarray:
    """The largest magnitude of what a candidate may have."""
    return np.abs(operand.value) + operand.error


def _matrix(operand: Bounded) -> Bounded:
    return operand.reshape(math.prod(operand.value.shape[:-1]), operand.value.shape[-1])

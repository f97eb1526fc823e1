"""Layers that move numbers and compute none: Identity, Flatten, Unflatten; and the linear map of two inputs.

    flatten:    output[..., (i, j), ...] = input[..., i, j, ...]      (i, j) in C order
    unflatten:  output[..., i, j, ...] = input[..., (i, j), ...]

The gradient is the upstream gradient in the shape of the input.  Bilinear is in `bilinear`.
Source: torch.nn.Identity, torch.nn.Flatten, torch.nn.Unflatten.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.bilinear import Bilinear, bilinear, bilinear_backward
from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.taps import float_array

__all__ = ["Bilinear", "Flatten", "Identity", "Unflatten", "bilinear", "bilinear_backward"]


class _Reshaping(Module):
    """A layer that copies every number to another place; derived ones say in what shape."""

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def forward(self, input: Any) -> np.ndarray:
        input = float_array(input)
        return input.reshape(self._shape(input.shape))

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._shape(np.shape(inputs[0])),)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        grad_output, shape = float_array(grad_outputs[0]), np.shape(input)
        if grad_output.shape != self._shape(shape):
            raise RuntimeError(
                f"{type(self).__name__}: grad_output has shape {grad_output.shape}; "
                f"needed is {self._shape(shape)}"
            )
        return (grad_output.reshape(shape),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        gradients, _ = self._backward(grad_outputs, *inputs)
        return {
            "output": contract.copied(self.forward(*inputs)),
            "grad_input": contract.copied(gradients[0]),
        }


class Identity(_Reshaping):
    """The input itself, whatever the constructor is given.

        output = input

    input (*) -> output (*).  Error: none, values are copied.  Source: torch.nn.Identity."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


class Flatten(_Reshaping):
    """Make one axis of the axes `start_dim` to `end_dim`, the last one included.

        output[..., (i, ..., j), ...] = input[..., i, ..., j, ...]     (i, ..., j) in C order

    input (*, S_start, ..., S_end, *) -> output (*, product of the S, *); a scalar becomes (1).
    Error: none, values are copied.
    Raises IndexError for an axis that the input has not, RuntimeError for start_dim behind end_dim, TypeError
    for what is no int.  Source: torch.nn.Flatten."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        start = _axis("start_dim", self.start_dim, len(shape))
        end = _axis("end_dim", self.end_dim, len(shape))
        if start > end:
            raise RuntimeError(
                f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} in shape {shape}; "
                "needed is start_dim <= end_dim"
            )
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


class Unflatten(_Reshaping):
    """Make several axes of one.

        output[..., i, ..., j, ...] = input[..., (i, ..., j), ...]     (i, ..., j) in C order

    input (*, S, *) -> output (*, *unflattened_size, *), whose product is S; one of the sizes may be -1.
    Error: none, values are copied.
    Raises TypeError for what is no int or no tuple of ints, IndexError for an axis that the input has not,
    RuntimeError for sizes that do not multiply to S.  Source: torch.nn.Unflatten."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        if not isinstance(unflattened_size, (tuple, list)) or not all(
            isinstance(size, int) for size in unflattened_size
        ):
            raise TypeError(f"unflattened_size is {unflattened_size!r}; needed is a tuple of ints")
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape:
            raise RuntimeError("Unflatten: a scalar has no axis to unflatten; needed is an input with axes")
        dim = _axis("dim", self.dim, len(shape))
        sizes, size = self.unflattened_size, shape[dim]
        known = math.prod(n for n in sizes if n != -1)
        if sizes.count(-1) == 1 and known > 0 and size % known == 0:
            sizes = tuple(size // known if n == -1 else n for n in sizes)
        if not sizes or min(sizes) < 0 or math.prod(sizes) != size:
            raise RuntimeError(
                f"Unflatten: unflattened_size {self.unflattened_size} for an axis of {size}; needed are "
                f"sizes whose product is {size}, one of them may be -1"
            )
        return (*shape[:dim], *sizes, *shape[dim + 1 :])


def _axis(name: str, axis: Any, axes: int) -> int:
    """`axis` counted from the front; of a scalar, as if it had one axis."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{name} is {axis!r}; needed is an int")
    axes = max(1, axes)
    if not -axes <= axis < axes:
        raise IndexError(f"{name} is {axis}; needed is an axis from {-axes} to {axes - 1}")
    return int(axis) % axes

"""One call of a convolution: what is given is checked as torch checks it, and lifted to three spatial
axes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from refimpl.conv_taps import Geometry, read_input, read_output, read_weight, terms
from refimpl.error_bounds import Products, multilinear
from refimpl.shapes import batched, leading, lift, lower, per_axis
from refimpl.taps import float_array


class Convolution:
    """One call of a (transposed) convolution: arguments checked, arrays lifted to three spatial axes, walk
    ready.

    `transposed` exchanges the sides: `input` is then the output side of the walk, and its weight is (C,
    O/groups, *k).
    """

    def __init__(
        self,
        name: str,
        rank: int,
        input: Any,
        weight: Any,
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        output_padding: Any = None,
    ):
        self.rank, self.transposed = rank, output_padding is not None
        input, weight = float_array(input), float_array(weight)
        if weight.ndim != rank + 2:
            raise RuntimeError(f"{name}: weight has {weight.ndim} axes {weight.shape}; needed are {rank + 2}")
        input, self.batched = batched(input, rank, name)
        stride, dilation = per_axis(stride, rank, "stride"), per_axis(dilation, rank, "dilation")
        kernel = weight.shape[2:]
        self.bias = None if bias is None else float_array(bias)
        _check_call(name, input, weight, self.bias, stride, dilation, groups, self.transposed)
        size = input.shape[2:]
        if self.transposed:
            if 0 in size:
                raise RuntimeError(f"{name}: input {input.shape}; only batch and channels may be empty")
            padding = per_axis(padding, rank, "padding")
            extra = per_axis(output_padding, rank, "output_padding")
            _check_transposed(name, padding, extra, stride, dilation)
            inner = [
                (n - 1) * s - 2 * p + d * (k - 1) + e + 1
                for n, s, p, d, k, e in zip(size, stride, padding, dilation, kernel, extra, strict=True)
            ]
            inputs, outputs, before = inner, size, padding
        else:
            before, after = both_sides(name, padding, rank, stride, kernel, dilation)
            outputs = [
                (n + a + b - d * (k - 1) - 1) // s + 1
                for n, a, b, s, d, k in zip(size, before, after, stride, dilation, kernel, strict=True)
            ]
            inner, inputs = outputs, size
        if min(inner) < 1:
            raise RuntimeError(
                f"{name}: the output would have spatial size {tuple(inner)} for input {tuple(size)}, "
                f"kernel {kernel}, padding {padding!r}, dilation {dilation}; needed is at least 1"
            )
        self.input, self.weight = lift(input, rank), lift(weight, rank)
        self.geometry = Geometry(
            input.shape[0],
            weight.shape[0],
            weight.shape[1],
            groups,
            leading(tuple(inputs), 1),
            leading(tuple(kernel), 1),
            leading(tuple(outputs), 1),
            leading(stride, 1),
            leading(tuple(before), 0),
            leading(dilation, 1),
        )

    def _lowered(self, array: np.ndarray) -> np.ndarray:
        return lower(array, self.rank)

    def _down(self, array: np.ndarray) -> np.ndarray:
        return self._lowered(array) if self.batched else self._lowered(array)[0]

    def _up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        return lift(grad_output if self.batched else grad_output[None], self.rank)

    @property
    def output_shape(self) -> tuple[int, ...]:
        geometry = self.geometry
        channels = geometry.group_channels * geometry.groups if self.transposed else geometry.out_channels
        sizes = (geometry.inputs if self.transposed else geometry.outputs)[3 - self.rank :]
        return (*((geometry.batch,) if self.batched else ()), channels, *sizes)

    def output(self) -> np.ndarray:
        read = read_input if self.transposed else read_output
        return self._down(read(self.geometry, self.input, self.weight, self.bias))

    def gradients(self, grad_output: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Gradients of input, weight and bias (None without one)."""
        up = self._up(grad_output)
        read = read_output if self.transposed else read_input
        sides = (self.input, up) if self.transposed else (up, self.input)
        return (
            self._down(read(self.geometry, up, self.weight)),
            self._lowered(read_weight(self.geometry, *sides)),
            None if self.bias is None else _sum_channels(up),
        )

    def products(self, grad_output: Any) -> dict[str, Products]:
        """Output and gradients with what their bounds need."""
        geometry, up = self.geometry, self._up(grad_output)
        of_output, of_input, of_weight = terms(geometry)
        forward, backward = (read_input, read_output) if self.transposed else (read_output, read_input)
        of_output, of_input = (of_input, of_output) if self.transposed else (of_output, of_input)
        sides = (self.input, up) if self.transposed else (up, self.input)
        operands = (self.input, self.weight)
        result = {
            "output": multilinear(partial(forward, geometry), operands, of_output, self.bias).map(self._down),
            "grad_input": multilinear(partial(backward, geometry), (up, self.weight), of_input).map(
                self._down
            ),
            "grad_weight": multilinear(partial(read_weight, geometry), sides, of_weight).map(self._lowered),
        }
        if self.bias is not None:  # a sum of n numbers, no products: n - 1 roundings
            additions = max(0, up.size // up.shape[1] - 1)
            result["grad_bias"] = multilinear(_sum_channels, (up,), additions)
        return result


def _sum_channels(array: np.ndarray) -> np.ndarray:
    return array.sum(axis=(0, 2, 3, 4))


def both_sides(
    name: str, padding: Any, rank: int, stride: tuple, kernel: tuple, dilation: tuple
) -> tuple[tuple, tuple]:
    """Padding before and after each axis.  'same' puts the odd element behind, as torch does."""
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding == "same":
        if any(s != 1 for s in stride):
            raise RuntimeError(
                f"{name}: padding='same' with stride {stride}; needed is stride 1, or explicit padding"
            )
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    if isinstance(padding, str):
        raise RuntimeError(f"{name}: padding {padding!r}; needed is an int, {rank} ints, 'same' or 'valid'")
    both = per_axis(padding, rank, "padding")
    if min(both) < 0:
        raise RuntimeError(f"{name}: padding {both} is negative; needed is at least 0 on each axis")
    return both, both


def _check_call(
    name: str,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: tuple,
    dilation: tuple,
    groups: int,
    transposed: bool,
) -> None:
    if min(stride) < 1 or min(dilation) < 1:
        raise RuntimeError(f"{name}: stride {stride}, dilation {dilation}; needed are positive values")
    if groups < 1 or weight.shape[0] % groups or weight.shape[0] < groups:
        raise RuntimeError(
            f"{name}: groups {groups} does not divide the {weight.shape[0]} channels of "
            f"weight {weight.shape}; needed is a positive divisor"
        )
    needed = weight.shape[0] if transposed else weight.shape[1] * groups
    if input.shape[1] != needed:
        raise RuntimeError(
            f"{name}: input {input.shape} has {input.shape[1]} channels; weight {weight.shape} with "
            f"groups {groups} needs {needed}"
        )
    out_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and bias.shape != (out_channels,):
        raise RuntimeError(f"{name}: bias has shape {bias.shape}; needed is ({out_channels},)")
    if min(weight.shape[1 if transposed else 2 :]) < 1:
        raise RuntimeError(f"{name}: weight {weight.shape}; needed is an output channel and a kernel")


def _check_transposed(name: str, padding: tuple, extra: tuple, stride: tuple, dilation: tuple) -> None:
    if min(padding) < 0 or min(extra) < 0:
        raise RuntimeError(
            f"{name}: padding {padding}, output_padding {extra}; needed is at least 0 on each axis"
        )
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(
            f"{name}: output_padding {extra}; needed is less than stride {stride} or dilation {dilation}"
        )

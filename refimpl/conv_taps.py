"""The walk of a convolution and its three readings: output, input gradient, weight gradient.

    output[n, o, y] = bias[o] + sum(input[n, first(o) + c, y*stride - padding + k*dilation] * weight[o, c, k]
                                    for c in channels of the group, k in kernel)

with first(o) the first input channel of the group of o.  There are always three spatial axes; a 1-d or 2-d
layer has leading ones of size 1.  A transposed convolution reads the same walk with input and output side
exchanged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refimpl.taps import Kernel, inside, zeros_like_kind


class Geometry(NamedTuple):
    """Sizes of a convolution with three spatial axes: `inputs` and `outputs` per axis, `padding` in front."""

    batch: int
    out_channels: int
    group_channels: int  # input channels of a group
    groups: int
    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        return (
            self.batch
            * self.out_channels
            * self.group_channels
            * math.prod(self.kernel)
            * math.prod(self.outputs)
        )


def taps(visit, arrays, geometry):
    """Every tap: output y = (n, o, y0, y1, y2) reads input x = (n, i, x0, x1, x2) through weight w.

    w = (o, c, k0, k1, k2)."""
    batch, out_channels, group_channels, groups, inputs, kernel, outputs, stride, padding, dilation = geometry
    for n in range(batch):
        for o in range(out_channels):
            group = o // (out_channels // groups)
            for c in range(group_channels):
                i = group * group_channels + c
                for k0 in range(kernel[0]):
                    first0, last0 = inside(k0, inputs[0], outputs[0], stride[0], padding[0], dilation[0])
                    for k1 in range(kernel[1]):
                        first1, last1 = inside(k1, inputs[1], outputs[1], stride[1], padding[1], dilation[1])
                        for k2 in range(kernel[2]):
                            first2, last2 = inside(
                                k2, inputs[2], outputs[2], stride[2], padding[2], dilation[2]
                            )
                            w = (o, c, k0, k1, k2)
                            offset = k2 * dilation[2] - padding[2]
                            for y0 in range(first0, last0):
                                x0 = y0 * stride[0] - padding[0] + k0 * dilation[0]
                                for y1 in range(first1, last1):
                                    x1 = y1 * stride[1] - padding[1] + k1 * dilation[1]
                                    row(
                                        visit,
                                        arrays,
                                        (n, o, y0, y1),
                                        (n, i, x0, x1),
                                        w,
                                        first2,
                                        last2,
                                        stride[2],
                                        offset,
                                    )


def row(visit, arrays, y, x, w, first, last, stride, offset):
    """The taps of one output row, from output `first` on; stride 1 has a loop of its own.

    Neither index can be negative, which the two maxima tell a compiler: without them it makes no vector
    instructions.
    """
    first, start = max(first, 0), max(first * stride + offset, 0)
    if stride == 1:
        for step in range(last - first):
            visit(arrays, (*y, first + step), (*x, start + step), w)
    else:
        for step in range(last - first):
            visit(arrays, (*y, first + step), (*x, start + step * stride), w)


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
    output = zeros_like_kind((geometry.batch, geometry.out_channels, *geometry.outputs), input, weight)
    if bias is not None:
        output += bias[:, None, None, None]
    _forward((output, input, weight), geometry, geometry.taps)
    return output


def read_input(
    geometry: Geometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """The input side of the walk, from output and weight side; a transposed one starts at its bias."""
    channels = geometry.group_channels * geometry.groups
    grad_input = zeros_like_kind((geometry.batch, channels, *geometry.inputs), grad_output, weight)
    if bias is not None:
        grad_input += bias[:, None, None, None]
    _input_gradient((grad_output, grad_input, weight), geometry, geometry.taps)
    return grad_input


def read_weight(geometry: Geometry, grad_output: np.ndarray, input: np.ndarray) -> np.ndarray:
    """The weight side of the walk, from output and input side."""
    shape = (geometry.out_channels, geometry.group_channels, *geometry.kernel)
    grad_weight = zeros_like_kind(shape, grad_output, input)
    _weight_gradient((grad_output, input, grad_weight), geometry, geometry.taps)
    return grad_weight


def terms(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of terms of each output, input gradient and weight gradient: the walk over ones, one channel."""
    one = geometry._replace(batch=1, out_channels=1, group_channels=1, groups=1)
    outputs, inputs, kernel = (np.ones((1, 1, *sizes)) for sizes in (one.outputs, one.inputs, one.kernel))
    return (
        read_output(one, inputs, kernel) * geometry.group_channels,
        read_input(one, outputs, kernel) * (geometry.out_channels // geometry.groups),
        read_weight(one, outputs, inputs) * geometry.batch,
    )

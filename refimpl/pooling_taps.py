"""The walk over the windows of a pooling and its readings: maximum, sum, and the gradients of both.

    y = (n, c, y0, y1, y2) reads x = (n, c, x0, x1, x2) with x_i = y_i*stride_i - padding_i + k_i*dilation_i

for k in the kernel.  There are always three spatial axes; a 1-d or 2-d layer has leading ones of size 1.  The
walk visits the taps that lie in the input: padding is -inf to a maximum and 0 to a sum and adds nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refimpl.taps import Kernel, inside, zeros_like_kind


class Geometry(NamedTuple):
    """Sizes of a pooling: of each three, one for a spatial axis; `padding` is before the first element."""

    batch: int
    channels: int
    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        return self.batch * self.channels * math.prod(self.kernel) * math.prod(self.outputs)


def windows(visit, arrays, geometry):
    """Every tap: output y = (n, c, y0, y1, y2) reads input x = (n, c, x0, x1, x2), each window in order."""
    batch, channels, inputs, kernel, outputs, stride, padding, dilation = geometry
    for n in range(batch):
        for c in range(channels):
            for k0 in range(kernel[0]):
                first0, last0 = inside(k0, inputs[0], outputs[0], stride[0], padding[0], dilation[0])
                for k1 in range(kernel[1]):
                    first1, last1 = inside(k1, inputs[1], outputs[1], stride[1], padding[1], dilation[1])
                    for k2 in range(kernel[2]):
                        first2, last2 = inside(k2, inputs[2], outputs[2], stride[2], padding[2], dilation[2])
                        for y0 in range(first0, last0):
                            x0 = y0 * stride[0] - padding[0] + k0 * dilation[0]
                            for y1 in range(first1, last1):
                                x1 = y1 * stride[1] - padding[1] + k1 * dilation[1]
                                for y2 in range(first2, last2):
                                    x2 = y2 * stride[2] - padding[2] + k2 * dilation[2]
                                    visit(arrays, (n, c, y0, y1, y2), (n, c, x0, x1, x2))


def flat(array, x):
    """The place of x in its plane of `array`, rows one after the other."""
    return (x[2] * array.shape[3] + x[3]) * array.shape[4] + x[4]


def maximum(arrays, y, x):
    output, indices, input = arrays
    if indices[y] < 0 or input[x] > output[y] or input[x] != input[x]:
        output[y] = input[x]
        indices[y] = flat(input, x)


def chosen_gradient(arrays, y, x):
    grad_output, indices, grad_input = arrays
    if indices[y] == flat(grad_input, x):
        grad_input[x] += grad_output[y]


def total(arrays, y, x):
    output, input = arrays
    output[y] += input[x]


def total_gradient(arrays, y, x):
    grad_output, grad_input = arrays
    grad_input[x] += grad_output[y]


def least(arrays, y, x):
    scale, smallest = arrays
    smallest[x] = min(smallest[x], scale[y])


_maximum = Kernel(windows, maximum)
_chosen_gradient = Kernel(windows, chosen_gradient)
_total = Kernel(windows, total)
_total_gradient = Kernel(windows, total_gradient)
_least = Kernel(windows, least)


def read_maximum(geometry: Geometry, input: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of every window and its flat place in the plane; -inf and -1 for a window without taps."""
    shape = (geometry.batch, geometry.channels, *geometry.outputs)
    output = np.full(shape, -np.inf, dtype=input.dtype)
    indices = np.full(shape, -1, dtype=np.int64)
    _maximum((output, indices, input), geometry, geometry.taps)
    return output, indices


def read_chosen(geometry: Geometry, indices: np.ndarray, grad_output: np.ndarray) -> np.ndarray:
    """For every input element, the sum over the windows that chose it."""
    grad_input = zeros_like_kind((geometry.batch, geometry.channels, *geometry.inputs), grad_output)
    _chosen_gradient((grad_output, indices, grad_input), geometry, geometry.taps)
    return grad_input


def read_mean(geometry: Geometry, input: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The sum of every window over its divisor."""
    output = zeros_like_kind((geometry.batch, geometry.channels, *geometry.outputs), input)
    _total((output, input), geometry, geometry.taps)
    return output / divisor


def read_shares(geometry: Geometry, grad_output: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """For every input element, the sum of its share of every window that holds it."""
    grad_input = zeros_like_kind((geometry.batch, geometry.channels, *geometry.inputs), grad_output)
    _total_gradient((grad_output / divisor, grad_input), geometry, geometry.taps)
    return grad_input


def counts(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Taps of each window, windows of each input element: the same walk over ones, for one plane."""
    one = geometry._replace(batch=1, channels=1)
    outputs, inputs = (np.ones((1, 1, *sizes)) for sizes in (one.outputs, one.inputs))
    return read_mean(one, inputs, outputs), read_shares(one, outputs, outputs)


def least_of_windows(geometry: Geometry, scale: np.ndarray) -> np.ndarray:
    """For every element of an input plane, the least `scale` of the windows that hold it; inf without one."""
    one = geometry._replace(batch=1, channels=1)
    smallest = np.full((1, 1, *one.inputs), np.inf)
    _least((scale, smallest), one, one.taps)
    return smallest

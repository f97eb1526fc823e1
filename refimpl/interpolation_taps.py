"""The walk of an interpolation over its weighted samples, and its readings: values, gradients, what errors
of weights do.

output[n, c, y] = sum over t of  input[n, c, x(y, t)] weight(y, t),   the weight a product of one factor an
axis
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refimpl.taps import Kernel, zeros_like_kind


class Samples(NamedTuple):
    """Sizes of an interpolation, and for each spatial axis which element tap t of output y reads (-1:
    none)."""

    batch: int
    channels: int
    source: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(source.shape[0] for source in self.source)

    @property
    def taps(self) -> int:
        return self.batch * self.channels * math.prod(source.size for source in self.source)


def samples(visit, arrays, geometry):
    """Every tap: output y = (n, c, y0, y1, y2) reads input x = (n, c, x0, x1, x2), tap t = (t0, t1, t2) of
    its axes."""
    batch, channels, source = geometry
    for n in range(batch):
        for c in range(channels):
            for y0 in range(source[0].shape[0]):
                for t0 in range(source[0].shape[1]):
                    x0 = source[0][y0, t0]
                    if x0 >= 0:
                        for y1 in range(source[1].shape[0]):
                            for t1 in range(source[1].shape[1]):
                                x1 = source[1][y1, t1]
                                if x1 >= 0:
                                    for y2 in range(source[2].shape[0]):
                                        for t2 in range(source[2].shape[1]):
                                            x2 = source[2][y2, t2]
                                            if x2 >= 0:
                                                y, x = (n, c, y0, y1, y2), (n, c, x0, x1, x2)
                                                visit(arrays, y, x, (t0, t1, t2))


def forward(arrays, y, x, t):
    output, input, weight0, weight1, weight2 = arrays
    output[y] += weight0[y[2], t[0]] * weight1[y[3], t[1]] * weight2[y[4], t[2]] * input[x]


def gradient(arrays, y, x, t):
    grad_output, grad_input, weight0, weight1, weight2 = arrays
    grad_input[x] += weight0[y[2], t[0]] * weight1[y[3], t[1]] * weight2[y[4], t[2]] * grad_output[y]


def product(factors):
    return factors[0] * factors[1] * factors[2]


def change(small, large, extra):
    """product(large) - product(small) for factors that differ by `extra`, without cancellation."""
    return extra[0] * large[1] * large[2] + small[0] * extra[1] * large[2] + small[0] * small[1] * extra[2]


def row(k, table0, table1, table2, y, t):
    """Row k of the tables (0 weight, 1 loose, 2 drift) at a tap, one number an axis."""
    return table0[k, y[2], t[0]], table1[k, y[3], t[1]], table2[k, y[4], t[2]]


def plus(first, second):
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def forward_error(arrays, y, x, t):
    error, magnitude, output, input, table0, table1, table2 = arrays
    weight, loose = row(0, table0, table1, table2, y, t), row(1, table0, table1, table2, y, t)
    drift = row(2, table0, table1, table2, y, t)
    firm = plus(weight, loose)
    full = plus(firm, drift)
    error[y] += change(firm, full, drift) * abs(input[x] - output[y]) + change(weight, firm, loose) * abs(
        input[x]
    )
    magnitude[y] += product(full) * abs(input[x])


def gradient_error(arrays, y, x, t):
    error, magnitude, grad_output, table0, table1, table2 = arrays
    weight, loose = row(0, table0, table1, table2, y, t), row(1, table0, table1, table2, y, t)
    extra = plus(loose, row(2, table0, table1, table2, y, t))
    full = plus(weight, extra)
    error[x] += change(weight, full, extra) * abs(grad_output[y])
    magnitude[x] += product(full) * abs(grad_output[y])


def neighbours(arrays, y, x, t):
    error, output, input = arrays
    error[y] = max(error[y], abs(input[x] - output[y]))


def contested(arrays, y, x, t):
    error, grad_output, table0, table1, table2 = arrays
    doubt = row(2, table0, table1, table2, y, t)
    if doubt[0] + doubt[1] + doubt[2] > 0:
        error[x] += abs(grad_output[y])


_forward = Kernel(samples, forward)
_gradient = Kernel(samples, gradient)
_forward_error = Kernel(samples, forward_error)
_gradient_error = Kernel(samples, gradient_error)
_neighbours = Kernel(samples, neighbours)
_contested = Kernel(samples, contested)


def read_output(geometry: Samples, input: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    """The output side of the walk."""
    output = zeros_like_kind((*input.shape[:2], *geometry.outputs), input)
    _forward((output, input, *weights), geometry, geometry.taps)
    return output


def read_input(geometry: Samples, sizes: tuple, grad_output: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    """The input side of the walk, with these spatial sizes."""
    grad_input = zeros_like_kind((*grad_output.shape[:2], *sizes), grad_output)
    _gradient((grad_output, grad_input, *weights), geometry, geometry.taps)
    return grad_input


def output_errors(geometry: Samples, output: np.ndarray, input: np.ndarray, *tables: np.ndarray) -> tuple:
    """What errors of the weights can do to each output, and the sum of magnitudes of its terms."""
    error, magnitude = np.zeros(output.shape), np.zeros(output.shape)
    _forward_error((error, magnitude, output, input, *tables), geometry, geometry.taps)
    return error, magnitude


def input_errors(geometry: Samples, sizes: tuple, grad_output: np.ndarray, *tables: np.ndarray) -> tuple:
    """What errors of the weights can do to each input gradient, and the sum of magnitudes of its terms."""
    shape = (*grad_output.shape[:2], *sizes)
    error, magnitude = np.zeros(shape), np.zeros(shape)
    _gradient_error((error, magnitude, grad_output, *tables), geometry, geometry.taps)
    return error, magnitude


def distances(geometry: Samples, output: np.ndarray, input: np.ndarray) -> np.ndarray:
    """How far an output copied from another element in doubt can be."""
    error = np.zeros(output.shape)
    _neighbours((error, output, input), geometry, geometry.taps)
    return error


def contested_gradients(
    geometry: Samples, sizes: tuple, grad_output: np.ndarray, *tables: np.ndarray
) -> np.ndarray:
    """The magnitudes of gradients that may go to an element, or to its neighbour."""
    error = np.zeros((*grad_output.shape[:2], *sizes))
    _contested((error, grad_output, *tables), geometry, geometry.taps)
    return error

"""Pooling over regions of unequal size: one walk, read as maxima or as means.

    maximum:  output[n, c, y] = max over x in region(y) of  input[n, c, x]
    mean:     output[n, c, y] = sum over x in region(y) of  input[n, c, x] / size of region(y)

A region is [first[y], last[y]) on each axis.  Adaptive pooling has the same regions in every plane,
fractional pooling others in each.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract, Products, grid, multilinear
from refimpl.pooling_taps import chosen_gradient, least, maximum, total, total_gradient
from refimpl.shapes import batched, lift, lower
from refimpl.taps import Kernel, float_array, zeros_like_kind


class Regions(NamedTuple):
    """Regions on three spatial axes: `first` and `last` are (planes, outputs) for each, or (1, outputs) for
    all planes."""

    batch: int
    channels: int
    inputs: tuple[int, int, int]
    first: tuple[np.ndarray, np.ndarray, np.ndarray]
    last: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(first.shape[1] for first in self.first)

    @property
    def taps(self) -> int:
        sizes = [(last - first).sum(axis=1) for first, last in zip(self.first, self.last, strict=True)]
        planes = self.batch * self.channels
        return int(np.broadcast_to(np.prod(sizes, axis=0), (planes,)).sum())


def regions(visit, arrays, geometry):
    """Every tap: output y = (n, c, y0, y1, y2) reads input x = (n, c, x0, x1, x2) of its region, in order."""
    batch, channels, _, first, last = geometry
    for n in range(batch):
        for c in range(channels):
            p = n * channels + c if first[0].shape[0] > 1 else 0
            for y0 in range(first[0].shape[1]):
                for y1 in range(first[1].shape[1]):
                    for y2 in range(first[2].shape[1]):
                        for x0 in range(first[0][p, y0], last[0][p, y0]):
                            for x1 in range(first[1][p, y1], last[1][p, y1]):
                                for x2 in range(first[2][p, y2], last[2][p, y2]):
                                    visit(arrays, (n, c, y0, y1, y2), (n, c, x0, x1, x2))


_maximum = Kernel(regions, maximum)
_chosen_gradient = Kernel(regions, chosen_gradient)
_total = Kernel(regions, total)
_total_gradient = Kernel(regions, total_gradient)
_least = Kernel(regions, least)


class Lifted:
    """The input of one call with a batch axis and three spatial axes, and the way back."""

    def __init__(self, name: str, rank: int, input: Any):
        self.name, self.rank = name, rank
        input, self.batched = batched(float_array(input), rank, name)
        self.input = lift(input, rank)

    def down(self, array: np.ndarray) -> np.ndarray:
        array = lower(array, self.rank)
        return array if self.batched else array[0]

    def up(self, grad_output: Any, needed: tuple[int, ...]) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != needed:
            raise RuntimeError(f"{self.name}: grad_output has shape {grad_output.shape}; needed is {needed}")
        return lift(grad_output if self.batched else grad_output[None], self.rank)


class RegionPool(Lifted):
    """One call: the regions of an input."""

    def __init__(self, name: str, rank: int, input: Any, find: Any):
        """`find(input)` checks (N, C, *L) with three spatial axes and gives `first` and `last` of its
        regions."""
        super().__init__(name, rank, input)
        first, last = find(self.input)
        batch, channels, *inputs = self.input.shape
        self.geometry = Regions(batch, channels, tuple(inputs), tuple(first), tuple(last))

    @property
    def output_shape(self) -> tuple[int, ...]:
        lead = self.input.shape[:2] if self.batched else self.input.shape[1:2]
        return (*lead, *self.geometry.outputs[3 - self.rank :])

    def _upstream(self, grad_output: Any) -> np.ndarray:
        return self.up(grad_output, self.output_shape)


class RegionMaxima(RegionPool):
    """The maximum of every region: the first of equal ones; NaN wins, the last of several NaN; -inf, index -1
    and no gradient of a region without elements."""

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (*self.input.shape[:2], *self.geometry.outputs)
        output, indices = np.full(shape, -np.inf, dtype=self.input.dtype), np.full(shape, -1, dtype=np.int64)
        _maximum((output, indices, self.input), self.geometry, self.geometry.taps)
        return output, indices

    def _read_chosen(self, indices: np.ndarray, grad_output: np.ndarray) -> np.ndarray:
        grad_input = zeros_like_kind(self.input.shape, grad_output)
        _chosen_gradient((grad_output, indices, grad_input), self.geometry, self.geometry.taps)
        return grad_input

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        output, indices = self._read()
        return self.down(output), self.down(indices)

    def gradient(self, grad_output: Any) -> np.ndarray:
        return self.down(self._read_chosen(self._read()[1], self._upstream(grad_output)))

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Values are copied (which of -0 and +0 wins is promised nowhere); m chosen gradients take m - 1
        additions."""
        output, indices = self._read()
        read = partial(self._read_chosen, indices)
        terms = np.maximum(read(np.ones(indices.shape)) - 1, 0)
        zeros = np.signbit(self.input[self.input == 0])
        copy = contract.exact if zeros.any() and not zeros.all() else contract.copied
        products = multilinear(read, (self._upstream(grad_output),), terms)
        return {
            "output": copy(self.down(output)),
            "indices": contract.copied(self.down(indices)),
            "grad_input": products.map(self.down).bounded(contract),
        }


class RegionMeans(RegionPool):
    """The mean of every region."""

    def __init__(self, name: str, rank: int, input: Any, find: Any):
        super().__init__(name, rank, input, find)
        each = zip(self.geometry.first, self.geometry.last, strict=True)
        # of the regions, per axis, broadcastable to the outputs
        self.sizes: tuple[Any, ...] = np.ix_(*(last[0] - first[0] for first, last in each))
        self.size = math.prod(self.sizes)[None, None]

    def _divisor(self, operand: np.ndarray) -> np.ndarray:
        return self.size.astype(object) if operand.dtype == object else self.size.astype(np.float64)

    def _read(self, input: np.ndarray, divisor: np.ndarray) -> np.ndarray:
        output = zeros_like_kind((*self.input.shape[:2], *self.geometry.outputs), input)
        _total((output, input), self.geometry, self.geometry.taps)
        return output / divisor

    def _read_shares(self, grad_output: np.ndarray, divisor: np.ndarray) -> np.ndarray:
        grad_input = zeros_like_kind(self.input.shape, grad_output)
        shares = np.ascontiguousarray(grad_output / divisor)
        _total_gradient((shares, grad_input), self.geometry, self.geometry.taps)
        return grad_input

    def output(self) -> np.ndarray:
        return self.down(self._read(self.input, self._divisor(self.input)))

    def gradient(self, grad_output: Any) -> np.ndarray:
        up = self._upstream(grad_output)
        return self.down(self._read_shares(up, self._divisor(up)))

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        return {name: products.bounded(contract) for name, products in self._sums(grad_output).items()}

    def _sums(self, grad_output: Any) -> dict[str, Products]:
        """Sums of n terms with their divisors: how many roundings, and of which unit all are whole multiples.

        n - 1 additions.  A mean may be taken along one axis after the other, and a division be a
        multiplication by the rounded reciprocal: two roundings an axis cover that, but a division by a power
        of two rounds only where it underflows, one by 1 nowhere.
        """
        divisions = sum(np.select([size == 1, size & (size - 1) == 0], [0, 1], 2) for size in self.sizes)
        scale = np.where(self.size & (self.size - 1) == 0, 1.0 / self.size, 0.0)
        windows, smallest = self._windows(scale)
        forward = self.size - 1 + divisions
        backward = np.maximum(windows - 1, 0) + np.max(divisions, initial=0)
        up = self._upstream(grad_output)
        return {
            "output": self._products(self._read, self.input, forward, scale),
            "grad_input": self._products(self._read_shares, up, backward, smallest),
        }

    def _windows(self, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For one plane: how many regions hold each input element, and the least scale among them (inf for
        none)."""
        one = self.geometry._replace(batch=1, channels=1)
        shape = (1, 1, *one.inputs)
        windows, smallest = np.zeros(shape), np.full(shape, np.inf)
        _total_gradient((np.ones(scale.shape), windows), one, one.taps)
        _least((scale, smallest), one, one.taps)
        return windows, smallest

    def _products(self, read: Any, operand: np.ndarray, terms: np.ndarray, scale: np.ndarray) -> Products:
        unit = grid(operand) * np.where(np.isfinite(scale), scale, 1.0)
        products = multilinear(read, (operand, self.size.astype(np.float64)), terms)
        return replace(products, unit=np.broadcast_to(unit, products.value.shape)).map(self.down)

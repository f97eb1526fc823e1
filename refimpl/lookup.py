"""What Embedding and EmbeddingBag share: a walk over looked-up rows, four readings, and their bounds.

Sample i looks row v = rows[i] up for bag b = bags[i] and weighs it with c = factors[i]:

    output[b, d] += c * weight[v, d]
    grad_weight[v, d] += c * grad_output[b, d]
    grad_factors[i] += weight[v, d] * grad_output[b, d]

An embedding has one sample in each bag.  Positions that hold the padding index are no samples.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from refimpl.error_bounds import Products, grid
from refimpl.taps import Kernel, zeros_like_kind


class Samples(NamedTuple):
    """How many rows are looked up, and how long they are."""

    samples: int
    dimension: int


def elements(visit, arrays, geometry):
    """Every element d of every sample i."""
    samples, dimension = geometry
    for i in range(samples):
        for d in range(dimension):
            visit(arrays, i, d)


def add_to_bag(arrays, i, d):
    output, weight, rows, bags, factors = arrays
    output[bags[i], d] += weight[rows[i], d] * factors[i]


def add_to_row(arrays, i, d):
    grad_output, grad_weight, rows, bags, factors = arrays
    grad_weight[rows[i], d] += grad_output[bags[i], d] * factors[i]


def add_to_factor(arrays, i, d):
    grad_output, weight, rows, bags, grad_factors = arrays
    grad_factors[i] += grad_output[bags[i], d] * weight[rows[i], d]


def keep_largest(arrays, i, d):
    output, weight, rows, bags, winner = arrays
    if winner[bags[i], d] < 0 or weight[rows[i], d] > output[bags[i], d]:
        output[bags[i], d] = weight[rows[i], d]
        winner[bags[i], d] = rows[i]


_add_to_bag = Kernel(elements, add_to_bag)
_add_to_row = Kernel(elements, add_to_row)
_add_to_factor = Kernel(elements, add_to_factor)
_keep_largest = Kernel(elements, keep_largest)


class Lookup:
    """Which rows of a table (vocabulary, dimension) go into which of `count` bags."""

    def __init__(self, rows: np.ndarray, bags: np.ndarray, table: tuple[int, int], count: int):
        self.rows, self.bags = np.ascontiguousarray(rows), np.ascontiguousarray(bags)
        self.table, self.output_shape = table, (count, table[1])
        self.sizes = np.bincount(self.bags, minlength=count)  # samples of each bag
        self.uses = np.bincount(self.rows, minlength=table[0])  # samples of each row

    def _run(self, kernel: Kernel, *arrays: np.ndarray) -> None:
        work = len(self.rows) * self.table[1]
        kernel(arrays, Samples(len(self.rows), self.table[1]), work)

    def sums(self, weight: np.ndarray, factors: np.ndarray) -> np.ndarray:
        output = zeros_like_kind(self.output_shape, weight, factors)
        self._run(_add_to_bag, output, weight, self.rows, self.bags, factors)
        return output

    def row_sums(self, grad_output: np.ndarray, factors: np.ndarray) -> np.ndarray:
        grad_weight = zeros_like_kind(self.table, grad_output, factors)
        self._run(_add_to_row, grad_output, grad_weight, self.rows, self.bags, factors)
        return grad_weight

    def factor_sums(self, grad_output: np.ndarray, weight: np.ndarray) -> np.ndarray:
        grad_factors = zeros_like_kind(self.rows.shape, grad_output, weight)
        self._run(_add_to_factor, grad_output, weight, self.rows, self.bags, grad_factors)
        return grad_factors

    def largest(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Largest element of each bag, and the row it comes from: the first of equal ones, -1 in an empty
        bag."""
        output = zeros_like_kind(self.output_shape, weight)
        winner = np.full(self.output_shape, -1, dtype=np.int64)
        self._run(_keep_largest, output, weight, self.rows, self.bags, winner)
        return output, winner

    def row_products(
        self, grad_output: np.ndarray, factors: np.ndarray, divisors: np.ndarray, weighted: bool
    ) -> Products:
        """Gradient of the weight with what its bound needs: factor / divisor for each sample, `weighted`
        where the factors are not all 1.

        A quotient is 2 roundings, by way of a reciprocal or not, 1 if the divisor is a power of two."""
        powers = (divisors & (divisors - 1)) == 0
        rows = self.table[0]
        steps, largest, exact = np.zeros(rows, int), np.ones(rows, int), np.ones(rows, bool)
        np.maximum.at(steps, self.rows, np.where(divisors == 1, 0, np.where(powers, 1, 2)))
        np.maximum.at(largest, self.rows, divisors)
        np.logical_and.at(exact, self.rows, powers)
        terms = np.maximum(self.uses - 1, 0) + weighted * (self.uses > 0) + steps
        unit = np.where(exact, grid(grad_output) * (grid(factors) if weighted else 1.0) / largest, 0.0)
        shares = factors / divisors
        return Products(
            value=self.row_sums(grad_output, shares),
            magnitude=self.row_sums(np.abs(grad_output), np.abs(shares)),
            terms=terms[:, None],
            unit=np.nan_to_num(unit)[:, None],
            squares=lambda: self.row_sums(np.square(grad_output), np.square(shares)),
        )


def ones_like_kind(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    """Ones: exact numbers where `like` holds such."""
    return np.full(shape, Fraction(1)) if like.dtype == object else np.ones(shape)


def divided(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """numbers / counts, exact for exact numbers."""
    return numbers / (np.frompyfunc(Fraction, 1, 1)(counts) if numbers.dtype == object else counts)

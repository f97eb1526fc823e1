"""Normalization of rows: what group, layer and root-mean-square normalization have in common.

An input is seen as (N, G, D, L): a row (n, g) holds the D * L elements that are normalized together, and the
parameters have one number for each (g, d).

    output[n, g, d, l] = (input[n, g, d, l] - mean[n, g]) * inverse[n, g] * weight[g, d] + bias[g, d]
    inverse = 1 / sqrt(mean of (input - mean)^2 + eps) over the row, in two passes

Layer normalization: (outer, 1, inner, 1).  Group normalization: (N, groups, C / groups, length).
Root-mean-square normalization: as layer normalization, with a mean of zero and no bias.  Instance
normalization: (N, C, 1, length), in evaluation with mean and variance that are given.

Contracts weaker than the strictest, by name (`Contract.algorithm`); each includes those before it:
    expanded           input * inverse + (-mean * inverse) instead of (input - mean) * inverse, in gradients
                       too: it loses accuracy where the mean is large beside the deviation
    stored statistics  mean and inverse are rounded to T before they are used, and so are the sums of each
                       sample in the gradients of the parameters
    stored intermediates   each elementwise operation is rounded to T, and so are the sums over samples at
                       every step; sums over a row are not
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import Bounded, Contract, gamma, inverse_deviation, statistics, strictest
from refimpl.taps import Kernel, float_array

ALGORITHMS = EXPANDED, STORED, INTERMEDIATES = ("expanded", "stored statistics", "stored intermediates")
STORING = (STORED, INTERMEDIATES)
ROW, PARAMETER = (2, 3), (0, 3)  # axes that one row, one parameter sums over


class Geometry(NamedTuple):
    """Sizes of an input as samples, groups, members of a group, elements of a member."""

    samples: int
    groups: int
    members: int
    length: int


def elements(visit, arrays, geometry):
    """Every element x = (n, g, d, l), with its row r = (n, g) and its parameter p = (g, d)."""
    samples, groups, members, length = geometry
    for n in range(samples):
        for g in range(groups):
            for d in range(members):
                for l in range(length):
                    visit(arrays, (n, g), (g, d), (n, g, d, l))


def row_sums(arrays, r, p, x):
    total, input = arrays
    total[r] += input[x]


def row_squares(arrays, r, p, x):
    total, input, mean = arrays
    distance = input[x] - mean[r]
    total[r] += distance * distance


def normalized(arrays, r, p, x):
    output, input, mean, inverse, weight, bias = arrays
    output[x] = (input[x] - mean[r]) * inverse[r] * weight[p] + bias[p]


def weighted_sums(arrays, r, p, x):
    total, grad_output, weight = arrays
    total[r] += grad_output[x] * weight[p]


def projections(arrays, r, p, x):
    total, grad_output, weight, input, mean = arrays
    total[r] += grad_output[x] * weight[p] * (input[x] - mean[r])


def fixed_gradient(arrays, r, p, x):
    grad_input, grad_output, weight, inverse = arrays
    grad_input[x] = grad_output[x] * weight[p] * inverse[r]


def input_gradient(arrays, r, p, x):
    grad_input, grad_output, weight, input, mean, inverse, grad_mean, slope = arrays
    centered = grad_output[x] * weight[p] - grad_mean[r] - (input[x] - mean[r]) * slope[r]
    grad_input[x] = centered * inverse[r]


def weight_gradient(arrays, r, p, x):
    total, grad_output, input, mean, inverse = arrays
    total[p] += grad_output[x] * (input[x] - mean[r]) * inverse[r]


def bias_gradient(arrays, r, p, x):
    total, grad_output = arrays
    total[p] += grad_output[x]


_row_sums = Kernel(elements, row_sums)
_row_squares = Kernel(elements, row_squares)
_normalized = Kernel(elements, normalized)
_weighted_sums = Kernel(elements, weighted_sums)
_projections = Kernel(elements, projections)
_fixed_gradient = Kernel(elements, fixed_gradient)
_input_gradient = Kernel(elements, input_gradient)
_weight_gradient = Kernel(elements, weight_gradient)
_bias_gradient = Kernel(elements, bias_gradient)


class RowNormalization:
    """One call: the input as (N, G, D, L), weight and bias (any shape of G * D numbers) or None.

    Without `centred` the mean is taken for zero and stays out of the gradient.  `fixed` are mean and variance
    of every row (N, G) that do not depend on the input; otherwise they are the row's own."""

    @np.errstate(all="ignore")
    def __init__(
        self,
        input: np.ndarray,
        geometry: Geometry,
        weight: Any,
        bias: Any,
        eps: float,
        centred: bool = True,
        fixed: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.shape, self.geometry, self.eps, self.centred = input.shape, geometry, eps, centred
        self.fixed = fixed is not None
        self.input = input.reshape(geometry)
        self.rows, self.parameters = geometry[:2], geometry[1:3]
        self.count = max(1, geometry.members * geometry.length)  # a row without elements divides nothing
        self.parameter_shape = {
            name: np.shape(array) for name, array in (("weight", weight), ("bias", bias)) if array is not None
        }
        weight = np.ones(self.parameters) if weight is None else float_array(weight)
        bias = np.zeros(self.parameters) if bias is None else float_array(bias)
        self.weight, self.bias = weight.reshape(self.parameters), bias.reshape(self.parameters)
        self.mean, self.variance = self._own_statistics() if fixed is None else fixed
        self.inverse = 1 / np.sqrt(self.variance + eps)

    def _read(self, kernel: Kernel, shape: tuple[int, ...], *arrays: np.ndarray) -> np.ndarray:
        result = np.zeros(shape)
        kernel((result, *arrays), self.geometry, self.input.size)
        return result

    def _own_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        mean = np.zeros(self.rows)
        if self.centred:
            mean = self._read(_row_sums, self.rows, self.input) / self.count
        return mean, self._read(_row_squares, self.rows, self.input, mean) / self.count

    @np.errstate(all="ignore")
    def output(self) -> np.ndarray:
        arrays = self.input, self.mean, self.inverse, self.weight, self.bias
        return self._read(_normalized, self.geometry, *arrays).reshape(self.shape)

    @np.errstate(all="ignore")
    def gradients(self, grad_output: Any) -> dict[str, np.ndarray]:
        """Gradients by torch's names: `input`, and `weight` and `bias` where there are such."""
        grad_output = float_array(grad_output).reshape(self.geometry)
        gradients = {
            "input": self._input_gradient(grad_output),
            "weight": self._read(
                _weight_gradient, self.parameters, grad_output, self.input, self.mean, self.inverse
            ),
            "bias": self._read(_bias_gradient, self.parameters, grad_output),
        }
        shapes = {"input": self.shape, **self.parameter_shape}
        return {name: gradients[name].reshape(shape) for name, shape in shapes.items()}

    def _input_gradient(self, grad_output: np.ndarray) -> np.ndarray:
        if self.fixed:
            return self._read(_fixed_gradient, self.geometry, grad_output, self.weight, self.inverse)
        total = np.zeros(self.rows)
        if self.centred:
            total = self._read(_weighted_sums, self.rows, grad_output, self.weight)
        projection = self._read(_projections, self.rows, grad_output, self.weight, self.input, self.mean)
        slope = projection * self.inverse * self.inverse / self.count
        return self._read(
            _input_gradient,
            self.geometry,
            grad_output,
            self.weight,
            self.input,
            self.mean,
            self.inverse,
            total / self.count,
            slope,
        )

    @np.errstate(all="ignore")
    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output and gradients with their bounds, for `contract` and its algorithm."""
        mean, variance = self.statistics(contract)
        stores = contract.algorithm in STORING and not self.fixed
        if stores:  # the second pass then goes around the rounded mean
            mean = mean.store()
            variance = replace(variance, error=variance.error + mean.error**2)
        inverse = inverse_deviation(variance, self.eps)
        inverse = inverse.store() if stores else inverse
        operands = _operands(contract)
        mean, inverse = replace(mean, contract=operands), replace(inverse, contract=operands)
        output = self._bounded_output(mean, inverse).reshape(self.shape).store()
        result = {"output": output.agreeing(self.output(), "output")}
        upstream = operands.exact(float_array(grad_output).reshape(self.geometry))
        bounded = {
            "input": self._bounded_input_gradient(upstream, mean, inverse),
            **self._bounded_parameter_gradients(upstream, mean, inverse),
        }
        return result | {
            f"grad_{name}": bounded[name].reshape(loops.shape).store().agreeing(loops, f"grad_{name}")
            for name, loops in self.gradients(grad_output).items()
        }

    def statistics(self, contract: Contract) -> tuple[Bounded, Bounded]:
        """Mean and variance with their bounds, of shape (N, G, 1, 1)."""
        mean, variance = (contract.exact(array[..., None, None]) for array in (self.mean, self.variance))
        if self.fixed:
            return mean, variance
        if self.centred:
            return statistics(self.input, ROW, contract)
        input = contract.exact(self.input)
        return mean, (input * input).sum(ROW, keepdims=True) / self.count

    def _bounded_output(self, mean: Bounded, inverse: Bounded) -> Bounded:
        contract = mean.contract
        input = contract.exact(self.input)
        weight, bias = contract.exact(self.weight[..., None]), contract.exact(self.bias[..., None])
        result = (input - mean) * inverse
        if "weight" in self.parameter_shape:
            result = result * weight
        result = result + bias
        size = (abs(input) + _size(mean)) * _size(inverse) * abs(weight) + abs(bias)
        return self._expanded(result, size, 6)

    def _bounded_input_gradient(self, upstream: Bounded, mean: Bounded, inverse: Bounded) -> Bounded:
        contract, share = mean.contract, 1.0 / self.count
        input = contract.exact(self.input)
        if "weight" in self.parameter_shape:
            upstream = upstream * contract.exact(self.weight[..., None])
        if self.fixed:
            return upstream * inverse
        centered = input - mean
        projection = _sum(upstream * centered, ROW)
        result = upstream - centered * (projection * inverse * inverse * share)
        if self.centred:
            result = result - _sum(upstream, ROW) * share
        total = abs(upstream).sum(ROW, keepdims=True) * share
        slope = (abs(upstream) * (abs(input) + _size(mean))).sum(ROW, keepdims=True) * share
        steep = slope * _size(inverse) * _size(inverse)
        size = (abs(upstream) + steep * (abs(input) + _size(mean)) + total) * _size(inverse)
        return self._expanded(result * inverse, size, self.count + 12)

    def _bounded_parameter_gradients(
        self, upstream: Bounded, mean: Bounded, inverse: Bounded
    ) -> dict[str, Bounded]:
        input = mean.contract.exact(self.input)
        weight = _parameter_sum(upstream * ((input - mean) * inverse))
        size = (abs(upstream) * (abs(input) + _size(mean)) * _size(inverse)).sum(PARAMETER)
        terms = self.geometry.samples * self.geometry.length
        return {"weight": self._expanded(weight, size, terms + 6), "bias": _parameter_sum(upstream)}

    def _expanded(self, result: Bounded, size: Bounded, roundings: int) -> Bounded:
        """With the products of the mean rounded each by itself: so many roundings of terms of that `size`."""
        contract = result.contract
        if not self.centred or contract.algorithm not in ALGORITHMS:
            return result
        error = result.error + gamma(roundings, contract.u) * size.value + roundings * contract.eta
        return Bounded(result.value, finite_where(result.value, error), contract)


def _operands(contract: Contract) -> Contract:
    """That of elementwise operations: under 'stored intermediates' their results are rounded to T."""
    return replace(contract, accumulate=contract.store) if contract.algorithm == INTERMEDIATES else contract


def _sum(terms: Bounded, axes: tuple[int, ...]) -> Bounded:
    """A sum in A, also where elementwise operations are rounded to T; it is then rounded to T itself."""
    wide = replace(terms.contract, accumulate=strictest(terms.contract.store).accumulate)
    if terms.contract.algorithm != INTERMEDIATES:
        return terms.sum(axes, keepdims=True)
    return replace(replace(terms, contract=wide).sum(axes, keepdims=True).store(), contract=terms.contract)


def _parameter_sum(terms: Bounded) -> Bounded:
    """Sums for each parameter, with those of each sample rounded to T under 'stored statistics'."""
    if terms.contract.algorithm == STORED:
        terms = terms.sum(3, keepdims=True).store()
    return terms.sum(PARAMETER)


def _size(operand: Bounded) -> Bounded:
    """The largest magnitude of what an implementation may have."""
    with np.errstate(invalid="ignore", over="ignore"):
        return operand.contract.exact(np.abs(operand.value) + operand.error)


def outer_and_inner(shape: tuple[int, ...], normalized_shape: tuple[int, ...]) -> Geometry:
    """The geometry of a normalization over the last axes."""
    outer = shape[: len(shape) - len(normalized_shape)]
    return Geometry(math.prod(outer), 1, math.prod(normalized_shape), 1)

"""Batch normalization, 1-d to 3-d: every channel brought to mean 0 and variance 1, then scaled and shifted.

    output[n, c, l] = (input[n, c, l] - mean[c]) / sqrt(variance[c] + eps) * weight[c] + bias[c]

In training mean and variance are those of the batch, n and l together, in two passes: the mean first, then
the mean of the squared distances from it. In evaluation they are the running ones.
Source: torch.nn.BatchNorm2d; Ioffe and Szegedy, arXiv:1502.03167.

Contracts weaker than the strictest, by name (`Contract.algorithm`):
    folded             input * scale + shift with scale = weight / sqrt(variance + eps), shift = bias - mean *
                       scale: it loses accuracy where the input is close to a mean that is far from zero
    stored statistics  folded, and the batch's mean and 1 / sqrt(variance + eps), momentum, 1 - momentum and
                       the two products of the running statistics are rounded to T before they are used
    stored intermediates  stored statistics, and each elementwise operation is rounded to T; sums are not
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract, inverse_deviation, statistics
from refimpl.module import Module
from refimpl.taps import Kernel, float_array

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "batch_norm_backward"]

ALGORITHMS = FOLDED, STORED, INTERMEDIATES = ("folded", "stored statistics", "stored intermediates")
STORING = (STORED, INTERMEDIATES)


class Geometry(NamedTuple):
    """Sizes of an input with its spatial axes made one."""

    batch: int
    channels: int
    length: int


def elements(visit, arrays, geometry):
    """Every element x = (n, c, l), with its channel c."""
    batch, channels, length = geometry
    for n in range(batch):
        for c in range(channels):
            for l in range(length):
                visit(arrays, c, (n, c, l))


def sums(arrays, c, x):
    total, input = arrays
    total[c] += input[x]


def squares(arrays, c, x):
    total, input, mean = arrays
    distance = input[x] - mean[c]
    total[c] += distance * distance


def normalized(arrays, c, x):
    output, input, mean, inverse, weight, bias = arrays
    output[x] = (input[x] - mean[c]) * inverse[c] * weight[c] + bias[c]


def projections(arrays, c, x):
    total, grad_output, input, mean = arrays
    total[c] += grad_output[x] * (input[x] - mean[c])


def evaluation_gradient(arrays, c, x):
    grad_input, grad_output, inverse, weight = arrays
    grad_input[x] = grad_output[x] * inverse[c] * weight[c]


def training_gradient(arrays, c, x):
    grad_input, grad_output, input, mean, inverse, weight, grad_mean, slope = arrays
    centered = grad_output[x] - grad_mean[c] - (input[x] - mean[c]) * slope[c]
    grad_input[x] = centered * inverse[c] * weight[c]


_sums = Kernel(elements, sums)
_squares = Kernel(elements, squares)
_normalized = Kernel(elements, normalized)
_projections = Kernel(elements, projections)
_evaluation_gradient = Kernel(elements, evaluation_gradient)
_training_gradient = Kernel(elements, training_gradient)


class Normalization:
    """One call of a batch normalization: arguments checked, spatial axes made one, statistics found."""

    @np.errstate(all="ignore")
    def __init__(self, input: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any,
                 training: bool, momentum: float, eps: float):
        input = float_array(input)
        _check_scalars(input, running_mean, running_var, training, momentum, eps)
        _check_sizes(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
        self.shape, self.training, self.momentum, self.eps = input.shape, training, momentum, eps
        batch, channels = input.shape[:2]
        self.geometry = Geometry(batch, channels, math.prod(input.shape[2:]))
        self.count = batch * self.geometry.length  # elements of a channel; in training none or at least two
        self.divisor = max(1, self.count)
        self.input = input.reshape(self.geometry)
        self.has_weight, self.has_bias = weight is not None, bias is not None
        self.tracks = running_mean is not None
        self.weight = np.ones(channels) if weight is None else float_array(weight).ravel()
        self.bias = np.zeros(channels) if bias is None else float_array(bias).ravel()
        if self.tracks:
            self.running_mean = float_array(running_mean).ravel()
            self.running_var = float_array(running_var).ravel()
        if training:
            self.mean = self._read(_sums, self.input) / self.divisor
            self.variance = self._read(_squares, self.input, self.mean) / self.divisor
        else:
            self.mean, self.variance = self.running_mean, self.running_var
        self.inverse = 1 / np.sqrt(self.variance + eps)

    def _read(self, kernel: Kernel, *arrays: np.ndarray) -> np.ndarray:
        """One number for each channel."""
        total = np.zeros(self.geometry.channels)
        kernel((total, *arrays), self.geometry, self.input.size)
        return total

    def _write(self, kernel: Kernel, *arrays: np.ndarray) -> np.ndarray:
        """One number for each element."""
        output = np.zeros(self.geometry)
        kernel((output, *arrays), self.geometry, self.input.size)
        return output.reshape(self.shape)

    @np.errstate(all="ignore")
    def output(self) -> np.ndarray:
        return self._write(_normalized, self.input, self.mean, self.inverse, self.weight, self.bias)

    @np.errstate(all="ignore")
    def gradients(self, grad_output: Any) -> dict[str, np.ndarray]:
        """Gradients by torch's names: `input`, and `weight` and `bias` where there are such."""
        grad_output = float_array(grad_output).reshape(self.geometry)
        total = self._read(_sums, grad_output)
        projection = self._read(_projections, grad_output, self.input, self.mean)
        if self.training:
            slope = projection * self.inverse * self.inverse / self.divisor
            grad_input = self._write(_training_gradient, grad_output, self.input, self.mean, self.inverse,
                                     self.weight, total / self.divisor, slope)
        else:
            grad_input = self._write(_evaluation_gradient, grad_output, self.inverse, self.weight)
        return {"input": grad_input, **({"weight": projection * self.inverse} if self.has_weight else {}),
                **({"bias": total} if self.has_bias else {})}

    @np.errstate(all="ignore")
    def running(self) -> dict[str, np.ndarray]:
        """Running mean and variance after this call: training moves them towards the batch's (unbiased)."""
        if not self.tracks:
            return {}
        if not self.training or self.count == 0:
            return {"running_mean": self.running_mean, "running_var": self.running_var}
        keep, unbiased = 1 - self.momentum, self.variance * (self.count / (self.count - 1))
        return {"running_mean": keep * self.running_mean + self.momentum * self.mean,
                "running_var": keep * self.running_var + self.momentum * unbiased}

    @np.errstate(all="ignore")
    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output, gradients and running statistics with their bounds, for `contract` and its algorithm."""
        mean, variance = contract.exact(_column(self.mean)), contract.exact(_column(self.variance))
        if self.training:
            mean, variance = statistics(self.input, (0, 2), contract)
            if contract.algorithm in STORING:  # the second pass then goes around the rounded mean
                mean = mean.store()
                variance = replace(variance, error=variance.error + mean.error**2)
        inverse = inverse_deviation(variance, self.eps)
        if contract.algorithm == INTERMEDIATES or (contract.algorithm == STORED and self.training):
            inverse = inverse.store()
        result = {"output": self._bounded_output(mean, inverse).agreeing(self.output(), "output")}
        gradients = self._bounded_gradients(float_array(grad_output).reshape(self.geometry), mean, inverse)
        result |= {f"grad_{name}": gradients[name].agreeing(loops, f"grad_{name}")
                   for name, loops in self.gradients(grad_output).items()}
        if self.tracks and self.training:
            moved = self._bounded_running(mean, variance)
            result |= {name: moved[name].agreeing(loops, name) for name, loops in self.running().items()}
        return result

    def _bounded_output(self, mean: Bounded, inverse: Bounded) -> Bounded:
        mean, inverse = _elementwise(mean), _elementwise(inverse)
        contract = mean.contract
        weight, bias = contract.exact(_column(self.weight)), contract.exact(_column(self.bias))
        input = contract.exact(self.input)
        scale = inverse * weight if self.has_weight else inverse
        output = (input - mean) * scale + bias
        if contract.algorithm in ALGORITHMS:  # both sides have the same scale: folding only adds roundings
            given = contract.exact(scale.value)
            folding = input * given + (bias - contract.exact(mean.value) * given)
            output = Bounded(output.value, output.error + folding.error, contract)
        return output.reshape(self.shape).store()

    def _bounded_gradients(self, grad_output: np.ndarray, mean: Bounded,
                           inverse: Bounded) -> dict[str, Bounded]:
        contract, channels = mean.contract, self.geometry.channels
        upstream = _elementwise(contract.exact(grad_output))
        centered = _elementwise(contract.exact(self.input)) - _elementwise(mean)
        total = replace(upstream, contract=contract).sum((0, 2), keepdims=True)
        projection = replace(upstream * centered, contract=contract).sum((0, 2), keepdims=True)
        gradients = {"weight": (projection * inverse).reshape(channels).store(),
                     "bias": total.reshape(channels).store()}
        total, projection, inverse = _elementwise(total), _elementwise(projection), _elementwise(inverse)
        scale = inverse * upstream.contract.exact(_column(self.weight)) if self.has_weight else inverse
        if self.training:
            share = 1.0 / self.divisor
            upstream = upstream - total * share - centered * (projection * inverse * inverse * share)
        return {"input": (upstream * scale).reshape(self.shape).store(), **gradients}

    def _bounded_running(self, mean: Bounded, variance: Bounded) -> dict[str, Bounded]:
        contract, channels = mean.contract, self.geometry.channels
        before = {name: contract.exact(getattr(self, name)) for name in ("running_mean", "running_var")}
        if self.count == 0:
            return before

        def put(result: Bounded) -> Bounded:
            return result.store() if contract.algorithm in STORING else result

        momentum = contract.constant(self.momentum)
        keep, momentum = put(1 - momentum), put(momentum)
        unbiased = variance * (self.count / (self.count - 1))
        batch = {"running_mean": mean.reshape(channels), "running_var": unbiased.reshape(channels)}
        return {name: (put(before[name] * keep) + put(put(batch[name]) * momentum)).store()
                for name in before}


def _elementwise(operand: Bounded) -> Bounded:
    """An operand of elementwise operations; under 'stored intermediates' their results are rounded to T."""
    contract = operand.contract
    if contract.algorithm != INTERMEDIATES:
        return operand
    stored = operand.store() if operand.error.any() else operand  # operands that arrive in T are exact
    return replace(stored, contract=replace(contract, accumulate=contract.store))


def _column(values: np.ndarray) -> np.ndarray:
    return values[None, :, None]


def _check_scalars(input: np.ndarray, running_mean: Any, running_var: Any, training: bool, momentum: Any,
                   eps: float) -> None:
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: input has {input.ndim} axes {input.shape}; needed is (N, C, *L)")
    if training and math.prod(input.shape[:1] + input.shape[2:]) == 1:
        raise ValueError(f"batch_norm: input {input.shape} has one value a channel; training needs more")
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"batch_norm: eps is {eps}; needed is a positive number (in evaluation 0 will do)")
    if isinstance(momentum, str):
        raise TypeError(f"batch_norm: momentum is {momentum!r}; needed is a number")
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("batch_norm: evaluation needs running_mean and running_var")
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must be given both or neither")


def _check_sizes(input: np.ndarray, **arrays: Any) -> None:
    for name, array in arrays.items():
        if array is not None and np.size(array) != input.shape[1]:
            raise RuntimeError(f"batch_norm: {name} has {np.size(array)} elements; needed is one for each "
                               f"of the {input.shape[1]} channels of input {input.shape}")


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
               eps=1e-5):
    """Normalize every channel of `input`; training moves `running_mean` and `running_var` (arrays, in place).

        output[n, c, l] = (input[n, c, l] - mean[c]) / sqrt(variance[c] + eps) * weight[c] + bias[c]
        running_mean = (1 - momentum) running_mean + momentum mean, in training; likewise running_var,
        with the variance times m / (m - 1); m the number of elements of a channel

    mean and variance are the batch's in training, running_mean and running_var in evaluation.
    input (N, C, *L), running_mean, running_var, weight, bias (C) or None -> output (N, C, *L) float64.
    Error: that of the statistics (`error_bounds.statistics`), a rounding for each operation of the formula.
    For the half types the statistics are in float32 too; results and buffers are stored once.  Inputs whose
    squares overflow A are left out of account.
    Raises RuntimeError for shapes that do not fit and for missing statistics in evaluation; ValueError in
    training for a single value a channel, for only one of the running statistics and for an eps of zero, and
    always for a negative eps.
    Source: torch.nn.functional.batch_norm."""
    call = Normalization(input, running_mean, running_var, weight, bias, training, momentum, eps)
    for name, before in (("running_mean", running_mean), ("running_var", running_var)):
        if training and isinstance(before, np.ndarray):
            before[...] = call.running()[name].reshape(before.shape)
    return call.output()


def batch_norm_backward(grad_output, input, running_mean, running_var, weight=None, bias=None, training=False,
                        momentum=0.1, eps=1e-5):
    """Gradients of sum(grad_output * batch_norm(...)): (grad_input, None, None, grad_weight, grad_bias).

    The running statistics have none; those of an absent weight or bias are None.  In training the batch's
    statistics depend on the input: with s = 1 / sqrt(variance + eps), c = input - mean and averages over
    a channel,
        grad_input = (grad_output - average(grad_output) - c s^2 average(grad_output c)) s weight
        grad_weight = sum(grad_output c) s          grad_bias = sum(grad_output)"""
    call = Normalization(input, running_mean, running_var, weight, bias, training, momentum, eps)
    gradients = call.gradients(grad_output)
    return gradients["input"], None, None, gradients.get("weight"), gradients.get("bias")


class _BatchNorm(Module):
    """Batch normalization of an input {shapes}, with parameters and running statistics.

    Formula, error: `batch_norm`. With `affine` there are weight (ones) and bias (zeros; unless `bias` is
    False) of shape (num_features); with `track_running_stats` there are running_mean (zeros),
    running_var (ones) and num_batches_tracked. Without running statistics evaluation uses the batch's.
    With `momentum` None the running statistics are averages of all batches so far, each counting the
    same.
    Raises ValueError for another number of axes, RuntimeError for a negative num_features, TypeError for one
    that is no int; otherwise as `batch_norm`.
    Source: torch.nn.BatchNorm{rank}d."""

    parameters = ("weight", "bias")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    algorithms = ALGORITHMS
    axes: tuple[int, ...]

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *,
                 bias=True):
        super().__init__()
        make: Callable = _checked_size(num_features, affine or track_running_stats)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = make(1.0) if affine else None
        self.bias = make(0.0) if affine and bias else None
        self.running_mean = make(0.0) if track_running_stats else None
        self.running_var = make(1.0) if track_running_stats else None
        self.num_batches_tracked = np.array(0, dtype=np.int64) if track_running_stats else None

    def _call(self, input: Any, batches: int) -> Normalization:
        """The call as one that follows `batches` - 1 training calls."""
        input = np.asarray(input)
        if input.ndim not in self.axes:
            needed = " or ".join(map(str, self.axes))
            raise ValueError(f"{type(self).__name__}: input has {input.ndim} axes {input.shape}; "
                             f"needed are {needed}")
        momentum = 1.0 / max(1, batches) if self.momentum is None else self.momentum
        return Normalization(input, self.running_mean, self.running_var, self.weight, self.bias,
                             self.training or self.running_mean is None, momentum, self.eps)

    def _batches(self) -> int:
        return 0 if self.num_batches_tracked is None else int(self.num_batches_tracked) + self.training

    def forward(self, input: Any) -> np.ndarray:
        call = self._call(input, self._batches())
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked = np.array(self._batches(), dtype=np.int64)
            self.running_mean, self.running_var = call.running().values()
        return call.output()

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        gradients = self._call(input, self._batches()).gradients(grad_outputs[0])
        return (gradients.pop("input"),), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = self._call(inputs[0], self._batches()).bounded(contract, grad_outputs[0])
        if self.training and self.num_batches_tracked is not None:
            tracked = np.array(self._batches(), dtype=np.int64)
            result["num_batches_tracked"] = Bounded(tracked, np.zeros(()), contract)
        return result


def _checked_size(num_features: Any, used: bool) -> Callable[[float], np.ndarray]:
    if used and (not isinstance(num_features, (int, np.integer)) or isinstance(num_features, bool)):
        raise TypeError(f"num_features is {num_features!r}; needed is an int")
    if used and num_features < 0:
        raise RuntimeError(f"num_features is {num_features}; needed is at least 0")
    return lambda value: np.full(num_features, value)


def _of_rank(rank: int, axes: tuple[int, ...], shapes: str) -> type:
    doc = (_BatchNorm.__doc__ or "").replace("{rank}", str(rank)).replace("{shapes}", shapes)
    name = f"BatchNorm{rank}d"
    members = {"axes": axes, "__doc__": doc, "__module__": __name__, "__qualname__": name}
    return type(name, (_BatchNorm,), members)


BatchNorm1d = _of_rank(1, (2, 3), "(N, C) or (N, C, L)")
BatchNorm2d = _of_rank(2, (4,), "(N, C, H, W)")
BatchNorm3d = _of_rank(3, (5,), "(N, C, D, H, W)")

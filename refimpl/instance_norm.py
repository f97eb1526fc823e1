"""Instance normalization, 1-d to 3-d: every channel of every sample brought to mean 0 and variance 1.

Source: torch.nn.InstanceNorm2d; Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.row_norm import ALGORITHMS, STORING, Geometry, RowNormalization
from refimpl.taps import float_array

__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "instance_norm", "instance_norm_backward"]


class Instances:
    """One call: arguments checked, the channels normalized, running statistics moved."""

    @np.errstate(all="ignore")
    def __init__(
        self,
        input: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any,
        bias: Any,
        use_input_stats: bool,
        momentum: float,
        eps: float,
    ):
        input = float_array(input)
        _check(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        batch, channels = input.shape[:2]
        self.geometry = Geometry(batch, channels, 1, math.prod(input.shape[2:]))
        self.momentum, self.moves = momentum, use_input_stats and running_mean is not None
        self.before: dict[str, np.ndarray] = {}
        if running_mean is not None:
            self.before = {"running_mean": float_array(running_mean), "running_var": float_array(running_var)}
        fixed = None
        if not use_input_stats:
            mean, variance = (np.tile(array, (batch, 1)) for array in self.before.values())
            fixed = mean, variance
        self.rows = RowNormalization(input, self.geometry, weight, bias, eps, fixed=fixed)

    @np.errstate(all="ignore")
    def running(self) -> dict[str, np.ndarray]:
        """Running mean and variance after this call."""
        samples, length = self.geometry.samples, self.geometry.length
        if not self.moves or samples * length == 0:
            return self.before
        batch = {"running_mean": self.rows.mean, "running_var": self.rows.variance * (length / (length - 1))}
        return {
            name: ((1 - self.momentum) * before + self.momentum * batch[name]).sum(0) / samples
            for name, before in self.before.items()
        }

    @np.errstate(all="ignore")
    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        result, (samples, length) = self.rows.bounded(contract, grad_output), self.geometry[::3]
        if not self.moves:
            return result
        if samples * length == 0:
            return result | {name: contract.exact(before) for name, before in self.before.items()}

        def put(bounded: Bounded) -> Bounded:
            return bounded.store() if contract.algorithm in STORING else bounded

        mean, variance = (statistic[..., 0, 0] for statistic in self.rows.statistics(contract))
        batch = {"running_mean": mean, "running_var": variance * (length / (length - 1))}
        momentum = contract.constant(self.momentum)
        keep, momentum = put(1 - momentum), put(momentum)
        for name, loops in self.running().items():
            before = contract.exact(self.before[name])
            moved = put(put(before * keep) + put(put(batch[name]) * momentum)).sum(0) / samples
            result[name] = moved.store().agreeing(loops, name)
        return result


def _check(
    input: np.ndarray,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    use_input_stats: bool,
    momentum: Any,
    eps: Any,
) -> None:
    if input.ndim < 3:
        raise RuntimeError(f"instance_norm: input has {input.ndim} axes {input.shape}; needed is (N, C, *L)")
    if use_input_stats and math.prod(input.shape[2:]) == 1:
        raise ValueError(f"instance_norm: input {input.shape} has one value a channel; needed are more")
    if isinstance(eps, str) or isinstance(momentum, str):
        raise TypeError(f"instance_norm: eps is {eps!r}, momentum {momentum!r}; needed are numbers")
    if (running_mean is None) != (running_var is None):
        raise RuntimeError("instance_norm: running_mean and running_var must be given both or neither")
    if not use_input_stats and running_mean is None:
        raise RuntimeError("instance_norm: without the input's own statistics, running ones are needed")
    arrays = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, array in arrays.items():
        if array is not None and np.shape(array) != input.shape[1:2]:
            raise RuntimeError(
                f"instance_norm: {name} has shape {np.shape(array)}; needed is one number for "
                f"each channel of input {input.shape}"
            )


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Normalize every channel of every sample; its own statistics move the running ones (arrays, in place).

        output[n, c, l] = (input[n, c, l] - mean[n, c]) / sqrt(variance[n, c] + eps) * weight[c] + bias[c]
        running_mean[c] = average over n of (1 - momentum) running_mean[c] + momentum mean[n, c], where
        `use_input_stats`; likewise running_var, with the variance times m / (m - 1); m the number of l

    Without `use_input_stats` mean and variance are running_mean[c] and running_var[c].
    input (N, C, *L), running_mean, running_var, weight, bias (C) or None -> output (N, C, *L) float64.
    Error: as of `group_norm`; running statistics are stored once.  An empty batch leaves them as they are.
    Raises ValueError for a single value a channel with its own statistics; RuntimeError for shapes that do
    not fit and for missing statistics.
    Source: torch.nn.functional.instance_norm."""
    call = Instances(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    for name, before in (("running_mean", running_mean), ("running_var", running_var)):
        if use_input_stats and isinstance(before, np.ndarray):
            before[...] = call.running()[name]
    return call.rows.output()


def instance_norm_backward(
    grad_output,
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Gradients of sum(grad_output * instance_norm(...)): (grad_input, None, None, grad_weight, grad_bias).

    As in `group_norm_backward`, with averages over l; with running statistics, which are constants,
        grad_input = grad_output s weight"""
    call = Instances(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    gradients = call.rows.gradients(grad_output)
    return gradients["input"], None, None, gradients.get("weight"), gradients.get("bias")


class _InstanceNorm(Module):
    """Instance normalization of an input {shapes}, one axis less without a batch.

    Formula, error: `instance_norm`. With `affine` (off unless told) there are weight (ones) and bias (zeros;
    unless `bias` is False) of shape (num_features); with `track_running_stats` (off unless told) there are
    running_mean (zeros) and running_var (ones), which evaluation uses, and num_batches_tracked, which nothing
    counts. `momentum` None is taken for 0, as torch does. Without parameters and running statistics an input
    may have any number of channels.
    Raises ValueError for another number of axes and, with `affine`, of channels; RuntimeError for a negative
    num_features, TypeError for one that is no int; otherwise as `instance_norm`.
    Source: torch.nn.InstanceNorm{rank}d."""

    parameters = ("weight", "bias")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    algorithms = ALGORITHMS
    rank: int

    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, *, bias=True
    ):
        super().__init__()
        make: Callable = _checked_size(num_features, affine or track_running_stats)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = make(1.0) if affine else None
        self.bias = make(0.0) if affine and bias else None
        self.running_mean = make(0.0) if track_running_stats else None
        self.running_var = make(1.0) if track_running_stats else None
        self.num_batches_tracked = np.array(0, dtype=np.int64) if track_running_stats else None

    def _call(self, input: Any) -> Instances:
        """The call, of one sample where the input has no batch axis."""
        input = np.asarray(input)
        if input.ndim not in (self.rank + 1, self.rank + 2):
            raise ValueError(
                f"{type(self).__name__}: input has {input.ndim} axes {input.shape}; needed are "
                f"{self.rank + 1} or {self.rank + 2}"
            )
        batched = input if input.ndim == self.rank + 2 else input[None]
        if self.affine and batched.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input {input.shape} has {batched.shape[1]} channels; "
                f"needed are {self.num_features}"
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        return Instances(
            batched,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            momentum,
            self.eps,
        )

    def forward(self, input: Any) -> np.ndarray:
        call = self._call(input)
        if call.moves:
            self.running_mean, self.running_var = call.running().values()
        return call.rows.output().reshape(np.shape(input))

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        gradients = self._call(input).rows.gradients(grad_outputs[0])
        return (gradients.pop("input").reshape(np.shape(input)),), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = self._call(inputs[0]).bounded(contract, grad_outputs[0])
        shape = np.shape(inputs[0])
        return result | {name: result[name].reshape(shape) for name in ("output", "grad_input")}


def _checked_size(num_features: Any, used: bool) -> Callable[[float], np.ndarray]:
    if used and (not isinstance(num_features, (int, np.integer)) or isinstance(num_features, bool)):
        raise TypeError(f"num_features is {num_features!r}; needed is an int")
    if used and num_features < 0:
        raise RuntimeError(f"num_features is {num_features}; needed is at least 0")
    return lambda value: np.full(num_features, value)


def _of_rank(rank: int, shapes: str) -> type:
    doc = (_InstanceNorm.__doc__ or "").replace("{rank}", str(rank)).replace("{shapes}", shapes)
    name = f"InstanceNorm{rank}d"
    members = {"rank": rank, "__doc__": doc, "__module__": __name__, "__qualname__": name}
    return type(name, (_InstanceNorm,), members)


InstanceNorm1d = _of_rank(1, "(N, C, L)")
InstanceNorm2d = _of_rank(2, "(N, C, H, W)")
InstanceNorm3d = _of_rank(3, "(N, C, D, H, W)")

"""Normalizations within a sample: groups of channels, the last axes; instances and neighbours elsewhere.

row_norm             what is shared: walk, readings, bounds
instance_norm        every channel of every sample by itself
local_response_norm  a channel by its neighbours

Source: torch.nn, "Normalization Layers"; Wu and He, arXiv:1803.08494 (group); Ba, Kiros and Hinton,
arXiv:1607.06450 (layer); Zhang and Sennrich, arXiv:1910.07467 (root mean square).
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from refimpl.error_bounds import FLOATS, Bounded, Contract, strictest
from refimpl.instance_norm import (
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    instance_norm,
    instance_norm_backward,
)
from refimpl.local_response_norm import (
    CrossMapLRN2d,
    LocalResponseNorm,
    local_response_norm,
    local_response_norm_backward,
)
from refimpl.module import Module
from refimpl.row_norm import ALGORITHMS, Geometry, RowNormalization, outer_and_inner
from refimpl.taps import float_array

__all__ = [
    "CrossMapLRN2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]


def _number(eps: Any, what: str) -> float:
    if isinstance(eps, str) or eps is None:
        raise TypeError(f"{what}: eps is {eps!r}; needed is a number")
    return eps


def _group_call(input: Any, num_groups: int, weight: Any, bias: Any, eps: float) -> RowNormalization:
    input = float_array(input)
    if input.ndim < 2:
        raise RuntimeError(f"group_norm: input has {input.ndim} axes {input.shape}; needed is (N, C, *L)")
    batch, channels = input.shape[:2]
    length = math.prod(input.shape[2:])
    if num_groups < 1 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: num_groups is {num_groups}; needed is a divisor of the {channels} "
            f"channels of input {input.shape}"
        )
    if batch * (channels // num_groups) * length == 1:
        raise ValueError(
            f"group_norm: input {input.shape} in {num_groups} groups has one value a group; "
            "needed are more, or more samples"
        )
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and np.shape(array) != (channels,):
            raise RuntimeError(
                f"group_norm: {name} has shape {np.shape(array)}; needed is one number for "
                f"each of the {channels} channels of input {input.shape}"
            )
    geometry = Geometry(batch, num_groups, channels // num_groups, length)
    return RowNormalization(input, geometry, weight, bias, _number(eps, "group_norm"))


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalize the channels of each group of a sample together.

        output[n, c, l] = (input[n, c, l] - mean[n, g]) / sqrt(variance[n, g] + eps) * weight[c] + bias[c]
        with g = c // (C / num_groups); mean and (biased) variance over the channels of group g and all l

    input (N, C, *L), weight, bias (C) or None -> output (N, C, *L) float64.
    Error: that of the statistics (`error_bounds.statistics`), a rounding for each operation of the formula;
    for the half types everything is in float32 and stored once.  Inputs whose squares overflow A are left out
    of account.
    Raises RuntimeError for fewer than two axes, channels that the groups do not divide and parameters of
    another shape; ValueError for one sample with a single value a group.
    Source: torch.nn.functional.group_norm."""
    return _group_call(input, num_groups, weight, bias, eps).output()


def group_norm_backward(grad_output, input, num_groups, weight=None, bias=None, eps=1e-5):
    """Gradients of sum(grad_output * group_norm(...)): (grad_input, grad_weight, grad_bias).

    With s = 1 / sqrt(variance + eps), c = input - mean, h = grad_output weight and averages over a group,
        grad_input = (h - average(h) - c s^2 average(h c)) s
        grad_weight = sum(grad_output c s)          grad_bias = sum(grad_output)"""
    gradients = _group_call(input, num_groups, weight, bias, eps).gradients(grad_output)
    return gradients["input"], gradients.get("weight"), gradients.get("bias")


def _last_axes(layer: str, input: np.ndarray, normalized_shape: Any, **arrays: Any) -> Geometry:
    normalized_shape = tuple(normalized_shape)
    if not normalized_shape:
        raise RuntimeError(f"{layer}: normalized_shape is empty; needed is at least one axis")
    if layer == "rms_norm" and input.ndim < len(normalized_shape):
        raise ValueError(f"rms_norm: input has {input.ndim} axes; needed are {len(normalized_shape)} or more")
    if input.shape[-len(normalized_shape) :] != normalized_shape:
        raise RuntimeError(
            f"{layer}: input has shape {input.shape}; needed is (*, {', '.join(map(str, normalized_shape))})"
        )
    for name, array in arrays.items():
        if array is not None and np.shape(array) != normalized_shape:
            raise RuntimeError(f"{layer}: {name} has shape {np.shape(array)}; needed is {normalized_shape}")
    return outer_and_inner(input.shape, normalized_shape)


def _layer_call(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> RowNormalization:
    input = float_array(input)
    geometry = _last_axes("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return RowNormalization(input, geometry, weight, bias, _number(eps, "layer_norm"))


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalize the last axes of `input` together.

        output[n, d] = (input[n, d] - mean[n]) / sqrt(variance[n] + eps) * weight[d] + bias[d]
        with d over the axes of normalized_shape, n over those before; the variance biased

    input (*N, *normalized_shape), weight, bias of shape normalized_shape or None -> output like input.
    Error: as of `group_norm`.
    Raises RuntimeError for an empty normalized_shape and for shapes that do not fit.
    Source: torch.nn.functional.layer_norm."""
    return _layer_call(input, normalized_shape, weight, bias, eps).output()


def layer_norm_backward(grad_output, input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Gradients of sum(grad_output * layer_norm(...)): (grad_input, grad_weight, grad_bias).

    As in `group_norm_backward`, with averages over the last axes and sums over the others."""
    gradients = _layer_call(input, normalized_shape, weight, bias, eps).gradients(grad_output)
    return gradients["input"], gradients.get("weight"), gradients.get("bias")


def machine_epsilon(dtype: str) -> float:
    """eps of `rms_norm` where none is given: the spacing at 1 in the type in which `dtype` is computed."""
    return 2.0 * FLOATS[strictest(dtype).accumulate].roundoff


def _rms_call(input: Any, normalized_shape: Any, weight: Any, eps: Any) -> RowNormalization:
    input = float_array(input)
    geometry = _last_axes("rms_norm", input, normalized_shape, weight=weight)
    eps = machine_epsilon("float64") if eps is None else _number(eps, "rms_norm")
    return RowNormalization(input, geometry, weight, None, eps, centred=False)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide the last axes of `input` by their root mean square.

        output[n, d] = input[n, d] / sqrt(mean(input[n]^2) + eps) * weight[d]
        with d over the axes of normalized_shape, n over those before

    Without `eps` it is the machine epsilon of the type computed in: here float64's; a layer's bounds take
    that of float32 for the half types, and otherwise that of the storage type.
    input (*N, *normalized_shape), weight of shape normalized_shape or None -> output like input.
    Error: gamma(n + 1) of the mean of n squares, a rounding for each further operation; for the half types
    everything is in float32 and stored once.  Inputs whose squares overflow A are left out of account.
    Raises RuntimeError for an empty normalized_shape and for shapes that do not fit; ValueError for an input
    of fewer axes than normalized_shape.
    Source: torch.nn.functional.rms_norm."""
    return _rms_call(input, normalized_shape, weight, eps).output()


def rms_norm_backward(grad_output, input, normalized_shape, weight=None, eps=None):
    """Gradients of sum(grad_output * rms_norm(...)): (grad_input, grad_weight).

    With s = 1 / sqrt(mean(input^2) + eps), h = grad_output weight and averages over the last axes,
        grad_input = (h - input s^2 average(h input)) s          grad_weight = sum(grad_output input s)"""
    gradients = _rms_call(input, normalized_shape, weight, eps).gradients(grad_output)
    return gradients["input"], gradients.get("weight")


class _RowNorm(Module):
    """What the three layers share: `_call(input)` is the normalization of an input."""

    parameters: tuple[str, ...] = ("weight", "bias")
    algorithms: tuple[str, ...] = ALGORITHMS

    def _call(self, input: Any) -> RowNormalization:
        raise NotImplementedError

    def forward(self, input: Any) -> np.ndarray:
        return self._call(input).output()

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        gradients = self._call(input).gradients(grad_outputs[0])
        return (gradients.pop("input"),), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._call(inputs[0]).bounded(contract, grad_outputs[0])


class GroupNorm(_RowNorm):
    """Group normalization with weight (ones) and bias (zeros; unless `bias` is False) of shape (num_channels)
    where `affine`.

    Formula, shapes, error, exceptions: `group_norm`; ValueError for channels that the groups do not divide,
    ZeroDivisionError for no groups.
    Source: torch.nn.GroupNorm."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, *, bias=True):
        super().__init__()
        if isinstance(num_groups, str) or not isinstance(num_channels, numbers.Integral):
            raise TypeError(
                f"GroupNorm: num_groups is {num_groups!r}, num_channels {num_channels!r}; needed are ints"
            )
        if num_channels % num_groups != 0:
            raise ValueError(
                f"GroupNorm: num_channels is {num_channels}; needed is a multiple of num_groups, {num_groups}"
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        shape = _checked_shape((num_channels,)) if affine else ()
        self.weight = np.ones(shape) if affine else None
        self.bias = np.zeros(shape) if affine and bias else None

    def _call(self, input: Any) -> RowNormalization:
        return _group_call(input, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(_RowNorm):
    """Layer normalization with weight (ones) and bias (zeros; unless `bias` is False) of shape
    normalized_shape, an int or ints, where `elementwise_affine`.

    Formula, shapes, error, exceptions: `layer_norm`; RuntimeError for negative sizes, TypeError for no ints.
    Source: torch.nn.LayerNorm."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True):
        super().__init__()
        self.normalized_shape = _checked_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = np.ones(self.normalized_shape) if elementwise_affine else None
        self.bias = np.zeros(self.normalized_shape) if elementwise_affine and bias else None

    def _call(self, input: Any) -> RowNormalization:
        return _layer_call(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(_RowNorm):
    """Root-mean-square normalization with a weight (ones) of shape normalized_shape, an int or ints, where
    `elementwise_affine`.

    Formula, shapes, error, exceptions: `rms_norm`; RuntimeError for negative sizes, TypeError for no ints.
    Source: torch.nn.RMSNorm."""

    parameters = ("weight",)
    algorithms = ()

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True):
        super().__init__()
        self.normalized_shape = _checked_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = np.ones(self.normalized_shape) if elementwise_affine else None

    def _call(self, input: Any) -> RowNormalization:
        return _rms_call(input, self.normalized_shape, self.weight, self.eps)

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        eps = machine_epsilon(contract.store) if self.eps is None else self.eps
        call = _rms_call(inputs[0], self.normalized_shape, self.weight, eps)
        return call.bounded(contract, grad_outputs[0])


def _checked_shape(normalized_shape: Any) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, numbers.Integral) else normalized_shape
    listed = not isinstance(shape, float) and shape is not None
    if not listed or not all(isinstance(size, numbers.Integral) for size in shape):
        raise TypeError(f"normalized_shape is {normalized_shape!r}; needed is an int or ints")
    if any(size < 0 for size in shape):
        raise RuntimeError(f"normalized_shape is {normalized_shape!r}; needed are sizes of at least 0")
    return tuple(int(size) for size in shape)

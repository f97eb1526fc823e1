"""Two activations that are more than elementwise: PReLU, which has a weight, and GLU, which halves an axis.

Source: torch.nn.PReLU, torch.nn.GLU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl import activation_bounds
from refimpl.activation_formulas import sigmoid
from refimpl.error_bounds import Bounded, Contract, multilinear, where
from refimpl.module import Module
from refimpl.taps import Kernel, float_array, zeros_like_kind


class Channels(NamedTuple):
    batch: int
    channels: int
    length: int
    weights: int  # 1 for all channels, or one each


def channel_taps(visit, arrays, geometry):
    """Every element x = (n, c, i) with the index of its channel's weight."""
    batch, channels, length, weights = geometry
    for n in range(batch):
        for c in range(channels):
            for i in range(length):
                visit(arrays, (n, c, i), c if weights > 1 else 0)


def prelu_forward(arrays, x, w):
    output, input, weight = arrays
    output[x] = input[x] if input[x] > 0 else weight[w] * input[x]


def prelu_input_gradient(arrays, x, w):
    grad_output, input, weight, grad_input = arrays
    grad_input[x] = grad_output[x] if input[x] > 0 else weight[w] * grad_output[x]


def prelu_weight_gradient(arrays, x, w):
    side, grad_output, input, grad_weight = arrays
    if not side[x] > 0:
        grad_weight[w] += grad_output[x] * input[x]


_prelu_forward = Kernel(channel_taps, prelu_forward)
_prelu_input_gradient = Kernel(channel_taps, prelu_input_gradient)
_prelu_weight_gradient = Kernel(channel_taps, prelu_weight_gradient)


class _ParametricReLU:
    """One call of PReLU: arguments checked, input as (batch, channels, length)."""

    def __init__(self, input: Any, weight: Any):
        input, weight = float_array(input), float_array(weight)
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim > 1:
            raise RuntimeError(f"prelu: weight has {weight.ndim} axes {weight.shape}; needed is one, or none")
        if weight.size not in (1, channels):
            raise RuntimeError(
                f"prelu: {weight.size} weights for {input.shape}; needed are 1 or {channels}, "
                f"one for each channel (axis 1)"
            )
        batch = input.shape[0] if input.ndim > 1 else 1
        length = int(np.prod(input.shape[2:])) if input.ndim > 1 else input.size
        self.shape, self.weight_shape = input.shape, weight.shape
        self.input, self.weight = input.reshape(batch, channels, length), weight.reshape(-1)
        self.geometry = Channels(batch, channels, length, weight.size)

    def output(self) -> np.ndarray:
        output = zeros_like_kind(self.input.shape, self.input, self.weight)
        _prelu_forward((output, self.input, self.weight), self.geometry, self.input.size)
        return output.reshape(self.shape)

    def gradients(self, grad_output: Any) -> tuple[np.ndarray, np.ndarray]:
        up = float_array(grad_output).reshape(self.input.shape)
        grad_input = zeros_like_kind(self.input.shape, up, self.weight)
        _prelu_input_gradient((up, self.input, self.weight, grad_input), self.geometry, self.input.size)
        return grad_input.reshape(self.shape), self._read_weight(up, self.input).reshape(self.weight_shape)

    def _read_weight(self, grad_output: np.ndarray, input: np.ndarray) -> np.ndarray:
        """The weight side of the walk, over the elements that are on the call's own negative side."""
        grad_weight = zeros_like_kind(self.weight.shape, grad_output, input)
        _prelu_weight_gradient((self.input, grad_output, input, grad_weight), self.geometry, self.input.size)
        return grad_weight

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Copies on the positive side; on the other products of one term, for the weight sums of products."""
        up, weight = float_array(grad_output).reshape(self.input.shape), self.weight[:, None]

        def scaled(array: np.ndarray) -> Bounded:
            product = multilinear(lambda array, weight: array * weight, (array, weight), 1).bounded(contract)
            return where(self.input > 0, contract.exact(array), product).reshape(self.shape)

        ones = np.ones(self.input.shape)
        grad_weight = multilinear(self._read_weight, (up, self.input), self._read_weight(ones, ones))
        return {
            "output": scaled(self.input),
            "grad_input": scaled(up),
            "grad_weight": grad_weight.bounded(contract).reshape(self.weight_shape),
        }


def prelu(input, weight):
    """Scale the negative half by a learned weight, one for all channels or one for each.

        output[n, c, i] = input[n, c, i] if input[n, c, i] > 0 else weight[c] input[n, c, i]

    input (N, C, *), weight (C) or (1) -> output (N, C, *) float64; with fewer than 2 axes it is one channel.
    Error: one rounding where input <= 0; weight gradient gamma(terms) sum |grad_output input|.
    Raises RuntimeError for another number of weights.  Source: torch.nn.functional.prelu."""
    with np.errstate(all="ignore"):
        return _ParametricReLU(input, weight).output()


def prelu_backward(grad_output, input, weight):
    """Gradients of sum(grad_output * prelu(...)): (grad_input, grad_weight)."""
    with np.errstate(all="ignore"):
        return _ParametricReLU(input, weight).gradients(grad_output)


class PReLU(Module):
    """`prelu` as a layer with its weight (num_parameters), at first `init` everywhere.

    Raises RuntimeError for a negative num_parameters.  Source: torch.nn.PReLU."""

    parameters = ("weight",)

    def __init__(self, num_parameters=1, init=0.25):
        super().__init__()
        if num_parameters < 0:
            raise RuntimeError(f"PReLU: num_parameters is {num_parameters}; needed is at least 0")
        self.num_parameters = num_parameters
        self.weight = np.full(num_parameters, float(init))

    def forward(self, input: Any) -> np.ndarray:
        return prelu(input, self.weight)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        grad_input, grad_weight = prelu_backward(grad_outputs[0], input, self.weight)
        return (grad_input,), {"weight": grad_weight}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        with np.errstate(all="ignore"):
            return _ParametricReLU(inputs[0], self.weight).bounded(contract, grad_outputs[0])


def half_taps(visit, arrays, geometry):
    """Every element a of the first half of an axis with its partner b in the second."""
    outer, half, inner = geometry
    for n in range(outer):
        for j in range(half):
            for i in range(inner):
                visit(arrays, (n, j, i), (n, j + half, i))


def glu_forward(arrays, a, b):
    output, input = arrays
    output[a] = input[a] * sigmoid(input[b])


def glu_gradient(arrays, a, b):
    grad_output, input, grad_input = arrays
    grad_input[a] = grad_output[a] * sigmoid(input[b])
    grad_input[b] = grad_output[a] * input[a] * sigmoid(input[b]) * sigmoid(-input[b])


_glu_forward = Kernel(half_taps, glu_forward)
_glu_gradient = Kernel(half_taps, glu_gradient)


class _Halves:
    """One call of GLU: arguments checked, input as (outer, axis, inner)."""

    def __init__(self, input: Any, dim: Any):
        input = float_array(input)
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
            raise TypeError(f"glu: dim is {dim!r}; needed is an int")
        if input.ndim == 0:
            raise RuntimeError("glu: input has no axes; needed is an axis to halve")
        if not -input.ndim <= dim < input.ndim:
            raise IndexError(f"glu: dim is {dim}; needed is an axis of {input.shape}")
        axis = int(dim) % input.ndim
        size = input.shape[axis]
        if size % 2:
            raise RuntimeError(f"glu: axis {axis} of {input.shape} has size {size}; needed is an even size")
        before, after = input.shape[:axis], input.shape[axis + 1 :]
        self.shape, self.output_shape = input.shape, (*before, size // 2, *after)
        self.geometry = (int(np.prod(before)), size // 2, int(np.prod(after)))
        self.input = input.reshape(self.geometry[0], size, self.geometry[2])

    def output(self) -> np.ndarray:
        output = np.zeros(self.geometry)
        _glu_forward((output, self.input), self.geometry, self.input.size)
        return output.reshape(self.output_shape)

    def gradient(self, grad_output: Any) -> np.ndarray:
        up, grad_input = float_array(grad_output).reshape(self.geometry), np.zeros(self.input.shape)
        _glu_gradient((up, self.input, grad_input), self.geometry, self.input.size)
        return grad_input.reshape(self.shape)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        half = self.geometry[1]
        g, input = contract.exact(float_array(grad_output).reshape(self.geometry)), contract.exact(self.input)
        a, b = input[:, :half], input[:, half:]
        output, (grad_a, grad_b) = activation_bounds.glu(a, b), activation_bounds.glu_gradient(g, a, b)
        both = Bounded(
            np.concatenate([grad_a.value, grad_b.value], axis=1),
            np.concatenate([grad_a.error, grad_b.error], axis=1),
            contract,
        )
        return {
            "output": output.reshape(self.output_shape).agreeing(self.output(), "glu output"),
            "grad_input": both.reshape(self.shape).agreeing(self.gradient(grad_output), "glu grad_input"),
        }


def glu(input, dim=-1):
    """Multiply the first half of an axis by the sigmoid of the second.

        output = a / (1 + exp(-b)),  a and b the halves of `input` along `dim`

    input (*, 2 M, *) -> output (*, M, *) float64.  Error: refimpl.activation_bounds.glu.
    Raises RuntimeError for an axis of odd size or an input without axes, IndexError for an axis out of range.
    Source: torch.nn.functional.glu."""
    with np.errstate(all="ignore"):
        return _Halves(input, dim).output()


def glu_backward(grad_output, input, dim=-1):
    """Gradient of sum(grad_output * glu(...)): (grad_input,)."""
    with np.errstate(all="ignore"):
        return (_Halves(input, dim).gradient(grad_output),)


class GLU(Module):
    """`glu` as a layer.  Source: torch.nn.GLU."""

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> np.ndarray:
        return glu(input, self.dim)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return glu_backward(grad_outputs[0], input, self.dim), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        with np.errstate(all="ignore"):
            return _Halves(inputs[0], self.dim).bounded(contract, grad_outputs[0])

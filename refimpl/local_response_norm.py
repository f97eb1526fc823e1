"""Local response normalization: a channel divided by a power of the mean square of its neighbours.

Source: torch.nn.LocalResponseNorm; Krizhevsky, Sutskever and Hinton, NeurIPS 2012, section 3.3.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from refimpl.bounded import finite_where
from refimpl.error_bounds import Bounded, Contract
from refimpl.floats import outward
from refimpl.module import Module
from refimpl.taps import Kernel, float_array

__all__ = ["CrossMapLRN2d", "LocalResponseNorm", "local_response_norm", "local_response_norm_backward"]


class Geometry(NamedTuple):
    """Sizes of an input (N, C, L), and how many channels before and after its own an output reads."""

    batch: int
    channels: int
    length: int
    before: int
    after: int


def neighbours(visit, arrays, geometry):
    """Every output y = (n, c, l) with each element x = (n, j, l) of its window of channels."""
    batch, channels, length, before, after = geometry
    for n in range(batch):
        for c in range(channels):
            for j in range(max(0, c - before), min(channels, c + after + 1)):
                for l in range(length):
                    visit(arrays, (n, c, l), (n, j, l))


def squares(arrays, y, x):
    total, input = arrays
    total[y] += input[x] * input[x]


def spread(arrays, y, x):
    total, share = arrays
    total[x] += share[y]


_squares = Kernel(neighbours, squares)
_spread = Kernel(neighbours, spread)


class LocalResponse:
    """One call: d = k + alpha / size * (sum of squares in the window), output = input / d^beta."""

    @np.errstate(all="ignore")
    def __init__(self, input: Any, size: int, alpha: float, beta: float, k: float):
        input = float_array(input)
        _check(input, size, alpha, beta, k)
        self.shape, self.size, self.alpha, self.beta, self.k = input.shape, size, alpha, beta, k
        batch, channels = input.shape[:2]
        self.geometry = Geometry(batch, channels, math.prod(input.shape[2:]), size // 2, (size - 1) // 2)
        self.input = input.reshape(self.geometry[:3])
        self.base = self._read(_squares, self.input) / size * alpha + k

    def _read(self, kernel: Kernel, array: np.ndarray) -> np.ndarray:
        total = np.zeros(self.geometry[:3])
        kernel((total, array), self.geometry, self.input.size * min(self.size, self.geometry.channels))
        return total

    @np.errstate(all="ignore")
    def output(self) -> np.ndarray:
        return (self.input / self.base**self.beta).reshape(self.shape)

    @np.errstate(all="ignore")
    def gradient(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output).reshape(self.input.shape)
        share = grad_output * self.input * self.base ** (-self.beta - 1)
        scale = 2 * self.alpha * self.beta / self.size
        own = grad_output / self.base**self.beta
        return (own - scale * self.input * self._read(_spread, share)).reshape(self.shape)

    @np.errstate(all="ignore")
    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output and gradient with their bounds; powers by `pow`, quotients by a division."""
        input = contract.exact(self.input)
        base = self._window_sums(input * input, backwards=False) / self.size * self.alpha + self.k
        power = _power(base, self.beta)
        output = (input / power).reshape(self.shape).store()
        upstream = contract.exact(float_array(grad_output).reshape(self.input.shape))
        own = upstream / power
        # the shares as differentiation operation by operation has them: d^-2beta d^(beta - 1)
        share = upstream * (input / power) / power * (_power(base, self.beta - 1.0) * self.beta)
        pulled = self._window_sums(share * self.alpha / self.size, backwards=True)
        grad_input = (own - input * pulled * 2.0).reshape(self.shape).store()
        return {
            "output": output.agreeing(self.output(), "output"),
            "grad_input": grad_input.agreeing(self.gradient(grad_output), "grad_input"),
        }

    def _window_sums(self, terms: Bounded, backwards: bool) -> Bounded:
        """Sums over windows of channels: those that an output reads, or those whose outputs read an input."""
        if self.input.size == 0:
            return terms
        before, after = self.geometry.before, self.geometry.after
        width = (after, before) if backwards else (before, after)
        value, error = (np.pad(array, ((0, 0), width, (0, 0))) for array in (terms.value, terms.error))
        value, error = (sliding_window_view(array, self.size, axis=1) for array in (value, error))
        return Bounded(value, error, terms.contract).sum(-1)


def _power(base: Bounded, exponent: float) -> Bounded:
    """base^exponent by a library's pow, the exponent held in A: x^(p + d) = x^p exp(d ln x)."""
    power = base.apply(lambda b: b**exponent, base.contract.library("pow"))
    off = float(base.contract.constant(exponent).error)
    if off == 0:
        return power
    with np.errstate(all="ignore"):
        low, high = base.value - base.error, base.value + base.error
        logarithm = np.maximum(np.abs(np.log(low)), np.abs(np.log(high)))
        moved = (np.abs(power.value) + power.error) * np.expm1(off * logarithm)
    error = np.where(high == 0, power.error, outward(power.error + moved))
    return replace(power, error=finite_where(power.value, error))


def _check(input: np.ndarray, size: Any, *scalars: Any) -> None:
    if input.ndim < 3:
        raise ValueError(
            f"local_response_norm: input has {input.ndim} axes {input.shape}; needed is (N, C, *L)"
        )
    if not isinstance(size, numbers.Integral):
        raise TypeError(f"local_response_norm: size is {size!r}; needed is an int")
    if any(isinstance(scalar, str) for scalar in scalars):
        raise TypeError(f"local_response_norm: alpha, beta, k are {scalars!r}; needed are numbers")
    if size < 1 and input.size:
        raise RuntimeError(f"local_response_norm: size is {size}; needed is at least 1")


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Divide every element by a power of the mean square of the channels around it.

        output[n, c, l] = input[n, c, l] / (k + alpha / size * sum(input[n, j, l]^2))^beta
        with j from c - size // 2 to c + (size - 1) // 2, channels outside counting as zeros

    input (N, C, *L), with at least one axis L -> output of that shape, float64.
    Error: gamma(size) of the sum, `pow`'s own error and that of beta in A, a rounding for each further
    operation; for the half types everything is in float32 and stored once.  Inputs whose squares overflow A
    are left out of account.
    Raises ValueError for fewer than three axes, TypeError for a size that is no int, RuntimeError for one
    below 1.
    Source: torch.nn.functional.local_response_norm."""
    return LocalResponse(input, size, alpha, beta, k).output()


def local_response_norm_backward(grad_output, input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Gradient of sum(grad_output * local_response_norm(...)): (grad_input,).

    With d = k + alpha / size * sum(input^2) of each window,
        grad_input[j] = grad_output[j] d[j]^-beta
                        - 2 alpha beta / size input[j] sum(grad_output[c] input[c] d[c]^(-beta - 1))
        over the channels c whose windows hold j"""
    return (LocalResponse(input, size, alpha, beta, k).gradient(grad_output),)


class LocalResponseNorm(Module):
    """Local response normalization.

    Formula, shapes, error, exceptions: `local_response_norm`.
    Source: torch.nn.LocalResponseNorm."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def _call(self, input: Any) -> LocalResponse:
        return LocalResponse(input, self.size, self.alpha, self.beta, self.k)

    def forward(self, input: Any) -> np.ndarray:
        return self._call(input).output()

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._call(inputs[0]).bounded(contract, grad_outputs[0])


class CrossMapLRN2d(LocalResponseNorm):
    """Local response normalization of images, with windows that reach equally far to both sides.

        output[n, c, y, x] = input[n, c, y, x] / (k + alpha / size * sum(input[n, j, y, x]^2))^beta
        with j from c - (size - 1) // 2 to c + (size - 1) // 2

    input (N, C, H, W) -> output of that shape; for odd sizes what `LocalResponseNorm` gives.
    Error: as `local_response_norm`.  Raises ValueError for another number of axes.
    Source: torch.nn.CrossMapLRN2d, whose formula torch does not document: LocalResponseNorm's for odd sizes,
    and for even ones the window that its first channel has."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1):
        super().__init__(size, alpha, beta, k)

    def _call(self, input: Any) -> LocalResponse:
        if np.ndim(input) != 4:
            raise ValueError(f"CrossMapLRN2d: input has {np.ndim(input)} axes; needed is (N, C, H, W)")
        window = 2 * ((self.size - 1) // 2) + 1
        return LocalResponse(input, window, self.alpha * (window / self.size), self.beta, self.k)

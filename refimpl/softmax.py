"""Softmax, softmin and their logarithm along one axis.

    softmax[j] = exp(input[j] - max) / total         log_softmax[j] = (input[j] - max) - log(total)
    total = sum(exp(input[j] - max) for j in the row), max the row's largest element

This is the documented exp(input[j]) / sum(exp(input)) with numerator and denominator divided by exp(max): the
form that every implementation uses, as the documented one overflows from input 89 on in float32.
Source: torch.nn.Softmax, torch.nn.LogSoftmax.

Contracts weaker than the strictest, by name (`Contract.algorithm`), for the half types:
    stored exponentials  softmax, softmin: exp(input[j] - max) is rounded to T before it is divided
    stored logarithm     log_softmax: the total and its logarithm are rounded to T before they are used
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import ULPS, Bounded, Contract, round_to
from refimpl.module import Module
from refimpl.taps import Kernel, float_array

__all__ = ["LogSoftmax", "Softmax", "Softmax2d", "Softmin", "log_softmax", "log_softmax_backward", "softmax",
           "softmax_backward", "softmin", "softmin_backward"]

STORED_EXPONENTIALS, STORED_LOGARITHM = "stored exponentials", "stored logarithm"


class Geometry(NamedTuple):
    """An input as rows: `length` elements along the axis, `outer` positions before and `inner` behind it."""

    outer: int
    length: int
    inner: int


def elements(visit, arrays, geometry):
    """Every element x = (o, j, i), with its row r = (o, i)."""
    outer, length, inner = geometry
    for o in range(outer):
        for j in range(length):
            for i in range(inner):
                visit(arrays, (o, i), (o, j, i))


def maxima(arrays, r, x):
    largest, input = arrays
    if input[x] > largest[r] or input[x] != input[x]:  # NaN wins and stays
        largest[r] = input[x]


def exponentials(arrays, r, x):
    output, total, input, largest = arrays
    output[x] = math.exp(input[x] - largest[r])
    total[r] += output[x]


def quotients(arrays, r, x):
    output, total = arrays
    output[x] /= total[r]


def logarithms(arrays, r, x):
    output, total, input, largest = arrays
    output[x] = (input[x] - largest[r]) - math.log(total[r])


def projections(arrays, r, x):
    total, grad_output, output = arrays
    total[r] += grad_output[x] * output[x]


def softmax_gradient(arrays, r, x):
    grad_input, grad_output, output, total = arrays
    grad_input[x] = (grad_output[x] - total[r]) * output[x]


def sums(arrays, r, x):
    total, grad_output = arrays
    total[r] += grad_output[x]


def log_softmax_gradient(arrays, r, x):
    grad_input, grad_output, output, total = arrays
    grad_input[x] = grad_output[x] - math.exp(output[x]) * total[r]


_maxima = Kernel(elements, maxima)
_exponentials = Kernel(elements, exponentials)
_quotients = Kernel(elements, quotients)
_logarithms = Kernel(elements, logarithms)
_projections = Kernel(elements, projections)
_softmax_gradient = Kernel(elements, softmax_gradient)
_sums = Kernel(elements, sums)
_log_softmax_gradient = Kernel(elements, log_softmax_gradient)


class Rows:
    """One call of a softmax: axis found, the input as rows; `sign` is -1 for softmin."""

    def __init__(self, name: str, input: Any, dim: int | None, stacklevel: int = 3, dtype: Any = None):
        self.sign, self.logarithm = -1.0 if name == "softmin" else 1.0, name == "log_softmax"
        input = float_array(input)
        if dtype is not None:
            input = round_to("bfloat16" if dtype == "bfloat16" else np.dtype(dtype).name, input)
        dim = _implicit_dim(name, input.ndim, stacklevel) if dim is None else dim
        axis = _checked_dim(name, dim, input.ndim)
        self.shape = input.shape
        sizes = input.shape if input.ndim else (1,)
        self.geometry = Geometry(math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1:]))
        self.input = self.sign * input.reshape(self.geometry)

    def _run(self, kernel: Kernel, *arrays: np.ndarray) -> None:
        kernel(arrays, self.geometry, self.input.size)

    def _row(self, start: float = 0.0) -> np.ndarray:
        return np.full((self.geometry.outer, self.geometry.inner), start)

    @np.errstate(all="ignore")
    def output(self) -> np.ndarray:
        output, largest, total = np.zeros(self.geometry), self._row(-np.inf), self._row()
        self._run(_maxima, largest, self.input)
        self._run(_exponentials, output, total, self.input, largest)
        if self.logarithm:
            self._run(_logarithms, output, total, self.input, largest)
        else:
            self._run(_quotients, output, total)
        return output.reshape(self.shape)

    @np.errstate(all="ignore")
    def gradient(self, grad_output: Any) -> np.ndarray:
        """
            softmax: (grad_output - sum(grad_output output)) output
            log_softmax: grad_output - exp(output) sum(grad_output)
        """
        grad_output = float_array(grad_output).reshape(self.geometry)
        output, grad_input, total = self.output().reshape(self.geometry), np.zeros(self.geometry), self._row()
        if self.logarithm:
            self._run(_sums, total, grad_output)
            self._run(_log_softmax_gradient, grad_input, grad_output, output, total)
        else:
            self._run(_projections, total, grad_output, output)
            self._run(_softmax_gradient, grad_input, grad_output, output, total)
        return self.sign * grad_input.reshape(self.shape)

    @np.errstate(all="ignore")
    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output and input gradient with their bounds.

        The gradient is made from the output as stored in T: that is what an implementation has saved for it.
        """
        upstream = contract.exact(float_array(grad_output).reshape(self.geometry))
        largest = self.input.max(axis=1, keepdims=True, initial=-np.inf)
        distance = contract.exact(self.input) - contract.exact(largest)
        exponential = distance.exp()
        total = exponential.sum(1, keepdims=True)  # at least 1 however it is summed: exp(max - max) is a term
        if self.logarithm:
            total = total.store() if contract.algorithm == STORED_LOGARITHM else total
            logarithm = total.apply(_log_from_one, ULPS["log"])
            logarithm = logarithm.store() if contract.algorithm == STORED_LOGARITHM else logarithm
            output = (distance - logarithm).store()
            gradient = upstream - output.exp() * upstream.sum(1, keepdims=True)
        else:
            exponential = exponential.store() if contract.algorithm == STORED_EXPONENTIALS else exponential
            output = (exponential * total.apply(_reciprocal_from_one, ULPS["reciprocal"])).store()
            gradient = (upstream - (upstream * output).sum(1, keepdims=True)) * output
        gradient = gradient if self.sign > 0 else -gradient
        output, gradient = output.reshape(self.shape), gradient.store().reshape(self.shape)
        return {"output": output.agreeing(self.output(), "output"),
                "grad_input": gradient.agreeing(self.gradient(grad_output), "grad_input")}


def _log_from_one(total: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(total, 1.0))


def _reciprocal_from_one(total: np.ndarray) -> np.ndarray:
    return 1.0 / np.maximum(total, 1.0)


def _implicit_dim(name: str, rank: int, stacklevel: int) -> int:
    """The axis that stands for dim=None, as torch still chooses it and warns: 0 of 0, 1 or 3 axes, else 1."""
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Give dim as an argument.",
                  stacklevel=stacklevel + 1)
    return 0 if rank in (0, 1, 3) else 1


def _checked_dim(name: str, dim: Any, rank: int) -> int:
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise TypeError(f"{name}: dim is {dim!r}; needed is an int")
    axes = max(1, rank)
    if not -axes <= dim < axes:
        raise IndexError(f"{name}: dim is {dim}; an input with {rank} axes needs {-axes} to {axes - 1}")
    return int(dim) % axes


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """Make the elements along `dim` positive with sum 1.

        output[j] = exp(input[j]) / sum(exp(input[k]) for k along dim)

    input (*) -> output (*) float64; with `dtype` the input is rounded to that type first. `dim` None means
    axis 0 of 0, 1 or 3 axes and axis 1 otherwise; as in torch that is deprecated and warned of.
    Error: about (|input - max| + 2 ulps of exp + length) u, relative, in A; stored once in T.
    Raises IndexError for a dim out of range, TypeError for a dim that is no int.
    Source: torch.nn.functional.softmax."""
    return Rows("softmax", input, dim, _stacklevel, dtype).output()


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """Softmax of -input.

        output[j] = exp(-input[j]) / sum(exp(-input[k]) for k along dim)

    Shapes, error, raises: as `softmax`.  Source: torch.nn.functional.softmin."""
    return Rows("softmin", input, dim, _stacklevel, dtype).output()


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """The logarithm of softmax, without its underflow.

        output[j] = (input[j] - max) - log(sum(exp(input[k] - max) for k along dim))

    Shapes, raises: as `softmax`. Error: about (|input - max| + length + 2 ulps of exp) u, absolute, in A;
    stored once in T. A large common offset of the input is no part of it.
    Source: torch.nn.functional.log_softmax."""
    return Rows("log_softmax", input, dim, _stacklevel, dtype).output()


def _backward_of(function: Callable) -> Callable:
    def backward(grad_output, input, dim=None, _stacklevel=3, dtype=None):
        return (Rows(function.__name__, input, dim, _stacklevel, dtype).gradient(grad_output),)

    backward.__name__ = backward.__qualname__ = f"{function.__name__}_backward"
    backward.__doc__ = f"""Gradient of sum(grad_output * {function.__name__}(input, dim)): (grad_input,)."""
    return backward


softmax_backward, softmin_backward, log_softmax_backward = map(_backward_of, (softmax, softmin, log_softmax))


class _Softmax(Module):
    function: str
    algorithms: tuple[str, ...] = (STORED_EXPONENTIALS,)

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def _rows(self, input: Any) -> Rows:
        return Rows(self.function, input, self.dim, 5)

    def forward(self, input: Any) -> np.ndarray:
        return self._rows(input).output()

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        return (self._rows(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._rows(inputs[0]).bounded(contract, grad_outputs[0])


class Softmax(_Softmax):
    """Softmax along `dim`.  Formula, shapes, error, raises: `softmax`.  Source: torch.nn.Softmax."""

    function = "softmax"


class Softmin(_Softmax):
    """Softmin along `dim`.  Formula, shapes, error, raises: `softmin`.  Source: torch.nn.Softmin."""

    function = "softmin"


class LogSoftmax(_Softmax):
    """Logarithm of softmax along `dim`.  Formula, shapes, error, raises: `log_softmax`.

    Source: torch.nn.LogSoftmax."""

    function = "log_softmax"
    algorithms = (STORED_LOGARITHM,)


class Softmax2d(_Softmax):
    """Softmax over the channels at each position: input (N, C, H, W) or (C, H, W) -> output the same.

    Formula, error: `softmax` with dim -3.  Raises ValueError for another number of axes.
    Source: torch.nn.Softmax2d."""

    function = "softmax"

    def __init__(self):
        super().__init__(-3)

    def _rows(self, input: Any) -> Rows:
        if np.ndim(input) not in (3, 4):
            raise ValueError(f"Softmax2d: input has {np.ndim(input)} axes {np.shape(input)}; "
                             "needed are 3 (C, H, W) or 4 (N, C, H, W)")
        return super()._rows(input)

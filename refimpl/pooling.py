"""Max and average pooling, 1-d to 3-d: one walk over the windows, a few readings.

    max:      output[n, c, y] = max over k of  input[n, c, y*stride - padding + k*dilation]
    average:  output[n, c, y] = sum over k of  input[n, c, y*stride - padding + k] / divisor[y]

The walk is in `pooling_taps`.
Source: torch.nn.MaxPool2d, torch.nn.AvgPool2d.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract, Products, grid, multilinear
from refimpl.module import Module
from refimpl.pooling_taps import (
    Geometry,
    counts,
    least_of_windows,
    read_chosen,
    read_maximum,
    read_mean,
    read_shares,
)
from refimpl.shapes import batched, leading, lift, lower, per_axis
from refimpl.taps import float_array

__all__ = [name.format(rank) for rank in (1, 2, 3) for name in (
    "MaxPool{}d", "max_pool{}d", "max_pool{}d_backward", "AvgPool{}d", "avg_pool{}d", "avg_pool{}d_backward")]


class _Pooling:
    """One call: arguments checked, `input` lifted to three spatial axes, walk ready."""

    def __init__(self, name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any,
                 dilation: Any, ceil_mode: Any):
        self.rank = rank
        kernel = per_axis(kernel_size, rank, "kernel_size")
        stride = kernel if stride is None or stride in ([], ()) else per_axis(stride, rank, "stride")
        padding, dilation = per_axis(padding, rank, "padding"), per_axis(dilation, rank, "dilation")
        _check_flag(name, "ceil_mode", ceil_mode)
        _check_windows(name, kernel, stride, padding, dilation)
        input, self.batched = batched(float_array(input), rank, name)
        if min(input.shape[1:]) < 1:
            raise RuntimeError(f"{name}: input {input.shape} has an empty axis; only the batch may be empty")
        batch, channels, *size = input.shape
        outputs = [output_size(*axis, ceil_mode)
                   for axis in zip(size, kernel, stride, padding, dilation, strict=True)]
        if min(outputs) < 1:
            raise RuntimeError(f"{name}: the output would have spatial size {tuple(outputs)} for input "
                               f"{tuple(size)}, kernel {kernel}, padding {padding}, dilation {dilation}; "
                               "needed is at least 1")
        self.input = lift(input, rank)
        self.geometry = Geometry(
            batch, channels, leading(tuple(size), 1), leading(kernel, 1), leading(tuple(outputs), 1),
            leading(stride, 1), leading(padding, 0), leading(dilation, 1),
        )

    def down(self, array: np.ndarray) -> np.ndarray:
        array = lower(array, self.rank)
        return array if self.batched else array[0]

    def up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        grad_output = lift(grad_output if self.batched else grad_output[None], self.rank)
        needed = (self.geometry.batch, self.geometry.channels, *self.geometry.outputs)
        if grad_output.shape != needed:
            raise RuntimeError(f"grad_output has shape {self.down(grad_output).shape}; "
                               f"needed is that of the output, {self.down(np.empty(needed)).shape}")
        return grad_output


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; with ceil_mode the ceiling instead,
    less one where the last window would start in the right padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    outputs = -(-room // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= size + padding else outputs


def _check_flag(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: {argument} is {value!r}; needed is True or False")


def _check_windows(name: str, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> None:
    if min(*kernel, *stride, *dilation) < 1:
        raise RuntimeError(f"{name}: kernel_size {kernel}, stride {stride}, dilation {dilation}; "
                           "needed are positive values")
    if min(padding) < 0 or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(f"{name}: padding {padding} with kernel_size {kernel}; "
                           "needed is at least 0 and at most half of the kernel")


class _Maxima(_Pooling):
    """One call of a max pooling."""

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        output, indices = read_maximum(self.geometry, self.input)
        return self.down(output), self.down(indices)

    def gradient(self, grad_output: Any) -> np.ndarray:
        _, indices = read_maximum(self.geometry, self.input)
        return self.down(read_chosen(self.geometry, indices, self.up(grad_output)))

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """A maximum is a copy; which of -0 and +0 wins is promised nowhere.  m terms take m - 1 additions."""
        output, indices = read_maximum(self.geometry, self.input)
        read = partial(read_chosen, self.geometry, indices)
        terms = np.maximum(read(np.ones(indices.shape)) - 1, 0)
        zeros = np.signbit(self.input[self.input == 0])
        copy = contract.exact if zeros.any() and not zeros.all() else contract.copied
        return {
            "output": copy(self.down(output)),
            "indices": contract.copied(self.down(indices)),
            "grad_input": multilinear(read, (self.up(grad_output),), terms).map(self.down).bounded(contract),
        }


class _Averages(_Pooling):
    """One call of an average pooling; the divisor of every window is a count of the same walk."""

    def __init__(self, name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any,
                 ceil_mode: Any, count_include_pad: Any, divisor_override: Any):
        super().__init__(name, rank, input, kernel_size, stride, padding, 1, ceil_mode)
        _check_flag(name, "count_include_pad", count_include_pad)
        counted = self.geometry
        if count_include_pad:  # what lies in the padding counts, what ceil_mode lets hang over it does not
            wide = tuple(n + 2 * p for n, p in zip(counted.inputs, counted.padding, strict=True))
            counted = counted._replace(inputs=wide, padding=(0, 0, 0))
        self.divisor = counts(counted)[0]
        if divisor_override is not None:
            self.divisor = np.full(self.divisor.shape, float(_divisor(name, divisor_override)))

    def output(self) -> np.ndarray:
        return self.down(read_mean(self.geometry, self.input, self._divisor(self.input)))

    def gradient(self, grad_output: Any) -> np.ndarray:
        up = self.up(grad_output)
        return self.down(read_shares(self.geometry, up, self._divisor(up)))

    def _divisor(self, operand: np.ndarray) -> np.ndarray:
        return self.divisor if operand.dtype != object else np.vectorize(int, otypes=[object])(self.divisor)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        products = {
            "output": self._products(read_mean, self.input, counts(self.geometry)[0], self._scale()),
            "grad_input": self._products(read_shares, self.up(grad_output), counts(self.geometry)[1],
                                         least_of_windows(self.geometry, self._scale())),
        }
        return {name: product.bounded(contract) for name, product in products.items()}

    def _products(self, read: Any, operand: np.ndarray, terms: np.ndarray, scale: np.ndarray) -> Products:
        """Sums of n terms with their divisors: how many roundings, and of which unit all are whole multiples.

        n - 1 additions and a division.  The division may as well be done term by term, or be a multiplication
        by the rounded reciprocal: n + 1 roundings on each term cover all of these.  A division by a power of
        two (`scale` its reciprocal, otherwise 0) rounds only where it underflows, one by 1 nowhere.
        """
        roundings = np.maximum(terms - 1, 0) + np.select([scale >= 1, scale > 0], [0, 1], 2)
        unit = grid(operand) * np.where(np.isfinite(scale), scale, 1.0)
        shape = (*operand.shape[:2], *terms.shape[2:])
        products = multilinear(partial(read, self.geometry), (operand, self.divisor), roundings)
        return replace(products.map(self.down), unit=self.down(np.broadcast_to(unit, shape)))

    def _scale(self) -> np.ndarray:
        """1 / |divisor| of every window where that is a power of two, 0 elsewhere."""
        mantissa, _ = np.frexp(np.abs(self.divisor))
        return np.where(mantissa == 0.5, 1.0 / np.abs(self.divisor), 0.0)


def _divisor(name: str, divisor_override: Any) -> int:
    if isinstance(divisor_override, bool) or not isinstance(divisor_override, (int, np.integer)):
        raise TypeError(f"{name}: divisor_override is {divisor_override!r}; needed is an int or None")
    if divisor_override == 0:
        raise RuntimeError(f"{name}: divisor_override is 0; needed is another int, or None")
    return int(divisor_override)


def _max_functions(rank: int) -> tuple:
    name = f"max_pool{rank}d"

    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        output, indices = _Maxima(name, rank, input, kernel_size, stride, padding, dilation, ceil_mode).both()
        return (output, indices) if return_indices else output

    def backward(grad_output, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                 return_indices=False):
        call = _Maxima(name, rank, input, kernel_size, stride, padding, dilation, ceil_mode)
        return (call.gradient(grad_output),)

    pool.__doc__ = f"""The maximum of every window of `input`, {rank}-d.

    output[n, c, y] = max(input[n, c, y*stride - padding + k*dilation] for k in kernel); input outside is -inf

    input (N, C, *L) or (C, *L) -> output (N, C, *P) float64, P = `output_size` for each axis; return_indices
    adds int64 indices (N, C, *P), the flat place of each maximum in its plane of `input`, without padding.
    stride None is kernel_size.  As torch does where its documentation is silent: the first of equal maxima is
    chosen; NaN wins against everything, the last of several NaN is chosen.  A window with all taps in the
    padding (possible where dilation exceeds the input) gives -inf, index -1 and passes on no gradient.
    Error: none, values are copied; gradients gamma(m - 1) sum |grad_output| over the m windows that chose.
    Raises RuntimeError for sizes that do not fit or padding above half the kernel; TypeError for wrong types.
    Source: torch.nn.functional.{name}."""
    return _named(pool, backward, name)


def _avg_functions(rank: int) -> tuple:
    name = f"avg_pool{rank}d"

    def average(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                divisor_override=None):
        return _Averages(name, rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                         divisor_override).output()

    def average_backward(grad_output, input, kernel_size, stride=None, padding=0, ceil_mode=False,
                         count_include_pad=True, divisor_override=None):
        call = _Averages(name, rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                         divisor_override)
        return (call.gradient(grad_output),)

    def average1(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return average(input, kernel_size, stride, padding, ceil_mode, count_include_pad)

    def average1_backward(grad_output, input, kernel_size, stride=None, padding=0, ceil_mode=False,
                          count_include_pad=True):
        return average_backward(grad_output, input, kernel_size, stride, padding, ceil_mode,
                                count_include_pad)

    pool, backward = (average1, average1_backward) if rank == 1 else (average, average_backward)
    override = "" if rank == 1 else "  divisor_override replaces it."
    pool.__doc__ = f"""The average of every window of `input`, {rank}-d.

    output[n, c, y] = sum(input[n, c, y*stride - padding + k] for k in kernel) / divisor[y]; outside is 0

    input (N, C, *L) or (C, *L) -> output (N, C, *P) float64; P = `output_size` for each axis.
    stride None is kernel_size.  divisor[y]: the taps of the window that lie in the padded input
    (count_include_pad) or in the input; what ceil_mode lets hang over the padding is not counted.{override}
    Error: gamma(taps + 1) sum |input| / |divisor| an element, taps counted exactly.
    Raises RuntimeError for sizes that do not fit or padding above half the kernel; TypeError for wrong types.
    Source: torch.nn.functional.{name}."""
    return _named(pool, backward, name)


def _named(function: Any, backward: Any, name: str) -> tuple:
    function.__name__ = function.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"""Gradient of sum(grad_output * {name}(...)) for the input: (grad_input,)."""
    return function, backward


max_pool1d, max_pool1d_backward = _max_functions(1)
max_pool2d, max_pool2d_backward = _max_functions(2)
max_pool3d, max_pool3d_backward = _max_functions(3)
avg_pool1d, avg_pool1d_backward = _avg_functions(1)
avg_pool2d, avg_pool2d_backward = _avg_functions(2)
avg_pool3d, avg_pool3d_backward = _avg_functions(3)


class _MaxPool(Module):
    """{rank}-d max pooling layer; with return_indices a call gives (output, indices).

    Formula, shapes, error, what it raises: `max_pool{rank}d`.  Source: torch.nn.MaxPool{rank}d."""

    rank: int

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False,
                 ceil_mode=False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def _call(self, input: Any) -> _Maxima:
        return _Maxima(f"max_pool{self.rank}d", self.rank, input, self.kernel_size, self.stride, self.padding,
                       self.dilation, self.ceil_mode)

    def forward(self, input: Any) -> Any:
        output, indices = self._call(input).both()
        return (output, indices) if self.return_indices else output

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = self._call(inputs[0]).bounded(contract, grad_outputs[0])
        return {name: value for name, value in result.items() if name != "indices" or self.return_indices}


class _AvgPool(Module):
    """{rank}-d average pooling layer.

    Formula, shapes, error, what it raises: `avg_pool{rank}d`.  Source: torch.nn.AvgPool{rank}d."""

    rank: int

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _call(self, input: Any) -> _Averages:
        return _Averages(f"avg_pool{self.rank}d", self.rank, input, self.kernel_size, self.stride,
                         self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)

    def forward(self, input: Any) -> np.ndarray:
        return self._call(input).output()

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._call(inputs[0]).bounded(contract, grad_outputs[0])


class _AvgPool1(_AvgPool):
    __doc__ = _AvgPool.__doc__

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)


def _of_rank(base: type, name: str, rank: int) -> type:
    name = f"{name}{rank}d"
    return type(name, (base,), {"rank": rank, "__doc__": (base.__doc__ or "").replace("{rank}", str(rank)),
                                "__module__": __name__, "__qualname__": name})


MaxPool1d, MaxPool2d, MaxPool3d = (_of_rank(_MaxPool, "MaxPool", rank) for rank in (1, 2, 3))
AvgPool1d, AvgPool2d, AvgPool3d = (_of_rank(base, "AvgPool", rank) for base, rank in (
    (_AvgPool1, 1), (_AvgPool, 2), (_AvgPool, 3)))

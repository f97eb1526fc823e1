"""MaxUnpool, 1-d to 3-d: values put back to where a max pooling found them, zeros elsewhere.

    output[n, c, indices[n, c, p]] = input[n, c, p]      indices flat in the plane of the output
Source: torch.nn.MaxUnpool2d.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = [
    name.format(rank)
    for rank in (1, 2, 3)
    for name in ("MaxUnpool{}d", "max_unpool{}d", "max_unpool{}d_backward")
]


class Planes(NamedTuple):
    planes: int
    elements: int


def places(visit, arrays, geometry):
    """Every element p of every plane n."""
    for n in range(geometry.planes):
        for p in range(geometry.elements):
            visit(arrays, n, p)


def put(arrays, n, p):
    output, indices, input = arrays
    output[n, indices[n, p]] = input[n, p]


def remember_last(arrays, n, p):
    winner, writers, indices = arrays
    winner[n, indices[n, p]] = p
    writers[n, indices[n, p]] += 1


def gradient(arrays, n, p):
    grad_output, indices, winner, grad_input = arrays
    if winner[n, indices[n, p]] == p:
        grad_input[n, p] = grad_output[n, indices[n, p]]


def spread(arrays, n, p):
    farthest, output, indices, input = arrays
    if input[n, p] != output[n, indices[n, p]]:
        distance = abs(input[n, p] - output[n, indices[n, p]])
        farthest[n, indices[n, p]] = max(farthest[n, indices[n, p]], distance)


_put = Kernel(places, put)
_remember_last = Kernel(places, remember_last)
_gradient = Kernel(places, gradient)
_spread = Kernel(places, spread)


class Unpooling:
    """One call: arguments checked, input and indices flattened to (planes, elements)."""

    def __init__(
        self,
        rank: int,
        input: Any,
        indices: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        output_size: Any,
    ):
        name, input, indices = f"max_unpool{rank}d", float_array(input), np.asarray(indices)
        if input.ndim not in (rank + 1, rank + 2):
            raise RuntimeError(
                f"{name}: input has {input.ndim} axes {input.shape}; needed are {rank + 1} or {rank + 2}"
            )
        if indices.dtype != np.int64 or indices.shape != input.shape:
            raise RuntimeError(
                f"{name}: indices {indices.dtype} {indices.shape}; needed are int64 {input.shape}"
            )
        if min(input.shape[input.ndim - rank - 1 :]) < 1:
            raise RuntimeError(f"{name}: input {input.shape} has an empty axis; only the batch may be empty")
        stride = kernel_size if stride is None else stride
        kernel, stride, padding = (_each(value, rank) for value in (kernel_size, stride, padding))
        size = _size(input.shape[-rank:], kernel, stride, padding, output_size)
        if rank == 3 and min(stride) < 1:
            raise RuntimeError(f"{name}: stride {stride}; needed is at least 1")
        inside = (indices >= 0) & (indices < math.prod(size))
        if not inside.all():
            raise RuntimeError(
                f"{name}: index {indices[~inside][0]}; needed is at least 0 and less than {math.prod(size)}"
            )
        self.input_shape, self.output_shape = input.shape, (*input.shape[:-rank], *size)
        planes, elements = math.prod(input.shape[:-rank]), math.prod(input.shape[-rank:])
        self.geometry, self.plane = Planes(planes, elements), (planes, math.prod(size))
        self.input, self.indices = (
            input.reshape(planes, elements),
            np.ascontiguousarray(indices.reshape(planes, elements)),
        )

    def _run(self, kernel: Kernel, *arrays: np.ndarray) -> None:
        kernel(arrays, self.geometry, self.geometry.planes * self.geometry.elements)

    def _put(self) -> np.ndarray:
        output = zeros_like_kind(self.plane, self.input)
        self._run(_put, output, self.indices, self.input)
        return output

    def _winners(self) -> tuple[np.ndarray, np.ndarray]:
        """For every output element: which input element was put there last (if any), and how many were."""
        winner, writers = np.zeros(self.plane, dtype=np.int64), np.zeros(self.plane, dtype=np.int64)
        self._run(_remember_last, winner, writers, self.indices)
        return winner, writers

    def output(self) -> np.ndarray:
        return self._put().reshape(self.output_shape)

    def gradient(self, grad_output: Any) -> np.ndarray:
        up = self._up(grad_output)
        grad_input = zeros_like_kind(self.input.shape, up)
        self._run(_gradient, up, self.indices, self._winners()[0], grad_input)
        return grad_input.reshape(self.input_shape)

    def _up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(f"grad_output has shape {grad_output.shape}; needed is {self.output_shape}")
        return grad_output.reshape(self.plane)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Copies.  Which of several elements with the same index wins is promised nowhere: the output may be
        any of them, and the gradient of each of them anything from 0 to all."""
        writers = self._winners()[1]
        if (writers <= 1).all():
            return {
                "output": contract.copied(self.output()),
                "grad_input0": contract.copied(self.gradient(grad_output)),
            }
        output, farthest = self._put(), np.zeros(self.plane)
        self._run(_spread, farthest, output, self.indices, self.input)
        planes = np.arange(self.geometry.planes)[:, None]
        shared = writers[planes, self.indices] > 1
        all_of_it = np.abs(self._up(grad_output))[planes, self.indices]
        contested = np.where(shared, all_of_it, 0.0).reshape(self.input_shape)
        return {
            "output": Bounded(
                output.reshape(self.output_shape), farthest.reshape(self.output_shape), contract
            ),
            "grad_input0": Bounded(self.gradient(grad_output), contested, contract),
        }


def _each(value: Any, rank: int) -> tuple:
    """One int for each axis, raising what torch does: IndexError for a wrong number, an accident of its
    loops."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if any(isinstance(item, bool) or not isinstance(item, (int, np.integer)) for item in given):
        raise TypeError(f"kernel_size, stride or padding {value!r}; needed are ints")
    if len(given) != rank:
        raise IndexError(f"kernel_size, stride or padding {value!r}; needed are {rank} ints")
    return given


def _size(shape: tuple, kernel: tuple, stride: tuple, padding: tuple, output_size: Any) -> tuple[int, ...]:
    """Spatial size of the output: (L - 1) stride - 2 padding + kernel, or an output_size less than stride
    away."""
    rank = len(kernel)
    size = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(shape, kernel, stride, padding, strict=True))
    if output_size is not None:
        if not isinstance(output_size, (tuple, list)) or not all(
            isinstance(item, int) for item in output_size
        ):
            raise TypeError(f"output_size {output_size!r}; needed are {rank} or {rank + 2} ints")
        wanted = tuple(output_size[2:] if len(output_size) == rank + 2 else output_size)
        if len(wanted) != rank:
            raise ValueError(f"output_size {output_size!r}; needed are {rank} or {rank + 2} ints")
        if any(abs(n - own) >= s for n, own, s in zip(wanted, size, stride, strict=True)):
            raise ValueError(
                f"output_size {output_size!r}; needed is less than stride {stride} away from {size}"
            )
        size = wanted
    if min(size) < 0:
        raise ValueError(f"the output would have spatial size {size}; needed is at least 0")
    return size


def _functions(rank: int) -> tuple:
    def unpool(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        return Unpooling(rank, input, indices, kernel_size, stride, padding, output_size).output()

    def backward(grad_output, input, indices, kernel_size, stride=None, padding=0, output_size=None):
        call = Unpooling(rank, input, indices, kernel_size, stride, padding, output_size)
        return call.gradient(grad_output), None

    name = f"max_unpool{rank}d"
    unpool.__name__ = unpool.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = (
        f"""Gradients of sum(grad_output * {name}(...)): (grad_input, None); losers of an index get 0."""
    )
    unpool.__doc__ = f"""Put values back to where max_pool{rank}d found them, zeros elsewhere.

    output[n, c, indices[n, c, p]] = input[n, c, p], indices flat in the plane of the output

    input and indices (int64) (N, C, *L) or (C, *L) -> output (N, C, *P) with P = (L - 1) stride - 2 padding +
    kernel_size, or `output_size`, less than a stride away from it.  stride None is kernel_size.
    Error: none, values are copied.  Of several elements with the same index the last one wins here; torch
    promises no order, so any of them is accepted in the output and, element by element, in the gradient.
    Raises RuntimeError for indices outside the output, other shapes and ranks; ValueError for an output_size
    that cannot be; TypeError for what is no int.
    Source: torch.nn.functional.{name}."""
    return unpool, backward


max_unpool1d, max_unpool1d_backward = _functions(1)
max_unpool2d, max_unpool2d_backward = _functions(2)
max_unpool3d, max_unpool3d_backward = _functions(3)


class _MaxUnpool(Module):
    """{rank}-d max unpooling layer, called with (input, indices, output_size=None).

    Formula, shapes, error, what it raises: `max_unpool{rank}d`.  Source: torch.nn.MaxUnpool{rank}d."""

    rank: int

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def _call(self, input: Any, indices: Any, output_size: Any = None) -> Unpooling:
        return Unpooling(self.rank, input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def forward(self, *inputs: Any) -> np.ndarray:
        return self._call(*inputs).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(*inputs).output_shape,)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict]:
        return (self._call(*inputs).gradient(grad_outputs[0]), None), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._call(*inputs).bounded(contract, grad_outputs[0])


MaxUnpool1d, MaxUnpool2d, MaxUnpool3d = (
    type(
        f"MaxUnpool{rank}d",
        (_MaxUnpool,),
        {
            "rank": rank,
            "__doc__": (_MaxUnpool.__doc__ or "").replace("{rank}", str(rank)),
            "__module__": __name__,
            "__qualname__": f"MaxUnpool{rank}d",
        },
    )
    for rank in (1, 2, 3)
)

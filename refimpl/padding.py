"""Padding in every mode, on any number of axes: one walk, two readings.

    output[y] = input[x] with x = source(y - before) on each axis, or the constant where there is no source

where `before` is how many elements are put in front of an axis (a negative amount takes elements away).
The gradient is the same walk read backwards: every output element gives its gradient to the one input element
that it copies.
Source: torch.nn.functional.pad.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import Bounded, Contract, gamma, multilinear, round_to, where
from refimpl.module import Module
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = ["pad", "pad_backward"] + [
    f"{kind}Pad{rank}d"
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for rank in (1, 2, 3)
]

CONSTANT, REFLECT, REPLICATE, CIRCULAR = range(4)
_MODES = {"constant": CONSTANT, "reflect": REFLECT, "replicate": REPLICATE, "circular": CIRCULAR}
_AXES = 4  # the walk has at least so many axes, so that one compiled kernel serves all usual ranks


class Geometry(NamedTuple):
    """Sizes of a padding, one entry an axis; [first, last) is what negative amounts leave of the input."""

    mode: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    before: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


def source(mode, place, size, first, last):
    """Which element of an axis of `size` is copied to `place`, counted from its first; -1: the constant."""
    if mode == REFLECT:
        return size - 1 - abs(size - 1 - abs(place))
    if mode == REPLICATE:
        return min(max(place, 0), size - 1)
    if mode == CIRCULAR:
        return first + (place - first) % (last - first)
    return place if 0 <= place < size else -1


def taps(visit, arrays, geometry):
    """Every output element y that copies an input element x, both counted in C order, constants left out."""
    mode, inputs, outputs, before, first, last = geometry
    elements = 1
    for size in outputs:
        elements *= size
    for y in range(elements):
        x, step, rest = 0, 1, y
        for axis in range(len(outputs) - 1, -1, -1):
            place = source(mode, rest % outputs[axis] - before[axis], inputs[axis], first[axis], last[axis])
            if place < 0:
                break
            x, step, rest = x + place * step, step * inputs[axis], rest // outputs[axis]
        else:
            visit(arrays, y, x)


def copy(arrays, y, x):
    output, input = arrays
    output[y] = input[x]


def gradient(arrays, y, x):
    grad_output, grad_input = arrays
    grad_input[x] += grad_output[y]


_copy = Kernel(taps, copy)
_gradient = Kernel(taps, gradient)


def read_output(geometry: Geometry, input: np.ndarray, value: Any) -> np.ndarray:
    """The output side of the walk, flat; `value` where nothing is copied."""
    output = zeros_like_kind((math.prod(geometry.outputs),), input)
    output[:] = value
    _copy((output, input.ravel()), geometry, output.size)
    return output


def read_input(geometry: Geometry, grad_output: np.ndarray) -> np.ndarray:
    """The input side of the walk, flat: every element gets the sum over its copies."""
    grad_input = zeros_like_kind((math.prod(geometry.inputs),), grad_output)
    _gradient((grad_output.ravel(), grad_input), geometry, grad_output.size)
    return grad_input


class Padding:
    """One call: arguments checked, walk ready.  `amounts` as torch takes them, last axis first."""

    def __init__(self, input: Any, amounts: Any, mode: str, value: Any = None):
        self.input = float_array(input)
        shape, pairs = self.input.shape, _pairs(self.input.shape, amounts, mode, value)
        for size, (before, after) in zip(shape, pairs, strict=True):
            _check_axis(mode, size, before, after, shape)
        self.value = 0 if value is None else value
        self.shape = tuple(size + before + after for size, (before, after) in zip(shape, pairs, strict=True))
        axes = len(amounts) // 2
        if mode in ("reflect", "replicate") and max(self.shape[-axes:]) < 1:
            raise RuntimeError(f"mode {mode!r}: pad {amounts} leaves nothing of input {shape}")
        inputs, padded = _lifted(shape, axes), pairs[len(pairs) - axes :]
        pairs = [(0, 0)] * (len(inputs) - axes) + padded
        self.geometry = Geometry(
            _MODES[mode],
            inputs,
            _lifted(self.shape, axes),
            tuple(before for before, _ in pairs),
            tuple(max(0, -before) for before, _ in pairs),
            tuple(size - max(0, -after) for size, (_, after) in zip(inputs, pairs, strict=True)),
        )

    def output(self, value: Any) -> np.ndarray:
        return read_output(self.geometry, self.input, value).reshape(self.shape)

    def adjoint(self, grad_output: np.ndarray) -> np.ndarray:
        return read_input(self.geometry, grad_output).reshape(self.input.shape)

    def copies(self) -> np.ndarray:
        """How often each input element is copied: the number of terms of its gradient."""
        return self.adjoint(np.ones(self.shape))

    def up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.shape:
            raise RuntimeError(f"pad: grad_output has shape {grad_output.shape}; needed is {self.shape}")
        return grad_output


def _lifted(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """The last `axes` axes, axes of size 1 before them, and in front one for all others."""
    first = len(shape) - axes
    return (math.prod(shape[:first]), *(1,) * (_AXES - 1 - axes), *shape[first:])


def _pairs(shape: tuple[int, ...], amounts: Any, mode: str, value: Any) -> list[tuple[int, int]]:
    """(before, after) for every axis, first axis first, or the exception that torch raises."""
    if not isinstance(value, (int, float, np.number, type(None))):
        raise TypeError(f"value is {value!r}; needed is a number")
    if isinstance(amounts, (str, bytes)) or not isinstance(amounts, Iterable):
        raise TypeError(f"pad is {amounts!r}; needed is a tuple of ints")
    amounts = tuple(amounts)
    if not all(isinstance(amount, (int, np.integer)) and not isinstance(amount, bool) for amount in amounts):
        raise TypeError(f"pad is {amounts!r}; needed are ints")
    axes, odd = divmod(len(amounts), 2)
    if odd:
        raise RuntimeError(f"pad {amounts} has {len(amounts)} amounts; needed are two for each axis")
    if axes > len(shape):
        raise RuntimeError(f"pad {amounts} is for {axes} axes; input {shape} has {len(shape)}")
    _check_mode(shape, axes, mode, value)
    pairs = [(amounts[2 * axis], amounts[2 * axis + 1]) for axis in reversed(range(axes))]
    return [(0, 0)] * (len(shape) - axes) + pairs


def _check_mode(shape: tuple[int, ...], axes: int, mode: str, value: Any) -> None:
    """Raise what torch raises for a mode that does not exist, or not for this value or shape."""
    if mode not in _MODES:
        raise NotImplementedError(f"mode {mode!r}; needed is one of {', '.join(_MODES)}")
    if mode == "constant":
        return
    if value is not None and value != 0:
        raise RuntimeError(f"value {value!r} with mode {mode!r}; only mode 'constant' takes one")
    if not 1 <= axes <= 3 or len(shape) not in (axes + 1, axes + 2):
        raise NotImplementedError(
            f"mode {mode!r} for {axes} axes of input {shape}; needed are 1, 2 or 3 "
            "axes, and an input with one or two more"
        )
    if mode != "circular" and 0 in shape[len(shape) - axes - 1 :]:
        raise RuntimeError(f"mode {mode!r} with input {shape}; only its batch may be empty")


def _check_axis(mode: str, size: int, before: int, after: int, shape: tuple[int, ...]) -> None:
    """Raise RuntimeError where torch does: more is taken from an axis than it has, or added than it gives.

    A circular axis is cropped first and then wrapped, at most once.  torch 2.13.0 compares with the axis as
    it was before: asked for more than is left, it raises for some shapes and returns uninitialized memory for
    others.
    """
    kept, output = size + min(before, 0) + min(after, 0), size + before + after
    if output < 0 or (kept < 0 and mode in ("constant", "circular")):
        raise RuntimeError(f"pad ({before}, {after}) takes more than an axis of {size} has; input {shape}")
    if output >= 2**62:
        raise RuntimeError(f"pad ({before}, {after}) of an axis of {size}; no axis is as long as that")
    most = {"reflect": size - 1, "circular": kept}.get(mode, math.inf)
    if max(before, after) > max(most, 0):
        raise RuntimeError(
            f"pad ({before}, {after}) of an axis of {size}; mode {mode!r} can add at most "
            f"{most} there; input {shape}"
        )


def pad(input, pad, mode="constant", value=None):
    """Copy `input` with elements added before and behind its last axes, or taken away there if negative.

        output[y] = input[source(y - before)] on each padded axis of length L, where source(j) is
        constant   j, and `value` (default 0) where j is not in [0, L)
        reflect    j, mirrored at 0 and at L - 1: -1 -> 1, L -> L - 2; amounts less than L
        replicate  j, clamped to [0, L - 1]
        circular   j, modulo what negative amounts leave of the axis; amounts at most that

    input of any shape, pad (last axis before, last axis after, last axis but one before, ...) -> output, each
    axis longer by before + after.  Modes other than 'constant': the last one to three axes of an input with
    one or two more.  Error: none, output is a copy.  Raises TypeError for amounts that are not ints,
    NotImplementedError for other modes and ranks, RuntimeError for amounts that do not fit or a vain `value`.
    Source: torch.nn.functional.pad."""
    call = Padding(input, pad, mode, value)
    return call.output(call.value)


def pad_backward(grad_output, input, pad, mode="constant", value=None):
    """Gradient of sum(grad_output * pad(...)): (grad_input,), each element the sum over its copies."""
    call = Padding(input, pad, mode, value)
    return (call.adjoint(call.up(grad_output)),)


def pad_adjoint(grad_output: Bounded, input: Any, pad: Any, mode: str = "constant") -> Bounded:
    """`pad_backward` of a gradient that itself has an error, as a layer has that pads its input first.

    The errors go the way of the values; the n copies of an element add at most n - 1 roundings (Higham 2002,
    section 4.2) and a store.  An element with one copy is passed on as it is.
    """
    call, contract = Padding(input, pad, mode), grad_output.contract
    copies = call.copies()
    value, error = call.adjoint(grad_output.value), call.adjoint(grad_output.error)
    magnitude = call.adjoint(np.abs(grad_output.value)) + error
    with np.errstate(invalid="ignore"):
        rounding = gamma(copies - 1, contract.u) * magnitude
    passed = Bounded(value, finite_where(value, error), contract)
    summed = replace(passed, error=error + rounding).store()
    return where(copies > 1, summed, passed)


class Pad(Module):
    """`pad` as a layer: what the classes of torch.nn share."""

    def __init__(self, pad: Any, mode: str = "constant", value: Any = None):
        super().__init__()
        self.pad, self.mode, self.value = pad, mode, value

    def forward(self, input: Any) -> np.ndarray:
        return pad(input, self.pad, self.mode, self.value)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return pad_backward(grad_outputs[0], input, self.pad, self.mode, self.value), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        """A copy bit for bit, the constant rounded to T; sums of n copies take n - 1 roundings."""
        call = Padding(inputs[0], self.pad, self.mode, self.value)
        roundings = np.maximum(call.copies() - 1, 0)
        products = multilinear(call.adjoint, (call.up(grad_outputs[0]),), roundings)
        return {
            "output": contract.copied(call.output(round_to(contract.store, call.value))),
            "grad_input": products.bounded(contract),
        }

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (Padding(inputs[0], self.pad, self.mode, self.value).shape,)


def _sides(padding: Any, rank: int) -> tuple:
    """One amount for all sides of `rank` axes, or the amounts themselves, as many as there are."""
    return tuple(padding) if isinstance(padding, Iterable) else (padding,) * (2 * rank)


class _Sides(Pad):
    """A padding of the last `rank` axes in the mode `how`, the same on all sides or with amounts for each."""

    rank: int
    how: str

    def __init__(self, padding):
        super().__init__(_sides(padding, self.rank), self.how)


class _ConstantPad(_Sides):
    """{rank}-d padding with a constant: `pad` with mode 'constant'.

    padding: one int, or (before, after) of the last axis, of the one before it, ...
    Shapes, error, exceptions: as of `pad`.
    Source: torch.nn.ConstantPad{rank}d."""

    how = "constant"

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value


class _ZeroPad(_Sides):
    """{rank}-d padding with zeros: `pad` with mode 'constant' and value 0.

    padding: one int, or (before, after) of the last axis, of the one before it, ...
    Shapes, error, exceptions: as of `pad`.
    Source: torch.nn.ZeroPad{rank}d."""

    how = "constant"


class _ReflectionPad(_Sides):
    """{rank}-d padding with the input mirrored at its border: `pad` with mode 'reflect'.

    padding: one int, or (before, after) of the last axis, of the one before it, ...
    Shapes, error, exceptions: as of `pad`.
    Source: torch.nn.ReflectionPad{rank}d."""

    how = "reflect"


class _ReplicationPad(_Sides):
    """{rank}-d padding with the elements at the border: `pad` with mode 'replicate'.

    padding: one int, or (before, after) of the last axis, of the one before it, ...
    Shapes, error, exceptions: as of `pad`.
    Source: torch.nn.ReplicationPad{rank}d."""

    how = "replicate"


class _CircularPad(_Sides):
    """{rank}-d padding with the elements at the opposite border: `pad` with mode 'circular'.

    padding: one int, or (before, after) of the last axis, of the one before it, ...
    Shapes, error, exceptions: as of `pad`; ValueError for an input without one or two axes more than {rank}.
    Source: torch.nn.CircularPad{rank}d."""

    how = "circular"

    def forward(self, input: Any) -> np.ndarray:
        axes = np.ndim(input)
        if axes not in (self.rank + 1, self.rank + 2):
            raise ValueError(f"input has {axes} axes; needed are {self.rank + 1} or {self.rank + 2}")
        return super().forward(input)


def _of_rank(base: type, rank: int) -> type:
    name = f"{base.__name__[1:]}{rank}d"
    return type(
        name,
        (base,),
        {
            "rank": rank,
            "__doc__": (base.__doc__ or "").replace("{rank}", str(rank)),
            "__module__": __name__,
            "__qualname__": name,
        },
    )


ConstantPad1d, ConstantPad2d, ConstantPad3d = (_of_rank(_ConstantPad, rank) for rank in (1, 2, 3))
ZeroPad1d, ZeroPad2d, ZeroPad3d = (_of_rank(_ZeroPad, rank) for rank in (1, 2, 3))
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = (_of_rank(_ReflectionPad, rank) for rank in (1, 2, 3))
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = (_of_rank(_ReplicationPad, rank) for rank in (1, 2, 3))
CircularPad1d, CircularPad2d, CircularPad3d = (_of_rank(_CircularPad, rank) for rank in (1, 2, 3))

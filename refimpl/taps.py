"""How a walk is read, interpreted or compiled.

A *walk* is a function `walk(visit, arrays, geometry)` of plain nested loops that calls `visit(arrays,
...indices)` once for every tap of a layer ("this output element reads that input element, through that
weight"). A *reading* is what is done at a tap, usually one line.  A `Kernel` is one pair of the two:

    forward = Kernel(walk, forward_reading)
    forward((output, input, weight), geometry, work=number_of_taps)

Interpreted, a kernel is just `walk(reading, arrays, geometry)`; it runs on float64 arrays and on object
arrays of `fractions.Fraction` alike.  Compiled, the same two functions go through numba (no fastmath, so both
ways give the same bits).  Small amounts of work stay interpreted: a kernel is compiled once the taps that it
has interpreted in this process reach `INTERPRETED_TAPS`, so a self-test needs no compiler and a sweep does
not wait.  Without numba everything is interpreted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import types
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

# About 25 ms of interpreted work, the price of loading a compiled kernel from its cache.
INTERPRETED_TAPS = 50_000

_mode = ContextVar("execution", default="auto")


@contextmanager
def execution(mode: str):
    """Run every kernel inside the block 'interpreted', 'compiled' or 'auto' (by work, the default)."""
    if mode not in ("auto", "interpreted", "compiled"):
        raise ValueError(f"execution mode {mode!r} is not one of 'auto', 'interpreted', 'compiled'")
    if mode == "compiled" and not compiler_present():
        raise RuntimeError("compiled execution needs numba, which is not installed: pip install numba")
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def compiler_present() -> bool:
    """Whether numba can be imported; found without importing it."""
    return importlib.util.find_spec("numba") is not None


class Kernel:
    """A walk with one reading; call it with the arrays, the geometry and the number of taps to visit.

    `inline=False` for a walk that calls its reading with `*arguments`: numba cannot inline it."""

    def __init__(self, walk: Callable, reading: Callable, inline: bool = True):
        self.walk, self.reading, self.inline = walk, reading, "always" if inline else "never"
        self.taps_interpreted = 0
        self._compiled: Callable | None = None

    def __repr__(self) -> str:
        return f"Kernel({self.walk.__module__}.{self.walk.__name__}, {self.reading.__name__})"

    def __call__(self, arrays: tuple, geometry: tuple, work: int) -> None:
        if self._should_compile(arrays, work):
            if self._compiled is None:
                self._compiled = _compile(self.walk, self.reading, self.inline)
            self._compiled(arrays, geometry)
        else:
            self.taps_interpreted += work
            self.walk(self.reading, arrays, geometry)

    def _should_compile(self, arrays: tuple, work: int) -> bool:
        mode = _mode.get()
        if mode == "interpreted" or any(array.dtype == object for array in arrays):
            return False
        if mode == "compiled" or self._compiled is not None:
            return True
        return self.taps_interpreted + work > INTERPRETED_TAPS and compiler_present()


def inside(k, inputs, outputs, stride, padding, dilation):
    """The outputs y in [first, last) whose tap y*stride - padding + k*dilation lies in [0, inputs)."""
    offset = k * dilation - padding
    return max(0, -(offset // stride)), min(outputs, (inputs - 1 - offset) // stride + 1)


def float_array(array: Any) -> np.ndarray:
    """A copy of `array` as float64 in C order, for kernels; exact numbers (object arrays) stay such."""
    array = np.asarray(array)
    return np.array(array, dtype=object if array.dtype == object else np.float64, order="C")


def zeros_like_kind(shape: tuple, *operands: np.ndarray) -> np.ndarray:
    """Zeros of `shape`: of exact integers when an operand is an object array, float64 otherwise."""
    exact = any(operand is not None and operand.dtype == object for operand in operands)
    return np.zeros(shape, dtype=object if exact else np.float64)


walk: Callable  # the two that _compile puts into the globals of its copy of _kernel
reading: Callable


# numba finds a cached function again by its name and the time stamp of its source file.  A kernel is made of
# several functions from several files, so its name carries a fingerprint of them all.  The parts are inlined:
# a function that is passed as an argument at run time could not be cached.
def _kernel(arrays, geometry):
    walk(reading, arrays, geometry)  # noqa: F821


def _compile(walk: Callable, reading: Callable, inline: str) -> Callable:
    import numba

    parts: dict[Callable, Any] = {}
    namespace = {"walk": _jit(walk, parts, "always"), "reading": _jit(reading, parts, inline)}
    fingerprint = hashlib.sha256(b"".join(_fingerprint(part) for part in parts)).hexdigest()
    function = types.FunctionType(_kernel.__code__, {**_kernel.__globals__, **namespace}, _kernel.__name__)
    function.__module__ = walk.__module__
    function.__qualname__ = f"{walk.__name__}_{reading.__name__}_{fingerprint}"
    return numba.njit(cache=True)(function)


def _jit(function: Callable, parts: dict[Callable, Any], inline: Any) -> Any:
    """numba's version of a plain function, with the plain functions that it calls compiled likewise."""
    import numba

    if function not in parts:
        parts[function] = None
        called = {
            name: _jit(function.__globals__[name], parts, inline)
            for name in function.__code__.co_names
            if isinstance(function.__globals__.get(name), types.FunctionType)
        }
        copy = types.FunctionType(function.__code__, {**function.__globals__, **called}, function.__name__)
        parts[function] = numba.njit(inline=inline)(copy)
    return parts[function]


def _fingerprint(function: Callable) -> bytes:
    code = function.__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, types.CodeType)]
    numbers = {
        name: function.__globals__[name]
        for name in code.co_names
        if isinstance(function.__globals__.get(name), (int, float))
    }
    return code.co_code + repr((code.co_names, code.co_varnames, constants, numbers)).encode()

"""Power-average pooling, 1-d to 3-d.

    output[n, c, y] = (sum over k of  input[n, c, y*stride + k]^p)^(1/p)      what ceil_mode lets hang over
    adds nothing

Without absolute values, as torch's documentation writes it: odd p can give negative sums, whose root is NaN.
Source: torch.nn.LPPool2d.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import FLOATS, Bounded, Contract, gamma, round_to
from refimpl.floats import outward
from refimpl.module import Module
from refimpl.pooling import output_size
from refimpl.pooling_taps import total, total_gradient
from refimpl.regions import RegionMaxima, RegionPool, regions
from refimpl.shapes import per_axis
from refimpl.taps import Kernel

__all__ = [
    name.format(rank) for rank in (1, 2, 3) for name in ("LPPool{}d", "lp_pool{}d", "lp_pool{}d_backward")
]

STORED_STEPS = "stored steps"
FULL_WINDOWS = "full windows"

_total = Kernel(regions, total)
_total_gradient = Kernel(regions, total_gradient)


class _Find:
    """Checks one call's arguments; gives the windows as regions."""

    def __init__(self, name: str, rank: int, kernel_size: Any, stride: Any, ceil_mode: Any):
        if not isinstance(ceil_mode, bool):
            raise TypeError(f"{name}: ceil_mode is {ceil_mode!r}; needed is True or False")
        self.name, self.rank, self.ceil_mode = name, rank, ceil_mode
        self.kernel = per_axis(kernel_size, rank, "kernel_size")
        self.stride = self.kernel if stride is None else per_axis(stride, rank, "stride")
        if min(*self.kernel, *self.stride) < 1:
            raise RuntimeError(
                f"{name}: kernel_size {self.kernel}, stride {self.stride}; needed are positive values"
            )

    def __call__(self, input: np.ndarray) -> tuple[list, list]:
        if min(input.shape[1:]) < 1:
            raise RuntimeError(
                f"{self.name}: input {input.shape} has an empty axis; only the batch may be empty"
            )
        lead = (1,) * (3 - self.rank)
        first, last = [], []
        for n, k, s in zip(input.shape[2:], lead + self.kernel, lead + self.stride, strict=True):
            outputs = output_size(n, k, s, 0, 1, self.ceil_mode)
            if outputs < 1:
                raise RuntimeError(
                    f"{self.name}: kernel_size {self.kernel} is larger than input {input.shape}"
                )
            first.append(np.arange(outputs, dtype=np.int64)[None] * s)
            last.append(np.minimum(first[-1] + k, n))
        return first, last


class PowerSums(RegionPool):
    """One call with a finite p."""

    def __init__(self, name: str, rank: int, input: Any, p: float, find: _Find):
        super().__init__(name, rank, input, find)
        self.p = p
        sizes = [last - first for first, last in zip(self.geometry.first, self.geometry.last, strict=True)]
        size = sizes[0][0][:, None, None] * sizes[1][0][:, None] * sizes[2][0]
        self.full = (math.prod(find.kernel) / size) ** (1.0 / p)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        output = np.zeros((*self.input.shape[:2], *self.geometry.outputs))
        _total((output, values), self.geometry, self.geometry.taps)
        return output

    def _shares(self, values: np.ndarray) -> np.ndarray:
        grad_input = np.zeros(self.input.shape)
        _total_gradient((values, grad_input), self.geometry, self.geometry.taps)
        return grad_input

    def output(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            return self.down(self._sums(self.input**self.p) ** (1.0 / self.p))

    def gradient(self, grad_output: Any) -> np.ndarray:
        """grad_output S^(1/p - 1) x^(p - 1); 0 where the sum S is 0, as documented."""
        with np.errstate(all="ignore"):
            sums = self._sums(self.input**self.p)
            slopes = np.where(sums == 0, 0.0, sums ** (1.0 / self.p - 1.0))
            shares = self._shares(self.up(grad_output, self.output_shape) * slopes)
            idle = self._shares((sums != 0).astype(np.float64)) == 0  # in no window with a sum other than 0
            return self.down(np.where(idle, 0.0, shares * self.input ** (self.p - 1.0)))

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Powers by a library's pow, sums in any order, a root by pow; stored at the end.

        'stored steps' is the contract of an implementation made of tensor operations, each of which stores
        in T, its exponent as well: power, average, product with the size, root; and backwards power, product
        with 1/p, product with the upstream gradient, product with the size, every addition, power, product
        with p.  'full windows' is that of one that counts a window of k elements, of which ceil_mode lets all
        but m hang over, as a full one: averages times k, so that its root is (k / m)^(1/p) times as large."""
        steps = _steps(contract)
        up, input = contract.exact(self.up(grad_output, self.output_shape)), contract.exact(self.input)
        sums = steps(self._added(self._sums, steps(_power(input, self.p), 1), 1, 0.0), 2)
        slopes = self._root(_without(sums.value == 0, steps(_power(sums, 1.0 / self.p - 1.0), 2)))
        each_stored = FLOATS[contract.store].roundoff if _stores_steps(contract) else 0.0
        shares = self._added(self._shares, steps(slopes * up, 2), 0, each_stored)
        idle = self._shares((sums.value != 0).astype(np.float64)) == 0
        gradient = _without(idle, shares * steps(_power(input, self.p - 1.0), 2))
        found = {"output": self._root(_power(sums, 1.0 / self.p)), "grad_input": gradient}
        loops = {"output": self.output(), "grad_input": self.gradient(grad_output)}
        return {
            name: _down(self, result.store()).agreeing(loops[name], f"{self.name} {name}")
            for name, result in found.items()
        }

    def _root(self, numbers: Bounded) -> Bounded:
        """Roots, where a contract counts windows as full: anything up to (k / m)^(1/p) times as large."""
        if FULL_WINDOWS not in numbers.contract.algorithm:
            return numbers
        more = np.abs(self.full - 1.0) * (np.abs(numbers.value) + numbers.error)
        error = np.where(self.full == 1, numbers.error, outward(numbers.error + more))
        return replace(numbers, error=finite_where(numbers.value, error))

    def _added(self, read: Callable, addends: Bounded, spared: int, stored: float) -> Bounded:
        """Sums of n terms: n roundings on each, or `spared` less, each in A and, with `stored`, in T as
        well."""
        terms = np.maximum(read(np.ones(addends.value.shape)) - spared, 0)
        magnitude = read(np.abs(addends.value) + addends.error)
        error = read(addends.error) + gamma(terms, addends.contract.u + stored) * magnitude
        value = read(addends.value)
        return Bounded(value, finite_where(value, outward(error, 8 + terms)), addends.contract)


def _power(base: Bounded, exponent: float) -> Bounded:
    """base^exponent by a library's pow, the exponent held in A, or in T where each step is stored.

    A sum of powers has its value's sign: its interval ends at 0."""

    def spread(value: np.ndarray, error: np.ndarray) -> np.ndarray:
        size = np.abs(value)
        middle, low, high = (
            np.power(s, exponent) for s in (size, np.maximum(size - error, 0.0), size + error)
        )
        apart = np.maximum(np.abs(high - middle), np.abs(low - middle))
        return outward(apart + gamma(8, FLOATS["float64"].roundoff) * (middle + apart))

    power = base.apply(lambda values: np.power(values, exponent), base.contract.library("pow"), spread)
    contract = base.contract
    held = round_to(contract.store if _stores_steps(contract) else contract.accumulate, exponent)
    off = abs(float(held) - exponent)
    if off == 0:
        return power
    size = np.abs(base.value)
    with np.errstate(all="ignore"):  # x^(p + d) = x^p exp(d ln x), x anywhere within its error
        low, high = size - base.error, size + base.error
        logarithm = np.maximum(np.abs(np.log(low)), np.abs(np.log(high)))
        more = (np.abs(power.value) + power.error) * np.expm1(off * logarithm)
        if exponent > off:
            more = np.where(low > 0, more, off * _steepest_logarithm(high, exponent, off))
    error = np.where(high == 0, power.error, outward(power.error + more))
    return replace(power, error=finite_where(power.value, error))


def _steepest_logarithm(high: np.ndarray, exponent: float, off: float) -> np.ndarray:
    """Largest x^p |ln x| max(x^-d, x^d) up to `high`: below 1 it rises to exp(-1 / (p - d)) and falls again,
    above 1 it rises."""
    peak = np.minimum(high, math.exp(-1.0 / (exponent - off)))
    beyond = np.where(high > 1, high ** (exponent + off) * np.log(high), 0.0)
    return outward(np.maximum(peak ** (exponent - off) * -np.log(peak), beyond), 16)


def _stores_steps(contract: Contract) -> bool:
    return STORED_STEPS in contract.algorithm


def _steps(contract: Contract) -> Callable[[Bounded, int], Bounded]:
    """So many stores in T of numbers of this size, where a contract says that every step is stored."""
    kind, stored = FLOATS[contract.store], _stores_steps(contract)

    def store(numbers: Bounded, times: int) -> Bounded:
        if not stored:
            return numbers
        size = np.abs(numbers.value) + numbers.error
        error = numbers.error + gamma(times, kind.roundoff) * size + times * kind.eta * (size != 0)
        return replace(numbers, error=finite_where(numbers.value, outward(error)))

    return store


def _without(zero: np.ndarray, numbers: Bounded) -> Bounded:
    """Exactly 0 where the condition holds."""
    value, error = (np.where(zero, 0.0, array) for array in (numbers.value, numbers.error))
    return replace(numbers, value=value, error=error)


def _down(call: RegionPool, numbers: Bounded) -> Bounded:
    """In the output's shape.  Where a weak contract leaves the sign of a sum open, any finite result is
    within it."""
    most = np.finfo(np.float64).max
    error = np.nan_to_num(numbers.error, nan=most, posinf=most)
    return replace(numbers, value=call.down(numbers.value), error=call.down(error))


class LargestPower(RegionMaxima):
    """The limits: p = inf takes the largest magnitude of every window, p = -inf the smallest."""

    def __init__(self, name: str, rank: int, input: Any, p: float, find: _Find):
        super().__init__(name, rank, input, find)
        self.side = math.copysign(1.0, p)
        self.slope = np.where(
            np.isnan(self.input), 0.0, np.sign(self.input)
        )  # of |x|; of NaN 0, as torch has it
        self.input = np.abs(self.input) * self.side

    def output(self) -> np.ndarray:
        return self.both()[0] * self.side

    def gradient(self, grad_output: Any) -> np.ndarray:
        return super().gradient(grad_output) * self.down(self.slope)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        chosen = super().bounded(contract, grad_output)["grad_input"]
        slope = self.down(self.slope)
        grad_input = replace(
            chosen,
            value=chosen.value * slope,
            error=chosen.error * np.abs(slope),
            products=None,
        )
        return {"output": contract.exact(self.output()), "grad_input": grad_input}


def _call(rank: int, input: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any) -> Any:
    name, p = f"lp_pool{rank}d", float(norm_type)
    if p == 0:
        raise ZeroDivisionError(f"{name}: norm_type is 0; needed is another number")
    kind = LargestPower if math.isinf(p) else PowerSums
    return kind(name, rank, input, p, _Find(name, rank, kernel_size, stride, ceil_mode))


def _functions(rank: int) -> tuple:
    def pool(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return _call(rank, input, norm_type, kernel_size, stride, ceil_mode).output()

    def backward(grad_output, input, norm_type, kernel_size, stride=None, ceil_mode=False):
        return (_call(rank, input, norm_type, kernel_size, stride, ceil_mode).gradient(grad_output),)

    name = f"lp_pool{rank}d"
    pool.__name__ = pool.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"""Gradient of sum(grad_output * {name}(...)) for the input: (grad_input,)."""
    pool.__doc__ = f"""The p-norm, without absolute values, of every window of `input`, {rank}-d.

    output[n, c, y] = sum(input[n, c, y*stride + k]^p for k in kernel)^(1/p); what ceil_mode lets hang over
    adds 0

    input (N, C, *L) or (C, *L) -> output (N, C, *P) float64, P as of a max pooling.  stride None is
    kernel_size. p = inf takes the largest magnitude, p = -inf the smallest.  An odd p can give a negative
    sum, whose root is NaN. The gradient is 0 where the sum is 0.
    Error: pow to 4 units in the last place, of an exponent that may be rounded to A; the sum of n powers
    gamma(n - 1) sum |input|^p.
    Raises RuntimeError for sizes that do not fit, ZeroDivisionError for p = 0, TypeError for what is no int.
    Source: torch.nn.functional.{name}."""
    return pool, backward


lp_pool1d, lp_pool1d_backward = _functions(1)
lp_pool2d, lp_pool2d_backward = _functions(2)
lp_pool3d, lp_pool3d_backward = _functions(3)


class _LPPool(Module):
    """{rank}-d power-average pooling layer.

    Formula, shapes, error, what it raises: `lp_pool{rank}d`.  Source: torch.nn.LPPool{rank}d."""

    algorithms = (STORED_STEPS, FULL_WINDOWS, f"{STORED_STEPS}, {FULL_WINDOWS}")
    rank: int

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.arguments = (norm_type, kernel_size, stride, ceil_mode)

    def forward(self, input: Any) -> np.ndarray:
        return _call(self.rank, input, *self.arguments).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (_call(self.rank, inputs[0], *self.arguments).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (_call(self.rank, input, *self.arguments).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return _call(self.rank, inputs[0], *self.arguments).bounded(contract, grad_outputs[0])


LPPool1d, LPPool2d, LPPool3d = (
    type(
        f"LPPool{rank}d",
        (_LPPool,),
        {
            "rank": rank,
            "__doc__": (_LPPool.__doc__ or "").replace("{rank}", str(rank)),
            "__module__": __name__,
            "__qualname__": f"LPPool{rank}d",
        },
    )
    for rank in (1, 2, 3)
)

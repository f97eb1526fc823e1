"""The two ways to evaluate a recurrent layer: with plain numbers by loops, and with their errors.

`recurrent` and `recurrent_cells` are written once and take one of these as `ops`.  `store` marks where every
implementation writes a tensor of T, `keep` where one writes a tensor that computes operation by operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.activation_bounds import either, logistic, sigmoid_values
from refimpl.bounded import Bounded, finite_where, where
from refimpl.error_bounds import Contract
from refimpl.floats import gamma, outward
from refimpl.linear import Geometry, read_input, read_output, read_weight

STORED = "stored intermediates"

# Names of what is stored, as in the docstring of `recurrent`.
INPUT_PRODUCT, HIDDEN_PRODUCT, PROJECTION = "input product", "hidden product", "projection"
STATE, GATES = "state", "gates"
GATE_GRADIENT, STATE_GRADIENT = "gate gradient", "state gradient"


class Plain:
    """float64 arrays; matrix products by the loops of `linear`."""

    tanh = staticmethod(np.tanh)
    sigmoid = staticmethod(sigmoid_values)
    where = staticmethod(np.where)
    stack = staticmethod(np.stack)

    def operand(self, array: Any) -> np.ndarray:
        return np.ascontiguousarray(array, dtype=np.float64)

    def store(self, x: np.ndarray, point: str) -> np.ndarray:
        return x

    def keep(self, x: np.ndarray) -> np.ndarray:
        return x

    def total(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return first + second

    def gates(self, input: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """What the input and the hidden state add to the gates."""
        return input + hidden

    def either(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """`first` and another form of the same formula."""
        return first

    def blend(self, z: np.ndarray, n: np.ndarray, h: np.ndarray) -> np.ndarray:
        return (1.0 - z) * n + z * h

    def rest(self, z: np.ndarray, g: np.ndarray) -> np.ndarray:
        return g * (1.0 - z)

    def slope(self, gate: np.ndarray) -> np.ndarray:
        """The derivative of a sigmoid that is `gate`."""
        return (1.0 - gate) * gate

    def width(self, x: np.ndarray) -> int:
        return x.shape[-1]

    def join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Side by side along the last axis."""
        return np.concatenate(arrays, axis=-1)

    def relu(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0.0)

    def relu_gradient(self, g: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.where(x <= 0, 0.0, g)

    def affine(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, point: str) -> np.ndarray:
        """x (N, I), weight (O, I), bias (O) -> x weight' + bias (N, O)."""
        return read_output(Geometry(len(x), *weight.shape[::-1]), np.ascontiguousarray(x), weight, bias)

    def input_gradient(self, g: np.ndarray, weight: np.ndarray, point: str = "") -> np.ndarray:
        return read_input(Geometry(len(g), *weight.shape[::-1]), np.ascontiguousarray(g), weight)

    def weight_gradient(self, g: np.ndarray, x: np.ndarray) -> np.ndarray:
        """g (T, N, O), x (T, N, I) -> sum over times and sequences of g' x (O, I)."""
        g, x = (np.ascontiguousarray(a.reshape(math.prod(a.shape[:-1]), a.shape[-1])) for a in (g, x))
        return read_weight(Geometry(len(g), x.shape[1], g.shape[1]), g, x)

    recurrent_gradient = weight_gradient

    def bias_gradient(self, g: np.ndarray) -> np.ndarray:
        return g.reshape(-1, g.shape[-1]).sum(axis=0)

    recurrent_bias_gradient = bias_gradient


@dataclass(frozen=True, kw_only=True)
class Sum(Bounded):
    """A sum of products, with what says how far off a longer sum is that it is part of.

    inherited  the part of its error that the operands brought along     size  sum of the terms' magnitudes
    terms      how many roundings a term can get"""

    inherited: Any
    size: Any
    terms: Any

    def _map(self, move: Callable) -> Sum:
        names = ("value", "error", "inherited", "size", "terms")
        return replace(self, **{name: move(getattr(self, name)) for name in names})

    def __getitem__(self, index: Any) -> Sum:
        return self._map(lambda array: array[index])

    def reshape(self, *shape: Any) -> Sum:
        return self._map(lambda array: array.reshape(*shape))


class Tracked:
    """`Bounded` numbers under a contract; under 'stored intermediates' every operation writes a tensor of
    T."""

    where = staticmethod(where)

    def __init__(self, contract: Contract):
        self.contract = contract
        self.each = contract.algorithm == STORED

    def operand(self, array: Any) -> Bounded:
        return self.contract.exact(array)

    def store(self, x: Bounded, point: str) -> Bounded:
        return x.store(point)

    def keep(self, x: Bounded) -> Bounded:
        return x.store() if self.each else x

    def total(self, first: Bounded, second: Bounded) -> Bounded:
        """Stored; where one is 0 the sum is the other, which is a tensor of T already."""
        both = (first + second).store(STATE_GRADIENT)
        error = np.where(_is_zero(first), second.error, np.where(_is_zero(second), first.error, both.error))
        return Bounded(both.value, error, self.contract)

    def gates(self, input: Sum, hidden: Sum) -> Bounded:
        """Two sums added to each other, the terms of one to the other, or the terms of both in any order."""
        added, u, eta = input + hidden, self.contract.u, self.contract.eta
        terms, size = input.terms + hidden.terms + 1, input.size + hidden.size
        error = input.inherited + hidden.inherited + gamma(terms, u) * size + terms * eta
        for sum_, more in ((input, hidden), (hidden, input)):
            onto = gamma(more.terms + 1, u) * (_size(sum_) + more.size) + more.terms * eta
            error = np.maximum(error, sum_.error + more.inherited + onto)
        error = np.where((input.size == 0) | (hidden.size == 0), 0.0, _outward(error))
        return replace(added, error=finite_where(added.value, np.maximum(added.error, error)))

    def either(self, first: Bounded, second: Bounded) -> Bounded:
        return either(first, second)

    def blend(self, z: Bounded, n: Bounded, h: Bounded) -> Bounded:
        """(1 - z) n + z h, or the same as n + z (h - n), for a z in [0, 1].

        A candidate's c differs by (n_c - n)(1 - z_c) + z_c (h_c - h) + (z_c - z)(h - n), which is less than
        either form shows operation by operation, and by its own roundings: those of the worse form."""
        closed, opened, size_n, size_h = (
            _most(1.0 - z.value, z.error),
            _most(z.value, z.error),
            _size(n),
            _size(h),
        )
        apart = np.abs(h.value - n.value)
        moved = closed * n.error + opened * h.error + z.error * apart
        first = self._rounding(closed) * size_n
        first = first + self._rounding(closed * size_n + first) + self._rounding(opened * size_h)
        difference = apart + n.error + h.error
        second = opened * self._kept(difference)
        second = second + self._kept(opened * difference + second)
        own = np.maximum(first, second)
        error = moved + own + self._rounding(closed * size_n + opened * size_h + own)
        value = (1.0 - z.value) * n.value + z.value * h.value
        error = np.where(_is_zero(n) & _is_zero(h), 0.0, _outward(error))
        return Bounded(value, finite_where(value, error), self.contract)

    def rest(self, z: Bounded, g: Bounded) -> Bounded:
        """g (1 - z), or the same as g - g z, for a z in [0, 1]: as `blend`."""
        closed, opened, size = _most(1.0 - z.value, z.error), _most(z.value, z.error), _size(g)
        moved = closed * g.error + z.error * np.abs(g.value)
        own = np.maximum(self._rounding(closed) * size, self._kept(opened * size))
        error = moved + own + self._kept(closed * size + own)
        value = g.value * (1.0 - z.value)
        error = np.where(_is_zero(g), 0.0, _outward(error))
        return Bounded(value, finite_where(value, error), self.contract)

    def slope(self, gate: Bounded) -> Bounded:
        """(1 - i) i: an i that is off by d changes it by d (1 - 2 i - d), and both operations round.

        Operation by operation g (1 - i) may be rounded instead, relatively at most twice as much."""
        most, rest = _size(gate), np.abs(1.0 - gate.value) + gate.error
        moved = gate.error * (np.abs(1.0 - 2.0 * gate.value) + gate.error)
        own = self._kept(rest) * most
        rounded = self._kept(rest * most + own)
        error = _outward(moved + own + (2.0 * rounded if self.each else rounded))
        value = (1.0 - gate.value) * gate.value
        return Bounded(value, finite_where(value, np.where(_is_zero(gate), 0.0, error)), self.contract)

    def _rounding(self, size: np.ndarray) -> np.ndarray:
        """One rounding of numbers of magnitude at most `size`."""
        return self.contract.rounding(_outward(size))

    def _kept(self, size: np.ndarray) -> np.ndarray:
        """One rounding in A, and one in T where every operation writes a tensor."""
        rounding = self._rounding(size)
        return self.contract.stored(size, rounding) if self.each else rounding

    def tanh(self, x: Bounded) -> Bounded:
        return x.tanh()

    def sigmoid(self, x: Bounded) -> Bounded:
        """Never outside [0, 1], whatever the error of x."""
        gate = logistic(x)
        return replace(gate, error=np.fmin(gate.error, 1.0))

    def stack(self, parts: Sequence[Bounded]) -> Bounded:
        values, errors = np.stack([p.value for p in parts]), np.stack([p.error for p in parts])
        return Bounded(values, errors, self.contract)

    def width(self, x: Bounded) -> int:
        return x.value.shape[-1]

    def join(self, parts: Sequence[Bounded]) -> Bounded:
        values, errors = ([getattr(p, name) for p in parts] for name in ("value", "error"))
        return Bounded(np.concatenate(values, axis=-1), np.concatenate(errors, axis=-1), self.contract)

    def relu(self, x: Bounded) -> Bounded:
        """Exactly 0 where x is surely negative."""
        error = np.where(x.value + x.error <= 0, 0.0, x.error)
        return Bounded(np.maximum(x.value, 0.0), error, self.contract)

    def relu_gradient(self, g: Bounded, x: Bounded) -> Bounded:
        """Either g or 0 where the sign of x depends on rounding."""
        unsure = (np.abs(x.value) <= x.error) & (x.error > 0)
        value = np.where(x.value <= 0, 0.0, g.value)
        error = np.where(unsure, np.abs(g.value) + g.error, np.where(x.value <= 0, 0.0, g.error))
        return Bounded(value, finite_where(value, error), self.contract)

    def affine(self, x: Bounded, weight: Bounded, bias: Bounded | None, point: str) -> Sum:
        """The product is a tensor of T before or after the bias joins it: whichever store costs more."""
        bare = self._product(x, _transposed(weight))
        if bias is None:
            return replace(bare, error=bare.store(point).error)
        whole = self._product(x, _transposed(weight), bias)
        return replace(whole, error=either(whole.store(point), bare.store(point) + bias).error)

    def input_gradient(self, g: Bounded, weight: Bounded, point: str = "") -> Bounded:
        return self._product(g, weight).store(point)

    def weight_gradient(self, g: Bounded, x: Bounded) -> Bounded:
        g, x = (a.reshape(math.prod(a.value.shape[:-1]), a.value.shape[-1]) for a in (g, x))
        return self._product(_transposed(g), x).store()

    def bias_gradient(self, g: Bounded) -> Bounded:
        return g.reshape(-1, g.value.shape[-1]).sum(axis=0).store()

    def recurrent_gradient(self, g: Bounded, x: Bounded) -> Bounded:
        """One sum over all times; operation by operation a tensor of T is added at each time, the last
        first."""
        if not self.each:
            return self.weight_gradient(g, x)
        return self._accumulated([self._product(_transposed(g[t]), x[t]) for t in range(len(g.value))])

    def recurrent_bias_gradient(self, g: Bounded) -> Bounded:
        if not self.each:
            return self.bias_gradient(g)
        return self._accumulated([g[t].sum(axis=0) for t in range(len(g.value))])

    def _accumulated(self, parts: Sequence[Bounded]) -> Bounded:
        total = parts[-1].store()
        for part in reversed(parts[:-1]):
            total = (total + part.store()).store()
        return total

    def _product(self, first: Bounded, second: Bounded, bias: Bounded | None = None) -> Sum:
        """Matrix product: n products and n - 1 additions put at most n roundings on a term (Higham 2002,
        section 3.5).  A bias is one term more, in any order: the others may be added to it one by one."""
        n = first.value.shape[-1]
        size, other = np.abs(first.value), np.abs(second.value)
        with np.errstate(invalid="ignore", over="ignore"):
            value = first.value @ second.value
            inherited = size @ second.error + first.error @ (other + second.error)
            magnitude = _outward(size @ other + inherited, n)
            terms = np.where(magnitude == 0, 0, n)
            if bias is not None:
                value, inherited = value + bias.value, inherited + bias.error
                terms = np.where((terms == 0) | _is_zero(bias), terms, n + 1)
                magnitude = magnitude + _size(bias)
            rounding = gamma(terms, self.contract.u) * magnitude + terms * self.contract.eta
            error = finite_where(value, _outward(inherited + rounding, n))
        return Sum(value, error, self.contract, inherited=_outward(inherited, n), size=magnitude, terms=terms)


def _outward(bound: np.ndarray, terms: int = 0) -> np.ndarray:
    """With the roundings of what is evaluated here: those of a formula, and of sums of so many terms."""
    return outward(bound, terms + 32)


def _transposed(x: Bounded) -> Bounded:
    return Bounded(x.value.T, x.error.T, x.contract)


def _is_zero(x: Bounded) -> np.ndarray:
    return (x.value == 0) & (x.error == 0)


def _size(x: Bounded) -> np.ndarray:
    return np.abs(x.value) + x.error


def _most(part: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The largest that a part of 1 can be."""
    return np.fmin(np.abs(part) + error, 1.0)

"""The loop of recurrent layers over layers, directions and times around one cell, and the same loop reversed.

    for layer, direction:  for t in times:  state = cell(input[t], state);  output[t] = state[0]

`ops` says with what numbers (`recurrent_arithmetic`).  Source: torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl.bounded import Bounded
from refimpl.recurrent_arithmetic import INPUT_PRODUCT, PROJECTION, STATE_GRADIENT
from refimpl.recurrent_cells import Weights


class Pass(NamedTuple):
    """What one direction of one layer leaves for its gradient."""

    input: Any
    hidden: Any
    tapes: list
    full: list
    active: list


class Direction(NamedTuple):
    """One direction of one layer: its cell and weights, how long each sequence is, which way it goes.

    Times beyond a sequence's length leave its state alone and have output 0, so that the reverse direction
    starts at each sequence's own last time; what they hold, be it NaN, takes no part in a gradient."""

    ops: Any
    cell: Any
    weights: Weights
    lengths: np.ndarray
    reverse: bool

    def _times(self, count: int) -> range:
        return range(count - 1, -1, -1) if self.reverse else range(count)

    def _where(self, active: Any, yes: Any, no: Any) -> Any:
        return yes if active is None else self.ops.where(active, yes, no)

    def _active(self, active: Any, array: Any) -> Any:
        """0 where a sequence has ended."""
        return array if active is None else self.ops.where(active, array, _zeros(self.ops, array))

    def forward(self, input: Any, state: tuple) -> tuple[Any, tuple, Pass]:
        """input (T, N, I), state of (N, H) -> output (T, N, H), final state, and what the gradient needs."""
        ops, weights, (count, rows, features) = self.ops, self.weights, shape_of(input)
        gates = ops.affine(input.reshape(count * rows, features), weights.ih, weights.b_ih, INPUT_PRODUCT)
        gates = gates.reshape(count, rows, shape_of(gates)[1])
        outputs, hidden, tapes, full = ([None] * count for _ in range(4))
        shortest = self.lengths.min(initial=count)
        active = [None if t < shortest else (t < self.lengths)[:, None] for t in range(count)]
        for t in self._times(count):
            hidden[t] = self._active(active[t], state[0])
            new, tapes[t] = self.cell.forward(ops, gates[t], state, weights)
            if weights.hr is not None:
                full[t] = self._active(active[t], new[0])
                new = (ops.affine(new[0], weights.hr, None, PROJECTION), *new[1:])
            state = tuple(self._where(active[t], n, s) for n, s in zip(new, state, strict=True))
            outputs[t] = self._active(active[t], state[0])
        read = ops.stack([self._active(active[t], input[t]) for t in range(count)])
        return ops.stack(outputs), state, Pass(read, ops.stack(hidden), tapes, full, active)

    def backward(self, grad_output: Any, up: tuple, done: Pass) -> tuple[Any, tuple, Weights]:
        """Gradients of the input, of the initial state and of the weights, backwards through time."""
        ops, weights, count = self.ops, self.weights, len(done.tapes)
        inner, outer, projected = [None] * count, [None] * count, [None] * count
        for t in reversed(self._times(count)):
            active = done.active[t]
            here = self._active(active, grad_output[t])
            up = (ops.total(up[0], here), *up[1:])
            below = up
            projected[t] = self._active(active, up[0])
            if weights.hr is not None:
                below = (ops.input_gradient(up[0], weights.hr, STATE_GRADIENT), *up[1:])
            outer[t], inner[t], direct = self.cell.backward(ops, below, done.tapes[t])
            outer[t], inner[t] = self._active(active, outer[t]), self._active(active, inner[t])
            through = ops.input_gradient(inner[t], weights.hh, STATE_GRADIENT)
            hidden = through if direct[0] is None else ops.total(through, direct[0])
            state = (hidden, *direct[1:])
            up = tuple(self._where(active, s, u) for s, u in zip(state, up, strict=True))
        outer, inner = ops.stack(outer), ops.stack(inner)
        flat = outer.reshape(count * shape_of(outer)[1], shape_of(outer)[2])
        grad_input = ops.input_gradient(flat, weights.ih).reshape(*shape_of(done.input))
        bias = weights.b_ih is not None
        hr = (
            None if weights.hr is None else ops.recurrent_gradient(ops.stack(projected), ops.stack(done.full))
        )
        grads = Weights(
            ops.weight_gradient(outer, done.input),
            ops.recurrent_gradient(inner, done.hidden),
            ops.bias_gradient(outer) if bias else None,
            ops.recurrent_bias_gradient(inner) if bias else None,
            hr,
        )
        return grad_input, up, grads


class Stack(NamedTuple):
    """Layers on top of each other, each of one or two directions; `dropped`: all between them is zeroed."""

    ops: Any
    cell: Any
    weights: list[list[Weights]]
    lengths: np.ndarray
    dropped: bool

    def _directions(self, layer: int) -> list[Direction]:
        weights = self.weights[layer]
        return [Direction(self.ops, self.cell, w, self.lengths, d == 1) for d, w in enumerate(weights)]

    def _between(self, array: Any, below_last: bool) -> Any:
        return _zeros(self.ops, array) if self.dropped and below_last else array

    def forward(self, input: Any, states: tuple) -> tuple[Any, tuple, list]:
        """input (T, N, I), states (layers * directions, N, H) -> output (T, N, features), last states."""
        passes: list = []
        last: list = []
        for layer in range(len(self.weights)):
            outputs = []
            for direction in self._directions(layer):
                output, state, done = direction.forward(input, tuple(s[len(last)] for s in states))
                outputs.append(output)
                last.append(state)
                passes.append(done)
            output = self.ops.join(outputs)
            input = self._between(output, layer < len(self.weights) - 1)
        return input, tuple(self.ops.stack(state) for state in zip(*last, strict=True)), passes

    def backward(self, grad_output: Any, up: tuple, passes: list) -> tuple[Any, tuple, list[Weights]]:
        """Gradients of input, initial states and, in the order of the layers and directions, weights."""
        grads: list = [None] * len(passes)
        initial: list = [None] * len(passes)
        for layer in reversed(range(len(self.weights))):
            grad_output = self._between(grad_output, layer < len(self.weights) - 1)
            directions, total = self._directions(layer), None
            for d, direction in enumerate(directions):
                index = layer * len(directions) + d
                width = shape_of(grad_output)[-1] // len(directions)
                mine = grad_output[..., d * width : (d + 1) * width]
                grad_input, initial[index], grads[index] = direction.backward(
                    mine, tuple(u[index] for u in up), passes[index]
                )
                total = grad_input if total is None else self.ops.total(total, grad_input)
            grad_output = total
        return grad_output, tuple(self.ops.stack(state) for state in zip(*initial, strict=True)), grads


def shape_of(array: Any) -> tuple[int, ...]:
    return (array.value if isinstance(array, Bounded) else array).shape


def _zeros(ops: Any, like: Any) -> Any:
    return ops.operand(np.zeros(shape_of(like)))


def swapped(array: Any) -> Any:
    """The first two axes exchanged."""
    if isinstance(array, Bounded):
        return Bounded(array.value.swapaxes(0, 1), array.error.swapaxes(0, 1), array.contract)
    return array.swapaxes(0, 1)

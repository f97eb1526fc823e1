"""Recurrent layers: a loop over layers, directions and times around one cell; backward the same loop reversed.

    for layer, direction:  for t in times:  state = cell(input[t], state);  output[t] = state[0]

The loop and the cells (`recurrent_cells`) are evaluated twice: with plain numbers, matrix products by the loops of
`linear`, and with their errors (`recurrent_arithmetic`), and the two must agree.

What is promised of an implementation: sums and functions in A, and these tensors stored in T, without which there
is no recurrent layer that is made of matrix products and cells:
    W_ih x and W_hh h, with or without their bias;  the states h_t and c_t, and what a projection projects;
    for the gradient, the gates behind their functions and W_hn h + b_hn of a GRU;
    the gradients of the sums in front of the gates, of the states at each time, and of each matrix product.
A weight's gradient is one sum over all times and sequences, stored once.  Where each operation of a cell writes a
tensor of T, and a weight's gradient is added up in T time by time, that is the weaker contract 'stored
intermediates'.
Source: torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU and their cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module, uniform
from refimpl.recurrent_arithmetic import STORED, Plain, Tracked
from refimpl.recurrent_cells import GRUCellFormula, LSTMCellFormula, ReluCell, TanhCell, Weights
from refimpl.recurrent_walk import Stack, shape_of, swapped

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class Arranged(NamedTuple):
    """Arguments of a call as (T, N, I), (L, N, H) for each state, (N); and whether the call had a batch axis."""

    input: np.ndarray
    states: tuple[np.ndarray, ...]
    lengths: np.ndarray
    batched: bool


class _Recurrent(Module):
    """What cells and layers share: arguments arranged as time, batch, features; evaluation both ways."""

    algorithms = (STORED,)
    cell: Any
    num_layers = 1

    def _weights(self, ops: Any) -> list[list[Weights]]:
        raise NotImplementedError

    def _names(self) -> list[list[Weights]]:
        """Names of the parameters, layer by layer, direction by direction."""
        raise NotImplementedError

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arranged:
        raise NotImplementedError

    def _as_input(self, array: Any, batched: bool) -> Any:
        """(T, N, F) back to the axes of the call."""
        raise NotImplementedError

    def _as_state(self, array: Any, batched: bool) -> Any:
        raise NotImplementedError

    def _evaluate(self, ops: Any, hx: Any, arranged: Arranged, grad_outputs: tuple | None) -> dict[str, Any]:
        names = self._names()
        weights = [
            [Weights(*(None if n is None else ops.operand(getattr(self, n)) for n in w)) for w in layer]
            for layer in names
        ]
        stack = Stack(ops, self.cell, weights, arranged.lengths, self._dropped())
        output, last, passes = stack.forward(
            ops.operand(arranged.input), tuple(ops.operand(s) for s in arranged.states)
        )
        results = self._outputs(output, last, arranged.batched)
        if grad_outputs is None:
            return results
        up, ups = self._upstream(grad_outputs, arranged, shape_of(output))
        grad_input, grad_states, grads = stack.backward(
            ops.operand(up), tuple(ops.operand(u) for u in ups), passes
        )
        given = () if hx is None else tuple(self._as_state(s, arranged.batched) for s in grad_states)
        results |= self._input_gradients((self._as_input(grad_input, arranged.batched), *given))
        for name, grad in zip((w for layer in names for w in layer), grads, strict=True):
            results |= {f"grad_{n}": g for n, g in zip(name, grad, strict=True) if n is not None}
        return results

    def _input_gradients(self, grads: tuple) -> dict[str, Any]:
        return {"grad_input" if len(grads) == 1 else f"grad_input{i}": g for i, g in enumerate(grads)}

    def _outputs(self, output: Any, last: tuple, batched: bool) -> dict[str, Any]:
        raise NotImplementedError

    def _upstream(self, grads: tuple, arranged: Arranged, shape: tuple) -> tuple[np.ndarray, tuple]:
        raise NotImplementedError

    def _dropped(self) -> bool:
        return False

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> Any:
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), None)
        outputs = tuple(results.values())
        return self._nested(outputs)

    def _nested(self, outputs: tuple) -> Any:
        raise NotImplementedError

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        input, hx, lengths = (*inputs, None, None)[:3]
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), None)
        return tuple(result.shape for result in results.values())

    def _backward(
        self, grad_outputs: tuple, input: Any, hx: Any = None, lengths: Any = None
    ) -> tuple[tuple, dict]:
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), grad_outputs)
        grads = {name[5:]: g for name, g in results.items() if name.startswith("grad_")}
        return tuple(g for n, g in grads.items() if n.startswith("input")), {
            n: g for n, g in grads.items() if not n.startswith("input")
        }

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        input, hx, lengths = (*inputs, None, None)[:3]
        arranged = self._arranged(input, hx, lengths)
        loops = self._evaluate(Plain(), hx, arranged, grad_outputs)
        tracked = self._evaluate(Tracked(contract), hx, arranged, grad_outputs)
        return {name: tracked[name].agreeing(loops[name], name) for name in loops}


class _Cell(_Recurrent):
    """One step: input (N, I) or (I), state (N, H) or (H)."""

    def _set_up(self, input_size: Any, hidden_size: Any, bias: Any) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name} is {size!r}; needed is an int")
            if size < 0:
                raise RuntimeError(f"{name} is {size}; needed is at least 0")
        self.input_size, self.hidden_size, gates = input_size, hidden_size, self.cell.gates * hidden_size
        self.weight_ih = uniform((gates, input_size), hidden_size)
        self.weight_hh = uniform((gates, hidden_size), hidden_size)
        self.bias_ih = uniform((gates,), hidden_size) if bias else None
        self.bias_hh = uniform((gates,), hidden_size) if bias else None

    parameters = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def _names(self) -> list[list[Weights]]:
        bias = ("bias_ih", "bias_hh") if self.bias_ih is not None else (None, None)
        return [[Weights("weight_ih", "weight_hh", *bias)]]

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arranged:
        name, input = type(self).__name__, np.asarray(input, dtype=np.float64)
        if input.ndim not in (1, 2):
            raise ValueError(
                f"{name}: input has shape {input.shape}; needed is (N, input_size) or (input_size)"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input has shape {input.shape}; needed are {self.input_size} features"
            )
        wanted = (*input.shape[:-1], self.hidden_size)
        states = _states(name, hx, self.cell.states, wanted)
        for state in states:
            if state.ndim not in (1, 2):
                raise ValueError(f"{name}: hx has shape {state.shape}; needed is {wanted}")
            if state.shape != wanted:
                raise RuntimeError(f"{name}: hx has shape {state.shape}; needed is {wanted}")
        batched = input.ndim == 2
        lead = (None,) if batched else (None, None)
        rows, states = input[lead], tuple(state[lead] for state in states)
        return Arranged(rows, states, np.full(rows.shape[1], 1), batched)

    def _as_input(self, array: Any, batched: bool) -> Any:
        return array[0] if batched else array[0, 0]

    _as_state = _as_input

    def _outputs(self, output: Any, last: tuple, batched: bool) -> dict[str, Any]:
        names = ("output", "output1")
        return {name: self._as_state(state, batched) for name, state in zip(names, last, strict=False)}

    def _upstream(self, grads: tuple, arranged: Arranged, shape: tuple) -> tuple[np.ndarray, tuple]:
        ups = (
            np.asarray(grad, dtype=np.float64).reshape(state.shape)
            for grad, state in zip(grads, arranged.states, strict=True)
        )
        return np.zeros(shape), tuple(ups)

    def _nested(self, outputs: tuple) -> Any:
        return outputs[0] if len(outputs) == 1 else outputs


def _states(
    name: str, hx: Any, count: int, shape: tuple, other: tuple | None = None
) -> tuple[np.ndarray, ...]:
    """The initial states as arrays: zeros when absent; a pair (h, c) where the cell has two."""
    if hx is None:
        return tuple(np.zeros(s) for s in (shape, other or shape)[:count])
    if count == 1:
        return (np.asarray(hx, dtype=np.float64),)
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"{name}: hx is {type(hx).__name__}; needed is a pair (h, c)")
    if len(hx) != count:
        raise RuntimeError(f"{name}: hx has {len(hx)} states; needed are {count}")
    return tuple(np.asarray(state, dtype=np.float64) for state in hx)


class RNNCell(_Cell):
    """One step of an RNN.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh),   or max(0, ...) with nonlinearity 'relu'

    input (N, input_size) or (input_size), hx (N, hidden_size) or (hidden_size), zeros when absent -> h' like hx.
    weight_ih (hidden_size, input_size), weight_hh (hidden_size, hidden_size), bias_ih and bias_hh (hidden_size).
    Error: as the module's docstring says.  Raises TypeError and RuntimeError for sizes that cannot be; calls raise
    ValueError for another number of axes, RuntimeError for other shapes and for another nonlinearity.
    Source: torch.nn.RNNCell."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh"):
        self.nonlinearity = nonlinearity
        self.cell = ReluCell() if nonlinearity == "relu" else TanhCell()
        self._set_up(input_size, hidden_size, bias)

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arranged:
        arranged = super()._arranged(input, hx, lengths)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"nonlinearity is {self.nonlinearity!r}; needed is 'tanh' or 'relu'")
        return arranged


class LSTMCell(_Cell):
    """One step of an LSTM.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh, in four parts
        c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')

    input (N, input_size) or (input_size), hx = (h, c) each (N, hidden_size) or (hidden_size), zeros when absent ->
    (h', c').  weight_ih (4 hidden_size, input_size), weight_hh (4 hidden_size, hidden_size), biases (4 hidden_size).
    Error: as the module's docstring says.  Raises as RNNCell does, TypeError for an hx that is no pair.
    Source: torch.nn.LSTMCell."""

    def __init__(self, input_size, hidden_size, bias=True):
        self.cell = LSTMCellFormula()
        self._set_up(input_size, hidden_size, bias)


class GRUCell(_Cell):
    """One step of a GRU.

        r, z = sigmoid(W_i x + b_i + W_h h + b_h), two parts of three
        n = tanh(W_in x + b_in + r (W_hn h + b_hn)),   h' = (1 - z) n + z h

    input (N, input_size) or (input_size), hx (N, hidden_size) or (hidden_size), zeros when absent -> h' like hx.
    weight_ih (3 hidden_size, input_size), weight_hh (3 hidden_size, hidden_size), biases (3 hidden_size).
    Error: as the module's docstring says.  Raises as RNNCell does.  Source: torch.nn.GRUCell."""

    def __init__(self, input_size, hidden_size, bias=True):
        self.cell = GRUCellFormula()
        self._set_up(input_size, hidden_size, bias)


def _outside(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1


class _Layers(_Recurrent):
    """Layers over time: input (T, N, I), (N, T, I) with batch_first, or (T, I); states (layers * directions, N, H)."""

    def _set_up(
        self,
        input_size: Any,
        hidden_size: Any,
        num_layers: Any = 1,
        bias: Any = True,
        batch_first: Any = False,
        dropout: Any = 0.0,
        bidirectional: Any = False,
        proj_size: Any = 0,
    ) -> None:
        super().__init__()
        _check_sizes(input_size, hidden_size, num_layers, bias, batch_first, proj_size)
        if _outside(dropout):
            raise ValueError(f"dropout is {dropout!r}; needed is a probability between 0 and 1")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bool(bidirectional), proj_size
        self.output_size, directions = proj_size or hidden_size, 1 + self.bidirectional
        gates = self.cell.gates * hidden_size
        for layer in range(num_layers):
            below = input_size if layer == 0 else directions * self.output_size
            shapes: list[tuple[int, ...]] = [(gates, below), (gates, self.output_size)]
            shapes += [(gates,), (gates,)] if bias else []
            shapes += [(proj_size, hidden_size)] if proj_size else []
            for direction in range(directions):
                for name, shape in zip(_present(self._named(layer, direction)), shapes, strict=True):
                    setattr(self, name, uniform(shape, hidden_size))
        self.parameters = tuple(name for layer in self._names() for w in layer for name in _present(w))

    def _named(self, layer: int, direction: int) -> Weights:
        tail = f"_l{layer}{'_reverse' if direction else ''}"
        return Weights(
            f"weight_ih{tail}",
            f"weight_hh{tail}",
            f"bias_ih{tail}" if self.bias else None,
            f"bias_hh{tail}" if self.bias else None,
            f"weight_hr{tail}" if self.proj_size else None,
        )

    def _names(self) -> list[list[Weights]]:
        directions = range(1 + self.bidirectional)
        return [[self._named(layer, d) for d in directions] for layer in range(self.num_layers)]

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arranged:
        name, input = type(self).__name__, np.asarray(input, dtype=np.float64)
        if input.ndim not in (2, 3):
            raise ValueError(
                f"{name}: input has shape {input.shape}; needed are 3 axes, or 2 without a batch"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input has shape {input.shape}; needed are {self.input_size} features"
            )
        batched = input.ndim == 3
        rows = input[:, None] if not batched else input.swapaxes(0, 1) if self.batch_first else input
        if len(rows) == 0:
            raise RuntimeError(f"{name}: input has shape {input.shape}; needed is at least one time")
        lead = (self.num_layers * (1 + self.bidirectional), *((rows.shape[1],) if batched else ()))
        wanted = ((*lead, self.output_size), (*lead, self.hidden_size))
        states = _states(name, hx, self.cell.states, *wanted)
        for state, shape in zip(states, wanted, strict=False):
            if state.shape != shape:
                raise RuntimeError(f"{name}: an initial state has shape {state.shape}; needed is {shape}")
        states = states if batched else tuple(state[:, None] for state in states)
        lengths = _lengths(name, lengths, *rows.shape[:2])
        inside = (np.arange(len(rows))[:, None] < lengths)[..., None]
        return Arranged(np.where(inside, rows, 0.0), states, lengths, batched)

    def _as_input(self, array: Any, batched: bool) -> Any:
        if not batched:
            return array[:, 0]
        return swapped(array) if self.batch_first else array

    def _as_state(self, array: Any, batched: bool) -> Any:
        return array if batched else array[:, 0]

    def _outputs(self, output: Any, last: tuple, batched: bool) -> dict[str, Any]:
        states = {f"output{i + 1}": self._as_state(state, batched) for i, state in enumerate(last)}
        return {"output": self._as_input(output, batched)} | states

    def _upstream(self, grads: tuple, arranged: Arranged, shape: tuple) -> tuple[np.ndarray, tuple]:
        output, *states = (np.asarray(grad, dtype=np.float64) for grad in grads)
        if not arranged.batched:
            output, states = output[:, None], [state[:, None] for state in states]
        elif self.batch_first:
            output = output.swapaxes(0, 1)
        return output, tuple(states)

    def _dropped(self) -> bool:
        active = self.training and self.num_layers > 1
        if active and 0 < self.dropout < 1:
            raise NotImplementedError(
                f"dropout {self.dropout} in training is random; needed is 0, 1, one layer or evaluation"
            )
        return active and self.dropout == 1

    def _nested(self, outputs: tuple) -> Any:
        return outputs[0], outputs[1] if len(outputs) == 2 else outputs[1:]


def _present(weights: Weights) -> list[str]:
    return [name for name in weights if name is not None]


def _check_sizes(
    input_size: Any, hidden_size: Any, num_layers: Any, bias: Any, batch_first: Any, proj_size: Any
) -> None:
    """Raise what torch's constructor raises."""
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} is {flag!r}; needed is a bool")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if not isinstance(size, (int, np.integer)):
            raise TypeError(f"{name} is {size!r}; needed is an int")
        if size <= 0:
            raise ValueError(f"{name} is {size}; needed is at least 1")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(f"proj_size is {proj_size}; needed is 0 or less than hidden_size {hidden_size}")


def _lengths(name: str, lengths: Any, times: int, batch: int) -> np.ndarray:
    """One length for each sequence, all times when absent."""
    if lengths is None:
        return np.full(batch, times)
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or (lengths <= 0).any() or (lengths > times).any():
        raise RuntimeError(f"{name}: lengths {lengths.tolist()}; needed are {batch} between 1 and {times}")
    return lengths


_COMMON = """
    input (T, N, input_size), (N, T, input_size) with batch_first, or (T, input_size) -> output like it with
    directions * {output} features, and the final states (num_layers * directions, N, {output}){more}.
    `lengths`, one a sequence, stands for torch's packed sequence: times beyond it are not read, and have output 0.
    weight_ih_l0 ({gates} hidden_size, input_size), weight_hh_l0, bias_ih_l0, bias_hh_l0 ..., `_reverse` for the
    other direction.  Error: as the module's docstring says.  Raises ValueError and TypeError for sizes that cannot
    be; calls raise ValueError for another number of axes, RuntimeError for other shapes, NotImplementedError for
    a random dropout.  Source: torch.nn.{name}."""


class RNN(_Layers):
    __doc__ = """Layers of RNNCell over time, with nonlinearity 'tanh' or 'relu'.
""" + _COMMON.format(output="hidden_size", more="", gates="1", name="RNN")

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}; needed is 'tanh' or 'relu'")
        self.nonlinearity, self.cell = nonlinearity, TanhCell() if nonlinearity == "tanh" else ReluCell()
        self._set_up(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)


class LSTM(_Layers):
    __doc__ = """Layers of LSTMCell over time; with proj_size each h' is multiplied by weight_hr (proj_size, hidden_size).
""" + _COMMON.format(
        output="(proj_size or hidden_size)",
        more=" of h and, with hidden_size features, of c",
        gates="4",
        name="LSTM",
    )

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        proj_size=0,
    ):
        self.cell = LSTMCellFormula()
        self._set_up(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        )


class GRU(_Layers):
    __doc__ = """Layers of GRUCell over time.
""" + _COMMON.format(output="hidden_size", more="", gates="3", name="GRU")

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
    ):
        self.cell = GRUCellFormula()
        self._set_up(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)

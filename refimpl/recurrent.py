"""Recurrent layers: a loop over layers, directions and times around one cell, and the same loop reversed.

    for layer, direction:  for t in times:  state = cell(input[t], state);  output[t] = state[0]

Loop (`recurrent_walk`) and cells (`recurrent_cells`) are evaluated twice: with plain numbers, products of
matrices by the loops of `linear`, and with their errors (`recurrent_arithmetic`); the two must agree.

What is promised of an implementation: sums and functions in A, the terms of a gate in any order, the biases
among them, and these tensors stored in T, without which no recurrent layer is made of matrix products and
cells:
    input product    W_ih x, with or without its bias
    hidden product   W_hh h, likewise; of a GRU its last part is kept for the gradient
    state            h_t and c_t, and what a projection projects
    projection       W_hr h of an LSTM with proj_size
    gates            of LSTM and GRU, behind their functions: kept for the gradient
    gate gradient    of the sums in front of the gates
    state gradient   of h_t and c_t at each time: each product with a weight, and each sum
Each is needed: a self-test takes one out of the bounds at a time, and correct results are beyond them.
A weight's gradient is one sum over all times and sequences, stored once.  Where each operation of a cell
writes a tensor of T, and a weight's gradient is added up in T time by time, that is the weaker contract
'stored intermediates'.  Source: torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU and their cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.module import uniform
from refimpl.recurrent_cells import GRUCellFormula, LSTMCellFormula, ReluCell, TanhCell, Weights
from refimpl.recurrent_module import (
    Arranged,
    Recurrent,
    check_sizes,
    initial_states,
    outside,
    present,
    sequence_lengths,
)
from refimpl.recurrent_walk import swapped

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Cell(Recurrent):
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
        states = initial_states(name, hx, self.cell.states, wanted)
        for state in states:
            if state.ndim not in (1, 2):
                raise ValueError(f"{name}: hx has shape {state.shape}; needed is {wanted}")
            if state.shape != wanted:
                raise RuntimeError(f"{name}: hx has shape {state.shape}; needed is {wanted}")
        batched = input.ndim == 2
        lead = (None,) if batched else (None, None)
        rows, states = input[lead], tuple(state[lead] for state in states)
        return Arranged(rows, states, sequence_lengths(name, None, *rows.shape[:2]), batched)

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


class RNNCell(_Cell):
    """One step of an RNN.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh),   or max(0, ...) with nonlinearity 'relu'

    input (N, input_size) or (input_size), hx (N, hidden_size) or (hidden_size), 0 when absent -> h' like hx.
    weight_ih (hidden_size, input_size), weight_hh (hidden_size, hidden_size), bias_ih, bias_hh (hidden_size).
    Error: as the module's docstring says.  Raises TypeError and RuntimeError for sizes that cannot be; calls
    raise ValueError for another number of axes, RuntimeError for other shapes or another nonlinearity.
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

    input (N, input_size) or (input_size), hx = (h, c) each (N, hidden_size) or (hidden_size), 0 when absent
    -> (h', c').  weight_ih (4 hidden_size, input_size), weight_hh (4 hidden_size, hidden_size), bias_ih and
    bias_hh (4 hidden_size).  Error: as the module's docstring says.
    Raises as RNNCell does, TypeError for an hx that is no pair.  Source: torch.nn.LSTMCell."""

    def __init__(self, input_size, hidden_size, bias=True):
        self.cell = LSTMCellFormula()
        self._set_up(input_size, hidden_size, bias)


class GRUCell(_Cell):
    """One step of a GRU.

        r, z = sigmoid(W_i x + b_i + W_h h + b_h), two parts of three
        n = tanh(W_in x + b_in + r (W_hn h + b_hn)),   h' = (1 - z) n + z h

    input (N, input_size) or (input_size), hx (N, hidden_size) or (hidden_size), 0 when absent -> h' like hx.
    weight_ih (3 hidden_size, input_size), weight_hh (3 hidden_size, hidden_size), biases (3 hidden_size).
    Error: as the module's docstring says.  Raises as RNNCell does.  Source: torch.nn.GRUCell."""

    def __init__(self, input_size, hidden_size, bias=True):
        self.cell = GRUCellFormula()
        self._set_up(input_size, hidden_size, bias)


class _Layers(Recurrent):
    """Layers over time: input (T, N, I), (N, T, I) with batch_first, or (T, I)."""

    def _set_up(
        self,
        input_size: Any,
        hidden_size: Any,
        num_layers: Any,
        bias: Any,
        batch_first: Any,
        dropout: Any,
        bidirectional: Any,
        proj_size: Any = 0,
    ) -> None:
        super().__init__()
        check_sizes(input_size, hidden_size, num_layers, bias, batch_first, proj_size)
        if outside(dropout):
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
                for name, shape in zip(present(self._named(layer, direction)), shapes, strict=True):
                    setattr(self, name, uniform(shape, hidden_size))
        self.parameters = tuple(name for layer in self._names() for w in layer for name in present(w))

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
        states = initial_states(name, hx, self.cell.states, *wanted)
        for state, shape in zip(states, wanted, strict=False):
            if state.shape != shape:
                raise RuntimeError(f"{name}: an initial state has shape {state.shape}; needed is {shape}")
        states = states if batched else tuple(state[:, None] for state in states)
        lengths = sequence_lengths(name, lengths, *rows.shape[:2])
        return Arranged(rows, states, lengths, batched)

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


_COMMON = """
        state = cell(input[t], state),   output[t] = state[0]      time by time, layer by layer

    input (T, N, input_size), (N, T, input_size) with batch_first, or (T, input_size) -> output like it
    with directions * {output} features, and the final states (num_layers * directions, N, {output}){more}.
    hx: initial states like the final ones, 0 when absent.  `lengths`, one a sequence, stands for torch's
    packed sequence: times beyond them are not read and have output 0.
    weight_ih_l0 ({gates}hidden_size, input_size), weight_hh_l0, bias_ih_l0, bias_hh_l0 and so on, those of
    the reverse direction end in `_reverse`.  Error: as the module's docstring says.
    Raises ValueError and TypeError for sizes that cannot be; calls raise ValueError for another number of
    axes, RuntimeError for other shapes, NotImplementedError for a dropout that is random.
    Source: torch.nn.{name}."""


class RNN(_Layers):
    __doc__ = """Layers of RNNCell over time, with nonlinearity 'tanh' or 'relu'.
""" + _COMMON.format(output="hidden_size", more="", gates="", name="RNN")

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
    __doc__ = """Layers of LSTMCell over time; with proj_size, weight_hr (proj_size, hidden_size) times h'.
""" + _COMMON.format(
        output="(proj_size or hidden_size)",
        more=" of h,\n    (num_layers * directions, N, hidden_size) of c",
        gates="4 ",
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
""" + _COMMON.format(output="hidden_size", more="", gates="3 ", name="GRU")

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

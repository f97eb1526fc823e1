"""Recurrent layers in torch operations, step by step; the wrong and the unusual ones are variations of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

CELLS = ("RNNCell", "LSTMCell", "GRUCell")
LAYERS = ("RNN", "LSTM", "GRU")


def rnn(way: Way, layer: Any, gates: torch.Tensor, own: Callable, state: tuple) -> tuple:
    sums = gates + own(state[0])
    return (torch.relu(sums) if layer.nonlinearity == "relu" else torch.tanh(sums),)


def lstm(way: Way, layer: Any, gates: torch.Tensor, own: Callable, state: tuple) -> tuple:
    i, f, g, o = (gates + own(state[0])).chunk(4, -1)
    new = way.store(torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g), layer)
    return torch.sigmoid(o) * torch.tanh(new), new


def gru(way: Way, layer: Any, gates: torch.Tensor, own: Callable, state: tuple) -> tuple:
    first, last = gates.split((2 * state[0].shape[-1], state[0].shape[-1]), -1)
    own_first, own_last = own(state[0]).split((2 * state[0].shape[-1], state[0].shape[-1]), -1)
    r, z = torch.sigmoid(first + own_first).chunk(2, -1)
    n = torch.tanh(last + r * own_last)
    return ((1 - z) * n + z * state[0],)


@dataclass(frozen=True)
class Way:
    """How a layer is computed; the defaults are right.

    wide       the type in which is computed, for a storage type
    store      what happens to a tensor that is stored
    cells      a step, for 'RNN', 'LSTM' and 'GRU'
    weights    the parameters that are used: (layer, direction) -> (layer, direction)
    initial    which of the initial states it starts from
    carried    what of a state goes on to the next step
    join       outputs of the two directions -> output
    below      what the next layer gets
    masks      whether steps beyond a sequence's length leave the state alone
    bias       what is added of bias_hh
    """

    wide: Callable = torch.Tensor.double
    store: Callable = lambda tensor, layer: tensor
    cells: dict = field(default_factory=lambda: {"RNN": rnn, "LSTM": lstm, "GRU": gru})
    weights: Callable = lambda layer, direction: (layer, direction)
    initial: Callable = lambda states, index: tuple(state[index] for state in states)
    carried: Callable = lambda state: state
    join: Callable = lambda outputs: torch.cat(outputs, -1)
    below: Callable = lambda output, module: output
    masks: bool = True
    bias: Callable = lambda bias: bias


def stored(tensor: torch.Tensor, layer: Any) -> torch.Tensor:
    """Rounded to the layer's type and back, in the gradient as well."""
    kind = next(layer.parameters()).dtype
    return tensor.to(kind).to(tensor.dtype)


def single(tensor: torch.Tensor) -> torch.Tensor:
    """float32 of the half types; others as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _parameters(way: Way, module: Any, tail: str) -> dict[str, Any]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    found = {name: getattr(module, name + tail, None) for name in names}
    return {name: None if tensor is None else way.wide(tensor) for name, tensor in found.items()}


def _direction(way: Way, module: Any, tail: str, inputs: torch.Tensor, state: tuple, active: Any, back: bool):
    """One direction of one layer: outputs of all times and the last state."""
    weights, kind = _parameters(way, module, tail), type(module).kind
    gates = way.store(functional.linear(inputs, weights["weight_ih"], weights["bias_ih"]), module)

    def own(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if weights["bias_hh"] is None else way.bias(weights["bias_hh"])
        return way.store(functional.linear(hidden, weights["weight_hh"], bias), module)

    outputs: list = [None] * len(inputs)
    for t in reversed(range(len(inputs))) if back else range(len(inputs)):
        new = way.cells[kind](way, module, gates[t], own, way.carried(state))
        hidden = way.store(new[0], module)
        if weights["weight_hr"] is not None:
            hidden = way.store(functional.linear(hidden, weights["weight_hr"]), module)
        new = (hidden, *new[1:])
        now = active[t] if way.masks else torch.ones_like(active[t])
        state = tuple(torch.where(now, n, s) for n, s in zip(new, state, strict=True))
        outputs[t] = torch.where(active[t], state[0], torch.zeros_like(state[0]))
    return torch.stack(outputs), state


def _layers(way: Way, module: Any, inputs: torch.Tensor, states: tuple, active: Any) -> tuple:
    last, directions = [], 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            row, column = way.weights(layer, direction)
            tail = f"_l{row}{'_reverse' if column else ''}"
            state = way.initial(states, len(last))
            output, state = _direction(way, module, tail, inputs, state, active, direction == 1)
            outputs.append(output)
            last.append(state)
        output = outputs[0] if directions == 1 else way.join(outputs)
        between = layer < module.num_layers - 1 and module.training and module.dropout
        inputs = way.below(output * 0 if between == 1 else output, module)
    return output, tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _run_layer(way: Way, module: Any, input: Any, hx: Any) -> tuple:
    packed, lengths = isinstance(input, PackedSequence), None
    if packed:
        input, lengths = pad_packed_sequence(input)
    batched, kind = input.dim() == 3, input.dtype
    swap = batched and module.batch_first and not packed
    inputs = way.wide(input.transpose(0, 1) if swap else input if batched else input.unsqueeze(1))
    times, rows = inputs.shape[:2]
    lengths = torch.full((rows,), times) if lengths is None else lengths
    active = (torch.arange(times)[:, None] < lengths)[..., None].to(inputs.device)
    count = module.num_layers * (2 if module.bidirectional else 1)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)[: 2 if module.kind == "LSTM" else 1]
    if hx is None:
        states = tuple(inputs.new_zeros(count, rows, size) for size in sizes)
    else:
        given = hx if isinstance(hx, tuple) else (hx,)
        states = tuple(way.wide(state if batched else state.unsqueeze(1)) for state in given)
    output, last = _layers(way, module, inputs, states, active)
    output = (output.transpose(0, 1) if swap else output if batched else output.squeeze(1)).to(kind)
    last = tuple((state if batched else state.squeeze(1)).to(kind) for state in last)
    result = pack_padded_sequence(output, lengths, enforce_sorted=False) if packed else output
    return result, last if len(last) == 2 else last[0]


def _run_cell(way: Way, module: Any, input: torch.Tensor, hx: Any) -> Any:
    inputs = way.wide(input)
    shape = (*inputs.shape[:-1], module.hidden_size)
    if hx is None:
        state = (inputs.new_zeros(shape),) * (2 if module.kind == "LSTM" else 1)
    else:
        state = tuple(way.wide(part) for part in (hx if isinstance(hx, tuple) else (hx,)))
    active = torch.ones(1, 1, 1, dtype=torch.bool, device=inputs.device)
    _, last = _direction(way, module, "", inputs[None], state, active[(0,) * (3 - inputs.dim() - 1)], False)
    last = tuple(part.to(input.dtype) for part in last)
    return last if len(last) == 2 else last[0]


def unrolled(name: str, way: Way) -> type:
    """torch.nn's class of that name, computed in this way; its own call only checks the arguments."""
    run = _run_cell if name in CELLS else _run_layer
    checked = getattr(torch.nn, name)

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        with torch.no_grad():
            checked.forward(self, input, hx)
        return run(way, self, input, hx)

    return type(name, (checked,), {"forward": forward, "kind": name.removesuffix("Cell")})


def classes(way: Way, names: tuple[str, ...] = CELLS + LAYERS) -> dict[str, type]:
    return {name: unrolled(name, way) for name in names}

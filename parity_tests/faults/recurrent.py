"""Wrong recurrent layers that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.recurrent_unrolled import (
    CELLS,
    LAYERS,
    Way,
    classes,
    gru,
    lstm,
    rnn,
    single,
    stored,
)

ALL = CELLS + LAYERS
RNNS, LSTMS, GRUS = ("RNNCell", "RNN"), ("LSTMCell", "LSTM"), ("GRUCell", "GRU")
_CELLS = {"RNN": rnn, "LSTM": lstm, "GRU": gru}


def _fault(
    name: str, sentence: str, layers: tuple[str, ...] = ALL, caught_by: str = "forward", **way: Any
) -> Fault:
    return Fault(name, sentence, classes(replace(Way(), **way), layers), caught_by, layers)


def _with(cell: Callable) -> dict[str, Callable]:
    """A wrong step in place of the right one of the same name."""
    return {**_CELLS, cell.__name__.split("_")[1].upper(): cell}


def _lstm_gates_in_another_order(way, layer, gates, own, state):
    i, f, g, o = gates.chunk(4, -1)
    i2, f2, g2, o2 = own(state[0]).chunk(4, -1)
    return lstm(way, layer, torch.cat((f, i, g, o), -1), lambda _: torch.cat((f2, i2, g2, o2), -1), state)


def _lstm_without_forgetting(way, layer, gates, own, state):
    i, f, g, o = (gates + own(state[0])).chunk(4, -1)
    new = state[1] + torch.sigmoid(i) * torch.tanh(g) + 0 * f
    return torch.sigmoid(o) * torch.tanh(new), new


def _lstm_state_not_squashed(way, layer, gates, own, state):
    i, f, g, o = (gates + own(state[0])).chunk(4, -1)
    new = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * new, new


def _lstm_cell_gradient_cut(way, layer, gates, own, state):
    return lstm(way, layer, gates, own, (state[0], state[1] + (state[1].detach() - state[1])))


def _gru_gates_exchanged(way, layer, gates, own, state):
    r, z, n = gates.chunk(3, -1)
    r2, z2, n2 = own(state[0]).chunk(3, -1)
    return gru(way, layer, torch.cat((z, r, n), -1), lambda _: torch.cat((z2, r2, n2), -1), state)


def _gru_update_exchanged(way, layer, gates, own, state):
    (new,) = gru(way, layer, gates, own, state)
    r, _, n = gates.chunk(3, -1)
    r2, _, n2 = own(state[0]).chunk(3, -1)
    candidate = torch.tanh(n + torch.sigmoid(r + r2) * n2)
    return (candidate + state[0] - new,)


def _gru_reset_before_the_product(way, layer, gates, own, state):
    """As in the first paper on the GRU: n = tanh(W_in x + W_hn (r h))."""
    size = state[0].shape[-1]
    r, z = torch.sigmoid(gates[..., : 2 * size] + own(state[0])[..., : 2 * size]).chunk(2, -1)
    n = torch.tanh(gates[..., 2 * size :] + own(r * state[0])[..., 2 * size :])
    return ((1 - z) * n + z * state[0],)


def _gru_reset_without_gradient(way, layer, gates, own, state):
    size = state[0].shape[-1]
    first = torch.sigmoid(gates[..., : 2 * size] + own(state[0])[..., : 2 * size])
    r, z = first[..., :size].detach(), first[..., size:]
    n = torch.tanh(gates[..., 2 * size :] + r * own(state[0])[..., 2 * size :])
    return ((1 - z) * n + z * state[0],)


def _rnn_without_hidden(way, layer, gates, own, state):
    return rnn(way, layer, gates, lambda hidden: own(hidden * 0), state)


def _rnn_always_tanh(way, layer, gates, own, state):
    return (torch.tanh(gates + own(state[0])),)


def _rnn_relu_gradient_everywhere(way, layer, gates, own, state):
    (new,) = rnn(way, layer, gates, own, state)
    sums = gates + own(state[0])
    return (sums + (new - sums).detach() if layer.nonlinearity == "relu" else new,)


class _Scaled(torch.autograd.Function):
    """The same tensor with a gradient of another size."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        return upstream[0] * ctx.factor, None


def _around(names: tuple[str, ...], change: Callable[[Any, Any, Any, Any], Any]) -> dict[str, type]:
    """torch's own classes with something done around their call: change(torch's class, self, input, hx)."""

    def make(name: str) -> type:
        torchs = getattr(torch.nn, name)

        def forward(self: Any, input: Any, hx: Any = None) -> Any:
            return change(torchs, self, input, hx)

        return type(name, (torchs,), {"forward": forward})

    return {name: make(name) for name in names}


def _drops_in_evaluation(torchs: Any, self: Any, input: Any, hx: Any) -> Any:
    was = self.training
    self.training = True
    try:
        return torchs.forward(self, input, hx)
    finally:
        self.training = was


def _writes_state(torchs: Any, self: Any, input: Any, hx: Any) -> Any:
    result = torchs.forward(self, input, hx)
    for state in hx if isinstance(hx, tuple) else () if hx is None else (hx,):
        state.data.mul_(0.5)
    return result


def _in_float64(torchs: Any, self: Any, input: Any, hx: Any) -> Any:
    result = torchs.forward(self, input, hx)
    return tuple(x.double() for x in result) if isinstance(result, tuple) else result.double()


def _last_states_as_they_come(torchs: Any, self: Any, input: Any, hx: Any) -> Any:
    """The final states of all layers with a batch axis, whatever the call was."""
    output, last = torchs.forward(self, input, hx)
    if not isinstance(input, torch.Tensor) or input.dim() == 3:
        return output, last
    return output, tuple(x.unsqueeze(1) for x in last) if isinstance(last, tuple) else last.unsqueeze(1)


def _features_ignored(torchs: Any, self: Any, input: Any, hx: Any) -> Any:
    """Features too many are ignored."""
    size = self.input_size
    return torchs.forward(self, input[..., :size] if isinstance(input, torch.Tensor) else input, hx)


def _interleaved(outputs: list) -> torch.Tensor:
    return torch.stack(outputs, -1).flatten(-2)


def _bfloat16(tensor: torch.Tensor, layer: Any) -> torch.Tensor:
    return tensor + (tensor.detach().bfloat16().to(tensor.dtype) - tensor.detach())


FAULTS = (
    _fault(
        "lstm_gate_order",
        "input and forget gate are exchanged",
        LSTMS,
        cells=_with(_lstm_gates_in_another_order),
    ),
    _fault(
        "lstm_no_forgetting", "the forget gate is always open", LSTMS, cells=_with(_lstm_without_forgetting)
    ),
    _fault("lstm_not_squashed", "h' = o c' without tanh", LSTMS, cells=_with(_lstm_state_not_squashed)),
    _fault("gru_gate_order", "reset and update gate are exchanged", GRUS, cells=_with(_gru_gates_exchanged)),
    _fault("gru_update_exchanged", "h' = z n + (1 - z) h", GRUS, cells=_with(_gru_update_exchanged)),
    _fault(
        "gru_reset_before_product",
        "the reset gate multiplies h before its product instead of after it",
        GRUS,
        cells=_with(_gru_reset_before_the_product),
    ),
    _fault("rnn_hidden_ignored", "the previous state is not used", RNNS, cells=_with(_rnn_without_hidden)),
    _fault("rnn_always_tanh", "nonlinearity 'relu' is ignored", RNNS, cells=_with(_rnn_always_tanh)),
    _fault("hidden_bias_lost", "bias_hh is not added", bias=lambda bias: bias * 0),
    _fault(
        "first_initial_state",
        "every layer and direction starts from the first initial state",
        LAYERS,
        initial=lambda states, index: tuple(state[0] for state in states),
    ),
    _fault(
        "reverse_with_forward_weights",
        "the reverse direction uses the forward one's weights, so that its own have no gradient",
        LAYERS,
        "metadata",
        weights=lambda layer, direction: (layer, 0),
    ),
    _fault("directions_interleaved", "features of the directions alternate", LAYERS, join=_interleaved),
    _fault(
        "padding_read",
        "the last state is that after the padding, and the reverse direction starts there",
        LAYERS,
        masks=False,
    ),
    _fault(
        "rectified_between_layers",
        "a layer gets max(0, output) of the one below",
        LAYERS,
        below=lambda output, module: torch.relu(output),
    ),
    _fault("states_in_bfloat16", "states and gates are rounded to bfloat16", wide=single, store=_bfloat16),
    Fault(
        "drops_in_evaluation",
        "dropout between the layers is active in evaluation",
        _around(LAYERS, _drops_in_evaluation),
        "forward",
        LAYERS,
    ),
    _fault(
        "truncated",
        "no gradient goes back through time",
        LAYERS,
        "input_gradients",
        carried=lambda state: tuple(part.detach() for part in state),
    ),
    _fault(
        "half_the_gradient_through_time",
        "the gradient of a state is halved",
        ALL,
        "input_gradients",
        carried=lambda state: tuple(_Scaled.apply(part, 0.5) for part in state),
    ),
    _fault(
        "lstm_cell_gradient_cut",
        "no gradient goes back through c",
        LSTMS,
        "input_gradients",
        cells=_with(_lstm_cell_gradient_cut),
    ),
    _fault(
        "gru_reset_constant",
        "the reset gate is a constant for the gradient",
        GRUS,
        "parameter_gradients",
        cells=_with(_gru_reset_without_gradient),
    ),
    _fault(
        "relu_gradient_everywhere",
        "the gradient passes where relu is 0",
        RNNS,
        "input_gradients",
        cells=_with(_rnn_relu_gradient_everywhere),
    ),
    _fault(
        "hidden_bias_gradient_half",
        "the gradient of bias_hh has half its size",
        ALL,
        "parameter_gradients",
        bias=lambda bias: _Scaled.apply(bias, 0.5),
    ),
    Fault("writes_state", "the initial state is overwritten", _around(ALL, _writes_state), "purity", ALL),
    Fault("cell_in_float64", "the result comes in float64", _around(CELLS, _in_float64), "metadata", CELLS),
    Fault(
        "final_state_always_batched",
        "the final states of an unbatched call have a batch axis",
        _around(LAYERS, _last_states_as_they_come),
        "metadata",
        LAYERS,
    ),
    Fault(
        "takes_what_fits",
        "features beyond input_size are ignored",
        _around(ALL, _features_ignored),
        "rejection",
        ALL,
    ),
)

CONTROLS = (
    Control("unrolled_in_float64", "step by step in float64, results rounded once", classes(Way()), ALL),
    Control(
        "fused_cells",
        "products and cells in float32 for the half types, every product and state rounded to its type",
        classes(Way(wide=single, store=stored)),
        ALL,
    ),
)

"""One step of a recurrent layer and its gradient: the cells of RNN, LSTM and GRU.

A cell gets the input's part of the gates, W_ih x + b_ih, already multiplied.  `ops` says with what numbers
(`recurrent_arithmetic`).
    forward(ops, gates, state, weights) -> new state, what the gradient needs
    backward(ops, up, tape) -> gradients of the input's and of the hidden state's part of the gates, and of
                               the previous states as far as not through W_hh (None: not at all)
The gradient through W_hh, which is the same for all, is left to `recurrent_walk`.
Source: torch.nn.RNNCell, torch.nn.LSTMCell, torch.nn.GRUCell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from refimpl.recurrent_arithmetic import GATE_GRADIENT, GATES, HIDDEN_PRODUCT, STATE, STATE_GRADIENT


class Weights(NamedTuple):
    """Of one layer and direction; None where absent."""

    ih: Any
    hh: Any
    b_ih: Any = None
    b_hh: Any = None
    hr: Any = None


class TanhCell:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""

    gates, states = 1, 1

    def forward(self, ops: Any, gates: Any, state: tuple, weights: Weights) -> tuple[tuple, tuple]:
        own = ops.affine(state[0], weights.hh, weights.b_hh, HIDDEN_PRODUCT)
        new = ops.store(ops.tanh(ops.keep(ops.gates(gates, own))), STATE)
        return (new,), (new,)

    def backward(self, ops: Any, up: tuple, tape: tuple) -> tuple[Any, Any, tuple]:
        (new,) = tape
        grad = ops.store(up[0] * (1.0 - new * new), GATE_GRADIENT)
        return grad, grad, (None,)


class ReluCell:
    """h' = max(0, W_ih x + b_ih + W_hh h + b_hh)."""

    gates, states = 1, 1

    def forward(self, ops: Any, gates: Any, state: tuple, weights: Weights) -> tuple[tuple, tuple]:
        own = ops.affine(state[0], weights.hh, weights.b_hh, HIDDEN_PRODUCT)
        sum_ = ops.keep(ops.gates(gates, own))
        return (ops.store(ops.relu(sum_), STATE),), (sum_,)

    def backward(self, ops: Any, up: tuple, tape: tuple) -> tuple[Any, Any, tuple]:
        grad = ops.relu_gradient(up[0], tape[0])
        return grad, grad, (None,)


class LSTMCellFormula:
    """i, f, o = sigmoid, g = tanh of the gates (i, f, g, o);  c' = f c + i g;  h' = o tanh(c')."""

    gates, states = 4, 2

    def forward(self, ops: Any, gates: Any, state: tuple, weights: Weights) -> tuple[tuple, tuple]:
        hidden, cell = state
        size = ops.width(cell)
        own = ops.affine(hidden, weights.hh, weights.b_hh, HIDDEN_PRODUCT)
        sums = ops.keep(ops.gates(gates, own))
        open_ = ops.keep(ops.sigmoid(sums))
        i, f, o = open_[:, :size], open_[:, size : 2 * size], open_[:, 3 * size :]
        g = ops.keep(ops.tanh(sums[:, 2 * size : 3 * size]))
        new = ops.store(ops.keep(f * cell) + ops.keep(i * g), STATE)
        squashed = ops.keep(ops.tanh(new))
        saved = (ops.store(open_, GATES), ops.store(g, GATES))
        return (ops.store(o * squashed, STATE), new), (*saved, cell, squashed)

    def backward(self, ops: Any, up: tuple, tape: tuple) -> tuple[Any, Any, tuple]:
        open_, g, cell, squashed = tape
        size = ops.width(cell)
        i, f, o = open_[:, :size], open_[:, size : 2 * size], open_[:, 3 * size :]
        grad_o = ops.keep(up[0] * squashed)
        grad_c = ops.keep(up[1] + ops.keep(ops.keep(up[0] * o) * (1.0 - squashed * squashed)))
        inner = ops.keep(ops.join([grad_c, grad_c, grad_c]) * ops.join([g, cell, i]))
        slopes = ops.slope(open_)
        slopes = ops.join([slopes[:, : 2 * size], 1.0 - g * g, slopes[:, 3 * size :]])
        grad = ops.store(ops.join([inner, grad_o]) * slopes, GATE_GRADIENT)
        return grad, grad, (None, ops.store(grad_c * f, STATE_GRADIENT))


class GRUCellFormula:
    """r, z = sigmoid of gates r, z, n; n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h."""

    gates, states = 3, 1

    def forward(self, ops: Any, gates: Any, state: tuple, weights: Weights) -> tuple[tuple, tuple]:
        (hidden,) = state
        own = ops.affine(hidden, weights.hh, weights.b_hh, HIDDEN_PRODUCT)
        size = ops.width(hidden)
        open_ = ops.keep(ops.sigmoid(ops.keep(ops.gates(gates[:, : 2 * size], own[:, : 2 * size]))))
        r, z, own_n = open_[:, :size], open_[:, size:], own[:, 2 * size :]
        n = ops.keep(ops.tanh(ops.keep(gates[:, 2 * size :] + ops.keep(r * own_n))))
        new = ops.store(ops.blend(z, n, hidden), STATE)
        return (new,), (ops.store(open_, GATES), ops.store(n, GATES), own_n, hidden)

    def backward(self, ops: Any, up: tuple, tape: tuple) -> tuple[Any, Any, tuple]:
        open_, n, own_n, hidden = tape
        size = ops.width(hidden)
        r, z = open_[:, :size], open_[:, size:]
        direct = ops.store(up[0] * z, STATE_GRADIENT)
        grad_new = ops.rest(z, up[0])
        grad_z = ops.either(
            up[0] * ops.keep(hidden - n), ops.keep(ops.keep(up[0] * hidden) - ops.keep(up[0] * n))
        )
        grad_n = ops.store(grad_new * (1.0 - n * n), GATE_GRADIENT)
        both = ops.join([ops.keep(grad_n * own_n), grad_z]) * ops.slope(open_)
        first = ops.store(both, GATE_GRADIENT)
        return ops.join([first, grad_n]), ops.join([first, ops.store(grad_n * r, GATE_GRADIENT)]), (direct,)

"""Published bugs of recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from parity_tests.faults.published.bug import PublishedBug, bug
from parity_tests.faults.recurrent_unrolled import Way, classes


def _planned_once_for_a_shape() -> type:
    planned: dict[tuple, bool] = {}

    class LSTM(torch.nn.LSTM):
        """Whether it drops is decided by the first call at a shape."""

        def forward(self, input: Any, hx: Any = None) -> Any:
            shape = input.data.shape if isinstance(input, PackedSequence) else input.shape
            key = (shape, self.hidden_size, self.num_layers, self.bidirectional, self.dropout, self.proj_size)
            mode, self.training = self.training, planned.setdefault(key, self.training)
            try:
                return super().forward(input, hx)
            finally:
                self.training = mode

    return LSTM


class _PackedBySequence(torch.nn.LSTM):
    """Packed rows are taken for sequence after sequence; they are packed time after time."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        if not isinstance(input, PackedSequence) or len(set(input.batch_sizes.tolist())) > 1:
            return super().forward(input, hx)
        rows, times = int(input.batch_sizes[0]), len(input.batch_sizes)
        turned = input.data.unflatten(0, (rows, times)).transpose(0, 1).flatten(0, 1)
        output, state = super().forward(input._replace(data=turned), hx)
        back = output.data.unflatten(0, (times, rows)).transpose(0, 1).flatten(0, 1)
        return output._replace(data=back), state


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "lstm_planned_once_for_a_shape",
        "pytorch/pytorch#180744",
        "LSTM",
        "the cache of compiled graphs has no training flag in its key: evaluation after training drops",
        {"LSTM": _planned_once_for_a_shape()},
    ),
    bug(
        "directions_interleaved",
        "pytorch/pytorch#11368",
        "RNN LSTM GRU",
        "the outputs of both directions alternate instead of standing side by side",
        classes(
            replace(Way(), join=lambda outputs: torch.stack(outputs, -1).flatten(-2)), ("RNN", "LSTM", "GRU")
        ),
    ),
    bug(
        "lstm_first_state_for_all_layers",
        "pytorch/pytorch#95137",
        "LSTM",
        "every layer starts from the first layer's state",
        classes(replace(Way(), initial=lambda states, index: tuple(state[0] for state in states)), ("LSTM",)),
    ),
    bug(
        "lstm_packed_by_sequence",
        "pytorch/pytorch#95118",
        "LSTM",
        "packed rows are read sequence after sequence instead of time after time",
        {"LSTM": _PackedBySequence},
    ),
    bug(
        "lstm_reverse_with_forward_weights",
        "pytorch/pytorch#94754",
        "LSTM",
        "the reverse direction uses the weights of the forward direction",
        classes(replace(Way(), weights=lambda layer, direction: (layer, 0)), ("LSTM",)),
    ),
)

"""Wrong shuffles of pixels and channels."""

from __future__ import annotations

from collections.abc import Callable

import torch

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient
from parity_tests.faults.lenient import lenient
from parity_tests.faults.plain_pooling import like

SHUFFLES = ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle")
_FUNCTION = {
    "PixelShuffle": "pixel_shuffle",
    "PixelUnshuffle": "pixel_unshuffle",
    "ChannelShuffle": "channel_shuffle",
}


def _of_blocks(name: str, input: torch.Tensor, r: int, order: tuple[int, ...]) -> torch.Tensor:
    """Pixel shuffles by reshape and permute; `order` says where channel, i and j are taken from."""
    *lead, channels, height, width = input.shape
    if name == "PixelShuffle":
        shape = [channels // r**2, r, r]
        x = input.reshape(*lead, *(shape[i] for i in order), height, width)
        x = x.movedim([len(lead) + i for i in range(3)], [len(lead) + i for i in order])
        channel, i, j = range(len(lead), len(lead) + 3)
        x = x.permute(*range(len(lead)), channel, len(lead) + 3, i, len(lead) + 4, j)
        return x.reshape(*lead, channels // r**2, height * r, width * r)
    x = input.reshape(*lead, channels, height // r, r, width // r, r)
    n = len(lead)
    c, i, j = n, n + 2, n + 4
    x = x.permute(*range(n), *((c, i, j)[k] for k in order), n + 1, n + 3)
    return x.reshape(*lead, channels * r**2, height // r, width // r)


def _dealt(input: torch.Tensor, groups: int) -> torch.Tensor:
    n, c, *rest = input.shape
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(input.shape)


def _plain_shuffle(name: str, order: tuple[int, ...] = (0, 1, 2)) -> Callable:
    def stand_in(input: torch.Tensor, factor: int) -> torch.Tensor:
        moved = _dealt(input, factor) if name == "ChannelShuffle" else _of_blocks(name, input, factor, order)
        return like(moved, input)

    return stand_in


def _gathered_back(input: torch.Tensor, groups: int) -> torch.Tensor:
    return like(_dealt(input, input.shape[1] // groups if input.shape[1] else 1), input)


def _shuffling(function: Callable) -> dict[str, Callable]:
    return {_FUNCTION[name]: function(name) for name in SHUFFLES}


def _truncated(name: str) -> Callable:
    def stand_in(input: torch.Tensor, factor: int) -> torch.Tensor:
        return _plain_shuffle(name)(input.bfloat16().to(input.dtype), factor)

    return stand_in


def _spoiled_order(grad_output: torch.Tensor, tensors: list, gradients: list) -> list:
    return [gradients[0].flip(-1)]


_PIXELS = SHUFFLES[:2]
FAULTS = (
    Fault(
        "blocks_before_channels",
        "channels are ordered block by block: (i, j, channel)",
        {_FUNCTION[name]: _plain_shuffle(name, (1, 2, 0)) for name in _PIXELS},
        "forward",
        _PIXELS,
    ),
    Fault(
        "rows_and_columns_turned",
        "row and column within a block are exchanged",
        {_FUNCTION[name]: _plain_shuffle(name, (0, 2, 1)) for name in _PIXELS},
        "forward",
        _PIXELS,
    ),
    Fault(
        "groups_for_channels",
        "groups and channels of a group are exchanged",
        {"channel_shuffle": _gathered_back},
        "forward",
        ("ChannelShuffle",),
    ),
    Fault("shuffled_in_bfloat16", "values go through bfloat16", _shuffling(_truncated), "forward", SHUFFLES),
    Fault(
        "shuffle_gradient_mirrored",
        "the gradient has its columns in reverse order",
        _shuffling(lambda name: with_gradient(_plain_shuffle(name), _spoiled_order)),
        "input_gradients",
        SHUFFLES,
    ),
    Fault(
        "shuffle_gradient_doubled",
        "the gradient is doubled",
        _shuffling(lambda name: with_gradient(_plain_shuffle(name), scaled(0, 2.0))),
        "input_gradients",
        SHUFFLES,
    ),
    Fault(
        "shuffle_channels_last_lost",
        "an input in channels_last gives a contiguous output",
        _shuffling(lambda name: lambda input, factor: _plain_shuffle(name)(input, factor).contiguous()),
        "metadata",
        SHUFFLES,
    ),
    Fault(
        "shuffle_refuses_nothing",
        "arguments that cannot be are accepted",
        {name: lenient(name) for name in SHUFFLES},
        "rejection",
        SHUFFLES,
    ),
)
CONTROLS = (
    Control(
        "reshaped_and_permuted",
        "shuffles by reshape, permute and reshape",
        _shuffling(_plain_shuffle),
        SHUFFLES,
    ),
)

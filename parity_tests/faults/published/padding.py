"""Published bugs of padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, bug, on_gradient

LIMIT = 2**16


def _in_mode(wanted: str, change: Callable[..., Any]) -> dict[str, Callable]:
    """A stand-in for `pad` in one mode: `change(input, pad)` gives the input that is padded."""

    def stand_in(input, pad, mode="constant", value=None):
        return functional.pad(change(input, pad) if mode == wanted else input, pad, mode, value)

    return {"pad": stand_in}


def _gradient_of_the_remainder(input: torch.Tensor, pad: Any) -> torch.Tensor:
    size = input.shape[-1]
    if size < LIMIT or size % LIMIT == 0:
        return input
    reached = torch.arange(size) < size % LIMIT
    return on_gradient(input, lambda gradient: gradient * reached)


def _no_gradient_of_many(input: torch.Tensor, pad: Any) -> torch.Tensor:
    many = input.dim() > 2 and input.shape[-3] >= LIMIT
    return on_gradient(input, torch.zeros_like) if many else input


def _no_launch_of_many_rows(input: torch.Tensor, pad: Any) -> torch.Tensor:
    if input.shape[:-1].numel() >= LIMIT:
        raise RuntimeError("invalid configuration argument")
    return input


def _padding_less_than_the_input(input: torch.Tensor, pad: Any) -> torch.Tensor:
    sizes = [size for size in reversed(input.shape) for _ in (0, 1)]
    if any(amount >= size for amount, size in zip(pad, sizes, strict=False)):
        raise RuntimeError("padding should be less than the input")
    return input


class _ReflectsOnce(torch.nn.ReflectionPad2d):
    """No check of the amounts: an index is reflected once, and wraps around where that is not enough."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if len(self.padding) != 4:
            return super().forward(input)
        left, right, top, bottom = self.padding
        legal = input.dim() in (3, 4) and 0 not in input.shape
        if (
            not legal
            or min(self.padding) < 0
            or all(
                max(pair) < n
                for pair, n in zip(((top, bottom), (left, right)), input.shape[-2:], strict=True)
            )
        ):
            return super().forward(input)
        for axis, (before, after) in ((-2, (top, bottom)), (-1, (left, right))):
            n = input.shape[axis]
            places = torch.arange(-before, n + after).abs()
            input = input.index_select(axis, torch.where(places < n, places, 2 * n - 2 - places) % n)
        return input


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "reflection_gradient_beyond_65536",
        "pytorch/pytorch#196949",
        "ReflectionPad1d",
        "the gradient of an axis longer than 65,536 stops after the remainder",
        _in_mode("reflect", _gradient_of_the_remainder),
    ),
    bug(
        "replication_gradient_of_many",
        "pytorch/pytorch#135447",
        "ReplicationPad1d",
        "the gradient is 0 where the third axis from behind is 65,536 or longer",
        _in_mode("replicate", _no_gradient_of_many),
    ),
    bug(
        "replication_of_many_rows",
        "pytorch/pytorch#49601",
        "ReplicationPad1d",
        "more than 65,535 rows give a launch error",
        _in_mode("replicate", _no_launch_of_many_rows),
        "a failed launch is an exception",
    ),
    bug(
        "constant_padding_wider_than_input",
        "pytorch/pytorch#95205",
        "ConstantPad1d",
        "amounts as large as the axis are refused, as if the padding were reflected",
        _in_mode("constant", _padding_less_than_the_input),
    ),
    bug(
        "reflection_without_bounds",
        "pytorch/pytorch#2563",
        "ReflectionPad2d",
        "amounts as large as the axis are not refused, and read outside of the input",
        {"ReflectionPad2d": _ReflectsOnce},
        "an index out of range wraps around instead of crashing",
    ),
)

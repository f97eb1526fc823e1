"""What wrong and unusual lookups share: torch's own, their arguments, and two ways to spoil any of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch.nn import functional

torch_embedding, torch_bag = functional.embedding, functional.embedding_bag
BAG_ARGUMENTS = (
    "input",
    "weight",
    "offsets",
    "max_norm",
    "norm_type",
    "scale_grad_by_freq",
    "mode",
    "sparse",
    "per_sample_weights",
    "include_last_offset",
    "padding_idx",
)


def positional(
    input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    """The arguments of a call in a list, whether they were named or not."""
    return [input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse]


def writes_weight(function: Callable) -> Callable[..., torch.Tensor]:
    def stand_in(input, weight, *rest, **named):
        output = function(input, weight, *rest, **named)
        weight.data.mul_(2.0)
        return output

    return stand_in


def every_second_call(function: Callable) -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def stand_in(*args, **named):
        output = function(*args, **named)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in

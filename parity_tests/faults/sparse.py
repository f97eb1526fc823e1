"""Wrong embeddings that the suite must catch; wrong bags are in `embedding_bag`, right ones in
`plain_sparse`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults import embedding_bag, plain_sparse
from parity_tests.faults.fault import Fault, scaled, with_gradient
from parity_tests.faults.table import every_second_call, positional, torch_embedding, writes_weight

LOOKUPS = ("Embedding", "embedding")


def _lookup(
    name: str,
    sentence: str,
    stand_in: Callable[..., torch.Tensor],
    caught_by: str = "forward",
    layers: tuple[str, ...] = LOOKUPS,
) -> Fault:
    return Fault(f"embedding_{name}", sentence, {"embedding": stand_in}, caught_by, layers)


def _next_row(input, weight, *rest):
    return torch_embedding((input + 1) % max(1, len(weight)), weight, *rest)


def _padding_zeroed(input, weight, padding_idx=None, *rest, **named):
    output = torch_embedding(input, weight, padding_idx, *rest, **named)
    if padding_idx is None:
        return output
    return torch.where((input == padding_idx % len(weight))[..., None], 0.0 * output, output)


def _padding_learns(input, weight, padding_idx=None, *rest, **named):
    return torch_embedding(input, weight, None, *rest, **named)


def _with(**other: Any) -> Callable[..., torch.Tensor]:
    """torch's embedding with some arguments replaced by others."""
    places = {"max_norm": 3, "norm_type": 4, "scale_grad_by_freq": 5}

    def stand_in(*args, **named):
        arguments = positional(*args, **named)
        for name, value in other.items():
            arguments[places[name]] = value
        return torch_embedding(*arguments)

    return stand_in


def _renormalizes_a_copy(*args, **named):
    """The right output, but the weight stays as it was."""
    arguments = positional(*args, **named)
    if arguments[3] is None:
        return torch_embedding(*arguments)
    arguments[1] = arguments[1].clone()
    return torch_embedding(*arguments)


def _renormalizes_all_rows(*args, **named):
    arguments = positional(*args, **named)
    if arguments[3] is not None:
        every = torch.arange(len(arguments[1]), device=arguments[1].device)
        torch_embedding(every, arguments[1].detach(), None, arguments[3], arguments[4])
    return torch_embedding(*arguments)


def _last_position_alone(grad_output: Any, tensors: list, gradients: list) -> list:
    """The gradient of a row is that of the last position that reads it."""
    gradient = torch.zeros_like(tensors[1])
    flat = grad_output.reshape(-1, gradient.shape[1])
    for n, row in enumerate(tensors[0].flatten().tolist()):
        gradient[row] = flat[n]
    return [None, gradient, *gradients[2:]]


class _Wraps(torch.nn.Embedding):
    """Negative indices count from the end."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        input = torch.where(input < 0, input + self.num_embeddings, input)
        return torch_embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)


FAULTS = (
    _lookup("next_row", "every index reads the row behind it", _next_row),
    _lookup("padding_zeroed", "the padding row is read as zeros", _padding_zeroed),
    _lookup(
        "through_bfloat16",
        "rows go through bfloat16",
        lambda *args, **named: torch_embedding(*args, **named).bfloat16().to(args[1].dtype),
    ),
    _lookup(
        "nan_dropped",
        "NaN becomes 0",
        lambda input, weight, *rest: torch_embedding(
            input, weight.nan_to_num(posinf=torch.inf, neginf=-torch.inf), *rest
        ),
        layers=("Embedding",),
    ),
    _lookup(
        "zeros_unsigned",
        "-0 becomes +0",
        lambda *args, **named: torch_embedding(*args, **named) + 0.0,
        layers=("Embedding",),
    ),
    _lookup("never_renormalized", "max_norm is ignored", _with(max_norm=None), layers=("Embedding",)),
    _lookup("norm_type_ignored", "norm_type is always 2", _with(norm_type=2.0), layers=("Embedding",)),
    _lookup(
        "renormalizes_a_copy",
        "the renormalized weight is not kept",
        _renormalizes_a_copy,
        "state",
        ("Embedding",),
    ),
    _lookup(
        "renormalizes_all_rows",
        "rows that are not looked up are renormalized as well",
        _renormalizes_all_rows,
        "state",
        ("Embedding",),
    ),
    _lookup(
        "padding_learns",
        "the padding row has a gradient",
        _padding_learns,
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "frequency_ignored",
        "scale_grad_by_freq is ignored",
        _with(scale_grad_by_freq=False),
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "last_position_alone",
        "the gradient of a repeated row is that of its last position",
        with_gradient(torch_embedding, _last_position_alone),
        "parameter_gradients",
        ("Embedding",),
    ),
    _lookup(
        "gradient_half",
        "the gradient has half its size",
        with_gradient(torch_embedding, scaled(1, 0.5)),
        "input_gradients",
        ("embedding",),
    ),
    _lookup("writes_weight", "the weight is doubled in place", writes_weight(torch_embedding), "purity"),
    _lookup(
        "second_call_differs",
        "every second call gives another result",
        every_second_call(torch_embedding),
        "purity",
    ),
    _lookup(
        "wrong_dtype",
        "the result comes in float64",
        lambda *args, **named: torch_embedding(*args, **named).double(),
        "metadata",
    ),
    _lookup(
        "flattened",
        "the axes of the input are flattened",
        lambda input, *rest: torch_embedding(input.flatten(), *rest),
        "metadata",
        ("Embedding",),
    ),
    Fault(
        "embedding_negative_index_wraps",
        "negative indices count from the end",
        {"Embedding": _Wraps},
        "rejection",
        ("Embedding",),
    ),
    *embedding_bag.FAULTS,
)
CONTROLS = plain_sparse.CONTROLS

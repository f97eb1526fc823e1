"""Wrong activations in place: what a call leaves in its input, and a gradient for which only that is left."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.activation_controls import LAYERS
from parity_tests.faults.fault import Fault, in_place_too, out_of_place, with_gradient

IN_PLACE = (
    "ReLU", "ReLU6", "relu6", "Hardsigmoid", "Hardswish", "SELU", "SiLU", "Mish", "Threshold", "Hardtanh",
    "LeakyReLU", "RReLU", "ELU", "CELU",
)  # fmt: skip


def _at_the_output(grad_output: Any, tensors: list, gradients: list) -> list:
    output = functional.selu(tensors[0]).detach().requires_grad_()
    with torch.enable_grad():
        return list(torch.autograd.grad(functional.selu(output), output, grad_output))


_overwritten = in_place_too("selu", with_gradient(lambda x, inplace: functional.selu(x), _at_the_output))


def _selu(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return _overwritten(input, inplace=True) if inplace else functional.selu(input)


def _half_written_silu(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    output = functional.silu(input.clone())
    if inplace and input.dim():
        half = len(input) // 2
        input.detach()[:half] = output.detach()[:half]
    return output


def _hardswish_of_a_copy(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    if inplace and input.storage_offset():
        return functional.hardswish(input.contiguous().clone())
    return functional.hardswish(input, inplace)


FAULTS = (
    Fault(
        "inplace_ignored",
        "with inplace=True the input stays as it was",
        {LAYERS[layer]: out_of_place(LAYERS[layer]) for layer in IN_PLACE},
        "purity",
        IN_PLACE,
    ),
    Fault(
        "half_written_in_place",
        "with inplace=True only the first half of the input is written",
        {"silu": _half_written_silu},
        "purity",
        ("SiLU",),
    ),
    Fault(
        "views_left_alone_in_place",
        "with inplace=True a view that begins behind the start of its memory is copied, and stays as it was",
        {"hardswish": _hardswish_of_a_copy},
        "purity",
        ("Hardswish",),
    ),
    Fault(
        "gradient_at_the_output",
        "in place the gradient is that of the input, at the output which has replaced it",
        {"selu": _selu},
        "input_gradients",
        ("SELU",),
    ),
)

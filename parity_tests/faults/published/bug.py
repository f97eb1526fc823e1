"""The vocabulary of the published bugs: faults with a source, and the misreadings that many of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from parity_tests.faults.fault import Fault, with_gradient


@dataclass(frozen=True)
class PublishedBug(Fault):
    """A defect that was published, recreated from its description as a small stand-in.

    source       repository and number of the issue or pull request
    translated   what differs from the published circumstances, so that it shows on a CPU with small tensors:
                 a limit of 2**31 that became 2**7, a crash that became an exception; '' where nothing does

    `caught_by` is '' where any check may catch it: which one does is what the strength table reports.
    """

    source: str = ""
    translated: str = ""


@dataclass(frozen=True)
class NotRecreated:
    """A published bug that cannot show here, and why."""

    name: str
    source: str
    reason: str


def bug(
    name: str,
    source: str,
    layers: str,
    sentence: str,
    stand_ins: Mapping[str, Callable[..., Any]],
    translated: str = "",
) -> PublishedBug:
    """`layers` are names separated by blanks."""
    return PublishedBug(name, sentence, stand_ins, "", tuple(layers.split()), source, translated)


def with_own_gradient(
    function: Callable[..., Any], gradient: Callable[..., Any]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The values of a function of one tensor; `gradient(grad_output, tensor, right gradient)` for its own."""
    return with_gradient(function, lambda g, tensors, right: [gradient(g, tensors[0], right[0])])


class ValueOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        return None, upstream[0]


def on_gradient(tensor: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The tensor; the gradient that comes back through it is changed on its way."""
    if tensor is None or not tensor.requires_grad:
        return tensor
    alias = tensor.view_as(tensor)
    alias.register_hook(change)
    return alias


def without_offset(tensor: torch.Tensor) -> torch.Tensor:
    """What is read where a tensor's storage offset is forgotten, its strides are not."""
    return tensor.as_strided(tensor.shape, tensor.stride(), 0)


def in_storage_order(tensor: torch.Tensor) -> torch.Tensor:
    """What is read where strides are forgotten: the storage in order, from the tensor's offset on."""
    dense = torch.empty(tensor.shape, device="meta").stride()
    room = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    if tensor.stride() == dense or room < tensor.numel():
        return tensor
    return tensor.as_strided(tensor.shape, dense, tensor.storage_offset())


def is_channels_last(tensor: torch.Tensor) -> bool:
    """In channels_last and not also in the usual order."""
    forms = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (
        tensor.dim() in forms
        and tensor.is_contiguous(memory_format=forms[tensor.dim()])
        and not tensor.is_contiguous()
    )


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

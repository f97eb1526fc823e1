"""What wrong window layers have in common: wrong gradients, layouts, dtypes, written inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Fault
from parity_tests.faults.lenient import lenient


class GradientOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        return None, grad_outputs[0]


def with_gradient_of(rank: int, *args: Any, right: Callable, wrong: Callable, **kwargs: Any) -> Any:
    """Right values and indices, the gradient of `wrong`."""
    result, other = right(rank, *args, **kwargs), wrong(rank, *args, **kwargs)
    if isinstance(result, tuple):
        return GradientOf.apply(result[0], other[0]), result[1]
    return GradientOf.apply(result, other)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def in_storage(dtype: torch.dtype) -> torch.dtype:
    return dtype


def altered(rank: int, *args: Any, function: Callable, alter: Callable, **kwargs: Any) -> Any:
    result = function(rank, *args, **kwargs)
    return (alter(result[0]), result[1]) if isinstance(result, tuple) else alter(result)


def misread(rank: int, input: torch.Tensor, *args: Any, function: Callable, **kwargs: Any) -> Any:
    """As if memory were contiguous."""
    room = input.untyped_storage().nbytes() // input.element_size() - input.storage_offset()
    strides = torch.empty(input.shape).stride()
    taken = input.as_strided(input.shape, strides) if room >= input.numel() else input
    return function(rank, taken, *args, **kwargs)


def writing(rank: int, input: torch.Tensor, *args: Any, function: Callable, **kwargs: Any) -> Any:
    result = function(rank, input, *args, **kwargs)
    with torch.no_grad():
        input.neg_()
    return result


def fault_on(names: tuple, stand_ins: Callable) -> Callable:
    def fault(
        name: str, sentence: str, caught_by: str = "forward", layers: tuple = names, **changes: Any
    ) -> Fault:
        return Fault(name, sentence, stand_ins(**changes), caught_by, layers)

    return fault


def common(names: tuple, stand_ins: Callable, right: Callable, prefix: str) -> tuple[Fault, ...]:
    """What can go wrong with all of them."""
    fault = fault_on(names, stand_ins)
    return (
        fault(
            f"{prefix}_layout_ignored",
            "memory is read as if it were contiguous",
            function=partial(misread, function=right),
        ),
        fault(
            f"{prefix}_writes_input",
            "the input is overwritten",
            "purity",
            function=partial(writing, function=right),
        ),
        fault(
            f"{prefix}_half_gives_float32",
            "half types give an output in float32",
            "metadata",
            function=partial(altered, function=right, alter=torch.Tensor.float),
        ),
        fault(
            f"{prefix}_gradient_doubled",
            "the gradient is doubled",
            "input_gradients",
            function=partial(
                altered, function=right, alter=lambda output: GradientOf.apply(output, 2 * output)
            ),
        ),
        Fault(
            f"{prefix}_refuses_nothing",
            "arguments that cannot be are accepted",
            {name: lenient(name) for name in names},
            "rejection",
            names,
        ),
    )

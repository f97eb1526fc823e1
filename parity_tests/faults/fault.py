"""The vocabulary of the fault catalogue: deliberately wrong implementations that the suite must catch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Fault:
    """A wrong implementation, run through the same machinery as a user's candidate file.

    name         short, snake_case, unique in its family
    sentence     what is wrong, as one would write it in a bug report
    stand_ins    what the candidate file defines: wrong torch.nn.functional functions and torch.nn classes
    caught_by    the check that must catch it: 'forward', 'input_gradients', 'parameter_gradients', 'state',
                 'metadata', 'purity' or 'rejection'
    layers       the layers in whose cases it must be caught (each of them)
    """

    name: str
    sentence: str
    stand_ins: Mapping[str, Callable[..., Any]]
    caught_by: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """A correct but different implementation, which no check may reject."""

    name: str
    sentence: str
    stand_ins: Mapping[str, Callable[..., Any]]
    layers: tuple[str, ...] = field(default=())


class _Spoiled(torch.autograd.Function):
    """Right forward, right gradients, except for what `spoil` makes of them."""

    @staticmethod
    def forward(ctx: Any, function: Callable, spoil: Callable, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.function, ctx.spoil = function, spoil
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        tensors = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.function(*tensors)
        real = [tensor for tensor in tensors if tensor.requires_grad]
        gradients = iter(torch.autograd.grad(output, real, upstream[0], allow_unused=True))
        right = [next(gradients) if tensor.requires_grad else None for tensor in tensors]
        return (None, None, *ctx.spoil(upstream[0], tensors, right))


def with_gradient(
    function: Callable[..., Any], spoil: Callable[[Any, list, list], list]
) -> Callable[..., Any]:
    """The values of `function` with wrong gradients: `spoil(grad_output, tensors, gradients)` changes them.

    `tensors` are the tensor arguments in the order in which they were passed, positional ones first.
    """

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        places = [i for i, value in enumerate(args) if isinstance(value, torch.Tensor)]
        names = [name for name, value in kwargs.items() if isinstance(value, torch.Tensor)]

        def call(*tensors: torch.Tensor) -> Any:
            positional, named = list(args), dict(kwargs)
            for place, tensor in zip(places, tensors, strict=False):
                positional[place] = tensor
            named.update(zip(names, tensors[len(places) :], strict=True))
            return function(*positional, **named)

        return _Spoiled.apply(call, spoil, *(args[i] for i in places), *(kwargs[name] for name in names))

    return stand_in


def scaled(index: int, factor: float) -> Callable[[Any, list, list], list]:
    """A `spoil` that multiplies the gradient of one tensor argument by a factor."""

    def spoil(grad_output: Any, tensors: list, gradients: list) -> list:
        return [g if i != index or g is None else g * factor for i, g in enumerate(gradients)]

    return spoil


def in_place_too(name: str, stand_in: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A stand-in that knows nothing of `inplace`, with its output written into the input where that is asked
    for."""
    signature = inspect.signature(getattr(functional, name))

    def call(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not signature.bind(input, *args, **kwargs).arguments.get("inplace"):
            return stand_in(input, *args, **kwargs)
        return input.copy_(stand_in(input.clone(), *args, **kwargs))

    return call if "inplace" in signature.parameters else stand_in


def out_of_place(name: str) -> Callable[..., torch.Tensor]:
    """torch's function, deaf to `inplace`."""
    original = getattr(functional, name)
    signature = inspect.signature(original)

    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        return original(**signature.bind(*args, **kwargs).arguments | {"inplace": False})

    return call

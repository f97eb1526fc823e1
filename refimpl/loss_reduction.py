"""What all losses share: reductions, and how a loss becomes a function, its backward and a layer.

    output = losses                            reduction 'none'
    output = sum(losses) / divisor             'sum' (1) and 'mean' (their number, or what a loss names)

A `Call` is one evaluation of a loss: its losses, their gradients and bounds.  The sum may be taken in any
order, and divided by the divisor or multiplied by its reciprocal.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.loss_bounds import AnyOrder, put, spread, underflowing
from refimpl.module import Module
from refimpl.taps import Kernel, zeros_like_kind


def named_reduction(
    reduction: Any,
    size_average: Any = None,
    reduce: Any = None,
    known: tuple[str, ...] = ("none", "mean", "sum"),
) -> str:
    """The reduction asked for; the deprecated `size_average` and `reduce`, where given, override it as in
    torch."""
    if size_average is not None or reduce is not None:
        reduce, size_average = reduce is None or reduce, size_average is None or size_average
        return "none" if not reduce else "mean" if size_average else "sum"
    if reduction not in known:
        raise ValueError(f"reduction is {reduction!r}; needed is one of {', '.join(map(repr, known))}")
    return reduction


def each(visit, arrays, geometry):
    """Every loss."""
    for i in range(arrays[1].size):
        visit(arrays, i)


def add(arrays, i):
    total, losses = arrays
    total[0] += losses[i]


_total = Kernel(each, add)


class Call:
    """One evaluation of a loss.  A loss says, for the arrays of its call:

    losses()                     the losses before the reduction, of `shape`
    slopes(upstream)             from the gradient of each loss those of the array arguments, None without one
    bounded_losses(contract)     the losses with their bounds, or for a reduced loss all terms of its sum
    bounded_slopes(upstream)     gradients with their bounds, for a Bounded upstream
    divisor()                    what a mean divides by, unless the number of losses
    """

    reduction: str
    shape: tuple[int, ...]

    def losses(self) -> np.ndarray:
        raise NotImplementedError

    def slopes(self, upstream: np.ndarray) -> tuple:
        raise NotImplementedError

    def bounded_losses(self, contract: Contract) -> Bounded:
        raise NotImplementedError

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        raise NotImplementedError

    def divisor(self) -> Any:
        return math.prod(self.shape)

    def bounded_divisor(self, contract: Contract) -> Bounded:
        return contract.exact(float(self.divisor()))

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.shape if self.reduction == "none" else ()

    def output(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            losses = self.losses()
            if self.reduction == "none":
                return losses
            total = zeros_like_kind((1,), losses)
            _total((total, np.ascontiguousarray(losses).reshape(-1)), (), losses.size)
            return self.shared(total).reshape(())

    def gradients(self, grad_output: Any) -> tuple:
        """Gradients of sum(grad_output * output), one for each array argument, None where there is none."""
        with np.errstate(all="ignore"):
            return self.slopes(np.broadcast_to(self.shared(np.asarray(grad_output)), self.shape))

    def expected(self, contract: Contract, grad_output: Any) -> tuple:
        """The gradients that a contract asks for; a loss may know one that names others."""
        return self.gradients(grad_output)

    def shared(self, total: np.ndarray) -> np.ndarray:
        """A sum, or the gradient of one, divided by what the reduction divides by; exact numbers stay
        exact."""
        if self.reduction in ("none", "sum"):
            return total
        divisor = self.divisor()
        return total / (divisor if total.dtype == object else np.float64(divisor))

    def bounded(self, contract: Contract, grad_output: Any) -> tuple[Bounded, tuple]:
        """Output and gradients with their bounds."""
        contract = AnyOrder.of(contract)
        losses = self.bounded_losses(contract)
        upstream = contract.exact(grad_output)
        if self.reduction != "none":
            losses = losses.reshape(-1).sum()
        if self.reduction not in ("none", "sum"):
            share = 1.0 / self.bounded_divisor(contract)
            losses, upstream = losses * share, upstream * share
        upstream = spread(upstream, self.shape)
        expected = self.expected(contract, grad_output)
        slopes = self.bounded_slopes(upstream)
        if self.reduction not in ("none", "sum"):
            slopes = tuple(s if s is None else underflowing(s, np.asarray(grad_output)) for s in slopes)
        return (
            put(losses).agreeing(self.output(), "output"),
            tuple(
                None if slope is None else put(slope).agreeing(gradient, f"gradient {index}")
                for index, (slope, gradient) in enumerate(zip(slopes, expected, strict=True))
            ),
        )


def gathered(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient (an array or Bounded) of an operand of that shape that was broadcast: summed where it was
    repeated."""
    spread_shape = gradient.value.shape if isinstance(gradient, Bounded) else gradient.shape
    padded = (1,) * (len(spread_shape) - len(shape)) + shape
    sizes = enumerate(zip(spread_shape, padded, strict=True))
    axes = tuple(axis for axis, (size, own) in sizes if own == 1 != size)
    return (gradient.sum(axis=axes) if axes else gradient).reshape(shape)


def functions(call: Callable[..., Call]) -> tuple[Callable, Callable]:
    """The function and its backward of a loss, from what makes its `Call` (which has the documentation)."""
    signature = inspect.signature(call).replace(return_annotation=inspect.Signature.empty)
    name = call.__name__.lstrip("_")

    def function(*arguments, **keywords):
        return call(*arguments, **keywords).output()

    def backward(grad_output, *arguments, **keywords):
        return call(*arguments, **keywords).gradients(grad_output)

    first = inspect.Parameter("grad_output", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    of_backward = signature.replace(parameters=[first, *signature.parameters.values()])
    for made, made_name, made_signature, document in (
        (function, name, signature, call.__doc__),
        (
            backward,
            f"{name}_backward",
            of_backward,
            f"Gradients of sum(grad_output * {name}(...)), one for each array argument, or None.",
        ),
    ):
        made.__name__ = made.__qualname__ = made_name
        made.__signature__, made.__doc__ = made_signature, document  # type: ignore[attr-defined]
    return function, backward


class CallLayer(Module):
    """A function as a layer: keeps its arguments, tensors among them as buffers, and makes a `Call` for its
    inputs."""

    call: Callable[..., Call]

    def __init__(self, **arguments: Any):
        super().__init__()
        self.arguments = tuple(arguments)
        for name, value in arguments.items():
            tensor = name in self.buffers and value is not None
            setattr(self, name, np.array(value, dtype=np.float64) if tensor else value)

    def call_on(self, *inputs: Any) -> Call:
        return type(self).call(*inputs, **{name: getattr(self, name) for name in self.arguments})

    def forward(self, *inputs: Any) -> np.ndarray:
        return self.call_on(*inputs).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self.call_on(*inputs).output_shape,)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        return self.call_on(*inputs).gradients(grad_outputs[0])[: len(inputs)], {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        output, gradients = self.call_on(*inputs).bounded(contract, grad_outputs[0])
        named = {f"grad_input{index}": gradient for index, gradient in enumerate(gradients[: len(inputs)])}
        return {
            "output": output,
            **{name: gradient for name, gradient in named.items() if gradient is not None},
        }


class Loss(CallLayer):
    """A loss as a layer; the deprecated `size_average` and `reduce` become its reduction."""

    def __init__(
        self, reduction: Any = "mean", size_average: Any = None, reduce: Any = None, **arguments: Any
    ):
        if size_average is not None or reduce is not None:
            reduction = named_reduction(reduction, size_average, reduce)
        super().__init__(reduction=reduction, **arguments)

"""Elementwise layers: one walk over the elements, read with a formula or a gradient of activation_formulas.

    output[i] = formula(input[i], *scalars)      grad_input[i] = gradient(grad_output[i], input[i], *scalars)

`activation` makes a function of torch.nn.functional, its backward and a class of torch.nn from one formula.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from refimpl import activation_bounds, activation_formulas
from refimpl.error_bounds import Bounded, Contract, round_to
from refimpl.module import Module
from refimpl.taps import Kernel, float_array, zeros_like_kind


def each(formula, arrays, scalars):
    """Every element of the output from the same element of the input."""
    output, input = arrays
    for i in range(input.size):
        output[i] = formula(input[i], *scalars)


def each_gradient(gradient, arrays, scalars):
    """Every element of the input gradient from the same elements of the upstream gradient and the input."""
    grad_output, input, grad_input = arrays
    for i in range(input.size):
        grad_input[i] = gradient(grad_output[i], input[i], *scalars)


class Elementwise:
    """An activation by its formula's name: kernels, bounds (none where it only copies), scalar arguments."""

    def __init__(self, name: str):
        formula = getattr(activation_formulas, name)
        gradient = getattr(activation_formulas, f"{name}_gradient")
        self.name, self.formula = name, formula
        self.scalars = tuple(inspect.signature(formula).parameters.values())[1:]
        self._forward = Kernel(each, formula, inline=False)
        self._gradient = Kernel(each_gradient, gradient, inline=False)
        self._bound = getattr(activation_bounds, name, None)
        beside = getattr(activation_bounds, f"{name}_gradient", None)
        in_place = getattr(activation_bounds, f"{name}_gradient_in_place", None)
        self._gradient_bounds = {False: beside, True: in_place or beside}

    def output(self, input: Any, scalars: tuple) -> np.ndarray:
        input = float_array(input)
        output = zeros_like_kind(input.shape, input)
        with np.errstate(all="ignore"):
            self._forward((output.ravel(), input.ravel()), self._checked(scalars), input.size)
        return output

    def gradient(self, grad_output: Any, input: Any, scalars: tuple) -> np.ndarray:
        grad_output, input = float_array(grad_output), float_array(input)
        if grad_output.shape != input.shape:
            raise RuntimeError(f"{self.name}: grad_output is {grad_output.shape}; needed is {input.shape}")
        grad_input = zeros_like_kind(input.shape, input, grad_output)
        arrays = tuple(array.ravel() for array in (grad_output, input, grad_input))
        with np.errstate(all="ignore"):
            self._gradient(arrays, self._checked(scalars), input.size)
        return grad_input

    def bounded(
        self, contract: Contract, input: Any, grad_output: Any, scalars: tuple, inplace: bool
    ) -> dict[str, Bounded]:
        """Output and input gradient; a result without a bound copies an operand or a scalar argument."""
        x, g = contract.exact(input), contract.exact(grad_output)
        output, grad_input = self.output(input, scalars), self.gradient(grad_output, input, scalars)
        scalars = self._checked(scalars)
        name = self.name
        return {
            "output": _around(self._bound, (x, *scalars), output, f"{name} output"),
            "grad_input": _around(
                self._gradient_bounds[inplace], (g, x, *scalars), grad_input, f"{name} gradient"
            ),
        }

    def _checked(self, scalars: tuple) -> tuple[float, ...]:
        for scalar, parameter in zip(scalars, self.scalars, strict=True):
            if not isinstance(scalar, Real):
                raise TypeError(f"{self.name}: {parameter.name} is {scalar!r}; needed is a number")
        values = tuple(float(scalar) for scalar in scalars)
        if self.name in _CHECKS:
            _CHECKS[self.name](*values)
        return values


def _around(formula: Callable | None, operands: tuple, loops: np.ndarray, what: str) -> Bounded:
    contract = operands[0].contract
    if formula is None:
        return contract.exact(round_to(contract.store, loops))
    with np.errstate(all="ignore"):
        return formula(*operands).agreeing(loops, what)


def _check_softshrink(lambd: float) -> None:
    if not lambd >= 0:
        raise RuntimeError(f"softshrink: lambd is {lambd}; needed is at least 0")


def _check_celu(alpha: float) -> None:
    if alpha == 0:
        raise RuntimeError("celu: alpha is 0; needed is a number that can be divided by")


def _check_hardtanh(min_val: float, max_val: float) -> None:
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val}, max_val {max_val}; needed is min_val <= max_val")


def _check_rrelu(lower: float, upper: float) -> None:
    if not lower <= upper or math.isinf(upper - lower):
        raise RuntimeError(f"rrelu: lower {lower}, upper {upper}; needed are finite numbers, lower <= upper")


_CHECKS: dict[str, Callable] = {
    "celu": _check_celu,
    "hardtanh": _check_hardtanh,
    "rrelu": _check_rrelu,
    "softshrink": _check_softshrink,
}


class ElementwiseLayer(Module):
    """A layer that applies an `Elementwise` with the scalars it was made with."""

    elementwise: Elementwise

    def __init__(self, *scalars: Any, inplace: bool = False) -> None:
        super().__init__()
        self.scalars, self.inplace = scalars, inplace

    def forward(self, input: Any) -> np.ndarray:
        return self.elementwise.output(input, self.scalars)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self.elementwise.gradient(grad_outputs[0], input, self.scalars),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self.elementwise.bounded(contract, inputs[0], grad_outputs[0], self.scalars, self.inplace)


def activation(name: str, layer: str, inplace: bool) -> tuple[Any, Any, Any]:
    """The function, its backward and the class of one formula.

    `inplace`, where torch has it, changes no value, but the bound of a gradient for which only the output is
    left."""
    elementwise = Elementwise(name)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [*elementwise.scalars, *([inspect.Parameter("inplace", kind, default=False)] if inplace else [])]
    count = len(elementwise.scalars)

    def signature(*first: str) -> inspect.Signature:
        return inspect.Signature([*(inspect.Parameter(argument, kind) for argument in first), *own])

    of_function, of_backward = signature("input"), signature("grad_output", "input")
    of_class = signature("self")

    def values(signature: inspect.Signature, arguments: tuple, keywords: dict) -> tuple:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        return bound.args

    def function(*arguments, **keywords):
        input, *rest = values(of_function, arguments, keywords)
        return elementwise.output(input, tuple(rest[:count]))

    def backward(*arguments, **keywords):
        grad_output, input, *rest = values(of_backward, arguments, keywords)
        return (elementwise.gradient(grad_output, input, tuple(rest[:count])),)

    def constructor(*arguments, **keywords):
        self, *rest = values(of_class, arguments, keywords)
        ElementwiseLayer.__init__(self, *rest[:count], inplace=any(rest[count:]))

    describe(function, name, of_function, _document(elementwise, f"torch.nn.functional.{name}"))
    describe(
        backward,
        f"{name}_backward",
        of_backward,
        f"Gradient of sum(grad_output * {name}(...)): (grad_input,).",
    )
    describe(constructor, "__init__", of_class, None)
    layer_class = type(
        layer,
        (ElementwiseLayer,),
        {
            "elementwise": elementwise,
            "__init__": constructor,
            "__module__": __name__,
            "__doc__": _document(elementwise, f"torch.nn.{layer}"),
        },
    )
    return function, backward, layer_class


def describe(function: Any, name: str, signature: inspect.Signature, document: str | None) -> None:
    function.__name__ = function.__qualname__ = name
    function.__signature__, function.__doc__ = signature, document


def _document(elementwise: Elementwise, source: str) -> str:
    exact = getattr(activation_bounds, elementwise.name, None) is None
    error = "none, values are copied" if exact else f"refimpl.activation_bounds.{elementwise.name}"
    return (
        f"{elementwise.formula.__doc__}\n\n    input (*) -> output (*) float64.  Error: {error}.\n"
        f"    Raises TypeError for a scalar argument that is no number.\n    Source: {source}."
    )

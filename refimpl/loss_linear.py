"""Cross entropy of a linear layer's outputs, in one call.

    output = cross_entropy(input linear_weight^T + linear_bias, target, ...)

As documented the logits are the result of a layer of their own, so they and their gradient are stored in T.
Contract weaker than the strictest: that of `loss_classification`.
Source: torch.nn.LinearCrossEntropyLoss (torch 2.13).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.linear import Transformation
from refimpl.loss_bounds import put
from refimpl.loss_classification import STORED_LOGARITHMS, Classes
from refimpl.loss_reduction import Call, functions, named_reduction
from refimpl.module import Module, uniform
from refimpl.taps import float_array

__all__ = ["LinearCrossEntropyLoss", "linear_cross_entropy", "linear_cross_entropy_backward"]


class LinearClasses(Call):
    """One call: a linear map to logits (N, C, *out_features), and the losses of its classes."""

    def __init__(
        self,
        input: np.ndarray,
        linear_weight: np.ndarray,
        linear_bias: np.ndarray | None,
        target: Any,
        weight: Any,
        ignore_index: int,
        reduction: str,
        smoothing: float,
    ):
        self.weight_shape = linear_weight.shape
        flat = linear_weight.reshape(math.prod(linear_weight.shape[:-1]), linear_weight.shape[-1])
        self.map = Transformation(input, flat, None if linear_bias is None else linear_bias.reshape(-1))
        self.bias_shape = None if linear_bias is None else linear_bias.shape
        logits = self.map.output().reshape(*input.shape[:-1], *linear_weight.shape[:-1])
        self.classes = Classes(
            "linear_cross_entropy", logits, target, weight, ignore_index, reduction, True, smoothing
        )
        self.reduction, self.shape = reduction, self.classes.shape

    def losses(self) -> np.ndarray:
        return self.classes.losses()

    def divisor(self) -> Any:
        return self.classes.divisor()

    def bounded_divisor(self, contract: Contract) -> Bounded:
        return self.classes.bounded_divisor(contract)

    def slopes(self, upstream: np.ndarray) -> tuple:
        of_logits, of_target, _ = self.classes.slopes(upstream)
        of_input, of_weight, of_bias = self.map.gradients(of_logits.reshape(self.map.output_shape))
        return (
            of_input,
            of_weight.reshape(self.weight_shape),
            of_target,
            None if of_bias is None else of_bias.reshape(self.bias_shape),
            None,
        )

    def _with_logits(self, contract: Contract) -> Classes:
        products = self.map.products(np.zeros(self.map.output_shape))["output"]
        self.classes.bounded_input = put(products.bounded(contract))
        return self.classes

    def bounded_losses(self, contract: Contract) -> Bounded:
        return self._with_logits(contract).bounded_losses(contract)

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        contract, map = upstream.contract, self.map
        of_logits, of_target, _ = self._with_logits(contract).bounded_slopes(upstream)
        up = put(of_logits).reshape(map.geometry.rows, map.geometry.outputs)
        columns = up.reshape(map.geometry.rows, map.geometry.outputs, 1)
        of_input = (columns * contract.exact(map.weight[None])).sum(1).reshape(map.input_shape)
        of_weight = (columns * contract.exact(map.input[:, None])).sum(0).reshape(self.weight_shape)
        return (
            of_input,
            of_weight,
            of_target,
            None if self.bias_shape is None else up.sum(0).reshape(self.bias_shape),
            None,
        )


def _linear_cross_entropy(
    input,
    linear_weight,
    target,
    *,
    linear_bias=None,
    weight=None,
    reduction="mean",
    ignore_index=None,
    label_smoothing=0.0,
    options=None,
):
    """`cross_entropy` of the outputs of a linear layer.

        output = cross_entropy(linear(input, linear_weight, linear_bias), target, ...)

    input (N, F) or (F), linear_weight (C, *out_features, F), linear_bias (C, *out_features), target and
    weight -> output as in `cross_entropy` for logits (N, C, *out_features). `options` choose a way to compute
    it and change no result.
    Error: that of `linear`, stored in T, and that of `cross_entropy`.
    Raises RuntimeError for shapes that do not fit, an ignore_index beside probabilities and a label_smoothing
    outside [0, 1], otherwise as `cross_entropy`.  Source: torch.nn.functional.linear_cross_entropy."""
    input, linear_weight = float_array(input), float_array(linear_weight)
    if input.ndim not in (1, 2) or linear_weight.ndim < 2 or input.shape[-1] != linear_weight.shape[-1]:
        raise RuntimeError(
            f"linear_cross_entropy: input {input.shape}, linear_weight {linear_weight.shape}; needed are "
            "(N, F) or (F) and (C, *out_features, F)"
        )
    if linear_weight.ndim > 2 and input.ndim == 1:
        raise RuntimeError(
            f"linear_cross_entropy: input {input.shape} has no batch; linear_weight {linear_weight.shape} "
            "needs one"
        )
    linear_bias = None if linear_bias is None else float_array(linear_bias)
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise RuntimeError(
            f"linear_cross_entropy: linear_bias has shape {linear_bias.shape}; needed is "
            f"{linear_weight.shape[:-1]}"
        )
    if np.shape(target) == (*input.shape[:-1], *linear_weight.shape[:-1]) and ignore_index is not None:
        raise RuntimeError("linear_cross_entropy: ignore_index beside probabilities; needed is None")
    _check_smoothing(label_smoothing)
    return LinearClasses(
        input,
        linear_weight,
        linear_bias,
        target,
        weight,
        -100 if ignore_index is None else ignore_index,
        named_reduction(reduction),
        float(label_smoothing),
    )


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(
            f"linear_cross_entropy: label_smoothing is {label_smoothing}; needed is a number from 0 to 1"
        )


linear_cross_entropy, linear_cross_entropy_backward = functions(_linear_cross_entropy)


class LinearCrossEntropyLoss(Module):
    """`linear_cross_entropy` with its linear layer, whose weight is kept flat as `linear.weight`.

    Formula, shapes, error, raises: as `linear_cross_entropy`; a label_smoothing or weight that does not fit
    is refused at once.  Source: torch.nn.LinearCrossEntropyLoss."""

    parameters = ("linear.weight", "linear.bias")
    buffers = ("weight",)
    algorithms = (STORED_LOGARITHMS,)

    def __init__(
        self,
        in_features,
        num_classes,
        *,
        out_features=(),
        bias=False,
        reduction="mean",
        weight=None,
        ignore_index=None,
        label_smoothing=0.0,
        options=None,
    ):
        super().__init__()
        if weight is not None and np.shape(weight) != (num_classes,):
            raise RuntimeError(
                f"LinearCrossEntropyLoss: weight has shape {np.shape(weight)}; needed is ({num_classes},)"
            )
        _check_smoothing(label_smoothing)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        outputs = math.prod(self.out_features, start=num_classes)
        setattr(self, "linear.weight", uniform((outputs, in_features), in_features))
        setattr(self, "linear.bias", uniform((outputs,), in_features) if bias else None)
        self.weight = None if weight is None else np.array(weight, dtype=np.float64)

    def _call(self, input: Any, target: Any) -> Call:
        weight, bias = getattr(self, "linear.weight"), getattr(self, "linear.bias")
        shape = (self.num_classes, *self.out_features)
        return _linear_cross_entropy(
            input,
            weight.reshape(*shape, -1),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def forward(self, input: Any, target: Any) -> np.ndarray:
        return self._call(input, target).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(*inputs).output_shape,)

    def _named(self, gradients: tuple) -> tuple[tuple, dict[str, Any]]:
        """Gradients of input and target, and of the parameters in their flat shapes."""
        of_input, of_weight, of_target, of_bias, _ = gradients
        flat = {"linear.weight": of_weight.reshape(getattr(self, "linear.weight").shape)}
        return (of_input, of_target), flat if of_bias is None else {
            **flat,
            "linear.bias": of_bias.reshape(-1),
        }

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        return self._named(self._call(*inputs).gradients(grad_outputs[0]))

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        output, gradients = self._call(*inputs).bounded(contract, grad_outputs[0])
        (of_input, of_target), of_parameters = self._named(gradients)
        return {
            "output": output,
            "grad_input0": of_input,
            **({} if of_target is None else {"grad_input1": of_target}),
            **{f"grad_{name}": gradient for name, gradient in of_parameters.items()},
        }

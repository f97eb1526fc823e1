"""Wrong losses and distances: what can be wrong with any of them; of one formula alone in loss_regression and
the other modules of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults import loss_classes, loss_ctc, loss_margins, loss_regression, loss_vectors
from parity_tests.faults import loss_plain as plain
from parity_tests.faults.fault import Control, Fault, scaled, with_gradient
from parity_tests.faults.loss_plain import rounded_once
from parity_tests.faults.loss_stand_ins import (
    ALL,
    HALF_TYPES,
    LOSSES,
    POINTWISE,
    WEIGHTED,
    everywhere,
    original,
    reduction_instead,
)


def doubled_gradient(name: str) -> Callable:
    return with_gradient(original(name), scaled(0, 2.0))


def second_gradient_halved(name: str) -> Callable:
    return with_gradient(original(name), scaled(1, 0.5))


def in_bfloat16(name: str) -> Callable:
    """Operands rounded to bfloat16 first; the gradient is that of the rounded ones."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return original(name)(*map(_rounded, args), **{key: _rounded(value) for key, value in kwargs.items()})

    return stand_in


def _rounded(value: Any) -> Any:
    real = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.bfloat16().to(value.dtype) if real else value


def wide_output(name: str) -> Callable:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return plain.wide(original(name)(*args, **kwargs))

    return stand_in


def scribbling(name: str) -> Callable:
    """The first operand is used as scratch memory."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        output = original(name)(*args, **kwargs)
        args[0].data.mul_(0.5)  # autograd does not see it
        return output

    return stand_in


def extra_axis(name: str) -> Callable:
    return lambda *args, **kwargs: original(name)(*args, **kwargs).reshape(1, -1)


def _lenient(layer: str) -> type:
    """The layer with any reduction that there is not taken for a mean."""

    def forward(self: Any, *inputs: Any) -> Any:
        if self.reduction not in ("none", "mean", "sum", "batchmean"):
            self.reduction = "mean"
        return getattr(torch.nn, layer).forward(self, *inputs)

    return type(layer, (getattr(torch.nn, layer),), {"forward": forward})


def _unweighted_in_evaluation(layer: str) -> type:
    def forward(self: Any, *inputs: Any) -> Any:
        kept, self.weight = self.weight, self.weight if self.training else None
        output = getattr(torch.nn, layer).forward(self, *inputs)
        self.weight = kept
        return output

    return type(layer, (getattr(torch.nn, layer),), {"forward": forward})


class _AnyDim(torch.nn.CosineSimilarity):
    def forward(self, x1: Any, x2: Any) -> Any:
        self.dim = self.dim if isinstance(self.dim, int) and -x1.dim() <= self.dim < x1.dim() else -1
        return super().forward(x1, x2)


class _NumbersOnly(torch.nn.PairwiseDistance):
    def __init__(self, p: Any = 2.0, eps: float = 1e-6, keepdim: bool = False):
        super().__init__(2.0 if isinstance(p, str) else p, eps, keepdim)


_SECOND_OPERAND_HAS_GRADIENT = (
    "L1Loss",
    "MSELoss",
    "SmoothL1Loss",
    "HuberLoss",
    "KLDivLoss",
    "PoissonNLLLoss",
    "MarginRankingLoss",
    "GaussianNLLLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "TripletMarginLoss",
    "CosineSimilarity",
    "PairwiseDistance",
)

_GENERAL = (
    Fault(
        "mean_is_sum",
        "reduction 'mean' does not divide",
        everywhere(reduction_instead(mean="sum"), LOSSES),
        "forward",
        tuple(LOSSES),
    ),
    Fault(
        "sum_is_mean",
        "reduction 'sum' divides",
        everywhere(reduction_instead(sum="mean"), LOSSES),
        "forward",
        tuple(LOSSES),
    ),
    Fault(
        "none_is_sum",
        "reduction 'none' reduces",
        everywhere(reduction_instead(none="sum"), LOSSES),
        "metadata",
        tuple(LOSSES),
    ),
    Fault(
        "gradient_doubled",
        "the gradient of the first operand is twice as large",
        everywhere(doubled_gradient),
        "input_gradients",
        tuple(ALL),
    ),
    Fault(
        "operands_in_bfloat16",
        "operands are rounded to bfloat16 first",
        everywhere(in_bfloat16),
        "forward",
        tuple(ALL),
    ),
    Fault(
        "wide_output",
        "the output of half operands is float32",
        everywhere(wide_output),
        "metadata",
        HALF_TYPES,
    ),
    Fault("extra_axis", "the output has an axis too many", everywhere(extra_axis), "metadata", tuple(ALL)),
    Fault(
        "operand_as_scratch", "the first operand is written to", everywhere(scribbling), "purity", tuple(ALL)
    ),
    Fault(
        "any_reduction",
        "an unknown reduction is taken for a mean",
        {layer: _lenient(layer) for layer in LOSSES},
        "rejection",
        tuple(LOSSES),
    ),
    Fault(
        "any_dim",
        "a dim out of range is taken for the last",
        {"CosineSimilarity": _AnyDim},
        "rejection",
        ("CosineSimilarity",),
    ),
    Fault(
        "any_norm",
        "a norm given as text is taken for 2",
        {"PairwiseDistance": _NumbersOnly},
        "rejection",
        ("PairwiseDistance",),
    ),
    Fault(
        "evaluation_without_weight",
        "evaluation forgets the weight",
        {layer: _unweighted_in_evaluation(layer) for layer in WEIGHTED},
        "state",
        tuple(WEIGHTED),
    ),
    Fault(
        "second_gradient_halved",
        "the gradient of the second operand is half as large",
        everywhere(second_gradient_halved, {layer: ALL[layer] for layer in _SECOND_OPERAND_HAS_GRADIENT}),
        "input_gradients",
        _SECOND_OPERAND_HAS_GRADIENT,
    ),
)

_ONE_FORMULA = (loss_regression, loss_classes, loss_margins, loss_vectors, loss_ctc)
FAULTS = (*_GENERAL, *(fault for formulas in _ONE_FORMULA for fault in formulas.FAULTS))


def in_float64(name: str) -> Callable:
    """torch's own function in float64, rounded once."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        output = original(name)(*map(_double, args), **{key: _double(value) for key, value in kwargs.items()})
        return output.to(args[0].dtype)

    return stand_in


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def elements_reversed(name: str) -> Callable:
    """The elements in reverse order, and those of an unreduced loss put back."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        output = original(name)(*(x.flip(tuple(range(x.dim()))) for x in args), **kwargs)
        return output.flip(tuple(range(output.dim())))

    return stand_in


_WRITTEN_OUT = {layer: name for layer, name in ALL.items() if hasattr(plain, name)}
CONTROLS = (
    Control(
        "float64_rounded_once",
        "everything in float64, rounded once",
        everywhere(
            in_float64, {layer: ALL[layer] for layer in ALL if layer != "TripletMarginWithDistanceLoss"}
        ),
        tuple(layer for layer in ALL if layer != "TripletMarginWithDistanceLoss"),
    ),
    Control(
        "written_out",
        "the formulas in torch operations, in float32 for the half types",
        {name: rounded_once(getattr(plain, name)) for name in _WRITTEN_OUT.values()},
        tuple(_WRITTEN_OUT),
    ),
    Control(
        "elements_reversed",
        "the elements in reverse order",
        everywhere(elements_reversed, POINTWISE),
        tuple(POINTWISE),
    ),
)

"""Losses that are a term for each element: how the formulas of loss_terms are run.

    losses[i] = weight[i] formula(operands[i], *scalars)        then the reduction of loss_reduction

Operands (and a weight) are broadcast against each other; their gradients are summed back to their shapes.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from refimpl import loss_bounds, loss_terms
from refimpl.error_bounds import Bounded, Contract
from refimpl.loss_bounds import spread
from refimpl.loss_reduction import Call, gathered
from refimpl.taps import Kernel, float_array, zeros_like_kind


def pairs(formula, arrays, scalars):
    """Every loss from two operands."""
    losses, first, second = arrays
    for i in range(losses.size):
        losses[i] = formula(first[i], second[i], *scalars)


def pair_slopes(slopes, arrays, scalars):
    of_first, of_second, first, second = arrays
    for i in range(first.size):
        of_first[i], of_second[i] = slopes(first[i], second[i], *scalars)


def triples(formula, arrays, scalars):
    """Every loss from three operands."""
    losses, first, second, third = arrays
    for i in range(losses.size):
        losses[i] = formula(first[i], second[i], third[i], *scalars)


def triple_slopes(slopes, arrays, scalars):
    of_first, of_second, of_third, first, second, third = arrays
    for i in range(first.size):
        of_first[i], of_second[i], of_third[i] = slopes(first[i], second[i], third[i], *scalars)


_WALKS = {2: (pairs, pair_slopes), 3: (triples, triple_slopes)}
_OPERANDS = {
    "bce": 2,
    "bce_logits": 3,
    "gaussian_nll": 3,
    "hinge_embedding": 2,
    "huber": 2,
    "kl_div": 2,
    "kl_div_log": 2,
    "l1": 2,
    "margin_ranking": 3,
    "mse": 2,
    "multilabel_soft_margin": 2,
    "poisson_nll": 2,
    "poisson_nll_log": 2,
    "smooth_l1": 2,
    "soft_margin": 2,
}
_FORWARD = {
    name: Kernel(_WALKS[count][0], getattr(loss_terms, name), inline=False)
    for name, count in _OPERANDS.items()
}
_SLOPES = {
    name: Kernel(_WALKS[count][1], getattr(loss_terms, f"{name}_slopes"), inline=False)
    for name, count in _OPERANDS.items()
}
# Array arguments in the order of torch's functions: operands by number, None for labels 1 or -1 without a
# gradient.
_ARGUMENTS = {
    "bce": (0, 1, "weight"),
    "bce_logits": (0, 1, "weight", 2),
    "gaussian_nll": (0, 1, 2),
    "hinge_embedding": (0, None),
    "huber": (0, 1, "weight"),
    "l1": (0, 1, "weight"),
    "margin_ranking": (0, 1, 2),
    "mse": (0, 1, "weight"),
    "multilabel_soft_margin": (0, 1, "weight"),
    "soft_margin": (0, None),
}


class Pointwise(Call):
    """One call of a loss with a formula of `loss_terms`; `weight` multiplies its terms.

    weighted_mean   a mean divides by the sum of the weights instead of the number of losses
    averages        each loss is the average of the terms along the last axis
    absent          numbers of operands that stand for an argument that was not given"""

    def __init__(
        self,
        name: str,
        operands: tuple,
        scalars: tuple,
        reduction: str,
        weight: Any = None,
        weighted_mean: bool = False,
        averages: bool = False,
        absent: tuple[int, ...] = (),
    ):
        for scalar in scalars:
            if not isinstance(scalar, Real):
                raise TypeError(f"{name}: a scalar argument is {scalar!r}; needed is a number")
        self.name, self.reduction, self.averages, self.absent = name, reduction, averages, absent
        self.scalars = tuple(float(scalar) for scalar in scalars)
        self.weighted_mean = weighted_mean and weight is not None
        given = [float_array(array) for array in (*operands, *(() if weight is None else (weight,)))]
        self.given_shapes = [array.shape for array in given]
        try:
            self.terms_shape = np.broadcast_shapes(*self.given_shapes)
        except ValueError:
            shapes = ", ".join(map(str, self.given_shapes))
            raise RuntimeError(f"{name}: shapes {shapes}; needed are shapes that broadcast") from None
        self.shape = self.terms_shape[:-1] if averages else self.terms_shape
        broadcast = [
            np.ascontiguousarray(np.broadcast_to(array, self.terms_shape)).reshape(-1) for array in given
        ]
        self.operands = broadcast[: len(operands)]
        self.weight = None if weight is None else broadcast[-1]

    def _terms(self) -> np.ndarray:
        terms = zeros_like_kind(self.operands[0].shape, *self.operands)
        _FORWARD[self.name]((terms, *self.operands), self.scalars, terms.size)
        return terms

    def losses(self) -> np.ndarray:
        terms = self._terms() if self.weight is None else self.weight * self._terms()
        terms = terms.reshape(self.terms_shape)
        return terms.sum(axis=-1) / self.terms_shape[-1] if self.averages else terms

    def divisor(self) -> Any:
        return self.weight.sum() if self.weighted_mean else super().divisor()  # type: ignore[union-attr]

    def bounded_divisor(self, contract: Contract) -> Bounded:
        return contract.exact(self.weight).sum() if self.weighted_mean else super().bounded_divisor(contract)

    def slopes(self, upstream: np.ndarray) -> tuple:
        if self.averages:
            upstream = upstream[..., None] / self.terms_shape[-1]
        upstream = np.broadcast_to(upstream, self.terms_shape).reshape(-1)
        slopes = tuple(zeros_like_kind(operand.shape, *self.operands) for operand in self.operands)
        _SLOPES[self.name]((*slopes, *self.operands), self.scalars, upstream.size)
        factor = upstream if self.weight is None else upstream * self.weight
        results = [factor * slope for slope in slopes]
        if self.weight is not None:
            results.append(upstream * (self._terms() - self._center()))
        return self._in_order(
            [
                gathered(result.reshape(self.terms_shape), shape)
                for result, shape in zip(results, self.given_shapes, strict=True)
            ]
        )

    def _center(self) -> Any:
        """A weighted mean falls with its weights where a term is below it."""
        return self.output() if self.weighted_mean and self.reduction == "mean" else 0

    def _in_order(self, results: list) -> tuple:
        """Gradients of the operands, and of a weight if there is one, in the order of the function's
        arguments."""
        count = len(self.operands)
        named: dict[Any, Any] = dict(enumerate(results[:count])) | (
            {"weight": results[count]} if len(results) > count else {}
        )
        arguments = _ARGUMENTS.get(self.name, tuple(range(count)))
        return tuple(None if key in self.absent else named.get(key) for key in arguments)

    def bounded_losses(self, contract: Contract) -> Bounded:
        operands = [contract.exact(operand) for operand in self.operands]
        terms = getattr(loss_bounds, self.name)(*operands, *self.scalars)
        terms = terms if self.weight is None else terms * contract.exact(self.weight)
        terms = terms.reshape(self.terms_shape)
        return terms.sum(axis=-1) * self._bounded_average(contract) if self.averages else terms

    def _bounded_average(self, contract: Contract) -> Bounded:
        return 1.0 / contract.exact(float(self.terms_shape[-1]))

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        """Gradients of the operands; of a weight, which layers keep as a buffer, none."""
        contract = upstream.contract
        if self.averages:
            upstream = upstream[..., None] * self._bounded_average(contract)
        factor = spread(upstream, self.terms_shape).reshape(-1)
        factor = factor if self.weight is None else factor * contract.exact(self.weight)
        operands = [contract.exact(operand) for operand in self.operands]
        slopes = getattr(loss_bounds, f"{self.name}_slopes")(factor, *operands, *self.scalars)
        return self._in_order(
            [
                None if slope is None else gathered(slope.reshape(self.terms_shape), shape)
                for slope, shape in zip(slopes, self.given_shapes, strict=False)
            ]
        )

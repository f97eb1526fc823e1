"""Losses of margins between the scores of classes: of the right class, or the right ones, to all others.

    losses[n] = sum(max(0, margin - input[n, r] + input[n, c])^p for r in right classes, c in others) / C

Source: torch.nn.MultiMarginLoss, torch.nn.MultiLabelMarginLoss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.loss_bounds import branch, collected, ramp, spread, stacked, sum_of, times
from refimpl.loss_reduction import Call, Loss, functions, named_reduction
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = [
    "MultiLabelMarginLoss",
    "MultiMarginLoss",
    "multi_margin_loss",
    "multi_margin_loss_backward",
    "multilabel_margin_loss",
    "multilabel_margin_loss_backward",
]


def rivals(visit, arrays, scalars):
    """Every right class r of a sample n (a row of `right`, ended by -1) with every class c that `others`
    marks."""
    right, others = arrays[0], arrays[1]
    for n in range(right.shape[0]):
        for k in range(right.shape[1]):
            r = right[n, k]
            if r < 0:
                break
            for c in range(others.shape[1]):
                if others[n, c]:
                    visit(arrays, scalars, n, r, c)


def excess(arrays, scalars, n, r, c):
    _, _, losses, input, factor = arrays
    margin, p = scalars
    z = margin - input[n, r] + input[n, c]
    if not z <= 0:  # NaN counts
        losses[n] += factor[n] * (z if p == 1 else z * z)


def excess_gradient(arrays, scalars, n, r, c):
    _, _, gradient, input, factor = arrays
    margin, p = scalars
    z = margin - input[n, r] + input[n, c]
    if z > 0:
        slope = factor[n] * (1.0 if p == 1 else 2 * z)
        gradient[n, r] -= slope
        gradient[n, c] += slope


_excess = Kernel(rivals, excess)
_excess_gradient = Kernel(rivals, excess_gradient)


class Margins(Call):
    """One call: input (N, C), right classes (N, K), each row ended by -1 or full, a weight for each sample.

    `constants` array arguments of the function have no gradient: target and weight."""

    def __init__(
        self,
        input: np.ndarray,
        right: np.ndarray,
        shape: tuple,
        reduction: str,
        margin: float = 1.0,
        p: int = 1,
        weight: np.ndarray | None = None,
        constants: int = 1,
    ):
        self.input_shape, self.reduction, self.shape = input.shape, reduction, shape
        self.input, self.right = np.atleast_2d(input), np.ascontiguousarray(right, dtype=np.int64)
        self.scalars, self.constants = (float(margin), int(p)), constants
        self.weight = np.ones(len(self.input)) if weight is None else weight
        self.others = np.ones(self.input.shape, dtype=np.int64)
        for n, row in enumerate(self.right.tolist()):
            self.others[n, _before_end(row)] = 0

    def _run(self, kernel: Kernel, result: np.ndarray, factor: np.ndarray) -> np.ndarray:
        arrays = (self.right, self.others, result, self.input, factor / self.input.shape[1])
        kernel(arrays, self.scalars, self.right.size * self.input.shape[1])
        return result

    def losses(self) -> np.ndarray:
        losses = zeros_like_kind((len(self.input),), self.input)
        return self._run(_excess, losses, self.weight).reshape(self.shape)

    def slopes(self, upstream: np.ndarray) -> tuple:
        gradient = zeros_like_kind(self.input.shape, self.input)
        factor = self.weight * upstream.reshape(-1)
        return self._run(_excess_gradient, gradient, factor).reshape(self.input_shape), *[
            None
        ] * self.constants

    def _pairs(self, contract: Contract) -> tuple[Any, Any, Any, Bounded]:
        """Sample, right class and other class of every pair, and by how much the margin is missed."""
        pairs = [
            (n, r, c)
            for n, row in enumerate(self.right.tolist())
            for r in _before_end(row)
            for c in np.flatnonzero(self.others[n])
        ]
        n, r, c = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
        margin = spread(contract.constant(self.scalars[0]), n.shape)
        return n, r, c, sum_of(margin, contract.exact(-self.input[n, r]), contract.exact(self.input[n, c]))

    def _bounded_factor(self, upstream: Bounded) -> Bounded:
        """What the pairs of each sample are multiplied by."""
        contract = upstream.contract
        share = spread(1.0 / contract.exact(float(self.input.shape[1])), self.weight.shape)
        return times(times(upstream.reshape(-1), contract.exact(self.weight)), share)

    def bounded_losses(self, contract: Contract) -> Bounded:
        """All terms of the sum for a reduced loss, which may be added in any order."""
        n, _, _, z = self._pairs(contract)
        z, factor = ramp(z), self._bounded_factor(contract.exact(np.ones(len(self.input))))
        terms = (z if self.scalars[1] == 1 else z * z) * factor[n]
        return (
            collected(terms, (n,), (len(self.input),)).reshape(self.shape)
            if self.reduction == "none"
            else terms
        )

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        n, r, c, z = self._pairs(upstream.contract)
        factor = self._bounded_factor(upstream)[n]
        slope = factor if self.scalars[1] == 1 else factor * z * 2.0
        slope = branch(z.value > 0, z, slope, factor * 0.0)
        places = (np.stack([n, n]), np.stack([c, r]))
        gradient = collected(stacked(slope, -slope), places, self.input.shape)
        return gradient.reshape(self.input_shape), *[None] * self.constants


def _before_end(row: list[int]) -> list[int]:
    return row[: row.index(-1)] if -1 in row else row


def _multi_margin_loss(
    input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"
):
    """By how much the score of the target class fails to exceed each other score by a margin.

        losses[n] = sum(weight[t] max(0, margin - input[n, t] + input[n, c])^p for c in classes but t) / C
        t = target[n],  p 1 or 2;  at a margin that is just kept the gradient is 0

    input (N, C) or (C), target (N) or () of integers, weight (C) -> output (N) or () for reduction 'none',
    else ().
    Error: a few roundings of each term, and those of the sums.
    Raises ValueError for another p or reduction and a weight that has not one axis, RuntimeError for other
    shapes and a target that is no class.  Source: torch.nn.functional.multi_margin_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    input, target = float_array(input), np.asarray(target)
    _check_scores("multi_margin_loss", input)
    count = input.shape[-1]
    _check_multi_margin(p, weight)
    if weight is not None and len(weight) != count:
        raise RuntimeError(
            f"multi_margin_loss: weight has {len(weight)} elements; needed is one for each of the "
            f"{count} classes"
        )
    if target.dtype.kind == "f" or target.shape not in (
        input.shape[:-1],
        *([(1,)] if input.ndim == 1 else []),
    ):
        raise RuntimeError(
            f"multi_margin_loss: target {target.shape} of {target.dtype}; needed are integers of shape "
            f"{input.shape[:-1]} for input {input.shape}"
        )
    if ((target < 0) | (target >= count)).any():
        raise RuntimeError(
            f"multi_margin_loss: target {target.min()} to {target.max()}; needed is 0 to {count - 1}"
        )
    weight = None if weight is None else float_array(weight)[target.reshape(-1)]
    return Margins(input, target.reshape(-1, 1), target.shape, reduction, margin, p, weight, constants=2)


def _check_multi_margin(p: Any, weight: Any) -> None:
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p is {p!r}; needed is 1 or 2")
    if weight is not None and np.ndim(weight) != 1:
        raise ValueError(f"multi_margin_loss: weight has shape {np.shape(weight)}; needed is one axis")


def _multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """By how much the scores of the target classes fail to exceed each other score by 1.

        losses[n] = sum(max(0, 1 - input[n, t] + input[n, c]) for t in targets, c in classes but targets) / C
        targets are target[n] up to its first -1;  at a margin that is just kept the gradient is 0

    input (N, C) or (C), target like input, of integers -> output (N) or () for reduction 'none', else ().
    Error: a few roundings of each term, and those of the sums.
    Raises RuntimeError for other shapes and a target that is neither a class nor -1, ValueError for another
    reduction.  Source: torch.nn.functional.multilabel_margin_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    input, target = float_array(input), np.asarray(target)
    _check_scores("multilabel_margin_loss", input)
    if target.dtype.kind == "f" or target.shape != input.shape:
        raise RuntimeError(
            f"multilabel_margin_loss: target {target.shape} of {target.dtype}; needed are integers of "
            f"input's shape {input.shape}"
        )
    if ((target < -1) | (target >= input.shape[-1])).any():
        raise RuntimeError(
            f"multilabel_margin_loss: target {target.min()} to {target.max()}; needed is -1 to "
            f"{input.shape[-1] - 1}"
        )
    return Margins(input, np.atleast_2d(target), input.shape[:-1], reduction)


def _check_scores(name: str, input: np.ndarray) -> None:
    if input.ndim not in (1, 2) or input.shape[-1] == 0:
        raise RuntimeError(
            f"{name}: input has shape {input.shape}; needed is (C) or (N, C) with at least one class"
        )


multi_margin_loss, multi_margin_loss_backward = functions(_multi_margin_loss)
multilabel_margin_loss, multilabel_margin_loss_backward = functions(_multilabel_margin_loss)


class MultiMarginLoss(Loss):
    """`multi_margin_loss` as a layer; wrong `p` and `weight` are refused at once.  Source:
    torch.nn.MultiMarginLoss."""

    call = staticmethod(_multi_margin_loss)
    buffers = ("weight",)

    def __init__(self, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
        _check_multi_margin(p, weight)
        super().__init__(reduction, size_average, reduce, p=p, margin=margin, weight=weight)


class MultiLabelMarginLoss(Loss):
    """`multilabel_margin_loss` as a layer.  Source: torch.nn.MultiLabelMarginLoss."""

    call = staticmethod(_multilabel_margin_loss)

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)

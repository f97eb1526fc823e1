"""Losses of one class among several, given by index or by probabilities: likelihood and cross entropy.

    losses[n, i] = -sum(mass[n, c, i] log_probabilities[n, c, i] for c in classes)

The mass is weight[target] at the target class; with probabilities weight[c] target[c]; label smoothing mixes
it with weight[c] / C.  A target equal to `ignore_index` has no mass.  Margins between classes: loss_margins.

Contract weaker than the strictest, by name (`Contract.algorithm`), for the half types:
    stored log-probabilities   cross_entropy: the log-probabilities are rounded to T before they are used
Source: torch.nn.NLLLoss, torch.nn.CrossEntropyLoss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.loss_bounds import spread, times
from refimpl.loss_reduction import Call, Loss, functions, named_reduction
from refimpl.softmax import Rows
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = [
    "CrossEntropyLoss",
    "NLLLoss",
    "cross_entropy",
    "cross_entropy_backward",
    "nll_loss",
    "nll_loss_backward",
]

STORED_LOGARITHMS = "stored log-probabilities"


def classes(visit, arrays, geometry):
    """Every class c at every place (n, i) of a target, where it has a mass."""
    counted = arrays[0]
    batch, count, inner = geometry
    for n in range(batch):
        for c in range(count):
            for i in range(inner):
                if counted[n, c, i]:
                    visit(arrays, (n, i), (n, c, i))


def likelihood(arrays, y, x):
    _, losses, mass, logarithm = arrays
    losses[y] -= mass[x] * logarithm[x]


def likelihood_gradient(arrays, y, x):
    _, gradient, mass, upstream = arrays
    gradient[x] = -mass[x] * upstream[y]


_likelihood = Kernel(classes, likelihood)
_likelihood_gradient = Kernel(classes, likelihood_gradient)


class Classes(Call):
    """One call: input as (N, C, inner), the mass of every class and where there is one.

    `logits`: the input goes through log-softmax first.  A target of input's shape that is not of integers
    holds probabilities."""

    def __init__(
        self,
        name: str,
        input: Any,
        target: Any,
        weight: Any,
        ignore_index: int,
        reduction: str,
        logits: bool = False,
        smoothing: float = 0.0,
    ):
        self.name, self.reduction, self.logits, self.smoothing = name, reduction, logits, smoothing
        self.input, target = float_array(input), np.asarray(target)
        if self.input.ndim == 0:
            raise ValueError(f"{name}: input has no axes; needed is (C), (N, C) or (N, C, *L)")
        self.by_index = not (logits and target.shape == self.input.shape)
        axis = min(1, self.input.ndim - 1)
        sizes = self.input.shape
        self.shape = (*sizes[:axis], *sizes[axis + 1 :])
        _check_target(name, sizes, self.shape, target, self.by_index)
        self.geometry = (math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :]))
        count = self.geometry[1]
        if weight is not None and np.shape(weight) != (count,):
            raise RuntimeError(
                f"{name}: weight has shape {np.shape(weight)}; needed is one for each of the {count} classes"
            )
        ones = np.ones(count, dtype=int if self.input.dtype == object else np.float64)
        self.weight = ones if weight is None else float_array(weight)
        if self.by_index:
            self.target = self._indices(target, ignore_index)
        else:
            self.target = float_array(target).reshape(self.geometry)
        self.bounded_input: Bounded | None = None  # where the input is computed: its values with their errors
        self.rows = Rows("log_softmax", self.input, axis) if logits else None

    def _indices(self, target: np.ndarray, ignore_index: int) -> np.ndarray:
        """The target classes (N, inner), -1 where they are ignored."""
        count = self.geometry[1]
        kept = target != ignore_index
        if (kept & ((target < 0) | (target >= count))).any():
            raise IndexError(
                f"{self.name}: target {target[kept].min()} to {target[kept].max()}; needed are 0 to "
                f"{count - 1} or ignore_index {ignore_index}"
            )
        return np.where(kept, target, -1).reshape(self.geometry[0], self.geometry[2])

    def _shares(self) -> np.ndarray:
        """The target's probabilities, or 1 at the target class."""
        if not self.by_index:
            return self.target
        chosen = np.arange(self.geometry[1])[None, :, None] == self.target[:, None, :]
        return chosen.astype(int if self.input.dtype == object else np.float64)

    def mass(self) -> np.ndarray:
        """The mass of every class."""
        shares = self._shares()
        if self.smoothing > 0:
            shares = shares * (1 - self.smoothing) + self._smoothed() * (self.smoothing / self.geometry[1])
        return shares * self.weight[None, :, None]

    def _bounded_mass(self, contract: Contract) -> Bounded:
        shares = contract.exact(self._shares())
        if self.smoothing > 0:
            smoothing = contract.constant(self.smoothing)
            part = smoothing / contract.exact(float(self.geometry[1]))
            shares = times(shares, spread(1.0 - smoothing, self.geometry))
            shares = shares + times(contract.exact(self._smoothed()), spread(part, self.geometry))
        return times(shares, contract.exact(np.broadcast_to(self.weight[:, None], self.geometry)))

    def _smoothed(self) -> np.ndarray:
        """1 where label smoothing puts a mass: everywhere but at ignored targets."""
        kept = (self.target >= 0)[:, None, :] if self.by_index else True
        return np.broadcast_to(kept, self.geometry).astype(np.float64)

    def counted(self) -> np.ndarray:
        """Where a class has a mass: zeros of probabilities count, as 0 log 0 is NaN in the formula."""
        if not self.by_index:
            return np.ones(self.geometry, dtype=np.int64)
        chosen = np.arange(self.geometry[1])[None, :, None] == self.target[:, None, :]
        return (chosen | ((self.smoothing > 0) & (self._smoothed() != 0))).astype(np.int64)

    def _logarithm(self) -> np.ndarray:
        values = self.input if self.rows is None else self.rows.output()
        return np.ascontiguousarray(values.reshape(self.geometry))

    def losses(self) -> np.ndarray:
        logarithm = self._logarithm()
        losses = zeros_like_kind((self.geometry[0], self.geometry[2]), logarithm)
        _likelihood((self.counted(), losses, self.mass(), logarithm), self.geometry, logarithm.size)
        return losses.reshape(self.shape)

    def slopes(self, upstream: np.ndarray) -> tuple:
        upstream = np.ascontiguousarray(upstream).reshape(self.geometry[0], self.geometry[2])
        gradient = zeros_like_kind(self.geometry, self.input)
        _likelihood_gradient((self.counted(), gradient, self.mass(), upstream), self.geometry, gradient.size)
        of_target = None
        if not self.by_index:
            of_target = -upstream[:, None] * self.weight[:, None] * (1 - self.smoothing) * self._logarithm()
            of_target = of_target.reshape(self.input.shape)
        gradient = gradient if self.rows is None else self.rows.gradient(gradient)
        return gradient.reshape(self.input.shape), of_target, None

    def divisor(self) -> Any:
        """Of indices the sum of the weights of their classes, else the number of losses."""
        if not self.by_index:
            return super().divisor()
        return self.weight[self.target[self.target >= 0]].sum()

    def bounded_divisor(self, contract: Contract) -> Bounded:
        if not self.by_index:
            return super().bounded_divisor(contract)
        weights = contract.exact(self.weight[self.target[self.target >= 0]])
        return weights.sum() if (self.weight != 1).any() else contract.exact(weights.value.sum())

    def _bounded_logarithm(self, contract: Contract) -> Bounded:
        """Input minus its maximum (any number near it would do, so that has no error) minus log of the sum of
        exp."""
        input = contract.exact(self.input) if self.bounded_input is None else self.bounded_input
        input = input.reshape(self.geometry)
        if not self.logits:
            return input
        distance = input - contract.exact(input.value.max(axis=1, keepdims=True, initial=-np.inf))
        logarithm = distance - distance.exp().sum(1, keepdims=True).log()
        return logarithm.store() if contract.algorithm == STORED_LOGARITHMS else logarithm

    def _kept(self, terms: Bounded) -> Bounded:
        """Nothing where a class has no mass, whatever it is multiplied with."""
        kept = self.counted() != 0
        return Bounded(np.where(kept, terms.value, 0.0), np.where(kept, terms.error, 0.0), terms.contract)

    def bounded_losses(self, contract: Contract) -> Bounded:
        """All terms of the sum for a reduced loss, which may be added in any order."""
        terms = self._kept(-times(self._bounded_mass(contract), self._bounded_logarithm(contract)))
        return terms if self.reduction != "none" else terms.sum(1).reshape(self.shape)

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        contract = upstream.contract
        upstream = upstream.reshape(self.geometry[0], 1, self.geometry[2])
        mass, logarithm, of_target = self._bounded_mass(contract), self._bounded_logarithm(contract), None
        everywhere = spread(upstream, self.geometry)
        if not self.by_index:
            of_target = -times(
                everywhere, contract.exact(np.broadcast_to(self.weight[:, None], self.geometry))
            )
            of_target = (
                of_target * (1.0 - contract.constant(self.smoothing)) if self.smoothing > 0 else of_target
            )
            of_target = (of_target * logarithm).reshape(self.input.shape)
        gradient = self._kept(-times(everywhere, mass))
        if self.logits:
            gradient = gradient - logarithm.exp() * gradient.sum(1, keepdims=True)
        return gradient.reshape(self.input.shape), of_target, None


def _check_target(name: str, sizes: tuple, needed: tuple, target: np.ndarray, by_index: bool) -> None:
    """`needed` is the shape of a target of indices for an input of these sizes."""
    if by_index == (target.dtype.kind == "f"):
        raise RuntimeError(
            f"{name}: target {target.shape} of {target.dtype}; needed are integers of shape (N, *L), or "
            f"(cross_entropy) probabilities of input's shape {sizes}"
        )
    if by_index and target.shape != needed:
        kind = ValueError if target.shape[:1] != needed[:1] else RuntimeError
        raise kind(f"{name}: target has shape {target.shape}; needed is {needed} for input {sizes}")


def _nll_loss(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
):
    """Negative log likelihood of target classes under log-probabilities `input`.

        losses = -weight[target] input[target];  a mean divides by the sum of weight[target]
        a target equal to `ignore_index` counts as 0, also in that sum

    input (C), (N, C) or (N, C, *L), target (), (N) or (N, *L) of integers, weight (C) -> output like target
    for reduction 'none', else ().  Error: a rounding a loss, and those of the sums.
    Raises IndexError for a target that is no class, ValueError for another batch size or reduction and an
    input without axes, RuntimeError for other wrong shapes and targets that are not integers.
    Source: torch.nn.functional.nll_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    return Classes("nll_loss", input, target, weight, ignore_index, reduction)


def _cross_entropy(
    input,
    target,
    weight=None,
    size_average=None,
    ignore_index=-100,
    reduce=None,
    reduction="mean",
    label_smoothing=0.0,
):
    """Negative log likelihood of target classes, or of a distribution of them, under the softmax of `input`.

        losses = -sum(weight[c] q[c] log_softmax(input)[c] for c in classes)
        q = (1 - label_smoothing) p + label_smoothing / C,  p the target's probabilities, or 1 at the target
        class a mean divides by the sum of weight[target] for classes, by the number of losses for
        probabilities

    Shapes: as `nll_loss`, or target like input with probabilities. Error: that of log_softmax in A,
    unrounded, and a few roundings of each term.
    Raises RuntimeError for a label_smoothing outside [0, 1], otherwise as `nll_loss`.
    Source: torch.nn.functional.cross_entropy."""
    reduction = named_reduction(reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(
            f"cross_entropy: label_smoothing is {label_smoothing}; needed is a number from 0 to 1"
        )
    return Classes(
        "cross_entropy", input, target, weight, ignore_index, reduction, True, float(label_smoothing)
    )


nll_loss, nll_loss_backward = functions(_nll_loss)
cross_entropy, cross_entropy_backward = functions(_cross_entropy)


class NLLLoss(Loss):
    """`nll_loss` as a layer.  Source: torch.nn.NLLLoss."""

    call = staticmethod(_nll_loss)
    buffers = ("weight",)

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, weight=weight, ignore_index=ignore_index)


class CrossEntropyLoss(Loss):
    """`cross_entropy` as a layer.  Source: torch.nn.CrossEntropyLoss."""

    call = staticmethod(_cross_entropy)
    buffers = ("weight",)
    algorithms = (STORED_LOGARITHMS,)

    def __init__(
        self,
        weight=None,
        size_average=None,
        ignore_index=-100,
        reduce=None,
        reduction="mean",
        label_smoothing=0.0,
    ):
        super().__init__(
            reduction,
            size_average,
            reduce,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )

"""Connectionist temporal classification: the likelihood of a label sequence, summed over all its alignments.

A path visits the labels s of a sequence with a blank before, between and after them (2 S + 1 states) in T
steps: at each it stays, moves on by one, or skips a blank between two different labels.  With
log-probabilities lp[t, label[s]]:

    arrive[0, 0] = arrive[0, 1] = 0
    arrive[t, s] = log sum over moves q -> s of exp(arrive[t-1, q] + lp[t-1, label[q]])
    loss = -log sum over the last two states s of exp(arrive[T-1, s] + lp[T-1, label[s]])

`depart` is the same walk backwards; a path's probability passes through (t, s) with
exp(arrive[t, s] + lp[t, label[s]] + depart[t, s] + loss), so that is minus the gradient of lp[t, label[s]].

Contract weaker than the strictest, by name (`Contract.algorithm`):
    gradient of logits   the gradient has exp(lp) added: what log_softmax would pass on is the same
Source: torch.nn.CTCLoss; Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refimpl.activation_bounds import zero
from refimpl.activation_formulas import INF
from refimpl.error_bounds import Bounded, Contract, where
from refimpl.loss_bounds import collected, spread, stacked, sum_of
from refimpl.loss_reduction import Call, Loss, functions, named_reduction
from refimpl.taps import Kernel, float_array

__all__ = ["CTCLoss", "ctc_loss", "ctc_loss_backward"]

GRADIENT_OF_LOGITS = "gradient of logits"


class Direction(NamedTuple):
    """The order in which time passes."""

    forwards: bool


def moves(visit, arrays, geometry):
    """Every move q -> s between steps t - 1 and t of every sequence n."""
    states, labels, steps = arrays[0], arrays[1], arrays[2]
    for n in range(labels.shape[0]):
        for k in range(1, steps[n]):
            t = k if geometry.forwards else steps[n] - k
            for s in range(states[n]):
                for q in range(max(0, s - 2), s + 1):
                    if s - q < 2 or (s % 2 == 1 and labels[n, s] != labels[n, q]):
                        visit(arrays, n, t, q, s)


def log_add(first, second):
    """log(exp(first) + exp(second))."""
    larger, smaller = (first, second) if first > second else (second, first)
    if smaller == -INF:
        return larger
    return larger + math.log1p(math.exp(smaller - larger))


def arrival(arrays, n, t, q, s):
    _, labels, _, arrive, log_probs = arrays
    if t > 1 or q < 2:  # elsewhere no path begins, whatever the log-probability is
        arrive[n, t, s] = log_add(arrive[n, t, s], arrive[n, t - 1, q] + log_probs[t - 1, n, labels[n, q]])


def departure(arrays, n, t, q, s):
    states, labels, steps, depart, log_probs = arrays
    if t < steps[n] - 1 or s >= states[n] - 2:  # elsewhere no path ends
        depart[n, t - 1, q] = log_add(depart[n, t - 1, q], depart[n, t, s] + log_probs[t, n, labels[n, s]])


def visits(visit, arrays, geometry):
    """Every state s at every step t of every sequence n."""
    states, steps = arrays[0], arrays[2]
    for n in range(steps.shape[0]):
        for t in range(steps[n]):
            for s in range(states[n]):
                visit(arrays, n, t, s)


def passage(arrays, n, t, s):
    _, labels, _, gradient, log_probs, arrive, depart, losses, upstream = arrays
    c = labels[n, s]
    passing = arrive[n, t, s] + log_probs[t, n, c] + depart[n, t, s]
    gradient[t, n, c] -= math.exp(passing + losses[n]) * upstream[n]


_arrival, _departure, _passage = Kernel(moves, arrival), Kernel(moves, departure), Kernel(visits, passage)


class Alignments(Call):
    """One call: log-probabilities (T, N, C), extended labels (N, 2 S + 1), states and steps of each
    sequence."""

    def __init__(
        self,
        log_probs: Any,
        targets: Any,
        input_lengths: Any,
        target_lengths: Any,
        blank: int,
        reduction: str,
        zero_infinity: bool,
    ):
        log_probs, targets = float_array(log_probs), np.asarray(targets)
        self.reduction, self.zero_infinity, self.given = reduction, zero_infinity, log_probs.shape
        if log_probs.ndim not in (2, 3) or log_probs.size == 0:
            raise RuntimeError(
                f"ctc_loss: log_probs has shape {log_probs.shape}; needed is (T, N, C) or (T, C), not empty"
            )
        self.log_probs = log_probs if log_probs.ndim == 3 else log_probs[:, None]
        self.shape = (log_probs.shape[1],) if log_probs.ndim == 3 else ()
        time, batch, classes = self.log_probs.shape
        if not 0 <= blank < classes:
            raise RuntimeError(f"ctc_loss: blank is {blank}; needed is 0 to {classes - 1}")
        self.steps = _lengths("input_lengths", input_lengths, batch, time)
        self.lengths = _lengths("target_lengths", target_lengths, batch, None)
        self._tables: dict[Contract, tuple[Bounded, Bounded, Bounded]] = {}
        self.labels, self.states = self._extended(targets, blank, classes), 2 * self.lengths + 1

    def _extended(self, targets: np.ndarray, blank: int, classes: int) -> np.ndarray:
        """Labels with blanks before, between and after them.  `targets` is (N, S), or all sequences
        joined."""
        longest = int(self.lengths.max())
        padded = targets.ndim == 2
        needed = longest if padded else int(self.lengths.sum())
        if (
            targets.ndim not in (1, 2)
            or targets.shape[-1] < needed
            or (padded and len(targets) != len(self.lengths))
            or (not padded and len(targets) > needed)
        ):
            raise RuntimeError(
                f"ctc_loss: targets has shape {targets.shape}; needed is ({len(self.lengths)}, S) with S at "
                f"least {longest}, or ({int(self.lengths.sum())},)"
            )
        labels = np.full((len(self.lengths), 2 * longest + 1), blank, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        for n, length in enumerate(self.lengths):
            labels[n, 1 : 2 * length : 2] = (
                targets[n, :length] if padded else targets[starts[n] : starts[n] + length]
            )
        if ((labels < 0) | (labels >= classes)).any():
            raise RuntimeError(
                f"ctc_loss: targets {labels.min()} to {labels.max()}; needed is 0 to {classes - 1}"
            )
        return labels

    def _start(self) -> np.ndarray:
        return np.full((len(self.lengths), len(self.log_probs), self.labels.shape[1]), -np.inf)

    def _arrive(self) -> np.ndarray:
        arrive = self._start()
        arrive[:, 0, :2] = 0.0
        self._run(_arrival, arrive, True)
        return arrive

    def _depart(self) -> np.ndarray:
        depart = self._start()
        for n, (steps, states) in enumerate(zip(self.steps, self.states, strict=True)):
            depart[n, max(0, steps - 1), max(0, states - 2) : states] = 0.0
        self._run(_departure, depart, False)
        return depart

    def _run(self, kernel: Kernel, table: np.ndarray, forwards: bool) -> None:
        work = 3 * table.size
        kernel((self.states, self.labels, self.steps, table, self.log_probs), Direction(forwards), work)

    def _raw(self, arrive: np.ndarray) -> np.ndarray:
        """Losses, infinite where no alignment exists.  A sequence without steps has one alignment if it is
        empty."""
        losses = np.where(self.lengths == 0, -0.0, np.inf)
        for n, (steps, states) in enumerate(zip(self.steps, self.states, strict=True)):
            if steps > 0:
                ends = [
                    arrive[n, steps - 1, s] + self.log_probs[steps - 1, n, self.labels[n, s]]
                    for s in range(max(0, states - 2), states)
                ]
                losses[n] = -(ends[0] if len(ends) == 1 else log_add(*ends))
        return losses

    def _scale(self) -> np.ndarray:
        """A mean is over losses divided by their target lengths."""
        return np.maximum(self.lengths, 1) if self.reduction == "mean" else np.ones(len(self.lengths))

    def _lost(self, losses: np.ndarray) -> np.ndarray:
        """Sequences whose infinite loss counts as zero."""
        return np.isposinf(losses) & self.zero_infinity

    def losses(self) -> np.ndarray:
        losses = self._raw(self._arrive())
        return (np.where(self._lost(losses), 0.0, losses) / self._scale()).reshape(self.shape)

    def slopes(self, upstream: np.ndarray) -> tuple:
        arrive, gradient = self._arrive(), np.zeros(self.log_probs.shape)
        losses, upstream = self._raw(arrive), upstream.reshape(-1) / self._scale()
        _passage(
            (
                self.states,
                self.labels,
                self.steps,
                gradient,
                self.log_probs,
                arrive,
                self._depart(),
                losses,
                upstream,
            ),
            (),
            arrive.size,
        )
        gradient[:, self._lost(losses)] = 0.0
        gradient[self._nowhere(losses)] = np.nan
        return gradient.reshape(self.given), None, None, None

    def _nowhere(self, losses: np.ndarray) -> np.ndarray:
        """(T, N): the steps of sequences with an infinite loss, where there is no gradient: NaN for every
        class."""
        inside = np.arange(len(self.log_probs))[:, None] < self.steps
        return inside & (np.isposinf(losses) & (not self.zero_infinity))

    def expected(self, contract: Contract, grad_output: Any) -> tuple:
        gradient, *rest = self.gradients(grad_output)
        if contract.algorithm == GRADIENT_OF_LOGITS:
            upstream = (
                np.broadcast_to(self.shared(np.asarray(grad_output)), self.shape).reshape(-1) / self._scale()
            )
            shift = np.where(self._inside(), np.exp(self.log_probs) * upstream[:, None], 0.0)
            gradient = gradient + shift.reshape(self.given)
        return gradient, *rest

    def _inside(self) -> np.ndarray:
        """(T, N, 1): where a sequence has a step, and a loss that counts."""
        lost = self._lost(self._raw(self._arrive()))
        return ((np.arange(len(self.log_probs))[:, None] < self.steps) & ~lost)[..., None]

    def _bounded_tables(self, contract: Contract) -> tuple[Bounded, Bounded, Bounded]:
        """The emissions lp[t, label[s]], and the two tables with them added, each (T, N, states)."""
        if contract not in self._tables:
            self._tables[contract] = self._make_tables(contract)
        return self._tables[contract]

    def _make_tables(self, contract: Contract) -> tuple[Bounded, Bounded, Bounded]:
        time = len(self.log_probs)
        emit = np.take_along_axis(
            self.log_probs, np.broadcast_to(self.labels, (time, *self.labels.shape)), axis=2
        )
        states = np.arange(self.labels.shape[1])
        skips = (states % 2 == 1) & (self.labels != np.roll(self.labels, 2, axis=1))
        present, emission = states < self.states[:, None], contract.exact(emit)
        first = np.where(present & (states < 2), emit[0], -np.inf)
        arrive, depart = [contract.exact(first)], [contract.exact(first)] * time  # any: a last step is an end
        for t in range(1, time):
            before = arrive[-1]
            ways = [before, _moved(before, 1), _hidden(_moved(before, 2), skips)]
            arrive.append(_hidden(_log_sum(ways) + emission[t], present))
        last = present & (states >= self.states[:, None] - 2)
        for t in reversed(range(time)):
            after = depart[t + 1] if t + 1 < time else depart[t]
            ways = [after, _moved(after, -1), _moved(_hidden(after, skips), -2)]
            end = contract.exact(np.where(last, emit[t], -np.inf))
            depart[t] = where(np.equal(self.steps, t + 1)[:, None], end, _log_sum(ways) + emission[t])
        return emission, stacked(*arrive), stacked(*depart)

    def _bounded_raw(self, contract: Contract, arrive: Bounded) -> Bounded:
        losses = contract.exact(np.where(self.lengths == 0, 0.0, np.inf))
        rows = np.arange(len(self.lengths))
        ends = [
            arrive[np.maximum(self.steps - 1, 0), rows, np.maximum(self.states - back, 0)] for back in (1, 2)
        ]
        ends[1] = _hidden(ends[1], self.lengths > 0)
        return where(self.steps > 0, -_log_sum(ends), losses)

    def bounded_losses(self, contract: Contract) -> Bounded:
        losses = self._bounded_raw(contract, self._bounded_tables(contract)[1])
        losses = where(self._lost(losses.value), contract.exact(np.zeros(len(self.lengths))), losses)
        return (losses / contract.exact(self._scale())).reshape(self.shape)

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        contract = upstream.contract
        emission, arrive, depart = self._bounded_tables(contract)
        losses = self._bounded_raw(contract, arrive)
        upstream = upstream.reshape(-1) / contract.exact(self._scale())
        t, n, s = np.nonzero(
            (np.arange(len(self.log_probs))[:, None, None] < self.steps[:, None])
            & (np.arange(self.labels.shape[1]) < self.states[:, None])
        )
        possible = emission.value[t, n, s] != -np.inf
        emitted = where(possible, emission[t, n, s], zero(emission[t, n, s]))
        passing = _hidden(sum_of(arrive[t, n, s], depart[t, n, s], losses[n], -emitted), possible)
        shape = self.log_probs.shape
        gradient = collected(-(passing.exp() * upstream[n]), (t, n, self.labels[n, s]), shape)
        if contract.algorithm == GRADIENT_OF_LOGITS:
            shift = contract.exact(self.log_probs).exp() * spread(upstream.reshape(-1, 1), shape)
            gradient = sum_of(gradient, where(self._inside(), shift, zero(gradient)))
        gradient = where(self._lost(losses.value)[:, None], zero(gradient), gradient)
        nowhere = contract.exact(np.full(shape, np.nan))
        gradient = where(self._nowhere(losses.value)[..., None], nowhere, gradient)
        return gradient.reshape(self.given), None, None, None


def _log_sum(parts: list[Bounded]) -> Bounded:
    """log(sum(exp)): the largest part is taken out first; any number near it would do, so it has no error
    itself."""
    together = stacked(*parts)
    highest = together.value.max(axis=0)
    largest = together.contract.exact(np.where(np.isfinite(highest), highest, 0.0))
    return (together - largest).exp().sum(0).log() + largest


def _hidden(x: Bounded, visible: np.ndarray) -> Bounded:
    """-inf (impossible) where not visible."""
    return where(visible, x, x.contract.exact(np.full(x.value.shape, -np.inf)))


def _moved(x: Bounded, by: int) -> Bounded:
    """States moved along by so many places, impossible ones coming in."""
    places = np.arange(x.value.shape[1]) - by
    inside = (places >= 0) & (places < len(places))
    return _hidden(x[:, np.clip(places, 0, len(places) - 1)], inside)


def _lengths(name: str, lengths: Any, batch: int, largest: int | None) -> np.ndarray:
    lengths = np.atleast_1d(np.asarray(lengths))
    if lengths.size and lengths.dtype.kind not in "iu":
        raise RuntimeError(f"ctc_loss: {name} has type {lengths.dtype}; needed are integers")
    lengths = lengths.astype(np.int64)
    if lengths.shape != (batch,):
        raise RuntimeError(f"ctc_loss: {name} has shape {lengths.shape}; needed is ({batch},)")
    if (lengths < 0).any() or (largest is not None and (lengths > largest).any()):
        raise RuntimeError(f"ctc_loss: {name} is {lengths.tolist()}; needed are numbers from 0 to {largest}")
    return lengths


def _ctc_loss(
    log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False
):
    """Negative log likelihood of label sequences, summed over all alignments with the steps of the input.

        losses[n] = -log(sum(prod(exp(log_probs[t, n, path[t]]) for t in steps) for path in alignments of
        targets[n])) a mean divides each loss by its target length (at least 1) first;  zero_infinity makes
        infinite losses 0

    log_probs (T, N, C) or (T, C), targets (N, S), (S) or all joined (sum(target_lengths)), input_lengths and
    target_lengths (N) or () -> output (N) or () for reduction 'none', else (). A loss without an alignment is
    infinite, and its gradient NaN for every class, unless zero_infinity makes both 0.
    Error: that of the recursion, about 10 roundings a step.
    Raises RuntimeError for shapes, lengths, blank and targets that do not fit, ValueError for another
    reduction.
    Source: torch.nn.functional.ctc_loss."""
    return Alignments(
        log_probs, targets, input_lengths, target_lengths, blank, named_reduction(reduction), zero_infinity
    )


ctc_loss, ctc_loss_backward = functions(_ctc_loss)


class CTCLoss(Loss):
    """`ctc_loss` as a layer.  Source: torch.nn.CTCLoss."""

    call = staticmethod(_ctc_loss)
    algorithms = (GRADIENT_OF_LOGITS,)

    def __init__(self, blank=0, reduction="mean", zero_infinity=False):
        super().__init__(reduction, blank=blank, zero_infinity=zero_infinity)

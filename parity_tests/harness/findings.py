"""What checks find: the error they raise, the tally they keep, and `Probe`, which compares and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from parity_tests.harness.cases import Case
from parity_tests.harness.compare import Comparison, compare
from parity_tests.harness.trial import Trial
from refimpl.error_bounds import Bounded, Contract, SuiteError, strictest


class ParityError(AssertionError):
    """A candidate differs from the reference: what, where, numbers, bound, verdict."""

    def __init__(
        self,
        case: Case,
        check: str,
        message: str,
        comparison: Comparison | None = None,
        met: str | None = None,
        place: str = "",
    ):
        super().__init__(message)
        self.case, self.check, self.message, self.place = case, check, message, place
        self.comparison, self.met = comparison, met

    def __reduce__(self) -> tuple:
        """For another process, without the sums that a bound was made of."""
        comparison = self.comparison
        if comparison is not None:
            comparison = replace(comparison, bounded=replace(comparison.bounded, products=None))
        return type(self), (self.case, self.check, self.message, comparison, self.met, self.place)

    @property
    def excess(self) -> float:
        """Largest error / bound; inf where it is not a matter of numbers."""
        return float("inf") if self.comparison is None else self.comparison.utilisation


@dataclass
class Tally:
    """What the checks of a case compared: it goes into the summary, and an empty one is an error."""

    elements: int = 0
    exact: int = 0
    facts: int = 0
    utilisation: dict[str, float] = field(default_factory=dict)
    statistical: float = 0.0
    uninformative: int = 0
    tells_nothing: list[str] = field(default_factory=list)
    mostly_zeros: list[str] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        self.elements += comparison.elements
        self.exact += comparison.exact
        self.uninformative += comparison.uninformative
        self.utilisation[comparison.name] = comparison.utilisation
        self.statistical = max(self.statistical, comparison.statistical)
        self.tells_nothing += [comparison.name] if comparison.tells_nothing else []
        self.mostly_zeros += [comparison.name] if comparison.mostly_zeros else []


@dataclass
class Verdict:
    """Everything that the checks of one case said.

    contract   'strictest', or the weakest of the contracts that its results meet, 'none', or 'other' where an
               error is not about numbers; '' of a rejection
    seconds    by part of the work
    """

    case: Case
    tally: Tally
    errors: list[ParityError]
    contract: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Probe:
    """One check at work on one trial: states facts, compares arrays, counts both, raises `ParityError`."""

    def __init__(self, check: str, trial: Trial, tally: Tally | None):
        self.check, self.trial = check, trial
        self.tally = Tally() if tally is None else tally

    def fact(self, holds: bool, sentence: str) -> None:
        """Something that is or is not so."""
        self.tally.facts += 1
        if not holds:
            raise ParityError(self.trial.case, self.check, sentence)

    def results(self, names: Iterable[str]) -> None:
        """Every result of these names that the reference knows; the worst error is raised at the end."""
        expected, worst = self.trial.bounded(self.trial.required), None
        for name in (name for name in names if name in expected):
            if name not in self.trial.outcome.arrays:
                raise ParityError(self.trial.case, self.check, f"{name} is missing")
            try:
                self.array(name, self.trial.outcome.arrays[name], partial(self._result, name))
            except ParityError as error:
                worst = error if worst is None or error.excess > worst.excess else worst
        if worst is not None:
            raise worst

    def _result(self, name: str, contract: Contract) -> Bounded:
        return self.trial.bounded(contract)[name]

    def array(self, name: str, actual: np.ndarray, under: Callable[[Contract], Bounded]) -> None:
        """One array against the reference's, which `under` gives for a contract."""
        trial, expected = self.trial, under(self.trial.required)
        shapes = actual.shape, expected.value.shape
        self.fact(shapes[0] == shapes[1], f"{name} has shape {shapes[0]}, needed is {shapes[1]}")
        with trial.clock.measuring("comparison"):
            comparison = compare(name, actual, expected)
        self.tally.add(comparison)
        if len(comparison.wrong) == 0:
            return
        weaker = (contract for contract in trial.contracts if contract != trial.required)
        met = next((str(c) for c in weaker if not len(compare(name, actual, under(c)).wrong)), None)
        raise ParityError(trial.case, self.check, describe(trial, comparison, met), comparison, met)


def describe(trial: Trial, comparison: Comparison, met: str | None) -> str:
    """Where, numbers, bound and verdict of a comparison that failed."""
    index = tuple(int(i) for i in comparison.wrong[0])
    bounded = comparison.bounded
    lines = [
        f"{comparison.name}{list(index)} = {comparison.actual[index]:.9g}, exact {bounded.value[index]:.9g}, "
        f"bound {bounded.error[index]:.3g}      {len(comparison.wrong)} of {comparison.elements} "
        f"elements out of bound, worst {comparison.utilisation:.3g} x"
    ]
    if met is not None:
        lines.append(f"verdict: structure right; meets the contract '{met}', required '{trial.required}'")
    elif bounded.error[index] == 0:
        lines.append(
            f"verdict: the structure is wrong: this element is exact in {bounded.contract.store}, "
            "whatever the order of summation"
        )
    else:
        lines.append(f"verdict: meets no contract of {trial.truth.computes}, required '{trial.required}'")
    return "\n".join(lines)


def contract_met(trial: Trial, errors: Sequence[ParityError]) -> str:
    """See `Verdict.contract`."""
    if not errors:
        return "strictest" if trial.required == strictest(trial.truth.computes) else str(trial.required)
    if any(error.comparison is None for error in errors):
        return "other"
    ladder = ["", *(str(contract) for contract in trial.contracts)]
    met = [error.met or "" for error in errors]
    return "none" if "" in met else max(met, key=ladder.index)


def demand_whole(case: Case, tally: Tally) -> None:
    """A case that compared nothing, although its inputs are not empty, is an error of the suite."""
    if tally.elements == 0 and all(0 not in shape for shape in case.shapes):
        raise SuiteError(f"{case.id}: no element was compared; its reference gives nothing to compare with")

"""How a fault is caught: the cases of its layers, in the order in which a run would show it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from parity_tests.faults.fault import Fault
from parity_tests.harness.candidates import CandidateError, Eager, StandIns
from parity_tests.harness.cases import Case, sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.deviations import judge, of_torch
from parity_tests.harness.dropout_law import PROBABILITIES, check_dropout_training, training_case
from parity_tests.harness.findings import ParityError
from parity_tests.harness.options import RunOptions
from parity_tests.specs import spec_named
from parity_tests.specs.spec import LayerSpec


@dataclass(frozen=True)
class Catch:
    """The first failing case of a fault in a layer; `check` is '' where all cases passed."""

    layer: str
    check: str
    case: str
    cases: int
    seconds: float
    message: str = ""


@lru_cache(maxsize=200)
def _cases(spec: LayerSpec, options: RunOptions) -> tuple[Case, ...]:
    return sweep_of(spec, options).cases


def small_cases(spec: LayerSpec, candidate: Eager, options: RunOptions | None = None) -> list[Case]:
    """A layer's cases that a candidate reaches, without those of real size; rows and corners in turn."""
    cases = [
        case
        for case in _cases(spec, options or RunOptions())
        if not case.name.startswith("network_") and candidate.reaches(spec, case)
    ]
    rows, corners = ([case for case in cases if bool(case.name) == named] for named in (False, True))
    return [case for pair in itertools.zip_longest(rows, corners) for case in pair if case is not None]


def unknown_of_torch(spec: LayerSpec, case: Case, errors: Sequence[ParityError]) -> list[ParityError]:
    """What is left of the errors without those that torch itself is known for, to the last digit."""
    unexpected = judge(of_torch(spec.family), case.id, errors).unexpected
    if len(unexpected) == len(errors):
        return list(errors)
    own = {(error.check, error.message) for error in run_checks(spec, case, Eager()).errors}
    return [error for error in errors if error in unexpected or (error.check, error.message) not in own]


def first_catch(spec: LayerSpec, cases: Iterable[Case], candidate: Eager, check: str = "") -> Catch:
    """The first of the cases in which a check (`check`, unless it is '') finds a fault."""
    started, tried = time.perf_counter(), 0
    for tried, case in enumerate(cases, 1):
        found = unknown_of_torch(spec, case, run_checks(spec, case, candidate).errors)
        found = [error for error in found if check in ("", error.check)]
        if found:
            seconds = time.perf_counter() - started
            return Catch(spec.name, found[0].check, case.id, tried, seconds, found[0].message)
    return Catch(spec.name, "", "", tried, time.perf_counter() - started)


def catches(name: str, fault: Fault, first: Mapping[str, str] | None = None) -> Iterator[Catch]:
    """The catch of a fault in each of its layers.

    `first` names, for a layer, the case to be tried before the others: the one that is known to show it.
    """
    for layer in fault.layers:
        candidate, spec = StandIns(name, fault.stand_ins), spec_named(layer)
        cases = small_cases(spec, candidate)
        wanted = (first or {}).get(layer)
        cases.sort(key=lambda case: case.id != wanted)
        catch = first_catch(spec, cases, candidate, fault.caught_by)
        yield catch if catch.check or spec.family != "dropout" else _catch_by_law(spec, candidate, catch)


def _catch_by_law(spec: LayerSpec, candidate: Eager, missed: Catch) -> Catch:
    """What the law of random masks finds, after all cases that leave nothing to chance."""
    started = time.perf_counter()
    for number, p in enumerate(PROBABILITIES, 1):
        case = training_case(spec.name, p, "float32")
        try:
            check_dropout_training(spec, case, candidate)
        except (ParityError, CandidateError) as error:
            seconds = missed.seconds + time.perf_counter() - started
            name = f"{case.id}-p_{p}"
            return replace(
                missed,
                check="law",
                case=name,
                cases=missed.cases + number,
                seconds=seconds,
                message=str(error),
            )
    return missed

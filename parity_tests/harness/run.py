"""The run: candidates, cases planned for them, what came back, and what is wrong with it as a whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from parity_tests.harness import deviations, report
from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case, crashing, sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.coverage import absence, in_torch
from parity_tests.harness.deviations import Deviation, Judgement
from parity_tests.harness.findings import ParityError, Verdict
from parity_tests.harness.isolate import Worker, checked
from parity_tests.harness.loading import make_candidate
from parity_tests.harness.options import RunOptions
from parity_tests.harness.repro import failure_text
from parity_tests.specs import family
from parity_tests.specs.spec import LayerSpec


class Run:
    """Options and candidates; `planned` before the cases run, `records` and `summary` afterwards."""

    def __init__(self, options: RunOptions):
        self.options = options
        self.candidates = [make_candidate(options.candidate, device) for device in options.devices]
        self.summary = report.Summary()
        self.records: list[dict] = []
        self.planned: dict[str, list[Planned]] = {}
        self.families: dict[str, int] = {}  # number of planned cases
        self.whole = False  # whether each family that ran, ran with all its cases
        self.selected = 0  # conformance tests that pytest means to run
        self.errors: list[str] = []
        self.caught: list[dict] = []  # what the tests of the fault catalogue say of each fault and layer
        self.processes, self.started = 1, time.perf_counter()
        self.worker = Worker(options.precision)  # a process is started only when one is needed
        self.workers_busy = 0.0  # the processor's seconds of workers that have finished
        known = () if options.ignore_known else deviations.ledger()
        self.entries = {
            candidate.device: deviations.in_force(known, candidate.name, candidate.device, torch.__version__)
            for candidate in self.candidates
        }
        self.of_torch = {  # what a candidate that stands on torch may inherit
            candidate.device: deviations.in_force(known, "eager", candidate.device, torch.__version__)
            for candidate in self.candidates
            if candidate.name != "eager"
        }

    def checked(self, spec: LayerSpec, case: Case, candidate: Eager) -> Verdict:
        """All checks of a case; in the worker if asked for, or where bad arguments may end the process."""
        precision, bad = self.options.precision, case.rejects and candidate.name != "eager"
        if self.options.isolate or bad or case in crashing(spec, self.options):
            return checked(self.worker, spec, case, candidate, precision)
        return run_checks(spec, case, candidate, precision=precision)

    @lru_cache  # noqa: B019  (a process makes a few runs at most)
    def entries_of(self, device: str, family: str, of_torch: bool = False) -> tuple[Deviation, ...]:
        """The ledger's entries for the layers of one family."""
        entries = self.of_torch if of_torch else self.entries
        return deviations.of_family(entries.get(device, ()), family)

    def plan(self, family_name: str) -> list[Planned]:
        """A family's cases for every candidate; those that one does not reach are counted and left out."""
        if family_name not in self.planned:
            self.planned[family_name] = [
                planned for spec in family(family_name) for planned in self._plan_layer(spec)
            ]
            self.families[family_name] = len(self.planned[family_name])
        return self.planned[family_name]

    def _plan_layer(self, spec: LayerSpec) -> list[Planned]:
        sweep, planned = sweep_of(spec, self.options), []
        if not in_torch(spec):
            self.summary.deselected[absence(spec)] += len(sweep.cases)
            return []
        for candidate in self.candidates:
            cases = (*sweep.cases, *crashing(spec, self.options))
            reached = [case for case in cases if candidate.reaches(spec, case)]
            if len(reached) < len(cases):
                reason = f"not reached by {candidate.name}"
                self.summary.deselected[reason] += len(cases) - len(reached)
            planned += [Planned(spec, case, candidate, self) for case in reached]
        if planned:
            self.summary.triples[spec.name] = (sweep.array.covered, sweep.array.triples)
            self.summary.dropped.update(sweep.array.dropped)
        return planned

    def plans(self) -> dict[str, Any]:
        """What a worker process tells the one that reports: it alone has planned the cases."""
        return {
            "families": self.families,
            "triples": {name: list(pair) for name, pair in self.summary.triples.items()},
            "dropped": dict(self.summary.dropped),
            "deselected": dict(self.summary.deselected),
            "selected": self.selected,
            "busy": time.process_time(),
        }

    def take_plans(self, plans: Mapping[str, Any]) -> None:
        """Every worker has the same plans, so those of one are enough; but each was busy for itself."""
        self.workers_busy += plans["busy"]
        self.families = plans["families"]
        self.summary.triples = {name: tuple(pair) for name, pair in plans["triples"].items()}
        self.summary.dropped = Counter(plans["dropped"])
        self.summary.deselected = Counter(plans["deselected"])
        self.selected = plans["selected"]

    def add(self, record: dict, outcome: str) -> None:
        self.records.append({**record, "outcome": outcome})
        self.summary.add(record, outcome)

    def finish(self, whole: bool, stopped: bool) -> None:
        """Find what is wrong with the run as a whole; `whole`: nothing was selected by hand or left out."""
        if self.families and not sum(self.families.values()):
            names = ", ".join(self.families)
            self.errors.append(
                f"no case to run: {self._what()} reaches no layer of the families {names} under these "
                "options; name other tests, or take options off"
            )
        missing = self.selected - len(self.records)
        if missing > 0 and not stopped:
            self.errors.append(
                f"{missing} of {self.selected} cases gave no result: a crash, or an error of the suite"
            )
        compared = [record for record in self.records if not record["rejection"]]
        if compared and not self.summary.totals["elements"]:
            self.errors.append("no element was compared in the whole run")
        for layer, untested in _untested(self.records).items():
            self.errors.append(
                f"{layer}: all {untested} exact cases are untested: mostly zeros, mend their data"
            )
        self.whole = whole and not missing
        if self.whole:
            self.errors += self.stale(hardware=False)

    def _what(self) -> str:
        names = [*getattr(self.candidates[0], "functions", ()), *getattr(self.candidates[0], "classes", ())]
        candidate = f"the candidate {self.options.candidate}"
        return f"{candidate}, which stands in for {', '.join(names)}," if names else candidate

    def known(self) -> dict[str, Deviation]:
        ledgers = (*self.entries.values(), *self.of_torch.values())
        return {entry.name: entry for entries in ledgers for entry in entries}

    def stale(self, hardware: bool) -> list[str]:
        """Ledger entries that matched cases of this run none of which failed."""
        explained = {name for record in self.records for name in record["deviations"]}
        return [
            f"ledger entry {entry.name!r} matched cases, and none of them fails any more: mend or remove it"
            for entry in dict.fromkeys(entry for entries in self.entries.values() for entry in entries)
            if entry.hardware == hardware
            and entry.name not in explained
            and any(entry.matches(record["id"]) for record in self.records)
        ]

    def warnings(self) -> list[str]:
        """What somebody should look at, and no reason to fail."""
        seen = [entry for name, entry in self.known().items() if name in self.summary.deviations]
        return deviations.overdue(seen, date.today()) + (self.stale(hardware=True) if self.whole else [])

    def header(self) -> dict[str, Any]:
        options = self.options
        return {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "processor": torch.backends.cpu.get_cpu_capability(),
            "candidate": options.candidate,
            "devices": list(options.devices),
            "sweep": options.sweep,
            "dtype": options.dtype,
            "layout": options.layout,
            "cases": options.cases,
            "seed": options.seed,
            "precision": options.precision,
            "ignore_known": options.ignore_known,
        }

    def lines(self) -> list[str]:
        """The tables and sentences at the end of a run."""
        wall, busy = time.perf_counter() - self.started, self.workers_busy or time.process_time()
        return [
            *report.table(self.summary),
            "",
            *report.families(self.summary),
            "",
            *report.closing(self.summary, self.known(), self.processes, wall, busy),
            *(f"WARNING: {line}" for line in self.warnings()),
        ]


@dataclass(frozen=True)
class Planned:
    """One case on one device: what a conformance test is given."""

    spec: LayerSpec
    case: Case
    candidate: Eager
    run: Run

    @property
    def id(self) -> str:
        return f"{self.case.id}-{self.candidate.device.replace(':', '')}"

    def try_it(self, take_record: Callable[[dict], None]) -> None:
        """Run all checks; then fail, expect the failure, skip what tells nothing, or pass."""
        run, case, candidate = self.run, self.case, self.candidate
        options, started = run.options, time.process_time()
        verdict = run.checked(self.spec, case, candidate)
        seconds = max(time.process_time() - started, sum(verdict.seconds.values()))  # the worker's own too
        judgement = self.judge(verdict.errors)
        record = report.record_of(verdict, judgement, self.spec.family, candidate.device, seconds)
        take_record(record)
        if judgement.unexpected:
            pytest.fail(
                failure_text(self.spec, case, candidate, judgement.unexpected, options), pytrace=False
            )
        if judgement.not_met and options.seed == 0 and options.precision == "ieee":
            names = ", ".join(f"{entry.name} ({', '.join(entry.checks)})" for entry in judgement.not_met)
            pytest.fail(
                f"{case.id}: the ledger expects a failure that did not come: {names}; mend the entry",
                pytrace=False,
            )
        if judgement.explained_by:
            causes = "; ".join(f"{entry.name}: {entry.cause}" for entry in judgement.explained_by)
            raise pytest.xfail.Exception(causes, pytrace=False)  # a traceback nobody reads costs 5 ms
        if record["untested"]:
            pytest.skip(
                f"untested: {', '.join(record['untested'])} is mostly zeros; a wrong result would pass"
            )
        if record["tells_nothing"]:
            names = ", ".join(record["tells_nothing"])
            pytest.skip(f"uninformative: the bound of {names} is wider than its values")

    def judge(self, errors: Sequence[ParityError]) -> Judgement:
        """What the ledger says.  An error that torch itself makes on this case, to the bit, and is known for,
        is explained as well: a stand-in that calls torch has inherited it."""
        run, device, family = self.run, self.candidate.device, self.spec.family
        judgement = deviations.judge(run.entries_of(device, family), self.case.id, errors)
        inherited = run.entries_of(device, family, of_torch=True)
        of_torch = deviations.judge(inherited, self.case.id, judgement.unexpected)
        if not of_torch.explained_by:
            return judgement
        own = run.checked(self.spec, self.case, Eager(device)).errors
        same = {(error.check, error.message) for error in own}
        new = [error for error in judgement.unexpected if (error.check, error.message) not in same]
        unexpected = (*(e for e in of_torch.unexpected if e not in new), *new)
        explained = of_torch.explained_by if len(unexpected) < len(judgement.unexpected) else ()
        return Judgement(unexpected, (*judgement.explained_by, *explained), judgement.not_met)


def _untested(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Layers whose every case of the exact tier is mostly zeros."""
    exact = Counter(record["layer"] for record in records if record["tier"] == "exact")
    untested = Counter(record["layer"] for record in records if record["untested"])
    return {layer: count for layer, count in exact.items() if untested[layer] == count}

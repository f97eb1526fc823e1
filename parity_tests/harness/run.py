"""The run: candidates, cases planned for them, what came back, and what is wrong with it as a whole."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity_tests.harness import deviations, journal, report
from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case, Sweep, crashing, sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.coverage import absence, in_torch
from parity_tests.harness.deviations import Deviation, Judgement
from parity_tests.harness.findings import ParityError, Tally, Verdict
from parity_tests.harness.isolate import Worker, checked
from parity_tests.harness.journal import Journal
from parity_tests.harness.loading import make_candidate
from parity_tests.harness.options import RunOptions
from parity_tests.harness.report import Triples
from parity_tests.harness.repro import failure_text
from parity_tests.harness.shards import share
from parity_tests.harness.whole import errors_of, stale_entries
from parity_tests.specs import family
from parity_tests.specs.spec import LayerSpec

COSTLY_MINUTES = 30  # after which a costly candidate begins no case, unless told otherwise


class Run:
    """Options and candidates; `planned` before the cases run, `records` and `summary` afterwards."""

    def __init__(self, options: RunOptions):
        self.options = options
        self.candidates = [make_candidate(options.candidate, device) for device in options.devices]
        self.candidate_code = _code_of(options.candidate)
        self.summary = report.Summary()
        self.records: list[dict] = []
        self.planned: dict[str, list[Planned]] = {}
        self.families: dict[str, int] = {}  # number of planned cases
        self.elsewhere = 0  # cases that are other shards'
        self.whole = False  # whether each family that ran, ran with all its cases
        self.selected = 0  # conformance tests that pytest means to run
        self.expected: list[str] = []  # their cases
        self.asked, self.asked_for_all = ["all"], False  # what of the suite, and whether nothing is left out
        self.journal: Journal | None = None
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
        sweep, planned = self._sweep(spec), []
        every = (*sweep.cases, *crashing(spec, self.options))
        cases, reached = share(every, self.options.shard), set()
        if not in_torch(spec):
            self.summary.deselected[absence(spec)] += len(cases) * len(self.candidates)
            return []
        for candidate in self.candidates:
            reachable = {case for case in every if candidate.reaches(spec, case)}
            mine = [case for case in cases if case in reachable]
            left_out = (candidate.why_not(spec, case) for case in cases if case not in reachable)
            self.summary.deselected.update(left_out)
            self.elsewhere += len(reachable) - len(mine)
            planned += [Planned(spec, case, candidate, self) for case in mine]
            reached |= reachable
        if reached:
            own, of_all = sweep.triples(reached.intersection(cases)), sweep.triples(reached)
            dropped = dict(sweep.array.dropped)
            self.summary.triples[spec.name] = Triples(own, sweep.array.triples, of_all, dropped)
        return planned

    @property
    def costly(self) -> bool:
        return any(candidate.costly for candidate in self.candidates)

    def _sweep(self, spec: LayerSpec) -> Sweep:
        """The layer's sweep; for a costly candidate every axis value once, unless more was asked for."""
        sweep = sweep_of(spec, self.options)
        if not self.costly or self.options.cases is not None or self.options.sweep != "default":
            return sweep
        small = sweep_of(spec, replace(self.options, sweep="quick"))
        shares = [len(share(cases, self.options.shard)) for cases in (sweep.cases, small.cases)]
        left_out = (shares[0] - shares[1]) * len(self.candidates)
        self.summary.deselected["too costly for this candidate; --cases N runs more"] += left_out
        return small

    def time_is_up(self) -> str:
        """Why no further case is begun; '' while there is time."""
        minutes = self.options.minutes or (COSTLY_MINUTES if self.costly else None)
        if minutes is None or time.perf_counter() - self.started < 60 * minutes:
            return ""
        return f"the {minutes} minutes of the run were over; --minutes N gives more"

    def progress(self) -> str:
        """How far a run has come, in a sentence."""
        done, failed = len(self.records), self.summary.totals["failed"]
        minutes = (time.perf_counter() - self.started) / 60
        return f"parity: {done} of {len(self.expected)} cases, {failed} failed, {minutes:.1f} minutes"

    def plans(self) -> dict[str, Any]:
        """What a worker process tells the one that reports: it alone has planned the cases."""
        return {
            "families": self.families,
            "elsewhere": self.elsewhere,
            "triples": {name: asdict(of_layer) for name, of_layer in self.summary.triples.items()},
            "deselected": dict(self.summary.deselected),
            "selected": self.selected,
            "busy": time.process_time(),
        }

    def take_plans(self, plans: Mapping[str, Any]) -> None:
        """Every worker has the same plans, so those of one are enough; but each was busy for itself."""
        self.workers_busy += plans["busy"]
        self.families, self.elsewhere = plans["families"], plans["elsewhere"]
        self.summary.triples = {name: Triples(**of_layer) for name, of_layer in plans["triples"].items()}
        self.summary.deselected = Counter(plans["deselected"])
        self.selected = plans["selected"]

    def begin(self, expected: Sequence[str], asked: Sequence[str], asked_for_all: bool) -> None:
        """The cases that will run are known; from now on what they give is kept on disk, if at all."""
        self.expected, self.asked, self.asked_for_all = list(expected), list(asked), asked_for_all
        if self.options.report is not None:
            self.journal = Journal(self.options.report, self.content())

    def add(self, record: dict, outcome: str) -> None:
        self.records.append({**record, "outcome": outcome})
        self.summary.add(record, outcome)
        if self.journal is not None:
            self.journal.add(self.records[-1])

    def finish(self, whole: bool, stopped: bool) -> None:
        """Find what is wrong with the run as a whole; `whole`: nothing was left out, by hand or by an
        option.  A shard is not judged so, but what it merges into."""
        if self.families and not sum(self.families.values()) and not self.elsewhere:
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
        if self.options.shard is None:
            self.errors += errors_of(self.records)
        unshortened = self.options.shard is None and not self.summary.not_begun
        self.whole = whole and not missing and unshortened
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
        entries = (entry for entries in self.entries.values() for entry in entries)
        return stale_entries(entries, self.records, hardware)

    def warnings(self) -> list[str]:
        """What somebody should look at, and no reason to fail."""
        seen = [entry for name, entry in self.known().items() if name in self.summary.deviations]
        return deviations.overdue(seen, date.today()) + (self.stale(hardware=True) if self.whole else [])

    def write(self) -> None:
        """The report, if one was asked for."""
        if self.journal is not None:
            self.journal.close(self.content())

    def content(self) -> dict[str, Any]:
        """What a report holds: of which suite it is, which of its cases ran where, and what they gave."""
        return {"suite": self.header(), "parts": [self._part()], **self.summary.content(self.records)}

    def _part(self) -> dict[str, Any]:
        wall, busy = time.perf_counter() - self.started, self.workers_busy or time.process_time()
        shard = self.options.shard
        return {
            "file": "",
            "shard": None if shard is None else f"{shard[0]}/{shard[1]}",
            "devices": list(self.options.devices),
            "asked": self.asked,
            "asked_for_all": self.asked_for_all and not self.summary.not_begun,
            "torch": torch.__version__,
            "planned": len(self.expected),
            "unfinished": journal.unfinished(self.expected, self.records),
            "time": {"processes": self.processes, "wall": wall, "busy": busy},
        }

    def header(self) -> dict[str, Any]:
        options = self.options
        return {
            "code": journal.suite_code(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "processor": torch.backends.cpu.get_cpu_capability(),
            "candidate": options.candidate,
            "candidate_code": self.candidate_code,
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
        if reason := run.time_is_up():
            nothing = Verdict(case, Tally(), [])
            known = Judgement((), (), ())
            record = report.record_of(nothing, known, self.spec.family, candidate.device, 0.0)
            take_record(record | {"not_run": reason})
            pytest.skip(f"not run: {reason}")
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


def _code_of(candidate: str) -> str | None:
    """A fingerprint of a candidate that is a file."""
    if not candidate.endswith(".py"):
        return None
    return hashlib.sha256(Path(candidate).read_bytes()).hexdigest()[:12]

"""pytest's side of the suite: options, the cases as tests, the header, the table at the end.  Hooks and fixtures only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from parity_tests.harness.options import OptionError, RunOptions, add_options, parse

CONFORMANCE = "parity_trial"  # the fixture by which a test asks to be given every case of its family


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "the parity suite: torch.nn against readable loops")
    add_options(group.addoption)


@dataclass(frozen=True)
class Planned:
    """One case on one device: what a conformance test is given."""

    spec: Any
    case: Any
    candidate: Any
    run: Run

    @property
    def id(self) -> str:
        return f"{self.case.id}-{self.candidate.device.replace(':', '')}"


class Run:
    """The run: options, candidates, what was planned, what came back."""

    def __init__(self, options: RunOptions):
        import torch

        from parity_tests.harness import deviations, report
        from parity_tests.harness.loading import make_candidate

        self.options = options
        self.candidates = [make_candidate(options.candidate, device) for device in options.devices]
        self.summary = report.Summary()
        self.records: list[dict] = []
        self.planned: dict[str, list[Planned]] = {}
        entries = () if options.ignore_known else deviations.ledger()
        self.entries = {
            candidate.device: deviations.in_force(
                entries, candidate.name, candidate.device, torch.__version__
            )
            for candidate in self.candidates
        }
        self.errors: list[str] = []

    def plan(self, family_name: str) -> list[Planned]:
        """The cases of a family for every candidate; layers that a candidate does not reach are counted and left out."""
        from parity_tests.harness.cases import sweep_of
        from parity_tests.specs import family

        if family_name not in self.planned:
            planned = []
            for spec in family(family_name):
                sweep = sweep_of(spec, self.options)
                self.summary.triples[spec.name] = (sweep.array.covered, sweep.array.triples)
                self.summary.dropped.update(sweep.array.dropped)
                for candidate in self.candidates:
                    reached = [case for case in sweep.cases if candidate.reaches(spec, case)]
                    if len(reached) < len(sweep.cases):
                        self.summary.deselected[f"not reached by {candidate.name}"] += len(sweep.cases) - len(
                            reached
                        )
                        if not reached:
                            self.summary.triples.pop(spec.name, None)
                    planned += [Planned(spec, case, candidate, self) for case in reached]
            self.planned[family_name] = planned
        return self.planned[family_name]

    def header(self) -> dict[str, Any]:
        import numpy as np
        import torch

        return {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "candidate": self.options.candidate,
            "devices": list(self.options.devices),
            "sweep": self.options.sweep,
            "dtype": self.options.dtype,
            "layout": self.options.layout,
            "seed": self.options.seed,
            "precision": self.options.precision,
        }


RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    """Options are judged at once, so that a wrong one is a usage error; other projects' runs are left alone."""
    if not any("parity_tests" in str(argument) for argument in (*config.args, config.invocation_params.dir)):
        return
    from parity_tests.harness.devices import devices_present

    try:
        run = Run(parse(config.option, devices_present()))
    except OptionError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[RUN] = run
    config.pluginmanager.register(Collector(run), "parity-collector")


def pytest_report_header(config: pytest.Config) -> list[str]:
    from parity_tests.harness.devices import device_lines

    options = config.stash[RUN].options if RUN in config.stash else None
    return [] if options is None else [*options.lines(), *device_lines(options)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if CONFORMANCE in metafunc.fixturenames:
        planned = metafunc.config.stash[RUN].plan(metafunc.module.FAMILY)
        metafunc.parametrize(CONFORMANCE, planned, ids=[trial.id for trial in planned])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A family without a case for this candidate gives no test at all, instead of an empty one that looks skipped."""
    empty = [
        item
        for item in items
        if _is_conformance(item) and not isinstance(item.callspec.params[CONFORMANCE], Planned)
    ]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


def _is_conformance(item: Any) -> bool:
    return CONFORMANCE in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")


@pytest.fixture(scope="session", autouse=True)
def _arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    if RUN not in request.config.stash:
        yield
        return
    from parity_tests.harness.devices import pinned

    with pinned(request.config.stash[RUN].options):
        yield


def try_case(planned: Planned, record_property: Any) -> None:
    """Run one planned case with all its checks; fail, expect the failure, or pass, as the ledger says."""
    from parity_tests.harness import deviations, repro
    from parity_tests.harness.checks import run_checks
    from parity_tests.harness.report import PROPERTY, record_of
    from refimpl.error_bounds import strictest

    run, case, candidate = planned.run, planned.case, planned.candidate
    verdict = run_checks(planned.spec, case, candidate, precision=run.options.precision)
    judgement = deviations.judge(run.entries[candidate.device], case.id, verdict.errors)
    contract = f"strictest: {strictest(case.dtype)}"
    record_property(PROPERTY, record_of(verdict, judgement, candidate.device, contract))
    if judgement.unexpected:
        pytest.fail(
            repro.failure_text(planned.spec, case, candidate, judgement.unexpected, run.options),
            pytrace=False,
        )
    if judgement.not_met and run.options.seed == 0:
        names = ", ".join(f"{entry.name} ({', '.join(entry.checks)})" for entry in judgement.not_met)
        pytest.fail(
            f"{case.id}: the ledger expects a failure that did not come: {names}; mend the entry",
            pytrace=False,
        )
    if judgement.explained_by:
        pytest.xfail("; ".join(f"{entry.name}: {entry.cause}" for entry in judgement.explained_by))
    if verdict.tally.tells_nothing:
        pytest.skip(
            f"uninformative: the bound of {', '.join(verdict.tally.tells_nothing)} is wider than its values"
        )
    if verdict.tally.elements == 0 and verdict.tally.facts == 0:
        pytest.fail(f"{case.id}: nothing was compared", pytrace=False)


class Collector:
    """Takes the record of every case out of its test report, in the process that reports (under xdist: not the workers)."""

    def __init__(self, run: Run):
        self.run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, record in report.user_properties if report.when == "call" else ():
            if name == "parity":
                self.run.records.append({**record, "outcome": _outcome(report)})
                self.run.summary.add(record, _outcome(report))


def _outcome(report: pytest.TestReport) -> str:
    return "expected failure" if hasattr(report, "wasxfail") else report.outcome


def _stale(run: Run) -> tuple[list[str], list[str]]:
    """Ledger entries that matched cases of this run none of which failed: errors, and warnings where hardware decides."""
    matched: Counter[str] = Counter()
    explained = Counter(name for record in run.records for name in record["deviations"])
    entries = {entry.name: entry for entries in run.entries.values() for entry in entries}
    for record in run.records:
        matched.update(entry.name for entry in entries.values() if entry.matches(record["id"]))
    stale = [entries[name] for name in matched if not explained[name]]
    whole = run.options.cases is None and run.options.seed == 0 and run.options.sweep != "quick"
    sentence = (
        "ledger entry {0.name!r} matched cases, and none of them fails any more: take it out or mend it"
    )
    return (
        [sentence.format(entry) for entry in stale if whole and not entry.hardware],
        [sentence.format(entry) for entry in stale if whole and entry.hardware],
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    run = session.config.stash.get(RUN, None)
    if run is None or hasattr(session.config, "workerinput"):
        return
    complete = not session.config.getoption("keyword") and not session.config.getoption("lf", False)
    errors, _ = _stale(run) if complete else ([], [])
    run.errors += errors
    if (
        run.records
        and not run.summary.totals["elements"]
        and any(not record["rejection"] for record in run.records)
    ):
        run.errors.append("no element was compared in the whole run")
    if run.errors and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if run.options.report is not None:
        run.summary.write(run.options.report, run.header(), run.records)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is None or not run.records:
        return
    terminalreporter.section("parity")
    for line in (*run.summary.table(), "", *run.summary.closing()):
        terminalreporter.write_line(line)
    for warning in _stale(run)[1]:
        terminalreporter.write_line(f"WARNING: {warning}", yellow=True)
    for error in run.errors:
        terminalreporter.write_line(f"ERROR: {error}", red=True)

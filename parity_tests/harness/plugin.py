"""pytest's side of the suite: options, the cases as tests, the header, the table at the end.  Hooks and
fixtures only.

pytest loads this module in every run, also of other projects' tests: torch and numpy are imported where they
are used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from parity_tests.harness.items import PROPERTY, CaseItem, Cases
from parity_tests.harness.options import OptionError, add_options, parse

if TYPE_CHECKING:
    from parity_tests.harness.run import Run

CASE = re.compile(r"::test_parity\[(.+)\]$")  # the id of a conformance test
PROGRESS = 30.0  # seconds between two sentences about a costly candidate's progress
CAUGHT = "caught"  # the property with which a test of the fault catalogue reports a catch
RUN: pytest.StashKey[Run] = pytest.StashKey()
HOME = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "the parity suite: torch.nn against readable loops")
    add_options(group.addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Options are judged at once, so that a wrong one is a usage error; other runs are left alone."""
    if any(_is_ours(config, argument) for argument in config.args):
        run_of(config)


def _is_ours(config: pytest.Config, argument: str) -> bool:
    """Whether what pytest is to collect lies in this package, or holds it and not as something installed."""
    name = argument.partition("::")[0]
    if config.option.pyargs and name.partition(".")[0] == HOME.name:
        return True
    path = (config.invocation_params.dir / name).resolve()
    if path in (HOME, *HOME.parents):
        return "site-packages" not in HOME.relative_to(path).parts
    return HOME in path.parents


def run_of(config: pytest.Config) -> Run:
    """The run of this session, made when first asked for.  A wrong option ends the session."""
    if RUN not in config.stash:
        from parity_tests.harness.devices import devices_present
        from parity_tests.harness.run import Run

        try:
            config.stash[RUN] = Run(parse(config.option, devices_present()))
        except OptionError as error:
            raise pytest.UsageError(str(error)) from error
        config.pluginmanager.register(Collector(config.stash[RUN], config), "parity-collector")
    return config.stash[RUN]


def pytest_report_header(config: pytest.Config) -> list[str]:
    if RUN not in config.stash:
        return []
    from parity_tests.harness.devices import device_lines

    options = config.stash[RUN].options
    return [*options.lines(), *device_lines(options)]


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[pytest.Item] | None:
    return list(obj.items(collector, name, run_of(collector.config))) if isinstance(obj, Cases) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if RUN in config.stash:
        run = config.stash[RUN]
        cases = [item.planned.id for item in session.items if isinstance(item, CaseItem)]
        run.selected = len(cases)
        if not config.option.collectonly and not hasattr(config, "workerinput"):
            run.begin(cases, _asked(config), _is_whole(config, run))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    if RUN not in session.config.stash:
        return (yield)
    from parity_tests.harness.devices import pinned

    with pinned(session.config.stash[RUN].options.precision):
        return (yield)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not isinstance(item, CaseItem):
        return None
    item.run_and_report(nextitem)
    return True


class Collector:
    """Takes the record of every case out of its test report, in the process that reports."""

    def __init__(self, run: Run, config: pytest.Config):
        self.run, self.config = run, config
        self.told = run.started
        self.workers: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = "expected failure" if hasattr(report, "wasxfail") else report.outcome
        records: list[Any] = [value for name, value in report.user_properties if name == PROPERTY]
        for record in records if report.when == "call" else ():
            self.run.add(record, outcome)
        if self.run.costly and time.perf_counter() - self.told > PROGRESS:
            self.told = time.perf_counter()
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            if terminal is not None:
                terminal.write_line(self.run.progress())
        if report.when == "call":
            caught: list[Any] = [value for name, value in report.user_properties if name == CAUGHT]
            self.run.caught += caught

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """xdist: a worker has collected, all of them the same; their cases are known by their tests' ids."""
        if not self.run.expected:
            cases = [found[1] for name in ids if (found := CASE.search(name))]
            self.run.begin(cases, _asked(node.config), _is_whole(node.config, self.run))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """xdist: a worker has finished, and says what it had planned."""
        plans = getattr(node, "workeroutput", {}).get(PROPERTY)
        if plans is not None:
            self.workers.add(node.gateway.id)
            self.run.processes = len(self.workers)
            self.run.take_plans(plans)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge the run as a whole and write its report; a worker of xdist hands over its plans instead."""
    config = session.config
    if RUN not in config.stash:
        return
    run = config.stash[RUN]
    if hasattr(config, "workeroutput"):
        config.workeroutput[PROPERTY] = run.plans()
        return
    stopped = session.shouldstop or session.shouldfail or config.option.collectonly
    stopped = bool(stopped) or session.exitstatus not in (0, 1, 5)
    run.finish(_is_whole(config, run), stopped)
    if run.errors and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    run.write()


def _asked(config: pytest.Config) -> list[str]:
    """What of the suite was asked for, in the same words from whichever folder: files, tests, expressions."""
    chosen, asked = config.option, set()
    for argument in filter(lambda argument: _is_ours(config, argument), config.args):
        name, colons, test = argument.partition("::")
        path = (config.invocation_params.dir / name).resolve()
        inside: Sequence[str] = name.split(".")[1:]  # of a module's name
        if path in (HOME, *HOME.parents) or HOME in path.parents:
            inside = path.relative_to(HOME).with_suffix("").parts if HOME in path.parents else ()
        asked.add("/".join(inside or ("conformance",)) + colons + test)
    options = {"-k": chosen.keyword, "-m": chosen.markexpr, "--deselect": chosen.deselect}
    return sorted(asked) + [f"{option} {value}" for option, value in options.items() if value]


def _is_whole(config: pytest.Config, run: Run) -> bool:
    """Whether each family that ran, ran with all cases of its sweep, so that a stale ledger entry shows."""
    options, chosen = run.options, config.option
    by_hand = (
        chosen.keyword or chosen.markexpr or chosen.deselect or getattr(chosen, "lf", False)
        or any("::" in argument for argument in config.args)
    )  # fmt: skip
    narrowed = (options.dtype, options.layout, options.cases) != (None, None, None) or options.seed != 0
    narrowed = narrowed or options.sweep == "quick" or run.costly
    return not by_hand and not narrowed and options.precision == "ieee"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is None or not (run.records or run.errors or run.caught):
        return
    from parity_tests.harness import report

    terminalreporter.section("parity")
    for line in (*(run.lines() if run.records else ()), *report.faults(run.caught)):
        terminalreporter.write_line(line, yellow=line.startswith("WARNING"))
    for error in run.errors:
        terminalreporter.write_line(f"ERROR: {error}", red=True)

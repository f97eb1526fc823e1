"""The cases as pytest's tests: one item a case, without the machinery of a test function.

A test function with its parameters, fixtures and three reports costs 2.2 ms a case of the processor's time on
two processes, an item that reports once 1.1 ms; a sweep has tens of thousands of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol  # what plug-ins that run a test again use as well

if TYPE_CHECKING:
    from parity_tests.harness.cases import Case
    from parity_tests.harness.run import Planned, Run
    from parity_tests.specs.spec import LayerSpec

PROPERTY = (
    "parity"  # under which a record travels with its test report, and a worker's plans with its farewell
)


class Cases:
    """What a conformance module assigns to a name: `test_parity = Cases("conv")`, every case of a family."""

    def __init__(self, family: str):
        self.family = family

    def items(self, module: pytest.Module, name: str, run: Run) -> Iterator[CaseItem]:
        """One test a case, `name[id of the case]`; no test at all where the candidate reaches no case."""
        for planned in run.plan(self.family):
            yield CaseItem.from_parent(module, name=f"{name}[{planned.id}]", planned=planned)


class CaseItem(pytest.Item):
    """One case on one device."""

    def __init__(self, *, planned: Planned, **rest: Any):
        super().__init__(**rest)
        self.planned = planned

    def runtest(self) -> None:
        self.planned.try_it(lambda record: self.user_properties.append((PROPERTY, record)))

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name

    def run_and_report(self, nextitem: pytest.Item | None) -> None:
        """Report the call; setup and teardown, of which a case has none, only where they fail."""
        hook = self.ihook
        hook.pytest_runtest_logstart(nodeid=self.nodeid, location=self.location)
        for report in runtestprotocol(self, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=self.nodeid, location=self.location)


def try_law(run: Run, spec: LayerSpec, case: Case, check: Callable[..., int]) -> None:
    """Hold every candidate of the run to the law of a layer that draws random numbers; `check` counts what
    it looked at.  Skips, after all had their turn, where a candidate has not what the case asks for; a law
    speaks of results in the type of the case."""
    able = [candidate for candidate in run.candidates if candidate.gradients]
    reached = [candidate for candidate in able if candidate.reaches(spec, case)]
    reached = [candidate for candidate in reached if candidate.computes(spec, case) == case.dtype]
    if not reached or run.options.dtype not in (None, case.dtype):
        pytest.skip(f"{case.layer} in {case.dtype} is not part of the run")
    missing = []
    for candidate in reached:
        try:
            assert check(spec, case, candidate) > 0
        except NotImplementedError as error:
            missing.append(f"{candidate.name} on {candidate.device}: {error}")
    if missing:
        pytest.skip("; ".join(missing))

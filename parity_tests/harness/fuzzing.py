"""Fuzzing: generated cases put to a candidate, layer by layer, until a number of them is tried.

Cases come in batches, each with a seed made of the run's seed, the layer and the batch's number, so that any
of them can be had again.  A failure that the ledger does not know is shrunk and ends its batch; later ones
that look like it are counted and not shrunk again.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import hypothesis
from hypothesis.errors import Flaky, Unsatisfiable

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.checks import run_checks
from parity_tests.harness.compare import Unbounded
from parity_tests.harness.findings import ParityError, Tally, Verdict
from parity_tests.harness.generated import generated
from parity_tests.harness.isolate import Lost, Worker, candidate_of, lost_verdict, spec_of
from parity_tests.harness.run import Planned, Run
from parity_tests.harness.trial import trial_of
from parity_tests.specs.spec import LayerSpec

BATCH = 250
FRUITLESS = 3  # batches of a layer without a single case, after which there seems to be none

Attempt = Callable[[LayerSpec, Case, Eager, str], Verdict | None]


@dataclass(frozen=True)
class Finding:
    """A failure that the ledger does not know, as small as it could be made."""

    spec: LayerSpec
    case: Case
    errors: tuple[ParityError, ...]
    batch: int

    @property
    def kind(self) -> tuple:
        """What failures that look alike have in common."""
        return kind_of(self.case, self.errors)


def kind_of(case: Case, errors: Iterable[ParityError]) -> tuple:
    """Layer, checks, and which results are wrong in which dtype or, numbers apart, what is said."""
    words = sorted(
        (error.check, f"{error.comparison.name} {case.dtype}" if error.comparison else _words(error.message))
        for error in errors
    )
    return (case.layer, *words)


def _words(message: str) -> str:
    return re.sub(r"[-\d.,()\[\] ]+", " ", message.partition("\n")[0])


@dataclass
class Layer:
    """What became of the cases of one layer.

    cases  tried by the candidate, `different` of them     refused  by the reference, hence no cases
    unbounded  no cases either: so many times or layers that the bound is infinite
    known  failures that the ledger knows                  again    failures like one found before
    """

    cases: int = 0
    different: set[str] = field(default_factory=set)
    refused: int = 0
    unbounded: int = 0
    elements: int = 0
    known: Counter = field(default_factory=Counter)
    again: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def try_here(spec: LayerSpec, case: Case, candidate: Eager, precision: str) -> Verdict | None:
    """All checks of a case; None where the reference refuses it."""
    try:
        trial_of(spec, case, candidate, precision=precision).truth.grad_outputs  # noqa: B018
    except (AttributeError, NameError, ImportError):  # a fault of the suite
        raise
    except Exception:
        return None
    return run_checks(spec, case, candidate, precision=precision)


class Apart:
    """`try_here` in a worker, where a crash or a hang is a verdict like another.

    A call that writes where it must not may end the process, or stop it for good, in a later case: a loss
    that does not come again in a new process is not this case's, and only counted."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.elsewhere = 0

    def __call__(self, spec: LayerSpec, case: Case, candidate: Eager, precision: str) -> Verdict | None:
        where = spec.family, spec.name, case, candidate.name, candidate.device, precision
        with suppress(Lost):
            return self.worker.call(_try, *where)
        try:
            verdict = self.worker.call(_try, *where)
        except Lost as lost:
            return lost_verdict(spec, case, lost)
        self.elsewhere += 1
        return verdict


def _try(family: str, layer: str, case: Case, name: str, device: str, precision: str) -> Verdict | None:
    return try_here(spec_of(family, layer), case, candidate_of(name, device), precision)


class Found(Exception):
    """Raised to Hypothesis for a case that fails as the first one of the batch did."""


def fuzz_layer(run: Run, spec: LayerSpec, candidate: Eager, cases: int, attempt: Attempt = try_here) -> Layer:
    """Try `cases` generated cases of a layer, here or (`Apart`) elsewhere."""
    layer, fruitless = Layer(), 0
    for number in itertools.count():
        if layer.cases >= cases or fruitless == FRUITLESS:
            break
        before = layer.cases
        _Batch(run, spec, candidate, attempt, layer, number).try_cases(min(BATCH, cases - layer.cases))
        fruitless = fruitless + 1 if layer.cases == before else 0
    return layer


def seed_of_batch(seed: int, layer: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}|{layer}|{number}".encode()).digest()[:4], "big")


class _Batch:
    """Some cases of a layer: the judge of each, and what is looked for once one has failed."""

    def __init__(
        self, run: Run, spec: LayerSpec, candidate: Eager, attempt: Attempt, layer: Layer, number: int
    ):
        self.run, self.spec, self.candidate, self.attempt = run, spec, candidate, attempt
        self.layer, self.number = layer, number
        self.before = {finding.kind for finding in layer.findings}
        self.found: Finding | None = None  # the smallest one so far

    def try_cases(self, count: int) -> None:
        options = self.run.options

        @hypothesis.settings(
            max_examples=count, database=None, deadline=None, report_multiple_bugs=False, print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        )  # fmt: skip
        @hypothesis.seed(seed_of_batch(options.seed, self.spec.name, self.number))
        @hypothesis.given(generated(self.spec, options.dtype, options.seed))
        def search(ways: tuple[Case, ...]) -> None:
            self.judge(ways)

        with suppress(Found, Flaky, Unsatisfiable):
            search()
        if self.found is not None:
            self.layer.findings.append(self.found)

    def judge(self, ways: tuple[Case, ...]) -> None:
        """What Hypothesis calls with every case that it draws; while it shrinks, nothing is counted."""
        layer, count = self.layer, int(self.found is None)
        verdict = self._tried(ways)
        if verdict is None:
            layer.refused += count
            hypothesis.reject()
        layer.cases += count
        layer.different |= {verdict.case.id} if count else set()
        layer.elements += count * verdict.tally.elements
        judgement = Planned(self.spec, verdict.case, self.candidate, self.run).judge(verdict.errors)
        layer.known.update({entry.name: count for entry in judgement.explained_by})
        if not judgement.unexpected:
            return
        finding = Finding(self.spec, verdict.case, judgement.unexpected, self.number)
        if finding.kind in self.before:
            layer.again[finding.kind] += count
        elif self.found is None or finding.kind == self.found.kind:
            self.found = finding
            raise Found

    def _tried(self, ways: tuple[Case, ...]) -> Verdict | None:
        """The verdict of the first way that the reference accepts."""
        for case in ways:
            try:
                verdict = self.attempt(self.spec, case, self.candidate, self.run.options.precision)
            except Unbounded:
                self.layer.unbounded += int(self.found is None)
                hypothesis.reject()
            except Exception as error:  # a fault of the suite is a finding like any other
                message = f"the suite raised {type(error).__name__}: {error}"
                place = "; ".join(getattr(error, "__notes__", ()))  # of the worker
                wrong = ParityError(case, "suite", message, place=place)
                return Verdict(case, Tally(), [wrong])
            if verdict is not None:
                return verdict
        return None

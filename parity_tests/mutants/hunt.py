"""The hunt: every mutant in a forked child of a process that has collected the tests and knows their reach.

A plug-in of pytest in place of its loop over the tests.  Forking costs milliseconds where a new process would
import torch, collect and compile for seconds; a child that crashes, hangs or fills the memory is one mutant's
end and nobody else's.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import CodeType

import pytest
from _pytest.runner import runtestprotocol  # what plug-ins that run a test again use as well

from parity_tests.harness.items import CaseItem
from parity_tests.mutants.apply import Key, Process, changed_codes, key_of, parts_of
from parity_tests.mutants.mutate import Mutant, mutants_of
from parity_tests.mutants.reach import Reach, Watch
from parity_tests.mutants.results import ALIVE, Verdict

KILLED, SURVIVED, UNAPPLIED = 10, 11, 12  # exit codes of a child
FIRST = 24  # tests of each kind that have a mutant first
SIGNATURES = "test_signatures"  # what is changed where a module is imported meets these first
RECORD, RECORDS = "test_recorded_bounds", 60  # then so many of the bounds on record
SECONDS = 4.0  # then others, as long as those take without a mutant
PATIENCE = 20.0  # times what its tests take, and as many seconds more, before a child counts as hanging
MEMORY = 6 << 30  # bytes of address space that a child may add
TAPS = 100_000  # a test that visits more would take seconds where a mutated kernel is interpreted
PROGRESS = 15.0  # seconds between two lines about it


class Hunt:
    """pytest's plug-in.  `verdicts` afterwards; `finished(module, its verdicts)` is called after every one.

    root      the folder of refimpl and parity_tests
    modules   the files to mutate, relative to it
    workers   children at a time
    wanted    which mutants to try
    """

    def __init__(
        self,
        root: Path,
        modules: Sequence[str],
        workers: int,
        wanted: Callable[[Mutant], bool],
        tell: Callable[[str], None],
        finished: Callable[[str, list[Verdict]], None],
    ):
        self.root, self.modules, self.workers, self.wanted = root, modules, workers, wanted
        self.tell, self.finished = tell, finished
        self.verdicts: list[Verdict] = []
        self.red: list[str] = []  # tests that fail without any mutant
        self._running: dict[int, tuple[Mutant, int, float]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("not all tests could be collected")
        self._reaches = self._reach(session.items)
        if self.red:
            raise session.Interrupted(f"{len(self.red)} tests fail without any mutant, {self.red[0]} first")
        self._process = Process()
        kernels = self._process.kernels
        self._in_kernels = {key_of(part.__code__) for kernel in kernels for part in parts_of(kernel)}
        self._started = time.perf_counter()
        gc.collect()
        gc.freeze()
        for module in self.modules:
            before = len(self.verdicts)
            self._hunt(module)
            self.finished(module, self.verdicts[before:])
        return True

    def _reach(self, items: Sequence[pytest.Item]) -> dict[pytest.Item, Reach]:
        """Run every test as it is; a case twice, the second time without what the first one loads."""
        watch = Watch(frozenset(str(self.root / path) for path in self.modules))
        found, told = {}, time.perf_counter()
        for number, item in enumerate(items, 1):
            for _ in range(1 + isinstance(item, CaseItem)):
                (failed, skipped), reach = watch.of(lambda item=item: _outcome(item))
            if failed:
                self.red.append(item.nodeid)
            elif not skipped:
                found[item] = reach
            if time.perf_counter() - told > PROGRESS:
                told = time.perf_counter()
                self.tell(f"what the tests reach: {number} of {len(items)}")
        return found

    def _hunt(self, path: str) -> None:
        """Try the mutants of a module; those killed by a test that the module itself turns red once more."""
        file, first = self.root / path, len(self.verdicts)
        mutants = [mutant for mutant in mutants_of(self.root, path) if self.wanted(mutant)]
        again = mutants
        while again:
            self._try(file, again)
            killers = [item for item in self._reaches if any(_by(v, item) for v in self.verdicts[first:])]
            red = self._red_as_it_is(file, killers)
            void = {v.name for v in self.verdicts[first:] if any(_by(v, item) for item in red)}
            self.verdicts[first:] = [v for v in self.verdicts[first:] if v.name not in void]
            again = [mutant for mutant in mutants if Verdict.of(mutant, "").name in void]
            for item in red:
                self.tell(f"{item.nodeid} is red for {path} as it is, put in like a mutant: left out")
                del self._reaches[item]
        self.tell(f"{path}: {len(mutants)} mutants; {self._so_far()}")

    def _try(self, file: Path, mutants: Sequence[Mutant]) -> None:
        reaching: dict[Key, list[pytest.Item]] = defaultdict(list)
        for item, reach in self._reaches.items():
            for key in reach.keys:
                reaching[key].append(item)
        original, told = _compiled(file, file.read_text()), time.perf_counter()
        for number, mutant in enumerate(mutants, 1):
            pairs = changed_codes(original, _compiled(file, mutant.source))
            keys = {key_of(before) for before, _ in pairs}
            items = list(dict.fromkeys(item for key in keys for item in reaching.get(key, ())))
            afresh = not items  # what no test runs, runs when the module is imported, if at all
            if afresh:
                items = self._of_module(file)
            if items:
                self._fork(mutant, list(self._in_order(items, keys)), afresh)
            else:
                self.verdicts.append(Verdict.of(mutant, "unreached"))
            if time.perf_counter() - told > PROGRESS:
                told = time.perf_counter()
                self.tell(f"{mutant.path}: {number} of {len(mutants)} mutants; {self._so_far()}")
        self._wait(0)

    def _red_as_it_is(self, file: Path, tests: Sequence[pytest.Item]) -> list[pytest.Item]:
        """The tests that are red in a child with the module itself put in like a mutant, either way."""
        red: set[str] = set()
        for afresh in (False, True):
            child, receiving = _forked(partial(self._be_itself, file, tests, afresh))
            red |= set(_read(receiving).splitlines())
            os.waitpid(child, 0)
        if wrong := [line for line in red if line.startswith("!")]:
            raise RuntimeError(f"{file.name} as it is cannot be put in: {wrong[0]}")
        return [item for item in tests if item.nodeid in red]

    def _be_itself(self, file: Path, tests: Sequence[pytest.Item], afresh: bool) -> tuple[int, str]:
        _quiet()
        try:
            self._process.become(file, file.read_text(), afresh)
            return SURVIVED, "\n".join(item.nodeid for item in tests if _outcome(item)[0])
        except BaseException as error:
            return KILLED, f"! {type(error).__name__}: {error}"

    def _of_module(self, file: Path) -> list[pytest.Item]:
        """The tests of a module: those of its signatures, and all that run something of it."""
        name, reaches = str(file), self._reaches.items()
        some = [item for item, reach in reaches if any(key[0] == name for key in reach.keys)]
        return [*self._signatures(file), *some]

    def _signatures(self, file: Path) -> list[pytest.Item]:
        """The tests of the signatures of what a module defines, which run none of it."""
        module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(file))
        tests = [item for item in self._reaches if SIGNATURES in item.nodeid and hasattr(item, "callspec")]
        return [item for item in tests if item.callspec.params.get("name") in vars(module)]

    def _so_far(self) -> str:
        alive = sum(verdict.outcome in ALIVE for verdict in self.verdicts)
        return f"in all {len(self.verdicts)}, {alive} alive, {time.perf_counter() - self._started:.0f} s"

    def _in_order(self, items: list[pytest.Item], keys: set[Key]) -> Iterator[pytest.Item]:
        """Self-tests, the most particular ones first, in turn with cases of many layers; bounds on record;
        what else `SECONDS` allow."""
        if keys & self._in_kernels:
            items = [item for item in items if self._reaches[item].taps <= TAPS] or items[:3]
        yield from (item for item in items if SIGNATURES in item.nodeid)
        items = sorted(items, key=lambda item: self._reaches[item].seconds)
        cases = list(_in_turn([item for item in items if isinstance(item, CaseItem)]))
        records = [item for item in items if RECORD in item.nodeid]
        special = [*records, *(item for item in items if SIGNATURES in item.nodeid)]
        rest = [item for item in items if not isinstance(item, CaseItem) and item not in set(special)]
        tests = sorted(rest, key=lambda item: len(self._reaches[item].keys))
        yield from _alternating(tests[:FIRST], cases[:FIRST])
        yield from records[:RECORDS]
        left = SECONDS
        for item in _alternating(tests[FIRST:], cases[FIRST:]):
            left -= self._reaches[item].seconds
            if left > 0:
                yield item

    def _fork(self, mutant: Mutant, items: list[pytest.Item], afresh: bool) -> None:
        """Try a mutant in a child, as soon as one of the workers is free."""
        self._wait(self.workers - 1)
        child, receiving = _forked(partial(self._be, mutant, items, afresh))
        self._running[child] = mutant, receiving, time.perf_counter()

    def _be(self, mutant: Mutant, items: list[pytest.Item], afresh: bool) -> tuple[int, str]:
        """The child: become the mutant and run the tests until one is red."""
        _quiet()
        seconds = sum(self._reaches[item].seconds for item in items)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE * (1 + seconds)))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        try:
            if not self._process.become(self.root / mutant.path, mutant.source, afresh):
                return UNAPPLIED, ""
        except Exception as error:  # the module cannot be imported: everything is red
            return KILLED, f"import: {type(error).__name__}"
        for item in items:
            failed, _ = _outcome(item)
            if failed:
                return KILLED, f"{item.nodeid}: {failed}"
        return SURVIVED, ""

    def _wait(self, most: int) -> None:
        """Until at most so many children run."""
        while len(self._running) > most:
            child, status = os.wait()
            if child in self._running:
                mutant, receiving, started = self._running.pop(child)
                by = _read(receiving)
                outcome, ending = _ending(status)
                seconds = time.perf_counter() - started
                self.verdicts.append(Verdict.of(mutant, outcome, by or ending, seconds))


def _by(verdict: Verdict, item: pytest.Item) -> bool:
    """Whether a mutant was killed by a test."""
    return verdict.by.startswith(f"{item.nodeid}: ")


def _forked(work: Callable[[], tuple[int, str]]) -> tuple[int, int]:
    """A child that does the work and ends with its exit code, and the pipe that holds what it says."""
    receiving, sending = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(receiving)
        code, said = KILLED, ""
        try:
            code, said = work()
        except BaseException as error:
            said = f"{type(error).__name__} outside of a test"
        os.write(sending, said.encode()[:60_000])
        os._exit(code)
    os.close(sending)
    return child, receiving


def _read(receiving: int) -> str:
    with os.fdopen(receiving, "rb") as pipe:
        return pipe.read().decode(errors="replace")


def _quiet() -> None:
    """Let nothing of the tests' output through."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _ending(status: int) -> tuple[str, str]:
    """The outcome that a child's exit status stands for, and how it ended where it said nothing."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return ("timeout" if name == "SIGALRM" else "killed"), name
    code = os.WEXITSTATUS(status)
    return {SURVIVED: "survived", UNAPPLIED: "unapplied"}.get(code, "killed"), f"exit code {code}"


def _compiled(file: Path, source: str) -> CodeType:
    return compile(source, str(file), "exec", dont_inherit=True)


def _outcome(item: pytest.Item) -> tuple[str, bool]:
    """What a test says where it fails ("" where it does not), and whether it was skipped."""
    reports = runtestprotocol(item, log=False, nextitem=None)
    failed = [
        str(report.longrepr).strip().rpartition("\n")[2] or "failed" for report in reports if report.failed
    ]
    skipped = any(report.skipped and not hasattr(report, "wasxfail") for report in reports)
    return "".join(failed[:1]), skipped


def _in_turn(cases: list[CaseItem]) -> Iterator[CaseItem]:
    """The cases with the layers in turn; float64, whose bounds are the narrowest, before other types."""
    by_layer: dict[str, list[CaseItem]] = defaultdict(list)
    for item in sorted(cases, key=lambda item: item.planned.case.dtype != "float64"):
        by_layer[item.planned.case.layer].append(item)
    yield from _alternating(*by_layer.values())


def _alternating(*rows: Sequence) -> Iterator:
    """One of each in turn, until all have been had."""
    for column in zip_longest(*rows):
        yield from (item for item in column if item is not None)

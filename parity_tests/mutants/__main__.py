"""python -m parity_tests.mutants: mutate the references and what compares, and print each module's score.

Every mutant first meets the self-tests and the quick sweep, then those alive the default sweep.  What became
of them goes to .parity/mutants, a file a module, the table to .parity/mutants.md.  The exit status is 1 where
a mutant is alive that no entry of `equivalent/` explains, or an entry says what is not so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import parity_tests
from parity_tests.harness.options import SWEEPS
from parity_tests.mutants import results
from parity_tests.mutants.explained import entries, explained, stale
from parity_tests.mutants.mutate import Mutant
from parity_tests.mutants.results import ALIVE, Verdict

HOME = Path(parity_tests.__file__).parent
COMPARING = ("parity_tests/harness/compare.py", "parity_tests/harness/checks.py")
FOLDER = Path(".parity/mutants")
# Self-tests of what runs in child processes or of the suite's own files: a mutant does not show there.
ELSEWHERE = {
    "architecture", "bad_input", "cases", "compiled", "coverage", "covering", "faults", "fuzz", "guards",
    "isolate", "kept", "ledger", "merge", "mutants", "neighbours", "plugin", "readme", "repro", "shards",
    "strength",
}  # fmt: skip


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def all_modules() -> list[str]:
    """The references, and what compares with them."""
    return [*(f"refimpl/{file.name}" for file in sorted((HOME.parent / "refimpl").glob("*.py"))), *COMPARING]


def all_tests() -> list[str]:
    """The conformance suite, and the self-tests that run in the process itself."""
    own = [file for file in sorted((HOME / "selftest").glob("test_*.py")) if file.stem[5:] not in ELSEWHERE]
    return [str(HOME / "conformance"), *map(str, own)]


NEEDED = {"cosmic_ray": "pip install cosmic-ray", "resource": "use a system that can fork, as Linux or macOS"}


def main() -> int:
    for module, remedy in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"mutation testing needs {module}, which is not there: {remedy}")
    options = _options()
    modules = [str(Path(module)) for module in options.modules or all_modules()]
    missing = [module for module in modules if not (HOME.parent / module).is_file()]
    if missing:
        raise SystemExit(f"there is no module {missing[0]}; give a path such as refimpl/conv.py")
    tests = [str(HOME / test) for test in options.tests] or all_tests()
    first, *further = options.sweeps
    if options.alive or options.show:
        further = [] if options.show else options.sweeps
        unknown = [module for module in modules if not results.file_of(module, FOLDER).exists()]
        if unknown:
            raise SystemExit(f"nothing is known of {unknown[0]}: run without --alive and --show first")
    else:
        _hunt(modules, tests, first, options, None)
    for sweep in further:
        if again := _to_try_again(modules, options):
            tell(f"{len(again)} mutants alive meet the {sweep} sweep")
            concerned = {path for path, *_ in again}
            _hunt([module for module in modules if module in concerned], tests, sweep, options, again)
    verdicts = [verdict for module in modules for verdict in results.load(module, FOLDER)]
    return _judge(verdicts, whole=options.every == 1)


def _to_try_again(modules: Sequence[str], options: argparse.Namespace) -> set[tuple]:
    """The names of the mutants that are alive, without those explained unless asked for."""
    verdicts = [verdict for module in modules for verdict in results.load(module, FOLDER)]
    alive = [verdict for verdict in verdicts if verdict.outcome in ALIVE]
    known = {} if options.explained else explained(alive, entries())
    return {verdict.name for verdict in alive if verdict not in known}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m parity_tests.mutants", description=__doc__)
    parser.add_argument("--modules", nargs="+", help="files to mutate, e.g. refimpl/conv.py; all unless told")
    parser.add_argument(
        "--tests", nargs="+", default=[], help="tests to run, e.g. conformance/test_conv.py; all unless told"
    )
    parser.add_argument("--alive", action="store_true", help="only those alive in the last run's results")
    parser.add_argument("--show", action="store_true", help="try none, show what is known of them")
    parser.add_argument("--explained", action="store_true", help="with --alive: those explained as well")
    parser.add_argument(
        "--sweeps", nargs="+", choices=SWEEPS, default=["quick", "default"], help="one after the other"
    )
    parser.add_argument("--every", type=int, default=1, help="a sample: every so many-th mutant")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="mutants tried at a time")
    options = parser.parse_args()
    if min(options.every, options.workers) < 1:
        parser.error(f"--every is {options.every}, --workers {options.workers}; needed is at least 1")
    return options


def _hunt(
    modules: Sequence[str],
    tests: Sequence[str],
    sweep: str,
    options: argparse.Namespace,
    again: set[tuple] | None,
) -> None:
    """One session of pytest with the hunt in place of its loop over the tests."""
    from parity_tests.mutants.hunt import Hunt

    met = {"number": -1}

    def wanted(mutant: Mutant) -> bool:
        if again is not None:
            return Verdict.of(mutant, "").name in again
        met["number"] += 1
        return met["number"] % options.every == 0

    def finished(module: str, verdicts: list[Verdict]) -> None:
        before = results.load(module, FOLDER) if again is not None else verdicts
        results.save(module, results.merged(before, verdicts), FOLDER)

    started = time.perf_counter()
    hunt = Hunt(HOME.parent, modules, options.workers, wanted, tell, finished)
    without = ("cacheprovider", "xdist", "benchmark", "terminal")
    quiet = ["-s", *(f"-pno:{plugin}" for plugin in without)]
    rewritten = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the package itself is loaded already
    code = pytest.main([*tests, "--sweep", sweep, *quiet, *rewritten], plugins=[hunt])
    if hunt.red:
        raise SystemExit(f"{len(hunt.red)} tests fail without any mutant, {hunt.red[0]} first: mend them")
    if not hunt.verdicts:
        raise SystemExit(f"no mutant was tried: pytest ended with {code!r}")
    tell(f"{len(hunt.verdicts)} mutants, {sweep} sweep: {time.perf_counter() - started:.0f} s")


def _judge(verdicts: Sequence[Verdict], whole: bool) -> int:
    """Print the table, then what is wrong; a sample says nothing about entries."""
    known = entries()
    equivalent, wrong = explained(verdicts, known), stale(verdicts, known) if whole else []
    lines = results.table(verdicts, equivalent)
    FOLDER.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    for verdict in verdicts:
        if verdict.outcome in ALIVE and verdict not in equivalent:
            place = f"{verdict.path}:{verdict.line} {verdict.function}"
            wrong.append(f"{verdict.outcome}: {place}: {results.change(verdict)}")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

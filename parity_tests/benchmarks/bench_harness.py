"""What the harness itself costs: cases a second and where the time goes, and what pytest adds.

    pytest -s parity_tests/benchmarks/bench_harness.py         prints the table

The network layers at their real sizes are left out: their cost is torch's and the reference's, not the
harness's.
"""

import subprocess
import sys
import time
from collections import Counter

import pytest
import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.options import RunOptions
from parity_tests.harness.trial import forget
from parity_tests.specs import FAMILIES, family

CASES = 150  # of each family, spread evenly over its sweep
CASES_A_SECOND = 150  # promised in the default sweep, on one core


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases_of(name: str) -> list[tuple]:
    """Cases of a family, spread over its default sweep."""
    options = RunOptions()
    found = [(spec, case) for spec in family(name) for case in sweep_of(spec, options).cases]
    found = [(spec, case) for spec, case in found if not case.name.startswith("network_")]
    return found[:: max(1, len(found) // CASES)]


def spent(cases: list[tuple]) -> tuple[float, Counter]:
    """Seconds for all checks of the cases, and the seconds of each part."""
    forget()
    candidate, parts, started = Eager("cpu"), Counter(), time.perf_counter()
    for spec, case in cases:
        parts.update(run_checks(spec, case, candidate).seconds)
    whole = time.perf_counter() - started
    parts["checks"] = whole - sum(parts.values())
    return whole, parts


def line(name: str, count: int, seconds: float, parts: Counter) -> str:
    shares = "  ".join(f"{part} {share / seconds:.0%}" for part, share in parts.most_common())
    return f"{name:15}{count:6} cases {count / seconds:8.0f} a second   {shares}"


def test_cases_a_second(capsys):
    """All checks of a case are one case; the second time round, when the loops are compiled and torch is
    warm."""
    whole, count, total = 0.0, 0, Counter()
    lines = [""]
    for name in FAMILIES:
        cases = cases_of(name)
        spent(cases)
        seconds, parts = spent(cases)
        whole, count, total = whole + seconds, count + len(cases), total + parts
        lines.append(line(name, len(cases), seconds, parts))
    lines.append(line("all", count, whole, total))
    with capsys.disabled():
        print("\n".join(lines))
    assert count / whole >= CASES_A_SECOND


def test_what_pytest_adds(capsys):
    """A whole run's own account of its time, pytest included, in one process; its cases may fail here."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "parity_tests/conformance/test_padding.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    account = [line for line in done.stdout.splitlines() if line.startswith("time ")]
    assert len(account) == 1, done.stdout[-2000:]
    with capsys.disabled():
        print(f"\npadding under pytest, {account[0]}")

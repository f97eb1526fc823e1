"""Runs of pytest inside a test: what a user would type, in this process or one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import parity_tests.harness.run  # noqa: F401  (a run in this process forgets what it was the first to import)
from parity_tests.specs import all_specs

all_specs()
PLUGIN = (
    "-p",
    "parity_tests.harness.plugin",
    "-p",
    "no:cacheprovider",
)  # also where the suite is not installed
CHECKOUT = Path(__file__).parents[2]


def conformance(family: str) -> tuple[str, ...]:
    """Arguments that name the conformance tests of one family, from anywhere."""
    return ("--pyargs", f"parity_tests.conformance.test_{family}")


def here(pytester, *arguments: str):
    """The run in this process: quick, because torch and the sweeps are there already."""
    return pytester.runpytest_inprocess(*PLUGIN, *map(str, arguments))


def apart(folder: Path, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess:
    """The run in a process of its own, started in `folder`, with what its shell would show."""
    return python(folder, "-m", "pytest", *(PLUGIN if plugin else ()), *map(str, arguments))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    paths = {"PYTHONPATH": str(CHECKOUT)} if "-I" not in arguments else {}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**keep, **paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

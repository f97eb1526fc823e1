"""The fault catalogue: the test of the tests."""

from __future__ import annotations

import importlib

from parity_tests.faults.fault import Control, Fault
from parity_tests.specs import FAMILIES


def all_faults() -> dict[str, Fault]:
    """Every fault, under `family/name`."""
    return {f"{family}/{fault.name}": fault for family in FAMILIES for fault in _module(family).FAULTS}


def all_controls() -> dict[str, Control]:
    """Every correct but different implementation, under `family/name`."""
    return {
        f"{family}/{control.name}": control for family in FAMILIES for control in _module(family).CONTROLS
    }


def _module(family: str):
    return importlib.import_module(f"parity_tests.faults.{family}")

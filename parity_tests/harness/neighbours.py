"""The neighbour of a case: the same call with one argument, or the mode, different.

A candidate is called for the neighbour first.  What it keeps from that call (a compiled graph, a plan, a
workspace) must not show in the case itself, as it would where a cache's key lacks an argument.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np

from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data, seed_of
from parity_tests.specs.spec import LayerSpec

MOST = 20_000  # elements of the inputs: beyond, a call more would cost too much


def neighbour(spec: LayerSpec, case: Case) -> Case | None:
    """One of the neighbours, chosen by the case's own seed; None where there is none, or the case is large.

    Not every neighbour can be called: arguments that exclude each other are for the caller to pass over.
    """
    if sum(math.prod(shape) for shape in case.shapes) > MOST:
        return None
    others = [*_other_arguments(spec, case), *_other_modes(spec, case)]
    chosen = np.random.default_rng(seed_of(case, "neighbour")).integers(len(others)) if others else 0
    return others[chosen] if others else None


def called_before(spec: LayerSpec, case: Case, data: Data) -> Case | None:
    """The neighbour that a candidate is called for: not with indices among the inputs, for with arguments
    that they were not made for, torch may crash."""
    other = neighbour(spec, case)
    return other if all(array.dtype.kind == "f" for array in data.inputs) else None


def _other_arguments(spec: LayerSpec, case: Case) -> list[Case]:
    """For each swept argument the case with its next value."""
    parameters, given = inspect.signature(spec.reference).parameters, dict(case.arguments)
    cases = []
    for axis, values in spec.axes.items():
        if axis in parameters and all(_fits(value, parameters[axis].default) for value in values):
            now = given.get(axis, parameters[axis].default)
            place = values.index(now) if now in values else -1
            other = values[(place + 1) % len(values)]
            if other != now:
                cases.append(replace(case, arguments=tuple((given | {axis: other}).items())))
    return cases


def _fits(value: Any, default: Any) -> bool:
    """Whether a value of an axis is one of the argument itself, and not the name of something to be built."""
    return isinstance(value, (bool, int, float, tuple)) or value is None or isinstance(default, str)


def _other_modes(spec: LayerSpec, case: Case) -> list[Case]:
    modes = [mode for mode in spec.axes.get("mode", ()) if mode not in (case.mode, "inference")]
    return [replace(case, mode=mode) for mode in modes]

"""How others judge: one random input of ordinary shape, default arguments, and a tolerance that was typed.

The typed tolerances of this module are the ones on trial; nothing in the suite is compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from parity_tests.faults.conv import CONTROLS
from parity_tests.faults.fault import Fault
from parity_tests.harness.candidates import CandidateError, Eager, StandIns, quiet
from parity_tests.harness.cases import Case, sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.data import constructor_arguments, make_data
from parity_tests.harness.options import RunOptions
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES, LayerSpec
from parity_tests.strength.catching import Catch, small_cases, unknown_of_torch


def _asserted(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError:
        return False
    return True


def _within(rtol: float, atol: float) -> Callable[[torch.Tensor, torch.Tensor], bool]:
    def judge(actual: torch.Tensor, expected: torch.Tensor) -> bool:
        return actual.shape == expected.shape and torch.allclose(actual, expected, rtol=rtol, atol=atol)

    return judge


# What is typed: relative and absolute tolerance; assert_close takes both from the dtype.
WAYS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], bool]] = {
    "allclose, 1e-2 and 1e-2": _within(1e-2, 1e-2),
    "allclose, 1e-3 and 1e-7": _within(1e-3, 1e-7),
    "allclose, 1e-4 and 1e-4": _within(1e-4, 1e-4),
    "torch.testing.assert_close": _asserted,
}
SUITE = "this suite"


class _Plain(StandIns):
    """A single call; nothing is called before it."""

    def _call_neighbour(self, spec: LayerSpec, case: Case, data: Any) -> None:
        self.calls = 0


@cache
def ordinary_case(spec: LayerSpec) -> Case:
    """The first value of every axis: an ordinary shape, float32, contiguous, normal numbers."""
    return sweep_of(spec, RunOptions(sweep="quick")).cases[0]


def _tensors(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, torch.Tensor]:
    kinds = {"f": getattr(torch, dtype)}
    return {
        name: torch.from_numpy(np.array(array)).to(kinds.get(array.dtype.kind, torch.int64))
        for name, array in arrays.items()
    }


@cache
def _expected(spec: LayerSpec, case: Case) -> tuple[Any, dict[str, torch.Tensor]]:
    """A case's numbers, and what torch makes of them."""
    data = make_data(spec, case, spec.reference(**constructor_arguments(spec, case)).state_dict())
    with quiet():
        return data, _tensors(Eager().run(spec, case, data).arrays, case.dtype)


def rejected_by(spec: LayerSpec, case: Case, candidate: StandIns) -> tuple[set[str], set[str]]:
    """The ways that tell a candidate's results of one case from torch's own: by outputs, by all results."""
    try:
        data, expected = _expected(spec, case)
    except Exception:
        return set(), set()  # torch itself raises: there is nothing to compare with
    try:
        with quiet():
            actual = _tensors(candidate.run(spec, case, data).arrays, case.dtype)
    except Exception as error:
        reached = not isinstance(error, CandidateError) or candidate.calls > 0
        return (set(WAYS), set(WAYS)) if reached else (set(), set())
    outputs = [name for name in expected if not name.startswith("grad_")]

    def told(way: str, names: Iterable[str]) -> bool:
        """NaN equals nothing in these ways: what they say of torch against itself is not held against it."""
        known = [name for name in names if WAYS[way](expected[name], expected[name])]
        return not all(name in actual and WAYS[way](actual[name], expected[name]) for name in known)

    return {way for way in WAYS if told(way, outputs)}, {way for way in WAYS if told(way, expected)}


@dataclass(frozen=True)
class Judged:
    """Of a fault: the ways that catch it in any of its layers, by the output alone and with gradients."""

    name: str
    by_output: frozenset[str]
    with_gradients: frozenset[str]


def judge_faults(faults: Mapping[str, Fault], tell: Callable[[str], None]) -> Iterable[Judged]:
    for number, (name, fault) in enumerate(faults.items(), 1):
        by_output: set[str] = set()
        with_gradients: set[str] = set()
        for layer in fault.layers:
            spec = spec_named(layer)
            case, candidate = ordinary_case(spec), _Plain(name, fault.stand_ins)
            if candidate.reaches(spec, case) and len(by_output) < len(WAYS):
                outputs, all_results = rejected_by(spec, case, candidate)
                by_output |= outputs
                with_gradients |= all_results
        if number % 50 == 0 or number == len(faults):
            tell(f"judged as others do: {number} of {len(faults)}")
        yield Judged(name, frozenset(by_output), frozenset(with_gradients))


def judge_in_known_cases(
    faults: Mapping[str, Fault], catches: Mapping[str, Sequence[Catch]]
) -> Iterable[Judged]:
    """The same ways, in the very cases in which the suite caught the faults; of those it rejects, nothing."""
    for name, fault in faults.items():
        by_output, with_gradients = set(), set()
        for catch in catches[name]:
            spec, candidate = spec_named(catch.layer), StandIns(name, fault.stand_ins)
            cases = [
                case for case in small_cases(spec, candidate) if case.id == catch.case and not case.rejects
            ]
            for case in cases:
                outputs, all_results = rejected_by(spec, case, candidate)
                by_output |= outputs
                with_gradients |= all_results
        yield Judged(name, frozenset(by_output), frozenset(with_gradients))


def convolution_of_576_terms(dtype: str) -> tuple[LayerSpec, Case]:
    """3 x 3 over 64 channels: an ordinary layer of an ordinary network."""
    arguments = (("in_channels", 64), ("out_channels", 64), ("kernel_size", 3), ("padding", 1))
    return spec_named("Conv2d"), Case("Conv2d", arguments, ((2, 64, 14, 14),), dtype=dtype)


def controls_rejected() -> dict[str, list[str]]:
    """For each way the correct but different convolutions that it rejects, `control in dtype`."""
    found: dict[str, list[str]] = {way: [] for way in (*WAYS, SUITE)}
    for control in CONTROLS:
        if "Conv2d" not in control.layers:
            continue
        for dtype in DTYPES:
            spec, case = convolution_of_576_terms(dtype)
            name = f"{control.name} in {dtype}"
            for way in rejected_by(spec, case, _Plain(control.name, control.stand_ins))[1]:
                found[way].append(name)
            candidate = StandIns(control.name, control.stand_ins)
            if unknown_of_torch(spec, case, run_checks(spec, case, candidate).errors):
                found[SUITE].append(name)
    return found


def number_of_controls() -> int:
    return sum("Conv2d" in control.layers for control in CONTROLS) * len(DTYPES)

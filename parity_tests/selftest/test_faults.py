"""The suite can fail: every fault is caught by the check that owns it, every correct one is accepted."""

import itertools
import time

import pytest

from parity_tests.faults import all_controls, all_faults
from parity_tests.harness.candidates import StandIns
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import CHECKS, run_checks
from parity_tests.harness.coverage import absence, in_torch
from parity_tests.harness.deviations import judge, of_torch
from parity_tests.harness.options import RunOptions
from parity_tests.specs import all_specs, spec_named

FAULTS, CONTROLS = all_faults(), all_controls()


def small_cases(layer, candidate, options=RunOptions()):  # noqa: B008  (it is frozen)
    """A layer's cases that a stand-in reaches, without the real-size ones; rows and named corners in turn."""
    spec = spec_named(layer)
    cases = [
        case
        for case in sweep_of(spec, options).cases
        if not case.name.startswith("network_") and candidate.reaches(spec, case)
    ]
    rows, corners = ([case for case in cases if bool(case.name) == named] for named in (False, True))
    return spec, [case for pair in itertools.zip_longest(rows, corners) for case in pair if case is not None]


def known_of_torch(spec, case, errors):
    """What is left of the errors when torch's own known deviations are taken off."""
    return judge(of_torch(spec.family), case.id, errors).unexpected


def layer_by_layer(catalogue):
    """Every pair of layer and entry; neighbours share cases, whose truths a process then remembers."""
    return sorted((layer, name) for name, entry in catalogue.items() for layer in entry.layers)


@pytest.mark.parametrize(("layer", "name"), layer_by_layer(FAULTS))
def test_fault_is_caught(layer, name, record_property):
    fault = FAULTS[name]
    candidate = StandIns(name, fault.stand_ins)
    started, tried = time.perf_counter(), 0
    spec, cases = small_cases(layer, candidate)
    cases.sort(key=lambda case: case.rejects != (fault.caught_by == "rejection"))  # the likely ones first
    for case in cases:
        tried += 1
        found = known_of_torch(spec, case, run_checks(spec, case, candidate).errors)
        if any(error.check == fault.caught_by for error in found):
            break
    else:
        pytest.fail(f"{name} ({fault.sentence}) passed all {tried} cases of {layer}")
    record_property(
        "caught",
        {
            "fault": name,
            "layer": layer,
            "check": fault.caught_by,
            "case": case.id,
            "cases": tried,
            "seconds": time.perf_counter() - started,
        },
    )


@pytest.mark.parametrize(("layer", "name"), layer_by_layer(CONTROLS))
def test_control_is_accepted(layer, name, pytestconfig):
    """In every corner and every pair of axis values; with `--sweep full` in every row of the default one."""
    candidate = StandIns(name, CONTROLS[name].stand_ins)
    options = RunOptions() if pytestconfig.getoption("sweep") == "full" else RunOptions(cases=1)
    spec, cases = small_cases(layer, candidate, options)
    assert cases, f"{name} reaches no case of {layer}"
    for case in cases:
        errors = known_of_torch(spec, case, run_checks(spec, case, candidate).errors)
        assert not errors, f"{name} on {case.id}: {errors[0].check}: {errors[0].message}"


def test_every_check_owns_a_fault():
    assert {fault.caught_by for fault in FAULTS.values()} >= {*CHECKS, "rejection"}


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_every_layer_owns_a_fault(spec):
    if not in_torch(spec):
        pytest.skip(absence(spec))
    assert any(spec.name in fault.layers for fault in FAULTS.values()), f"no fault names {spec.name}"

"""The suite can fail: every fault is caught by the check that owns it, every correct one is accepted."""

from dataclasses import asdict

import pytest

from parity_tests.faults import all_controls, all_faults
from parity_tests.harness.candidates import StandIns
from parity_tests.harness.checks import CHECKS, run_checks
from parity_tests.harness.coverage import absence, in_torch
from parity_tests.harness.deviations import judge, of_torch
from parity_tests.harness.options import RunOptions
from parity_tests.specs import all_specs, spec_named
from parity_tests.strength.catching import first_catch, small_cases

FAULTS, CONTROLS = all_faults(), all_controls()


def layer_by_layer(catalogue):
    """Every pair of layer and entry; neighbours share cases, whose truths a process then remembers."""
    return sorted((layer, name) for name, entry in catalogue.items() for layer in entry.layers)


@pytest.mark.parametrize(("layer", "name"), layer_by_layer(FAULTS))
def test_fault_is_caught(layer, name, record_property):
    fault, spec = FAULTS[name], spec_named(layer)
    candidate = StandIns(name, fault.stand_ins)
    cases = small_cases(spec, candidate)
    cases.sort(key=lambda case: case.rejects != (fault.caught_by == "rejection"))  # the likely ones first
    catch = first_catch(spec, cases, candidate, fault.caught_by)
    assert catch.check, f"{name} ({fault.sentence}) passed all {catch.cases} cases of {layer}"
    record_property("caught", {"fault": name, **asdict(catch)})


@pytest.mark.parametrize(("layer", "name"), layer_by_layer(CONTROLS))
def test_control_is_accepted(layer, name, pytestconfig):
    """In a third of the corners and of the rows that hold every pair of axis values: the controls of a layer
    take turns.  With `--sweep full` in all rows and corners of the default sweep."""
    candidate, spec = StandIns(name, CONTROLS[name].stand_ins), spec_named(layer)
    if pytestconfig.getoption("sweep") == "full":
        cases = small_cases(spec, candidate)
    else:
        turn = [other for other, control in CONTROLS.items() if layer in control.layers].index(name)
        cases = small_cases(spec, candidate, RunOptions(cases=1))[turn % 3 :: 3]
    assert cases, f"{name} reaches no case of {layer}"
    for case in cases:
        errors = judge(of_torch(spec.family), case.id, run_checks(spec, case, candidate).errors).unexpected
        assert not errors, f"{name} on {case.id}: {errors[0].check}: {errors[0].message}"


def test_every_check_owns_a_fault():
    assert {fault.caught_by for fault in FAULTS.values()} >= {*CHECKS, "rejection"}


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_every_layer_owns_a_fault(spec):
    if not in_torch(spec):
        pytest.skip(absence(spec))
    assert any(spec.name in fault.layers for fault in FAULTS.values()), f"no fault names {spec.name}"

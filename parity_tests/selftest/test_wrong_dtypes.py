"""Rejections of wrong dtypes: the dtype alone is what is wrong, and what converts in silence is caught."""

from dataclasses import replace

import pytest

from parity_tests.faults import all_faults
from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.cases import rejection_case
from parity_tests.harness.checks import run_checks
from parity_tests.harness.coverage import absence, in_torch
from parity_tests.specs import all_specs, spec_named
from refimpl.error_bounds import SuiteError

ROWS = [(spec, row) for spec in all_specs() for row in spec.rejections if row.kinds]
every_row = pytest.mark.parametrize(("spec", "row"), ROWS, ids=[f"{s.name}-{row.name}" for s, row in ROWS])


@every_row
def test_with_the_right_dtypes_the_same_call_is_accepted(spec, row):
    if not in_torch(spec):
        pytest.skip(absence(spec))
    right = replace(spec, rejections=(replace(row, kinds=("",)),))
    assert Eager().rejects(right, rejection_case(right, row)) is None


@every_row
def test_reference_accepts_what_torch_alone_refuses(spec, row):
    """Said the other way round it is an error of the suite."""
    if not in_torch(spec):
        pytest.skip(absence(spec))
    turned = replace(spec, rejections=(replace(row, of_reference=not row.of_reference),))
    with pytest.raises(SuiteError, match="its spec says"):
        run_checks(turned, rejection_case(turned, row), Eager())


CONVERTING = {
    ("linear/converts_its_input", "Linear"): {"integer_input", "wider_input"},
    ("loss/ctc_lengths_truncated", "CTCLoss"): {"fractional_input2", "fractional_input3"},
}


@pytest.mark.parametrize(("name", "layer"), CONVERTING)
def test_silent_conversion_is_caught(name, layer):
    spec, wrong = spec_named(layer), CONVERTING[name, layer]
    found, torchs = (
        {row.name: run_checks(spec, rejection_case(spec, row), candidate).errors for row in spec.rejections}
        for candidate in (StandIns(name, all_faults()[name].stand_ins), Eager())
    )
    assert {row for row, errors in found.items() if errors and not torchs[row]} == wrong
    assert all("accepted it" in found[row][0].message for row in wrong)

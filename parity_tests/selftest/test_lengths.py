"""Recurrent and attention references agree with torch in float64 within their own bound at every length.

The cases are the corners `length_1` to `length_33` of each layer (`pytest -k length_33`), torch's known
deviations not excepted.  A cell has no length: its layer is the cell at every time.  At length 1 the weights
of attention are 1 and the gradients of query and key 0: their bounds tell nothing.
"""

import pytest

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.options import RunOptions
from parity_tests.specs import family

LENGTHS = (1, 2, 7, 33)
LAYERS = [
    spec for name in ("recurrent", "attention") for spec in family(name) if not spec.name.endswith("Cell")
]


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_torch_agrees_in_float64(spec):
    sweep = sweep_of(spec, RunOptions(dtype="float64", cases=0))
    cases = {case.name: case for case in sweep.cases}
    worst = {}
    for length in LENGTHS:
        case = cases[f"length_{length}"]
        assert length in [size for shape in case.shapes for size in shape]
        verdict = run_checks(spec, case, Eager())
        assert not verdict.errors, verdict.errors[0].message
        assert length == 1 or not verdict.tally.tells_nothing
        worst[length] = max(verdict.tally.utilisation.values())
    numbers = ", ".join(f"{used:.3f} at {length}" for length, used in worst.items())
    print(f"{spec.name}: worst error / bound in float64 {numbers}")

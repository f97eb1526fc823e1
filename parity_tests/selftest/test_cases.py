"""Cases: their ids, their numbers, how many there are, and that the sweeps hold what they promise."""

import re
from dataclasses import replace

import numpy as np
import pytest

from parity_tests.harness.cases import Case, sweep_of
from parity_tests.harness.covering import Constraint
from parity_tests.harness.data import draw, seed_of
from parity_tests.harness.options import SWEEPS, RunOptions
from parity_tests.selftest.case_counts import counted, expected
from parity_tests.specs import all_specs, spec_named
from parity_tests.specs.spec import Corner

LAYERS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)


def test_id_shows_what_differs_from_the_defaults_and_nothing_else():
    case = Case("Conv2d", (("kernel_size", (3, 2)), ("padding", -1), ("bias", False)), ((2, 3, 5, 7),))
    assert case.id == "Conv2d-k3x2-padding_m1-bias_False-in2x3x5x7"
    other = replace(
        case, dtype="float16", layout="channels_last", tier="exact", mode="eval", parameter_layout="sliced"
    )
    assert other.id == f"{case.id}-float16-channels_last-parameters_sliced-exact-eval"
    assert replace(case, seed=7).id == case.id


@LAYERS
def test_ids_are_unique_and_give_the_case_back(spec):
    cases = sweep_of(spec, RunOptions(sweep="full")).cases
    by_id = {case.id: case for case in cases}
    assert len(by_id) == len(cases)
    assert [case_id for case_id in by_id if not re.fullmatch(r"[A-Za-z0-9_.+-]+", case_id)] == []


def test_two_cases_with_one_id_are_an_error():
    spec = spec_named("Conv2d")
    corners = (Corner("same_name", {"bias": True}), Corner("same_name", {"bias": False}))
    with pytest.raises(ValueError, match="ids stand for more than one case"):
        sweep_of(replace(spec, corners=corners), RunOptions())


@LAYERS
def test_smaller_sweeps_are_part_of_larger_ones(spec):
    quick, default, full = (
        {case.id for case in sweep_of(spec, RunOptions(sweep=name)).cases} for name in SWEEPS
    )
    assert quick and quick <= default <= full
    few = {case.id for case in sweep_of(spec, RunOptions(cases=30)).cases}
    assert few <= default


@LAYERS
def test_a_case_has_the_same_numbers_in_every_sweep(spec):
    alone = sweep_of(spec, RunOptions(sweep="quick")).cases[0]
    among = next(case for case in sweep_of(spec, RunOptions()).cases if case.id == alone.id)
    draw.cache_clear()
    first = draw(spec, alone, "input0", alone.shapes[0])
    draw.cache_clear()
    assert np.array_equal(first, draw(spec, among, "input0", among.shapes[0]), equal_nan=True)


def test_numbers_differ_by_tensor_by_case_and_by_seed():
    case = Case("Conv2d", shapes=((2, 3, 5, 7),))
    seeds = {seed_of(case, "input0"), seed_of(case, "weight"), seed_of(replace(case, seed=1), "input0")}
    assert len(seeds | {seed_of(replace(case, dtype="float16"), "input0")}) == 4


@LAYERS
def test_every_feasible_triple_is_covered(spec, record_property):
    array = sweep_of(spec, RunOptions()).array
    record_property("triples", f"{array.covered} of {array.triples} feasible, {array.infeasible} infeasible")
    print(f"{spec.name}: {array.covered} of {array.triples} feasible triples, {array.infeasible} infeasible")
    assert array.covered == array.triples > 0


@LAYERS
def test_every_axis_value_reaches_a_case(spec):
    rows = sweep_of(spec, RunOptions()).array.rows
    for axis, values in spec.axes.items():
        assert [value for value in values if not any(row[axis] == value for row in rows)] == [], axis


def test_axis_value_that_reaches_no_case_is_an_error():
    spec = spec_named("Conv2d")
    never = Constraint(("bias",), lambda bias: bias, "never without")
    with pytest.raises(ValueError, match=r"values \[False\] of axis 'bias' reach no case"):
        sweep_of(replace(spec, constraints=(*spec.constraints, never)), RunOptions())


def test_unknown_way_to_draw_is_an_error():
    spec, case = spec_named("Conv2d"), Case("Conv2d", data="larje", shapes=((2, 3),))
    with pytest.raises(ValueError, match="nothing is known of the data 'larje'"):
        draw(spec, case, "input0", (2, 3))


def test_case_counts_are_as_written_down():
    now, before = counted(), expected()
    changed = {
        layer: (before.get(layer), now.get(layer))
        for layer in {*now, *before}
        if now.get(layer) != before.get(layer)
    }
    assert not changed, "if this is meant: python -m parity_tests.selftest.case_counts"

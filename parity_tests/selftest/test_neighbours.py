"""The neighbour of a case: one argument or the mode different, chosen by the case, forgotten by no cache."""

import torch

from parity_tests.harness.candidates import StandIns
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.neighbours import MOST, neighbour
from parity_tests.harness.options import RunOptions
from parity_tests.specs import spec_named


def rows(layer):
    spec = spec_named(layer)
    return spec, [case for case in sweep_of(spec, RunOptions()).cases if not case.rejects]


def differences(case, other):
    found = {
        name
        for name in ("dtype", "layout", "tier", "mode", "shapes", "data")
        if getattr(case, name) != getattr(other, name)
    }
    now, then = dict(case.arguments), dict(other.arguments)
    return found | {name for name in {*now, *then} if now.get(name) != then.get(name)}


def test_neighbours_differ_in_one_thing_and_reach_every_argument():
    spec, cases = rows("AvgPool2d")
    pairs = [(case, neighbour(spec, case)) for case in cases]
    changed = [differences(case, other) for case, other in pairs if other is not None]
    assert all(len(names) <= 1 for names in changed)
    wanted = {"stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"}
    assert wanted <= set().union(*changed)


def test_the_mode_is_a_neighbour_too():
    spec, cases = rows("LSTM")
    assert {"mode"} in [differences(case, neighbour(spec, case)) for case in cases if case.mode == "eval"]


def test_large_cases_have_no_neighbour():
    spec, cases = rows("Conv2d")
    large = next(case for case in cases if case.name == "network_vgg16_conv1_2")
    assert neighbour(spec, large) is None and large.shapes[0][-1] ** 2 > MOST


def test_cache_that_forgets_an_argument_is_caught_in_a_single_case():
    """ceil_mode from whoever called first at this shape."""
    spec, cases = rows("AvgPool2d")
    pool = torch.nn.functional.avg_pool2d
    for case in cases:
        if differences(case, neighbour(spec, case)) == {"count_include_pad"} and dict(case.arguments).get(
            "padding"
        ):
            known: dict = {}

            def stand_in(input, kernel, stride, padding, ceil_mode, include, override, known=known):
                return pool(input, kernel, stride, padding, ceil_mode, known.setdefault(0, include), override)

            if run_checks(spec, case, StandIns("forgets", {"avg_pool2d": stand_in})).errors:
                return
    raise AssertionError("no case caught it")

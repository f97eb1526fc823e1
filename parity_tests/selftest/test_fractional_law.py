"""The law of fractional max pooling that draws its windows: derived rightly, kept by torch, able to fail."""

import math
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch")

from parity_tests.faults.window_lawless import LAWFUL, LAWLESS
from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.checks import ParityError
from parity_tests.harness.fractional_law import (
    CALLS,
    FALSE_ALARM,
    LAYERS,
    check_fractional_law,
    law_case,
    rates,
    sequences,
)
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES
from refimpl.fractional_pooling import starts

AXES = [(11, 2, 5), (14, 3, 4), (7, 2, 3), (12, 3, 4), (9, 1, 9), (13, 2, 6)]


def check(layer, candidate, call="batch", dtype="float32"):
    return check_fractional_law(spec_named(layer), law_case(layer, call, dtype), candidate)


@pytest.mark.parametrize("axis", AXES)
def test_sequences_are_those_of_all_samples(axis):
    """A grid of samples finer than all places where a window moves finds each sequence, and as often as the
    law says."""
    size, kernel, outputs = axis
    step = Fraction(size - kernel, outputs - 1)
    legal = [tuple(row) for row in sequences(*axis).tolist()]
    drawn = [
        tuple(starts(*axis, Fraction(2 * i + 1, 2 * step.numerator * 4))) for i in range(4 * step.numerator)
    ]
    assert [drawn.count(row) / len(drawn) for row in legal] == rates(step).tolist()
    assert set(drawn) == set(legal) and len(set(legal)) == step.denominator


@pytest.mark.parametrize("axis", AXES)
def test_what_holds_for_every_sequence(axis):
    """From 0 to L - kernel, in steps of floor(a) or ceil(a)."""
    size, kernel, outputs = axis
    legal = sequences(*axis)
    assert set(legal[:, 0]) == {0} and set(legal[:, -1]) == {size - kernel}
    step = (size - kernel) / (outputs - 1)
    assert set(np.diff(legal, axis=1).ravel().tolist()) <= {math.floor(step), math.ceil(step)}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layer", LAYERS)
def test_one_window_tells_neighbouring_sequences_apart(layer, call):
    """So a coordinate that is rounded over a whole number gives a sequence that is legal too."""
    case = law_case(layer, call, "float32")
    arguments, rank = dict(case.arguments), int(layer[-2])
    kernel, outputs = (
        value if isinstance(value, tuple) else (value,) * rank
        for value in (arguments["kernel_size"], arguments["output_size"])
    )
    for axis in zip(case.shapes[0][-rank:], kernel, outputs, strict=True):
        legal = sequences(*axis)
        assert len(legal) == axis[2] - 1
        assert (np.count_nonzero(np.diff(legal, axis=0), axis=1) == 1).all()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_law_accepts(layer, dtype, call):
    assert check(layer, Eager(), call, dtype) > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_law_accepts_another_implementation(layer, name, dtype):
    assert check(layer, StandIns(name, LAWFUL[name]), "batch", dtype) > 0


@pytest.mark.parametrize("fault", LAWLESS)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_law_rejects(layer, fault):
    call = "one_sample" if fault == "one_sample_for_all_axes" else "batch"
    with pytest.raises(ParityError):
        check(layer, StandIns(fault, LAWLESS[fault]), call)


@pytest.mark.parametrize("fault", ["gradient_halved", "gradient_of_other_windows"])
def test_a_wrong_gradient_is_called_so(fault):
    with pytest.raises(ParityError) as raised:
        check(LAYERS[0], StandIns(fault, LAWLESS[fault]))
    assert raised.value.check == "input_gradients"


def test_the_false_alarm_probability_of_a_run():
    """Two layers, two dtypes; numbers of planes and of pairs on each axis, and of pairs of axes."""
    numbers = 0
    for layer in LAYERS:
        for call in CALLS:
            outputs = dict(law_case(layer, call, "float32").arguments)["output_size"]
            rank = int(layer[-2])
            each = outputs if isinstance(outputs, tuple) else (outputs,) * rank
            numbers += sum(p - 1 + 2 for p in each) + rank * (rank - 1) // 2
    assert 2 * numbers * FALSE_ALARM < 2e-10

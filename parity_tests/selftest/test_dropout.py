"""The dropouts: worked numbers, whole units, gradients, what SELU is kept for, and the law that random calls
obey."""

import importlib
import math

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, same_bits, within
from refimpl.dropout import ALPHA, affine, unit_axes
from refimpl.error_bounds import strictest

reference = importlib.import_module("refimpl.dropout")  # refimpl.dropout itself is the function

NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
CLASSES = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")


@pytest.fixture
def rng():
    return np.random.default_rng(33)


def function(name):
    return getattr(reference, name), getattr(reference, f"{name}_backward")


def shape_of(name):
    return (3, 4, 2) if name.endswith("1d") else (2, 3, 2, 1, 2) if name.endswith("3d") else (2, 3, 2, 2)


def test_survivors_of_a_half_are_doubled():
    x, kept = np.array([1.0, -2, 3]), np.array([True, False, True])
    call = reference.Dropping("dropout", x, 0.5, True, kept)
    assert call.output().tolist() == [2, 0, 6]
    assert call.gradient(np.array([1.0, 10, 100])).tolist() == [2, 0, 200]


def test_whole_channels_are_dropped():
    x = np.arange(1.0, 13).reshape(2, 2, 3)
    call = reference.Dropping("dropout1d", x, 0.75, True, np.array([[True, False], [False, True]]))
    assert call.output().tolist() == [[[4, 8, 12], [0, 0, 0]], [[0, 0, 0], [40, 44, 48]]]


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_alpha_dropout_keeps_mean_0_and_variance_1(p):
    """E and Var of a input + b for an input of mean 0 and variance 1; p = 1/2 by hand: a = 0.88640, b =
    0.77919."""
    a, shift, dropped = affine("alpha_dropout", p)
    within((1 - p) * shift + p * dropped, 0.0, 2.0**-50)
    within((1 - p) * (a**2 + shift**2) + p * dropped**2, 1.0, 2.0**-50)
    within(dropped, a * ALPHA + shift, 2.0**-50)
    if p == 0.5:
        within(np.array([a, shift, dropped]), np.array([0.886405, 0.779194, -0.779194]), 2.0**-20)


def test_alpha_is_selu_at_minus_infinity():
    within(refimpl.selu(np.array([-800.0])), np.array([ALPHA]), 2.0**-52)


@pytest.mark.parametrize("name", NAMES)
def test_units_are_kept_as_a_whole(name, rng):
    x = 1.0 + rng.random(shape_of(name))
    call = reference.Dropping(name, x, 0.5, True)
    factor, shift, dropped = affine(name, 0.5)
    kept = np.broadcast_to(np.reshape(call.kept, call.units + (1,) * (x.ndim - len(call.units))), x.shape)
    same_bits(call.output(), np.where(kept, x * factor + shift, dropped))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_certain(name, rng):
    x, up = rng.standard_normal(shape_of(name)), rng.standard_normal(shape_of(name))
    forward, backward = function(name)
    for arguments in ({"p": 0.4, "training": False}, {"p": 0.0, "training": True}):
        same_bits(forward(x, **arguments), x)
        same_bits(backward(up, x, **arguments)[0], up)
    assert not forward(x, 1.0, True).any() and not backward(up, x, 1.0, True)[0].any()
    for p, training in ((0.4, False), (0.0, True), (1.0, True)):
        assert reference.Dropping(name, x, p, training).kept is None


@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(name, rng):
    x, up = rng.standard_normal(shape_of(name)), rng.standard_normal(shape_of(name))
    kept = reference.Dropping(name, x, 0.4, True).kept
    ((expected, error),) = finite_difference(
        lambda values: reference.Dropping(name, values, 0.4, True, kept).output(), [x], up
    )
    within(function(name)[1](up, x, 0.4, True, kept=kept)[0], expected, error)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_interpreted(name, rng):
    pytest.importorskip("numba")
    x, results = rng.standard_normal(shape_of(name)), {}
    kept = reference.Dropping(name, x, 0.3, True).kept
    for way in ("interpreted", "compiled"):
        with refimpl.execution(way):
            results[way] = reference.Dropping(name, x, 0.3, True, kept).output()
    same_bits(*results.values())


@pytest.mark.parametrize("layer", CLASSES)
def test_backward_of_a_class_uses_the_mask_of_its_call(layer, rng):
    shape = shape_of(layer.lower())
    module = getattr(reference, layer)(0.5)
    output, gradient = module(1.0 + rng.random(shape)), module.backward(np.ones(shape))
    dropped = affine("alpha_dropout" if "Alpha" in layer else "dropout", 0.5)[2]
    same_bits((gradient == 0) * 1.0, (output == dropped) * 1.0)


@pytest.mark.parametrize(("p", "exception"), [(-0.1, ValueError), (1.1, ValueError), ("0.5", TypeError)])
def test_probabilities_that_cannot_be_are_refused(p, exception):
    with pytest.raises(exception):
        reference.Dropout(p)
    with pytest.raises(exception):
        reference.dropout(np.zeros(3), p)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout1d", (3,)), ("dropout1d", (2, 3, 4, 5)), ("dropout2d", (3,)), ("dropout3d", ())],
)
def test_shapes_that_cannot_be_are_refused(name, shape):
    with pytest.raises(RuntimeError):
        function(name)[0](np.zeros(shape))


@pytest.mark.parametrize(
    ("name", "leading"),
    [
        # of inputs with 0, 1, 2, ... 6 axes how many say which unit an element is of; None: refused
        ("dropout", [0, 1, 2, 3, 4, 5, 6]),
        ("alpha_dropout", [0, 1, 2, 3, 4, 5, 6]),
        ("dropout1d", [None, None, 1, 2, None, None, None]),
        ("dropout2d", [None, None, 2, 2, 2, 2, 2]),
        ("dropout3d", [None, 1, 1, 1, 1, 2, 1]),
        ("feature_alpha_dropout", [None, None, 2, 2, 2, 2, 2]),
    ],
)
def test_units_of_every_number_of_axes(name, leading):
    for rank, axes in enumerate(leading):
        shape = (3, 4, 5, 6, 2, 1)[:rank]
        if axes is None:
            with pytest.raises(RuntimeError, match="needed"):
                unit_axes(name, shape)
        else:
            assert unit_axes(name, shape) == axes
            assert reference.Dropping(name, np.ones(shape), 0.5, True).kept.shape == shape[:axes]


def test_a_number_equal_to_p_is_kept(monkeypatch):
    """The numbers drawn are in [0, 1): so many of them are at least p that 1 - p are kept."""

    class Drawn:
        def random(self, shape):
            return np.array([0.0, 0.25, 0.375, 0.5, 0.75])

    monkeypatch.setattr(np.random, "default_rng", Drawn)
    kept = reference.Dropping("dropout", np.ones(5), 0.375, True).kept
    assert kept.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_documents_say(name):
    (call, backward), x = function(name), np.ones(shape_of(name))
    assert call(x, 0.0, True).all() and backward(x, x, 0.0, True)[0].all()
    forward, backward = call.__doc__, backward.__doc__
    channels, alpha = name not in ("dropout", "alpha_dropout"), "alpha" in name
    assert f"Drop {'channels' if channels else 'elements'} at random" in forward
    assert f"which {'channels' if channels else 'elements'} the call" in backward
    assert ("keep mean and variance" in forward) == ("a input + b" in forward) == alpha
    for words in ("two roundings", "scale what is kept", "/ (1 - p)"):
        assert (words in forward) != alpha
    assert ("RuntimeError" in forward) == channels


def test_what_the_layers_leave_to_chance_has_no_bound():
    layer, x, up = reference.Dropout(0.5), np.array([1.0, -0.0]), np.array([2.0, 3.0])
    with pytest.raises(ValueError, match="law"):
        layer.bounded(strictest("float32"), (x,), (up,))
    for copying in (reference.Dropout(0.5).eval(), reference.Dropout(0.0)):
        result = copying.bounded(strictest("float32"), (x,), (up,))
        assert result["output"].bitwise and result["grad_input"].bitwise
        assert result["output"].value.tolist() == [1, 0] and result["grad_input"].value.tolist() == [2, 3]
    result = reference.Dropout(1.0).bounded(strictest("float32"), (x,), (up,))
    assert not any(number.bitwise or number.value.any() for number in result.values())
    with pytest.raises(ValueError, match="kept"):
        reference.dropout_backward(up, x, 0.5, True)
    for p, training in ((0, True), (1, True), (0.5, False), (True, True)):
        assert reference.dropout_backward(up, x, p, training)[0].tolist() == ([0, 0] if p == 1 else [2, 3])
    with pytest.raises(RuntimeError, match="grad_output"):
        reference.dropout_backward(np.ones(3), x, 0.5, True, kept=np.array([True, True]))


def test_a_gradient_without_its_mask_is_refused():
    with pytest.raises(ValueError, match="kept"):
        reference.dropout_backward(np.ones(3), np.ones(3))


# The law of random calls.


def law_of(layer, candidate, p=0.5, dtype="float32"):
    pytest.importorskip("torch")
    from parity_tests.harness.dropout_law import check_dropout_training, training_case
    from parity_tests.specs import family

    spec = next(spec for spec in family("dropout") if spec.name == layer)
    return check_dropout_training(spec, training_case(layer, p, dtype), candidate)


def candidate_of(name, stand_ins):
    from parity_tests.harness.candidates import StandIns

    return StandIns(name, stand_ins)


@pytest.mark.parametrize("p", [0.5, 0.3])
@pytest.mark.parametrize("layer", CLASSES)
def test_the_law_accepts_torch_and_the_documented_formula(layer, p):
    pytest.importorskip("torch")
    from parity_tests.faults.dropout import MASKED
    from parity_tests.harness.candidates import Eager

    for dtype in ("float32", "float16"):
        assert law_of(layer, Eager(), p, dtype) > 0
        assert law_of(layer, candidate_of("masked", MASKED), p, dtype) > 0


@pytest.mark.parametrize(
    "fault",
    [
        "survivors_unscaled",
        "wrong_units",
        "one_mask_for_all_samples",
        "drops_too_often",
        "same_mask_in_every_call",
        "another_mask_backward",
    ],
)
@pytest.mark.parametrize("layer", CLASSES)
def test_the_law_rejects(layer, fault):
    pytest.importorskip("torch")
    from parity_tests.faults.dropout import LAWLESS
    from parity_tests.harness.checks import ParityError

    with pytest.raises(ParityError):
        law_of(layer, candidate_of(fault, LAWLESS[fault]))


def test_the_false_alarm_probability_of_a_run():
    """72 trials (6 layers, 4 dtypes, 3 probabilities) of three intervals each stay below 1e-9."""
    pytest.importorskip("torch")
    from parity_tests.harness.dropout_law import FALSE_ALARM, PROBABILITIES

    assert 3 * len(CLASSES) * 4 * len(PROBABILITIES) * FALSE_ALARM < 1e-9
    assert all(2000 * math.log(p**2 + (1 - p) ** 2) < math.log(1e-12) for p in PROBABILITIES)

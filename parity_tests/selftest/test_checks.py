"""Every check by hand-made candidates: what is right passes, what is wrong in one respect fails by that
check's name and no other."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.checks import (
    _promises_channels_last,
    check_forward,
    check_rejection,
    reference_rejection,
    run_checks,
)
from parity_tests.harness.findings import ParityError, Tally
from parity_tests.harness.outcome import CandidateError
from parity_tests.specs import spec_named
from parity_tests.specs.spec import Built, Rejection
from refimpl.error_bounds import SuiteError

LINEAR = Case("Linear", (("in_features", 3), ("out_features", 2)), ((4, 3),))
CONV = Case(
    "Conv2d",
    (("in_channels", 2), ("out_channels", 3), ("kernel_size", 2)),
    ((2, 2, 4, 5),),
    layout="channels_last",
)
POOL = Case("MaxPool2d", (("kernel_size", 2), ("return_indices", True)), ((2, 3, 4, 5),))
NORM = Case("BatchNorm2d", (("num_features", 3),), ((2, 3, 4, 5),), dtype="float64")
EVALUATED = replace(NORM, mode="eval")
RELU = Case("ReLU", (("inplace", True),), ((2, 3),))
LSTM = Case("LSTM", (("input_size", 3), ("hidden_size", 2)), ((4, 2, 3),))
CASES = [LINEAR, CONV, POOL, NORM, EVALUATED, RELU, LSTM]
ids = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


class Altered(Eager):
    """torch.nn, with a change to the outcome of its run."""

    def __init__(self, change=None, **attributes):
        super().__init__()
        self.change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def run(self, spec, case, data):
        outcome = super().run(spec, case, data)
        if outcome.evaluated is not None:  # torch folds scale and shift, which is a contract of its own
            names = ("running_mean", "running_var", "weight", "bias")
            values = {name: outcome.arrays.get(name, data.state[name])[:, None, None] for name in names}
            deviation = np.sqrt(values["running_var"] + 1e-5)
            scaled = (data.inputs[0] - values["running_mean"]) / deviation
            outcome.evaluated = scaled * values["weight"] + values["bias"]
        if self.change is not None:
            self.change(outcome)
        return outcome


def verdict(case, change=None, **attributes):
    return run_checks(spec_named(case.layer), case, Altered(change, **attributes))


def failed(case, change, **attributes):
    return [error.check for error in verdict(case, change, **attributes).errors]


def said(case, change, **attributes):
    (error,) = verdict(case, change, **attributes).errors
    return f"{error.check}: {error.message}"


def fact(name, **values):
    def change(outcome):
        outcome.facts[name] = replace(outcome.facts[name], **values)

    return change


def moved(name, *others):
    """The first element of some results far away from where it belongs, in every call."""

    def change(outcome):
        for arrays in (outcome.arrays, outcome.second):
            for each in {name, *others} & set(arrays):
                array = arrays[each] = arrays[each].copy()
                array[(0,) * array.ndim] += 1000

    return change


@ids
def test_what_is_right_passes(case):
    found = verdict(case)
    assert not found.errors and found.contract == "strictest" and found.tally.elements > 0
    assert not verdict(case, gradients=False).errors
    assert failed(case, moved("output")) == ["forward"]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (LINEAR, "output"),
        (LINEAR, "grad_input"),
        (LINEAR, "grad_bias"),
        (NORM, "running_var"),
        (NORM, "num_batches_tracked"),
        (POOL, "indices"),
        (LSTM, "output2"),
    ],
)
def test_metadata_of_every_result(case, name):
    wrong = "float16" if name not in ("indices", "num_batches_tracked") else "int32"
    for values, told in (
        ({"shape": (7, 7)}, "has shape (7, 7), needed is"),
        ({"dtype": wrong}, f"has dtype {wrong}, needed is {case.dtype if wrong == 'float16' else 'int64'}"),
        ({"device": "meta"}, "is on meta, needed is cpu"),
    ):
        assert said(case, fact(name, **values)).startswith(f"metadata: {name} {told}")
    assert said(case, lambda outcome: outcome.facts.pop(name)) == f"metadata: {name} is missing"


def test_whole_numbers_are_counted_and_no_others():
    """int64 for indices and counters alone."""
    assert said(NORM, fact("running_mean", dtype="int64")).endswith("has dtype int64, needed is float64")
    assert said(POOL, fact("output", dtype="int64")).endswith("has dtype int64, needed is float32")


def test_values_are_not_compared_where_metadata_is_wrong():
    def change(outcome):
        fact("grad_bias", shape=(1,))(outcome)
        moved("output", "grad_input", "grad_weight")(outcome)

    assert failed(LINEAR, change) == ["metadata"]


def test_channels_last_is_asked_for_where_both_promise_it():
    lost = fact("output", channels_last=False)
    assert said(CONV, lost) == "metadata: the output is not in channels_last although the input is"
    assert failed(CONV, lost, keeps_layouts=False) == []
    assert failed(replace(CONV, layout="contiguous"), lost) == []


SHAPE = (3, 4, 5, 6)
PROMISES = [
    (SHAPE, SHAPE, True),
    ((3, 4, 5, 6, 7), SHAPE, True),
    ((3, 4, 5), SHAPE, False),
    ((3, 4, 5, 6, 7, 8), SHAPE, False),
    ((1, 2, 2, 2), (1, 2, 2, 2), True),
    ((0, 4, 5, 6), (0, 4, 5, 6), False),
    ((3, 1, 5, 6), SHAPE, False),
    ((3, 4, 1, 6), SHAPE, False),
    ((3, 4, 5, 1), SHAPE, False),
    (SHAPE, (3, 1, 5, 6), False),
    (SHAPE, (3, 4, 1, 6), False),
    (SHAPE, (3, 4, 5, 1), False),
    (SHAPE, (3, 4, 5, 0), False),
]


@pytest.mark.parametrize(("shape", "output", "promised"), PROMISES)
def test_sizes_for_which_channels_last_is_promised(shape, output, promised):
    """Sizes of 1 are ambiguous, but for the batch's."""
    case, spec = replace(CONV, shapes=(shape,)), spec_named("Conv2d")
    for keeps, kept in ((True, True), (False, False), (lambda _: True, True), (lambda _: False, False)):
        found = _promises_channels_last(replace(spec, keeps_channels_last=keeps), case, output)
        assert found is (promised and kept)
    sliced = replace(case, layout="sliced")
    assert not _promises_channels_last(replace(spec, keeps_channels_last=True), sliced, output)


@pytest.mark.parametrize(
    ("case", "names", "check"),
    [
        (LINEAR, ["output"], "forward"),
        (POOL, ["indices"], "forward"),
        (LSTM, ["output1"], "forward"),
        (LSTM, ["output2"], "forward"),
        (LINEAR, ["grad_input"], "input_gradients"),
        (LINEAR, ["grad_weight"], "parameter_gradients"),
        (LINEAR, ["grad_bias"], "parameter_gradients"),
        (NORM, ["running_mean"], "state"),
        (NORM, ["num_batches_tracked"], "state"),
        (EVALUATED, ["running_var"], "state"),
        (EVALUATED, ["num_batches_tracked"], "state"),
    ],
)
def test_each_result_belongs_to_one_check(case, names, check):
    assert failed(case, moved(*names)) == [check]


def test_all_checks_say_what_they_find():
    everything = moved("output", "grad_input", "grad_weight", "running_mean")
    assert failed(NORM, everything)[:3] == ["forward", "input_gradients", "parameter_gradients"]
    assert said(EVALUATED, moved("running_mean")).startswith(
        "state: buffer running_mean was changed; a call in eval mode must leave it alone"
    )


def test_evaluation_after_training():
    def change(outcome):
        outcome.evaluated = outcome.evaluated + 1

    assert said(NORM, change).startswith("state: evaluated[")


def given(name, value):
    def change(outcome):
        outcome.arrays[name] = np.full((2, 2), value)

    return change


def test_gradients_of_operands_that_take_no_part():
    """Zeros are as good as none, and are a fact; anything else is wrong.  What is no gradient is none."""
    facts = verdict(LINEAR).tally.facts
    for name, check in (("grad_input7", "input_gradients"), ("grad_other", "parameter_gradients")):
        assert said(LINEAR, given(name, 1.0)).startswith(f"{check}: {name}[0, 0] = 1, exact 0")
        allowed = verdict(LINEAR, given(name, 0.0))
        assert not allowed.errors and allowed.tally.facts == facts + 1
    assert failed(LINEAR, given("buffer", 1.0)) == failed(LINEAR, given("input_grad", 1.0)) == []


def test_purity():
    def setting(**values):
        return lambda outcome: vars(outcome).update(values)

    def second(outcome):
        outcome.second["output"] = np.nextafter(outcome.second["output"], np.inf, dtype=np.float64)

    changed = "purity: the call changed input0, weight; it must leave its operands alone"
    assert said(LINEAR, setting(written=["input0", "weight"])) == changed
    assert said(LINEAR, second) == "purity: a second call with the same operands gave another output"
    missed = "purity: with inplace=True the input must hold the output after the call"
    assert said(RELU, setting(in_place=False)) == missed
    assert failed(LINEAR, setting(in_place=False)) == []
    assert failed(replace(RELU, arguments=(("inplace", False),)), setting(in_place=False)) == []


# What is given that is no result.


def test_results_of_which_the_reference_says_nothing_are_an_error_of_the_suite():
    with pytest.raises(SuiteError, match=r"Linear.*: the reference says nothing of output5"):
        verdict(LINEAR, given("output5", 0.0))


def test_a_candidate_that_raises_is_wrong_once():
    def change(outcome):
        raise CandidateError("no result", "mine.py:7")

    (error,) = verdict(LINEAR, change).errors
    assert (error.check, error.message, error.place) == ("metadata", "no result", "mine.py:7")


def test_a_case_that_compares_nothing_is_an_error_of_the_suite():
    """But for candidates without gradients, whose outputs may be all there is, and inputs without
    elements."""
    nothing = Case("Embedding", (("num_embeddings", 5), ("embedding_dim", 0)), ((4,),))
    with pytest.raises(SuiteError, match="no element was compared"):
        verdict(nothing)
    no_outputs = replace(LINEAR, arguments=(("in_features", 3), ("out_features", 0)))
    assert not verdict(no_outputs).errors and not verdict(no_outputs, gradients=False).errors
    assert (
        verdict(no_outputs).tally.elements == 12 and verdict(no_outputs, gradients=False).tally.elements == 0
    )
    assert not verdict(replace(LINEAR, shapes=((0, 3),))).errors


def test_a_check_by_itself_counts_for_nobody():
    check_forward(spec_named("Linear"), LINEAR, Altered())
    with pytest.raises(ParityError, match=r"output\[0, 0\]"):
        check_forward(spec_named("Linear"), LINEAR, Altered(moved("output")))


# Rejections.


class Raising(Eager):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def rejects(self, spec, case):
        return self.error


def refused(exception, layer="Linear", shape=(4, 2), **more):
    """A layer with one rejection, and its case."""
    arguments = {"Linear": {"in_features": 3, "out_features": 2}, "BatchNorm1d": {"num_features": 4}}[layer]
    rejection = Rejection("this", Built(arguments, (shape,)), exception, **more)
    other = Rejection("that", Built(arguments, (shape,)), KeyError)
    case = Case(layer, tuple(arguments.items()), (shape,), name="rejects_this")
    return replace(spec_named(layer), rejections=(other, rejection)), case


def test_the_same_exception_is_right_and_is_one_fact():
    spec, case = refused(RuntimeError)
    for candidate in (Eager(), Raising(RuntimeError("no")), Raising(NotImplementedError("a kind of it"))):
        found = run_checks(spec, case, candidate)
        assert not found.errors and found.contract == "" and found.tally == Tally(facts=1)
    check_rejection(spec, case, Eager())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "the candidate accepted it"),
        (ValueError("first line\nsecond line"), "the candidate raised ValueError: first line"),
        (KeyError(), "the candidate raised KeyError: "),
    ],
)
def test_another_exception_is_wrong(error, told):
    spec, case = refused(RuntimeError)
    found = run_checks(spec, case, Raising(error))
    (wrong,) = found.errors
    assert wrong.check == "rejection" and wrong.message.startswith("needed is RuntimeError (")
    assert wrong.message.endswith(told) and found.contract == "" and found.tally.facts == 1
    with pytest.raises(ParityError):
        check_rejection(spec, case, Raising(error))


def test_a_reference_that_does_not_do_what_its_spec_says_is_an_error_of_the_suite():
    for spec, case in (
        refused(ValueError),
        refused(Exception),
        refused(RuntimeError, shape=(4, 3)),
        refused(RuntimeError, of_reference=False),
    ):
        with pytest.raises(SuiteError, match="the reference raised"):
            run_checks(spec, case, Raising(RuntimeError("no")))


def test_what_a_reference_accepts_on_purpose():
    spec, case = refused(RuntimeError, shape=(4, 3), of_reference=False, note="for a reason")
    assert not run_checks(spec, case, Raising(RuntimeError("no"))).errors
    (wrong,) = run_checks(spec, case, Raising(None)).errors
    assert wrong.message == "needed is RuntimeError (for a reason); the candidate accepted it"


def test_references_reject_in_the_mode_of_the_case():
    """One value a channel has no variance: refused in training alone."""
    spec, case = refused(ValueError, "BatchNorm1d", (1, 4))
    assert type(reference_rejection(spec, case)) is ValueError
    assert reference_rejection(spec, replace(case, mode="eval")) is None

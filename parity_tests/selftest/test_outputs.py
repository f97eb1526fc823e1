"""Layers with several outputs: each real one gets an upstream gradient of its own, and must pass it on."""

import itertools

import pytest
import torch

from parity_tests.harness.candidates import StandIns
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.options import RunOptions
from parity_tests.harness.trial import Truth
from parity_tests.specs import spec_named

# layer and how many real outputs its cases have
SEVERAL = {
    "RNN": 2,
    "GRU": 2,
    "LSTM": 3,
    "LSTMCell": 2,
    "MultiheadAttention": 2,
    "AdaptiveLogSoftmaxWithLoss": 2,
}


def with_outputs(layer, count):
    """A case in float64 and training that has so many."""
    spec = spec_named(layer)
    for case in sweep_of(spec, RunOptions(dtype="float64")).cases:
        plain = not case.name and case.mode == "train" and case.data == "normal"
        if plain and all(0 not in shape for shape in case.shapes):
            truth = Truth(spec, case)
            if len(truth.grad_outputs) == count and all(grad.size > 1 for grad in truth.grad_outputs[:1]):
                return truth
    raise AssertionError(f"{layer} has no case with {count} outputs")


def cut(outputs, which, counter):
    """The outputs in their nesting, one of them without its gradient function."""
    if isinstance(outputs, (tuple, list)):
        return tuple(cut(output, which, counter) for output in outputs)
    if not isinstance(outputs, torch.Tensor) or next(counter) != which:
        return outputs
    return outputs.detach()


def cutting(layer, which):
    theirs = getattr(torch.nn, layer)

    def forward(self, *args, **kwargs):
        return cut(theirs.forward(self, *args, **kwargs), which, itertools.count())

    return StandIns(f"output {which} cut", {layer: type(layer, (theirs,), {"forward": forward})})


@pytest.mark.parametrize("layer", SEVERAL)
def test_each_output_gets_a_random_upstream_gradient(layer):
    gradients = with_outputs(layer, SEVERAL[layer]).grad_outputs
    assert all(gradient.dtype.kind == "f" and gradient.all() for gradient in gradients)
    assert len({gradient.ravel()[0] for gradient in gradients}) == len(gradients)


@pytest.mark.parametrize(
    ("layer", "which"), [(layer, i) for layer, count in SEVERAL.items() for i in range(count)]
)
def test_an_output_that_passes_nothing_on_is_seen_in_the_gradients(layer, which):
    truth = with_outputs(layer, SEVERAL[layer])
    whole = run_checks(truth.spec, truth.case, cutting(layer, -1))
    assert not whole.errors, whole.errors[0].message
    checks = {error.check for error in run_checks(truth.spec, truth.case, cutting(layer, which)).errors}
    # `metadata`: a parameter that this output alone reads gets no gradient at all
    assert checks in ({"input_gradients", "parameter_gradients"}, {"metadata"})

"""Every gradient of every layer against finite differences: of the references, on cases of their own sweeps.

Each input and parameter moves along a random line; the slope of sum(grad_output * output) there must be the
inner product of the line and the reference's gradient.  All elements move, so that a single wrong one shows.
"""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from parity_tests.harness.cases import sweep_of
from parity_tests.harness.data import arranged
from parity_tests.harness.options import RunOptions
from parity_tests.harness.outcome import input_gradient_names, quiet
from parity_tests.harness.trial import Truth
from parity_tests.selftest.laws import UNIT, directional_difference, within
from parity_tests.specs import all_specs
from refimpl.error_bounds import strictest

CASES = 3  # of a layer, spread over its sweep
ELEMENTS = 1600  # of the largest tensor of a case
STEP = 2.0**-14  # so short that hardly a line crosses a kink
SIGHT = 1000  # an element that is wrong by this share of the mean element shows

# Arguments with which a gradient is by its documentation not the derivative of the output, or, with `full`,
# the output jumps at some of the targets drawn (Stirling's approximation begins above 1).
NOT_DERIVATIVES = ("padding_idx", "scale_grad_by_freq", "max_norm", "full")

# Layers without the contracts of products that are linear all the same: they copy, average or rearrange.
LINEAR = (
    r"(Adaptive)?AvgPool[123]d|(Zero|Constant|Reflection|Replication|Circular)Pad[123]d|pad|interpolate|"
    r"Upsample|Upsampling\w+|Pixel(Uns|S)huffle|ChannelShuffle|Unfold|Fold|MaxUnpool[123]d|Embedding|embedding|"
    r"Identity|Flatten|Unflatten"
)


def flat(outputs):
    """All real outputs, one behind the other."""
    return np.concatenate(
        [np.zeros(0), *(part.reshape(-1) for part in parts(outputs) if part.dtype.kind == "f")]
    )


def parts(outputs):
    """The arrays of nested outputs; None is left out."""
    if not isinstance(outputs, (tuple, list)):
        return [] if outputs is None else [np.asarray(outputs)]
    return [part for output in outputs for part in parts(output)]


def linear(spec):
    """Whether a layer is linear in each of its tensors (a bias moves the origin)."""
    return spec.multilinear or re.fullmatch(LINEAR, spec.name) is not None


def suits(spec, case):
    default = {axis: values[0] for axis, values in spec.axes.items()}
    given = {name for name, value in case.arguments if value is not None and value is not False}
    return (
        not case.name
        and case.mode != "inference"
        and case.tier == "rounding"
        and case.data == default.get("data", "normal")
        and "method" not in dict(case.call)
        and not given & set(NOT_DERIVATIVES)
        and all(0 < np.prod(shape, dtype=int) <= ELEMENTS for shape in case.shapes)
    )


def output_of(truth, tensors):
    """The outputs for other inputs and parameters."""
    inputs = tuple(tensors.get(i, array) for i, array in enumerate(truth.data.inputs))
    layer = truth.reference()
    layer.load_state_dict({**truth.data.state, **{n: t for n, t in tensors.items() if isinstance(n, str)}})
    with quiet(), np.errstate(all="ignore"):
        return flat(layer(*arranged(truth.spec, truth.case, inputs)))


@cache
def truths_of(spec):
    """Cases without random numbers in the layer, in float64."""
    suitable = [case for case in sweep_of(spec, RunOptions()).cases if suits(spec, case)]
    found = []
    for case in suitable[:: max(1, len(suitable) // (2 * CASES))]:
        truth = Truth(
            spec, replace(case, dtype="float64", layout="contiguous", parameter_layout="contiguous")
        )
        with np.errstate(all="ignore"):
            first, second = output_of(truth, {}), output_of(truth, {})
        if np.array_equal(first, second) and np.isfinite(first).all():
            found.append(truth)
        if len(found) == CASES:
            break
    return found


def tensors_of(truth):
    """Each input and parameter: the name of its gradient, its key, its numbers."""
    inputs, buffers = truth.data.inputs, truth.reference().buffers
    names = input_gradient_names(inputs)
    yield from ((names[i], i, array) for i, array in enumerate(inputs) if array.dtype.kind == "f")
    yield from ((f"grad_{n}", n, array) for n, array in truth.data.state.items() if n not in buffers)


LAYERS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)


@LAYERS
def test_gradients_are_slopes(spec, record_property):
    compared = 0
    for truth in truths_of(spec):
        assert all(grad.dtype.kind == "f" for grad in truth.grad_outputs), "an upstream gradient of integers"
        upstream, results = flat(truth.grad_outputs), truth.bounded(strictest("float64"))
        for name, key, array in tensors_of(truth):
            if array.size == 0:
                continue
            line = np.random.default_rng(7).standard_normal(array.shape)

            def along(t, key=key, array=array, line=line, truth=truth):
                return output_of(truth, {key: array + t * line})

            slope, error = directional_difference(along, upstream, STEP)
            gradient = (
                results[name].value if name in results else np.zeros(array.shape)
            )  # none: it took no part
            shares, where = gradient * line, f"{truth.case.id}: {name}"
            total, size = shares.sum(), np.abs(shares).sum()
            error += 64 * UNIT * size
            assert abs(total - slope) <= error, f"{where}: {total}, the slope is {slope} +- {error}"
            assert size == 0 or error <= size / shares.size / SIGHT, f"{where}: a wrong one may pass"
            compared += 1
    assert compared, f"{spec.name}: no gradient was compared"
    record_property("gradients", compared)


@LAYERS
def test_backward_gives_the_gradients_that_are_compared(spec):
    """What a user of the reference calls, against what a candidate is compared with."""
    for truth in truths_of(spec):
        results, layer = truth.bounded(strictest("float64")), truth.reference()
        with quiet(), np.errstate(all="ignore"):
            layer(*truth.inputs)
            given = parts(layer.backward(*truth.grad_outputs))
        names = [name for name, key, _ in tensors_of(truth) if name in results]
        of_inputs = [name for name in names if name.startswith("grad_input")]
        assert len(given) == len(of_inputs), f"{truth.case.id}: {len(given)} input gradients, not {of_inputs}"
        found = dict(zip(of_inputs, given, strict=True)) | {f"grad_{n}": g for n, g in layer.grads.items()}
        for name in names:
            within(found[name], results[name].value, results[name].error)


@pytest.mark.parametrize("spec", [spec for spec in all_specs() if linear(spec)], ids=lambda spec: spec.name)
def test_gradients_of_linear_layers_are_adjoints(spec):
    """<A x, y> = <x, A'y>, with A x = output(x) - output(0), for each tensor in which a layer is linear."""
    compared = 0
    for truth in truths_of(spec):
        results, upstream = truth.bounded(strictest("float64")), flat(truth.grad_outputs)
        outputs = [results[name] for name in results if name.startswith("output")]
        off = flat([output.error for output in outputs])
        for name, key, array in tensors_of(truth):
            if name not in results or array.size == 0:
                continue
            start = output_of(truth, {key: np.zeros_like(array)})
            image, gradient = output_of(truth, {}) - start, results[name]
            terms = np.append(upstream * image, -array * gradient.value)
            bound = (np.abs(upstream) * 3 * off).sum() + (np.abs(array) * gradient.error).sum()
            bound += terms.size * UNIT * np.abs(terms).sum() + UNIT * np.abs(upstream * start).sum()
            assert abs(terms.sum()) <= bound, f"{truth.case.id}: {name}: <Ax, y> - <x, A'y> is {terms.sum()}"
            compared += 1
    assert compared

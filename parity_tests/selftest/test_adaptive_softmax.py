"""The reference of the adaptive log-softmax against hand values, mpmath, laws and finite differences."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import UNIT, finite_difference, within
from refimpl.adaptive_softmax import AdaptiveLogSoftmaxWithLoss, _predicted
from refimpl.error_bounds import Bounded, strictest

TARGETS = np.array([0, 2, 3, 7, 8, 12, 5])


def layer_of(features=9, cutoffs=(3, 8), seed=3, **more):
    layer, rng = AdaptiveLogSoftmaxWithLoss(features, 13, cutoffs, **more), np.random.default_rng(seed)
    layer.load_state_dict(
        {name: rng.standard_normal(array.shape) / 2 for name, array in layer.state_dict().items()}
    )
    return layer


def numbers(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def near(actual, expected, roundings=64):
    expected = np.asarray(expected, dtype=np.float64)
    within(np.asarray(actual), expected, roundings * UNIT * np.max(np.abs(expected)))


def test_worked_numbers():
    """Head 1 : 2 : 3 at input 1, the third for a cluster of two classes, 1 : 4."""
    layer = AdaptiveLogSoftmaxWithLoss(1, 4, [2], div_value=1.0)
    layer.load_state_dict(
        {
            "head.weight": np.log([[1.0], [2.0], [3.0]]),
            "tail.0.0.weight": np.array([[2.0]]),
            "tail.0.1.weight": np.log([[1.0], [4.0]]) / 2,
        }
    )
    probabilities = np.array([1 / 6, 2 / 6, 3 / 6 * 1 / 5, 3 / 6 * 4 / 5])
    near(layer.log_prob([[1.0]]), np.log([probabilities]))
    output, loss = layer([[1.0]] * 3, [1, 2, 3])
    near(output, np.log(probabilities[1:]))
    near(loss, -np.log(probabilities[1:]).mean())
    assert layer.predict([[1.0]]) == 3 and layer.predict([[-1.0]]) == 0
    layer.backward(np.array([6.0, 0.0, 0.0]), 0.0)
    near(layer.grads["head.weight"], [[-1.0], [4.0], [-3.0]])
    layer.backward(np.zeros(3), -3.0)  # minus the loss is a third of the sum
    near(layer.grads["tail.0.1.weight"], [[2 * (1 - 2 / 5)], [2 * (1 - 8 / 5)]])


@pytest.mark.parametrize(("div_value", "sizes"), [(4.0, (2, 0)), (2.0, (4, 2)), (1.5, (6, 4)), (8.0, (1, 0))])
def test_sizes_of_the_parameters(div_value, sizes):
    shapes = {name: a.shape for name, a in layer_of(div_value=div_value, head_bias=True).state_dict().items()}
    assert shapes == {
        "head.weight": (5, 9),
        "head.bias": (5,),
        "tail.0.0.weight": (sizes[0], 9),
        "tail.0.1.weight": (5, sizes[0]),
        "tail.1.0.weight": (sizes[1], 9),
        "tail.1.1.weight": (5, sizes[1]),
    }


@pytest.mark.parametrize("cutoffs", [(3, 8), (4,), (1, 2, 9)])
def test_outputs_are_those_of_log_prob(cutoffs):
    layer, x = layer_of(cutoffs=cutoffs, head_bias=True), numbers(7, 9)
    table = layer.log_prob(x)
    near(np.exp(table).sum(1), np.ones(7))
    output, loss = layer(x, TARGETS)
    near(output, table[np.arange(7), TARGETS])
    near(loss, -output.mean())
    assert (layer.predict(x) == table.argmax(1)).all()
    for row, target, one in zip(x, TARGETS, output, strict=True):
        near(layer(row, target), [one, -one])


@pytest.mark.parametrize("cutoffs", [(3, 8), (4,)])
@pytest.mark.parametrize("batched", [True, False])
def test_every_gradient_by_finite_differences(cutoffs, batched):
    layer = layer_of(cutoffs=cutoffs, div_value=2.0, head_bias=True)
    x, targets = (numbers(7, 9), TARGETS) if batched else (numbers(9), TARGETS[3])
    up, of_loss = numbers(*np.shape(targets), seed=6), numbers(seed=7)
    names = layer.parameters

    def function(x, *parameters):
        layer.load_state_dict(dict(zip(names, parameters, strict=True)))
        output, loss = layer(x, targets)
        return np.append(output.reshape(-1), loss)

    arrays = (x, *layer.state_dict().values())
    expected = finite_difference(function, arrays, np.append(np.reshape(up, -1), of_loss))
    function(*arrays)
    of_input, of_target = layer.backward(up, of_loss)
    assert of_target is None
    # Without a target in a cluster there is no gradient, and differences are 0.
    of_parameters = [layer.grads.get(name, np.zeros(a.shape)) for name, a in layer.state_dict().items()]
    for gradient, (value, error) in zip((of_input, *of_parameters), expected, strict=True):
        within(gradient, value, error)


def test_gradients_of_log_prob_by_finite_differences():
    layer, x, up = layer_of(div_value=2.0), numbers(3, 9), numbers(3, 13, seed=6)
    names = layer.parameters

    def function(x, *parameters):
        layer.load_state_dict(dict(zip(names, parameters, strict=True)))
        return layer.log_prob(x)

    arrays = (x, *layer.state_dict().values())
    expected = finite_difference(function, arrays, up)
    function(*arrays)
    results = layer.bounded(strictest("float64"), (x,), (up,))
    for name, (value, error) in zip(("input", *names), expected, strict=True):
        within(results[f"grad_{name}"].value, value, error)


def test_a_cluster_without_a_target_gets_no_gradient():
    layer = layer_of()
    layer(numbers(3, 9), [0, 12, 9])
    layer.backward(np.ones(3), 1.0)
    assert set(layer.grads) == {"head.weight", "tail.1.0.weight", "tail.1.1.weight"}


def test_an_empty_batch_has_no_loss():
    layer = layer_of()
    output, loss = layer(np.zeros((0, 9)), np.zeros(0, dtype=int))
    assert output.shape == (0,) and np.isnan(loss)
    assert layer.backward(np.zeros(0), 1.0)[0].shape == (0, 9)
    assert list(layer.grads) == ["head.weight"] and not layer.grads["head.weight"].any()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_against_mpmath(scale):
    mpmath = pytest.importorskip("mpmath")
    layer, x = layer_of(div_value=2.0), scale * numbers(2, 9)
    bounded = layer.bounded(strictest("float64"), (x,), (np.zeros((2, 13)),))["output"]
    with mpmath.workdps(60):

        def logarithms(*names):
            logits = mpmath.matrix(x.tolist()).T
            for name in names:
                logits = mpmath.matrix(getattr(layer, name).tolist()) * logits
            columns = [[logits[i, n] for i in range(logits.rows)] for n in range(2)]
            totals = [mpmath.log(mpmath.fsum(map(mpmath.exp, column))) for column in columns]
            return [[v - total for v in column] for column, total in zip(columns, totals, strict=True)]

        head = logarithms("head.weight")
        tails = [logarithms(f"tail.{k}.0.weight", f"tail.{k}.1.weight") for k in (0, 1)]
        for n in range(2):
            exact = head[n][:3] + [head[n][3 + k] + v for k in (0, 1) for v in tails[k][n]]
            values, errors = bounded.value[n].tolist(), bounded.error[n].tolist()
            apart = [abs(mpmath.mpf(value) - v) for value, v in zip(values, exact, strict=True)]
            assert all(a <= error for a, error in zip(apart, errors, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_bound_of_far_logits_is_finite(dtype):
    layer, x = layer_of(), 300 * numbers(7, 9)
    results = layer.bounded(strictest(dtype), (x, TARGETS), (np.ones(7), np.ones(())))
    assert all(np.isfinite(result.error).all() for result in results.values())


def test_prediction_is_open_where_rounding_decides():
    layer = layer_of()
    layer.load_state_dict({name: np.zeros(a.shape) for name, a in layer.state_dict().items()})
    results = layer.bounded(strictest("float32"), (numbers(2, 9),), (np.zeros((2, 13)),))
    assert (results["indices"].error == 13).all()
    sure = layer_of().bounded(strictest("float32"), (numbers(2, 9),), (np.zeros((2, 13)),))
    assert (sure["indices"].error == 0).all()


@pytest.mark.parametrize("cutoffs", [(), (3, 3), (8, 3), (0, 3), (3, 13), (2.5, 3)])
def test_rejected_cutoffs(cutoffs):
    with pytest.raises(ValueError, match="cutoffs are"):
        AdaptiveLogSoftmaxWithLoss(9, 13, cutoffs)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((3, 9), [0, 1]),
        ((9,), [0]),
        ((3, 9), 0),
        ((3, 9), [0, 1, 13]),
        ((3, 9), [0, -1, 2]),
        ((3, 8), [0, 1, 2]),
    ],
)
def test_rejected_calls(shape, target):
    with pytest.raises(RuntimeError, match=r"needed|needs"):
        layer_of()(np.zeros(shape), target)


@pytest.mark.parametrize(
    ("shape", "exception"),
    [((3, 1), RuntimeError), ((3, 8), RuntimeError), ((2, 3, 9), RuntimeError), ((9,), IndexError)],
)
def test_rejected_calls_without_targets(shape, exception):
    layer, input = layer_of(), np.zeros(shape)
    for call in (layer.log_prob, layer.predict, layer.output_shapes):
        with pytest.raises(exception, match="needed is"):
            call(input)


def test_compiled_equals_interpreted():
    pytest.importorskip("numba")
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            layer = layer_of(head_bias=True)
            outputs = layer(numbers(7, 9), TARGETS)
            of_input, _ = layer.backward(numbers(7), 0.5)
            results.append((*outputs, of_input, *layer.grads.values()))
    for interpreted, compiled in zip(*results, strict=True):
        assert np.array_equal(interpreted, compiled)


def test_output_shapes():
    layer, x = layer_of(), numbers(7, 9)
    assert layer.output_shapes(x, TARGETS) == ((7,), ())
    assert layer.output_shapes(x[0], TARGETS[0]) == ((), ())
    assert layer.output_shapes(x) == ((7, 13),)


def test_a_prediction_counts_where_no_rounding_can_change_it():
    values, errors = np.array([[2.0, 1.0, 0.5]] * 4), np.array([[0.5, 0.25, 0.0]] * 4)
    errors[1] = 0.5, 0.5, 0.0  # 2 - 0.5 is no more than 1 + 0.5
    errors[2] = 1.25, 0.0, 0.0
    values[3] = np.nan
    predicted = _predicted(Bounded(values, errors, strictest("float32")))
    assert predicted.value.tolist() == [0, 0, 0, 0]
    assert predicted.error.tolist() == [0, 3, 3, 3]

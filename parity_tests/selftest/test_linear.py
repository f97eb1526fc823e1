"""The linear reference against worked numbers, exact arithmetic, laws and finite differences."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl.error_bounds import strictest
from refimpl.linear import Geometry, LinearFunction, Transformation, taps

# shapes of input, weight, bias: leading axes from none to two, a vector as weight, one feature, none
CALLS = [
    ((3, 4), (5, 4), (5,)), ((4,), (5, 4), None), ((2, 3, 4), (1, 4), (1,)), ((2, 4), (4,), ()),
    ((2, 1), (3, 1), ()), ((2, 0), (3, 0), (3,)), ((0, 4), (5, 4), (5,)),
]  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(30)


def drawn(rng, shapes):
    return [None if shape is None else rng.standard_normal(shape) for shape in shapes]


def test_three_rows_by_hand():
    output = refimpl.linear(
        np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([[10.0, 1], [0, -1]]), np.array([0.5, 7])
    )
    assert output.tolist() == [[12.5, 5], [34.5, 3], [56.5, 1]]


def test_gradients_by_hand():
    """y = 10 a + b: each operand's gradient is what it is multiplied with, times the upstream gradient."""
    grads = refimpl.linear_backward(
        np.array([[1.0], [100]]), np.array([[1.0, 2], [3, 4]]), np.array([[10.0, 1]]), np.zeros(1)
    )
    assert [g.tolist() for g in grads] == [[[10, 1], [1000, 100]], [[301, 402]], [101]]


@pytest.mark.parametrize("shapes", CALLS)
def test_numpy_is_a_second_source(shapes, rng):
    """The bound of the walk's float64 rounding and of numpy's, from the magnitudes."""
    x, w, b = drawn(rng, shapes)
    expected = x @ w.T + (0 if b is None else b)
    magnitude = np.abs(x) @ np.abs(w).T + (0 if b is None else np.abs(b))
    within(refimpl.linear(x, w, b), expected, (shapes[1][-1] + 1) * 2.0**-51 * magnitude)


@pytest.mark.parametrize("shapes", CALLS)
def test_gradients_are_adjoint(shapes, rng):
    """<x W', y> = <x, y W> = <W, y' x> in exact fractions."""
    x, w = fractions(rng, *shapes[0]), fractions(rng, *shapes[1])
    output = refimpl.linear(x, w)
    y = fractions(rng, *output.shape)
    grad_input, grad_weight, grad_bias = refimpl.linear_backward(y, x, w)
    assert inner(output, y) == inner(x, grad_input) == inner(w, grad_weight) and grad_bias is None


@pytest.mark.parametrize("shapes", CALLS)
def test_finite_differences(shapes, rng):
    arrays = [array for array in drawn(rng, shapes) if array is not None]
    grad_output = rng.standard_normal(refimpl.linear(*arrays).shape)
    actual = refimpl.linear_backward(grad_output, *arrays)
    for gradient, (expected, error) in zip(
        actual, finite_difference(refimpl.linear, arrays, grad_output), strict=False
    ):
        within(gradient, expected, error)


def test_two_layers_are_one(rng):
    """Without an activation in between, stacked linear layers equal one: W2 (W1 x + b1) + b2."""
    x, w1, b1, w2, b2 = (fractions(rng, *shape) for shape in ((3, 4), (5, 4), (5,), (2, 5), (2,)))
    stacked = refimpl.linear(refimpl.linear(x, w1, b1), w2, b2)
    one = refimpl.linear(x, refimpl.linear(w1.T, w2).T, refimpl.linear(b1, w2, b2))
    assert (stacked == one).all()


def test_a_convolution_with_kernel_one_is_linear(rng):
    x, w, b = fractions(rng, 2, 4, 3), fractions(rng, 5, 4), fractions(rng, 5)
    convolved = refimpl.conv1d(x, w[:, :, None], b)
    assert (convolved == refimpl.linear(x.transpose(0, 2, 1), w, b).transpose(0, 2, 1)).all()


@pytest.mark.parametrize("shapes", CALLS)
def test_compiled_equals_interpreted(shapes, rng):
    pytest.importorskip("numba")
    arrays, results = [array for array in drawn(rng, shapes) if array is not None], {}
    grad_output = rng.standard_normal(refimpl.linear(*arrays).shape)
    for way in ("interpreted", "compiled"):
        with refimpl.execution(way):
            gradients = refimpl.linear_backward(grad_output, *arrays)
            results[way] = [refimpl.linear(*arrays), *(g for g in gradients if g is not None)]
    for interpreted, compiled in zip(*results.values(), strict=True):
        assert interpreted.tobytes() == compiled.tobytes()


def test_class_and_function_agree(rng):
    layer = refimpl.Linear(4, 5)
    x, grad_output = rng.standard_normal((3, 4)), rng.standard_normal((3, 5))
    assert layer(x).tobytes() == refimpl.linear(x, layer.weight, layer.bias).tobytes()
    grad_input = layer.backward(grad_output)
    expected = refimpl.linear_backward(grad_output, x, layer.weight, layer.bias)
    for actual, wanted in zip(
        (grad_input, layer.grads["weight"], layer.grads["bias"]), expected, strict=True
    ):
        assert actual.tobytes() == wanted.tobytes()
    assert np.abs(layer.weight).max() <= 0.5 and refimpl.Linear(4, 5, bias=False).bias is None


def test_float32_sums_in_any_order_stay_inside_the_bound(rng):
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 50), (3, 50), (3,)))
    layer = LinearFunction()
    bound = layer.bounded(strictest("float32"), (x, w, b), (np.ones((2, 3)),))["output"]
    for _ in range(20):
        order, total = rng.permutation(50), np.zeros((2, 3), np.float32)
        for i in order:
            total += x[:, i, None] * w[:, i]
        within(total + b, bound.value, bound.error)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 6), (5, 7)),
        ((7, 2), (5, 7)),
        ((), (5, 7)),
        ((2, 7), (2, 5, 7)),
        ((2, 7), ()),
        ((2, 7), (5, 7), (4,)),
        ((2, 7), (7,), (7,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(RuntimeError):
        refimpl.linear(*(np.zeros(shape) for shape in shapes))


def test_walk_visits_every_product_once():
    geometry, visits = Geometry(2, 3, 5), []
    taps(lambda arrays, *indices: visits.append(indices), (), geometry)
    assert geometry.taps == len(visits) == len(set(visits)) == 2 * 3 * 5


@pytest.mark.parametrize(
    ("input", "weight", "bias", "of_output", "of_bias"),
    [
        ((3, 4), (5, 4), (5,), 5, 2), ((3, 4), (1, 4), (1,), 5, 2), ((4,), (5, 4), (5,), 5, 0),
        ((2, 3, 4), (5, 4), (), 5, 29), ((3, 4), (4,), (), 5, 2), ((0, 4), (5, 4), (5,), 5, 0),
        ((3, 4), (0, 4), (0,), 5, 0), ((3, 0), (5, 0), (5,), 1, 2),
    ],
)  # fmt: skip
def test_roundings_of_the_sums(input, weight, bias, of_output, of_bias):
    """n products round n times, with a bias once more; a sum of n numbers n - 1 times."""
    call = Transformation(np.ones(input), np.ones(weight), np.ones(bias))
    products = call.products(np.ones(call.output_shape))
    assert (products["output"].terms == of_output).all() and products["grad_bias"].terms == of_bias
    outputs = weight[0] if len(weight) > 1 else 1
    assert (products["grad_input"].terms == outputs).all()
    assert (products["grad_weight"].terms == np.prod(input[:-1])).all()


def test_layers_without_features_are_made():
    """torch warns that there is nothing to initialize."""
    for inputs, outputs in ((0, 3), (3, 0)):
        layer = refimpl.Linear(inputs, outputs)
        assert layer.weight.shape == (outputs, inputs) and layer.bias.shape == (outputs,)
        x = np.zeros((2, inputs))
        assert layer(x).shape == (2, outputs) and layer.output_shapes(x) == ((2, outputs),)


@pytest.mark.parametrize(
    ("features", "exception"), [((-1, 2), RuntimeError), ((2, -1), RuntimeError), ((2, 1.5), TypeError)]
)
def test_numbers_of_features_that_cannot_be_are_refused(features, exception):
    with pytest.raises(exception):
        refimpl.Linear(*features)

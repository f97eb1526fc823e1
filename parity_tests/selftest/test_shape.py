"""Identity, Flatten, Unflatten and the bilinear map: worked numbers, exact arithmetic, laws, finite
differences."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import exactly, finite_difference, fractions, inner, same_bits, within
from refimpl.bilinear import BilinearFunction
from refimpl.error_bounds import strictest
from refimpl.shape import Bilinear, Flatten, Identity, Unflatten, bilinear, bilinear_backward

# shapes of the inputs, weight, bias: leading axes from none to two, one feature on either side, an empty
# batch
CALLS = [
    ((3, 4), (3, 2), (5, 4, 2), (5,)), ((4,), (2,), (5, 4, 2), None), ((2, 3, 1), (2, 3, 4), (2, 1, 4), (2,)),
    ((2, 4), (2, 1), (1, 4, 1), (1,)), ((0, 4), (0, 2), (3, 4, 2), (3,)),
]  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def test_identity_hands_on_the_sign_of_zero():
    layer = Identity(54, unused=0.1)
    x = np.array([[-0.0, np.nan], [1.0, -np.inf]])
    same_bits(layer(x), x)
    same_bits(layer.backward(x[::-1].copy()), x[::-1].copy())


@pytest.mark.parametrize(
    ("start_dim", "end_dim", "expected"),
    [(1, -1, (32, 25)), (0, 2, (160, 5)), (0, -1, (800,)), (-2, 3, (32, 1, 25)), (2, 2, (32, 1, 5, 5))],
)
def test_shapes_of_torchs_documentation(start_dim, end_dim, expected):
    assert Flatten(start_dim, end_dim)(np.zeros((32, 1, 5, 5))).shape == expected


def test_flatten_by_hand():
    """The last of the flattened axes runs fastest; a scalar becomes a vector."""
    x = np.arange(12.0).reshape(2, 3, 2)
    assert Flatten()(x).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert Flatten(0)(np.array(3.0)).tolist() == [3]


@pytest.mark.parametrize("sizes", [(2, 5, 5), (2, -1, 5), (-1, 5, 5), [2, 5, 5]])
def test_unflatten_of_torchs_documentation(sizes):
    layer = Unflatten(1, sizes)
    assert layer(np.zeros((2, 50))).shape == (2, 2, 5, 5)


@pytest.mark.parametrize(("sizes", "shape"), [((1, -1), (2, 1, 3)), ((-1,), (2, 3)), ((-1, 3), (2, 1, 3))])
def test_the_size_left_open_is_what_the_others_leave(sizes, shape):
    assert Unflatten(1, sizes)(np.zeros((2, 3))).shape == shape


@pytest.mark.parametrize("sizes", [6, {2, 3}, "23", (2, 1.5), [2, None]])
def test_sizes_that_are_no_tuple_of_ints_are_refused(sizes):
    with pytest.raises(TypeError, match="needed is a tuple of ints"):
        Unflatten(1, sizes)


def test_unflatten_is_the_inverse_of_flatten(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    same_bits(Unflatten(1, (3, 4))(Flatten(1, 2)(x)), x)


def test_gradients_of_reshaping_are_reshaped_back(rng):
    x = rng.standard_normal((2, 3, 4))
    for layer in (Flatten(0, 1), Unflatten(2, (2, 2))):
        up = rng.standard_normal(layer(x).shape)
        same_bits(layer.backward(up), up.reshape(x.shape))


@pytest.mark.parametrize(
    ("layer", "shape", "exception"),
    [
        (Flatten(), (3,), IndexError),
        (Flatten(2, 1), (2, 3, 4), RuntimeError),
        (Flatten(True), (2, 3), TypeError),
        (Unflatten(1, (2, 1)), (2, 3), RuntimeError),
        (Unflatten(1, (-1, -1)), (2, 3), RuntimeError),
        (Unflatten(1, (0, -1)), (2, 0), RuntimeError),
        (Unflatten(2, (1,)), (2, 3), IndexError),
    ],
)
def test_shapes_that_cannot_be_are_refused(layer, shape, exception):
    with pytest.raises(exception):
        layer(np.zeros(shape))


def test_bilinear_by_hand():
    """x1 = (1, 2), x2 = (3, 5): 10 x1_0 x2_0 + x1_1 x2_1 + 7, and the gradient of each factor."""
    x1, x2, w = np.array([[1.0, 2]]), np.array([[3.0, 5]]), np.array([[[10.0, 0], [0, 1]]])
    assert bilinear(x1, x2, w, np.array([7.0])).tolist() == [[47]]
    found = bilinear_backward(np.array([[2.0]]), x1, x2, w, np.array([7.0]))
    assert [g.tolist() for g in found] == [[[60, 10]], [[20, 4]], [[[6, 10], [12, 20]]], [2]]


@pytest.mark.parametrize("shapes", CALLS)
def test_bilinear_is_adjoint_in_each_factor(shapes, rng):
    """<y, up> = <x1, g1> = <x2, g2> = <w, gw> in exact fractions."""
    factors = [fractions(rng, *shape) for shape in shapes[:3]]
    output = bilinear(*factors)
    up = fractions(rng, *output.shape)
    *gradients, none = bilinear_backward(up, *factors)
    for factor, gradient in zip(factors, gradients, strict=True):
        assert inner(output, up) == inner(factor, gradient)
    assert none is None


@pytest.mark.parametrize("shapes", CALLS)
def test_bilinear_finite_differences(shapes, rng):
    arrays = [rng.standard_normal(shape) for shape in shapes if shape is not None]
    up = rng.standard_normal(bilinear(*arrays).shape)
    expected = finite_difference(bilinear, arrays, up)
    for gradient, (value, error) in zip(bilinear_backward(up, *arrays), expected, strict=False):
        within(gradient, value, error)


def test_with_the_second_input_one_it_is_linear(rng):
    x, w, b = fractions(rng, 3, 4), fractions(rng, 5, 4), fractions(rng, 5)
    ones = exactly(np.ones((3, 1)))
    assert (bilinear(x, ones, w[:, :, None], b) == refimpl.linear(x, w, b)).all()


@pytest.mark.parametrize("shapes", CALLS)
def test_bilinear_compiled_equals_interpreted(shapes, rng):
    pytest.importorskip("numba")
    arrays, results = [rng.standard_normal(shape) for shape in shapes if shape is not None], {}
    up = rng.standard_normal(bilinear(*arrays).shape)
    for way in ("interpreted", "compiled"):
        with refimpl.execution(way):
            found = bilinear_backward(up, *arrays)
            results[way] = [bilinear(*arrays), *(g for g in found if g is not None)]
    for interpreted, compiled in zip(*results.values(), strict=True):
        same_bits(interpreted, compiled)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_products_in_either_order_stay_inside_the_bound(dtype, rng):
    """In float32, rounded to T once at the end."""
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((2, 6), (2, 5), (3, 6, 5))]
    layer, up = BilinearFunction(), np.ones((2, 3))
    bound = layer.bounded(strictest(dtype), tuple(arrays), (up,))["output"]
    x1, x2, w = (array.astype(np.float32) for array in arrays)
    for first, second in (("ni,oij->noj", "noj,nj->no"), ("nj,oij->noi", "noi,ni->no")):
        inputs = (x1, x2) if first.startswith("ni") else (x2, x1)
        value = np.einsum(second, np.einsum(first, inputs[0], w), inputs[1]).astype(dtype)
        within(value.astype(np.float64), bound.value, bound.error)


def test_class_and_function_agree(rng):
    layer = Bilinear(4, 2, 5)
    x1, x2, up = rng.standard_normal((3, 4)), rng.standard_normal((3, 2)), rng.standard_normal((3, 5))
    same_bits(layer(x1, x2), bilinear(x1, x2, layer.weight, layer.bias))
    found = (*layer.backward(up), layer.grads["weight"], layer.grads["bias"])
    for actual, wanted in zip(found, bilinear_backward(up, x1, x2, layer.weight, layer.bias), strict=True):
        same_bits(actual, wanted)
    assert np.abs(layer.weight).max() <= 0.5 and Bilinear(4, 2, 5, bias=False).bias is None


@pytest.mark.parametrize(
    ("shapes", "exception"),
    [
        (((2, 4), (3, 2), (5, 4, 2)), RuntimeError),
        (((2, 4), (2, 1, 2), (5, 4, 2)), RuntimeError),
        (((2, 2), (2, 4), (5, 4, 2)), RuntimeError),
        (((), (), (5, 4, 2)), IndexError),
        (((2, 4), (2, 2), (5, 4, 2), (4,)), RuntimeError),
        (((2, 4), (2, 2), (5, 4, 2), ()), IndexError),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, exception):
    with pytest.raises(exception):
        bilinear(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("features", "exception"), [((-1, 2, 3), RuntimeError), ((0, 2, 3), ValueError), ((1.5, 2, 3), TypeError)]
)
def test_numbers_of_features_that_cannot_be_are_refused(features, exception):
    with pytest.raises(exception):
        Bilinear(*features)

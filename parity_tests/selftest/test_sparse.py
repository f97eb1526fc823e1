"""The embeddings: worked numbers, exact arithmetic, adjoint law, finite differences, renormalization."""

from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, same_bits, same_numbers, within
from refimpl.embedding_bag import _with
from refimpl.error_bounds import Bounded, Products, strictest
from refimpl.renormalization import renormalized, renormalized_bounded
from refimpl.sparse import (
    Embedding,
    EmbeddingBag,
    embedding,
    embedding_backward,
    embedding_bag,
    embedding_bag_backward,
)

TABLE = np.array([[1.0, 2], [3, -4], [5, 0.5]])
# indices, offsets, other arguments: bags of several, one and no indices, padding, a matrix, weights
CALLS = [
    ([0, 2, 2, 1, 0], [0, 3, 3], {"mode": "sum"}),
    ([0, 2, 2, 1, 0], [0, 2], {"mode": "mean", "padding_idx": 2}),
    ([[0, 2], [2, 1], [1, 1]], None, {"mode": "mean"}),
    ([0, 1, 1, 2], [0, 1, 4], {"mode": "sum", "include_last_offset": True}),
    ([], [0], {"mode": "mean"}),
]


@pytest.fixture
def rng():
    return np.random.default_rng(32)


def call_of(indices, offsets, arguments):
    array = np.array(indices, dtype=np.int64)
    return array, {"offsets": None if offsets is None else np.array(offsets), **arguments}


def test_rows_by_hand():
    assert embedding(np.array([[2, 0], [1, 1]]), TABLE).tolist() == [[[5, 0.5], [1, 2]], [[3, -4], [3, -4]]]
    assert embedding(np.array(1), TABLE).tolist() == [3, -4]


def test_gradient_by_hand():
    """Row 1 is read twice; row 2 is the padding; row 0 is read by nobody."""
    index, up = np.array([1, 2, 1]), np.array([[1.0, 2], [4, 8], [16, 32]])
    assert embedding_backward(up, index, TABLE)[1].tolist() == [[0, 0], [17, 34], [4, 8]]
    assert embedding_backward(up, index, TABLE, padding_idx=-1)[1].tolist() == [[0, 0], [17, 34], [0, 0]]
    scaled = embedding_backward(up, index, TABLE, scale_grad_by_freq=True)[1]
    assert scaled.tolist() == [[0, 0], [8.5, 17], [4, 8]]


def test_bags_by_hand():
    """Bags 0, 2, 2 and nothing; the padding 0 left out of the mean and of the maximum."""
    index, offsets = np.array([0, 2, 2, 1]), np.array([0, 3, 3])
    assert embedding_bag(index, TABLE, offsets, mode="sum").tolist() == [[11, 3], [0, 0], [3, -4]]
    mean = embedding_bag(index, TABLE, offsets, mode="mean", padding_idx=0)
    assert mean.tolist() == [[5, 0.5], [0, 0], [3, -4]]
    assert embedding_bag(index, TABLE, offsets, mode="max").tolist() == [[5, 2], [0, 0], [3, -4]]


def test_weighted_sum_by_hand():
    index, offsets, weights = np.array([0, 1, 1]), np.array([0, 2]), np.array([10.0, 2, -1])
    output = embedding_bag(index, TABLE, offsets, mode="sum", per_sample_weights=weights)
    assert output.tolist() == [[16, 12], [-3, 4]]
    up = np.array([[1.0, 0], [0, 1]])
    _, weight, _, factors = embedding_bag_backward(
        up, index, TABLE, offsets, mode="sum", per_sample_weights=weights
    )
    assert weight.tolist() == [[10, 0], [2, -1], [0, 0]] and factors.tolist() == [1, 3, -4]


def test_a_scaled_gradient_is_divided_by_its_own_rows_frequency():
    """Indices 1, 1, 3: row 1 is halved, row 3 is not."""
    index, up = np.array([1, 1, 3]), np.ones((1, 2))
    gradient = embedding_bag_backward(
        up, index, np.ones((4, 2)), np.array([0]), mode="sum", scale_grad_by_freq=True
    )[1]
    assert gradient[:, 0].tolist() == [0, 1, 0, 1]


def test_the_first_of_equal_maxima_has_the_gradient():
    index, table = np.array([2, 0, 1]), np.array([[7.0], [7], [3]])
    gradient = embedding_bag_backward(np.array([[5.0]]), index, table, np.array([0]), mode="max")[1]
    assert gradient.tolist() == [[5], [0], [0]]


@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_adjoint(call, rng):
    """<bag(weight), up> = <weight, gradient> in exact fractions."""
    index, arguments = call_of(*call)
    weight = fractions(rng, 3, 2)
    output = embedding_bag(index, weight, **arguments)
    up = fractions(rng, *output.shape)
    assert inner(output, up) == inner(weight, embedding_bag_backward(up, index, weight, **arguments)[1])


@pytest.mark.parametrize("call", CALLS)
def test_finite_differences(call, rng):
    index, arguments = call_of(*call)
    weight = rng.standard_normal((3, 2))
    up = rng.standard_normal(embedding_bag(index, weight, **arguments).shape)
    ((expected, error),) = finite_difference(lambda w: embedding_bag(index, w, **arguments), [weight], up)
    within(embedding_bag_backward(up, index, weight, **arguments)[1], expected, error)


def test_finite_differences_of_per_sample_weights(rng):
    index, offsets = np.array([0, 2, 2, 1]), np.array([0, 3])
    arrays = [rng.standard_normal((3, 2)), rng.standard_normal(4)]

    def bag(weight, factors):
        return embedding_bag(index, weight, offsets, mode="sum", per_sample_weights=factors, padding_idx=1)

    up = rng.standard_normal((2, 2))
    found = embedding_bag_backward(
        up, index, arrays[0], offsets, mode="sum", per_sample_weights=arrays[1], padding_idx=1
    )
    for gradient, (expected, error) in zip(
        (found[1], found[3]), finite_difference(bag, arrays, up), strict=True
    ):
        within(gradient, expected, error)


def test_finite_differences_of_maxima(rng):
    index, offsets, weight = np.array([0, 2, 2, 1]), np.array([0, 3]), rng.standard_normal((3, 2))
    up = rng.standard_normal((2, 2))
    ((expected, error),) = finite_difference(
        lambda w: embedding_bag(index, w, offsets, mode="max"), [weight], up
    )
    within(embedding_bag_backward(up, index, weight, offsets, mode="max")[1], expected, error)


def test_a_mean_of_thirds_is_exact():
    weight = np.array([[Fraction(1)], [Fraction(1)], [Fraction(0)]], dtype=object)
    output = embedding_bag(np.array([[0, 1, 2]]), weight, mode="mean")
    same_numbers(output, np.array([[Fraction(2, 3)]], dtype=object))


def test_a_matrix_is_rows_of_bags(rng):
    weight, index = rng.standard_normal((5, 3)), rng.integers(0, 5, (4, 6))
    for mode in ("sum", "mean", "max"):
        flat = embedding_bag(index.ravel(), weight, np.arange(0, 24, 6), mode=mode)
        same_bits(embedding_bag(index, weight, mode=mode), flat)


def test_a_bag_of_one_is_an_embedding(rng):
    weight, index = rng.standard_normal((5, 3)), rng.integers(0, 5, 7)
    same_bits(embedding_bag(index, weight, np.arange(7), mode="sum"), embedding(index, weight))


@pytest.mark.parametrize(("norm_type", "norm"), [(2.0, 5.0), (1.0, 7.0), (float("inf"), 4.0)])
def test_renormalized_rows(norm_type, norm):
    """Row 1 (3, -4) alone is looked up and too long; row 2 is too long as well."""
    after = renormalized(TABLE, np.array([1, 0]), 2.5, norm_type)
    within(after[1], TABLE[1] * 2.5 / (norm + 1e-7), 2.0**-50)
    same_bits(after[2], TABLE[2])
    assert renormalized(TABLE, np.array([1]), None, 2.0) is TABLE


@pytest.mark.parametrize(("norm_type", "norm"), [(2.0, 5.0), (1.0, 7.0), (float("inf"), 4.0)])
def test_a_row_as_long_as_it_may_be_is_left_alone(norm_type, norm):
    same_bits(renormalized(TABLE, np.array([1]), norm, norm_type), TABLE)


@pytest.mark.parametrize("arguments", [{"max_norm": "2"}, {"norm_type": "2"}, {"norm_type": None}], ids=str)
def test_norms_are_numbers(arguments):
    ((name, _),) = arguments.items()
    with pytest.raises(TypeError, match=f"{name} is"):
        renormalized(TABLE, np.array([1]), **{"max_norm": 2.5, "norm_type": 2.0, **arguments})


def test_a_row_whose_norm_may_be_on_either_side_may_be_either():
    """A largest element is exact; a sum is not, so between its ends the row may or may not be divided."""
    contract, row = strictest("float64"), np.array([[3.0, -4.0]])
    for power in (1.0, 0.125):
        bound = renormalized_bounded(contract, power * row, np.array([0]), 4.0 * power, float("inf"))
        assert (bound.value == power * row).all() and (bound.error == 0).all()
    norm = abs(contract.exact(row)).sum(1)
    low, high = (norm.value - norm.error).item(), (norm.value + norm.error).item()
    assert low < 7.0 < high
    for max_norm, certain in ((high, True), (7.0, False), (low, False), (np.nextafter(low, 0.0), True)):
        bound = renormalized_bounded(contract, row, np.array([0]), max_norm, 1.0)
        divided = row * (max_norm / (7.0 + 1e-7))
        assert (bound.value == row).all() == (max_norm >= 7.0)
        assert (bound.error == 0).all() == (max_norm == high)
        other = divided if max_norm >= 7.0 else row
        assert (np.abs(other - bound.value) <= bound.error).all() or certain
        assert (bound.error < np.abs(row)).all()


def test_a_call_changes_the_rows_that_it_looks_up():
    layer = Embedding(3, 2, max_norm=2.5, _weight=TABLE)
    output = layer(np.array([1]))
    same_bits(output[0], layer.weight[1])
    same_bits(layer.weight[2], TABLE[2])
    assert "weight" in layer.buffers and Embedding(3, 2).buffers == ()


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_float32_renormalization_stays_inside_the_bound(norm_type, rng):
    table = rng.standard_normal((4, 9)).astype(np.float32)
    layer = Embedding(4, 9, max_norm=0.7, norm_type=norm_type, _weight=table)
    up = rng.standard_normal((4, 9))
    bound = layer.bounded(strictest("float32"), (np.arange(4),), (up,))["weight"]
    norms = np.linalg.norm(table, norm_type, axis=1, keepdims=True).astype(np.float32)
    found = table * (np.float32(0.7) / (norms + np.float32(1e-7)))
    within(found.astype(np.float64), bound.value, bound.error)


@pytest.mark.parametrize("call", CALLS)
def test_compiled_equals_interpreted(call, rng):
    pytest.importorskip("numba")
    index, arguments = call_of(*call)
    weight, results = rng.standard_normal((3, 2)), {}
    up = rng.standard_normal(embedding_bag(index, weight, **arguments).shape)
    for way in ("interpreted", "compiled"):
        with refimpl.execution(way):
            gradient = embedding_bag_backward(up, index, weight, max_norm=1.0, **arguments)[1]
            results[way] = embedding_bag(index, weight, max_norm=1.0, **arguments), gradient
    for interpreted, compiled in zip(*results.values(), strict=True):
        same_bits(interpreted, compiled)


def test_class_and_function_agree(rng):
    layer, index = EmbeddingBag(5, 3, mode="sum", padding_idx=1), rng.integers(0, 5, 7)
    offsets, weights, up = np.array([0, 4]), rng.standard_normal(7), rng.standard_normal((2, 3))
    named = {"mode": "sum", "per_sample_weights": weights, "padding_idx": 1}
    same_bits(layer(index, offsets, weights), embedding_bag(index, layer.weight, offsets, **named))
    _, _, factors = layer.backward(up)
    _, weight, _, expected = embedding_bag_backward(up, index, layer.weight, offsets, **named)
    same_bits(layer.grads["weight"], weight)
    same_bits(factors, expected)
    assert not EmbeddingBag(5, 3, padding_idx=-1).weight[4].any()


@pytest.mark.parametrize(
    ("index", "offsets", "arguments", "exception"),
    [
        ([3], [0], {}, RuntimeError),
        ([0.0], [0], {}, RuntimeError),
        ([0], [1], {}, RuntimeError),
        ([0, 1], [0, 3], {}, RuntimeError),
        ([0, 1], [0, 2, 1], {}, RuntimeError),
        ([0], None, {}, ValueError),
        ([[0]], [0], {}, ValueError),
        ([0], [0], {"mode": "average"}, ValueError),
        ([0], [0], {"mode": "max", "sparse": True}, ValueError),
        ([0], [0], {"per_sample_weights": np.ones(1)}, NotImplementedError),
    ],
)
def test_calls_that_cannot_be_are_refused(index, offsets, arguments, exception):
    with pytest.raises(exception):
        embedding_bag(np.array(index), TABLE, None if offsets is None else np.array(offsets), **arguments)


@pytest.mark.parametrize(
    ("index", "exception"), [([3], IndexError), ([-1], IndexError), ([0.0], RuntimeError)]
)
def test_indices_that_cannot_be_are_refused(index, exception):
    with pytest.raises(exception):
        embedding(np.array(index), TABLE)


def bound_of_bags(dtype, index, offsets, table, up=1.0, weights=None, **arguments):
    """The bounds of a layer with this table."""
    layer = EmbeddingBag(*np.shape(table), _weight=table, **arguments)
    inputs = (np.array(index), np.array(offsets)) + (() if weights is None else (np.array(weights),))
    shape = layer(*inputs).shape
    layer.weight = np.array(table)
    return layer.bounded(strictest(dtype), inputs, (np.broadcast_to(up, shape) * 1.0,))


def test_what_lies_behind_the_last_offset_is_in_no_bag():
    index, offsets = np.array([0, 1, 2]), np.array([0, 1, 2])
    named = {"mode": "sum", "include_last_offset": True}
    assert embedding_bag(index, TABLE, offsets, **named).tolist() == TABLE[:2].tolist()
    gradient = embedding_bag_backward(np.ones((2, 2)), index, TABLE, offsets, **named)[1]
    assert gradient.tolist() == [[1, 1], [1, 1], [0, 0]]


def test_a_mean_is_a_whole_multiple_of_less():
    """2^24 - 1 and 2 make 2^24 + 1, which float32 rounds also where it is halved afterwards; multiples of 2
    have one more bit of room."""
    table = np.array([[2.0**24 - 1], [2.0], [2.0**24]])
    bound = bound_of_bags("float32", [0, 1, 2, 1], [0, 2], table, mode="mean")["output"]
    assert bound.error[0] >= 0.5 and bound.value[0] == (2.0**24 + 1) / 2
    for mode in ("sum", "mean"):
        even = bound_of_bags("float32", [1, 0], [0], 2 * table[1:], mode=mode)["output"]
        assert not even.error.any()


def test_squares_are_those_of_the_products():
    index, offsets, table = [0, 2, 2, 1], [0, 3, 4], TABLE
    weighted = bound_of_bags("float32", index, offsets, table, 3.0, [0.5, 2, -1, 4], mode="sum")
    squares = [[0.25 + 100 + 25, 1 + 1 + 0.25], [144, 256], [0, 0]]
    assert weighted["output"].products.squares().tolist() == squares
    assert weighted["grad_input2"].products.squares().tolist() == [45, 227.25, 227.25, 225]
    mean = bound_of_bags("float32", index, offsets, table, mode="mean")["output"].products
    assert mean.squares()[1:].tolist() == [[9, 16], [0, 0]]
    four = bound_of_bags("float32", [0, 2, 2, 1], [0], table, mode="mean")["output"].products
    assert four.squares().tolist() == [[(1 + 25 + 25 + 9) / 16, (4 + 0.25 + 0.25 + 16) / 16]]
    largest = bound_of_bags("float32", [0, 2, 0], [0, 1], table, 3.0, mode="max")["grad_weight"].products
    assert largest.squares().tolist() == [[9, 18], [0, 0], [9, 0]]


def test_errors_of_rows_are_added_before_the_store():
    """Sums without products: the errors alone, and what their own addition is rounded by."""
    contract, zero = strictest("float64"), np.zeros(1)
    rows = Bounded(np.ones(1), np.ones(1), contract)
    assert _with(Products(zero, zero, 0), rows, np.ones(1)).error == 1 + 2.0**-40


def test_a_mean_of_renormalized_rows_is_as_far_off_as_they_are(rng):
    table, norm = rng.standard_normal((1, 5)), {"max_norm": 0.5, "mode": "mean"}
    one = bound_of_bags("float32", [0], [0], table, **norm)
    many = bound_of_bags("float32", [0] * 8, [0], table, **norm)["output"]
    assert (one["weight"].error > 0).all() and (many.error < 8 * one["output"].error).all()


def test_a_product_with_a_renormalized_row_is_rounded(rng):
    """That the row has 53 bits says nothing of the bits of an implementation's row."""
    table, norm = np.array([[3.0]]), {"max_norm": 0.5, "mode": "sum"}
    bound = bound_of_bags("float64", [0], [0], table, weights=[1.0], **norm)
    rounding = strictest("float64").u * abs(bound["weight"].value)
    assert (bound["output"].error > bound["weight"].error + rounding).all()


def test_a_table_is_state_where_it_is_renormalized():
    assert EmbeddingBag(3, 2).buffers == () and EmbeddingBag(3, 2, max_norm=1.0).buffers == ("weight",)

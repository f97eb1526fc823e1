"""Adversaries of the reference of attention, and of its bounds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from parity_tests.selftest.laws import (
    exactly,
    finite_difference,
    fractions,
    inner,
    same_bits,
    same_numbers,
    within,
)
from refimpl import attention_bounds, execution
from refimpl.attention import (
    ScaledDotProductAttention,
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
)
from refimpl.attention_arithmetic import Bounds
from refimpl.attention_bounds import STORED_SCORES, bounded_scores, bounded_weights, either, product
from refimpl.attention_taps import read_keys, read_pairs, read_queries
from refimpl.error_bounds import Bounded, gamma, round_to, strictest
from refimpl.floats import outward
from refimpl.softmax import softmax

UNIT = np.finfo(np.float64).eps


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def test_two_keys_by_hand():
    """Scores ln 3 and 0 give weights 3/4 and 1/4."""
    query, key = np.array([[math.log(3.0)]]), np.array([[1.0], [0.0]])
    output = scaled_dot_product_attention(query, key, np.array([[8.0, 0.0], [0.0, 4.0]]))
    within(output, np.array([[6.0, 1.0]]), 16 * UNIT)


def test_equal_keys_average_and_causal_averages_of_what_was():
    value = np.array([[1.0], [2.0], [6.0]])
    same = np.ones((3, 2))
    within(scaled_dot_product_attention(same, same, value), np.full((3, 1), 3.0), 16 * UNIT)
    causal = scaled_dot_product_attention(same, same, value, is_causal=True)
    within(causal, np.array([[1.0], [1.5], [3.0]]), 16 * UNIT)


def test_a_query_without_keys_gets_zeros():
    """Also where in another batch, or for another query, the same keys are seen."""
    query, key, value, upstream = drawn((2, 3, 4), (2, 5, 4), (2, 5, 2), (2, 3, 2))
    mask = np.ones((2, 3, 5), dtype=bool)
    mask[0, 1] = False
    for given in (mask, np.where(mask, 0.0, -np.inf)):
        output = scaled_dot_product_attention(query, key, value, given)
        assert (output[0, 1] == 0).all() and np.isfinite(output).all()
        gradients = scaled_dot_product_attention_backward(upstream, query, key, value, given)
        assert (gradients[0][0, 1] == 0).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients[:3])


def test_default_scale_is_one_over_the_root_of_the_features():
    query, key, value = drawn((3, 16), (5, 16), (5, 2))
    same_bits(
        scaled_dot_product_attention(query, key, value),
        scaled_dot_product_attention(query, key, value, scale=0.25),
    )


def test_grouped_heads_are_repeated_heads():
    query, key, value, upstream = drawn((2, 6, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4), (2, 6, 3, 4))
    grouped = scaled_dot_product_attention(query, key, value, enable_gqa=True)
    repeated = [np.repeat(operand, 3, axis=1) for operand in (key, value)]
    same_bits(grouped, scaled_dot_product_attention(query, *repeated))
    gradient = scaled_dot_product_attention_backward(upstream, query, key, value, enable_gqa=True)[1]
    whole = scaled_dot_product_attention_backward(upstream, query, *repeated)[1]
    within(gradient, whole.reshape(2, 2, 3, 5, 4).sum(axis=2), 64 * UNIT)


@pytest.mark.parametrize(("keys", "values"), [(3, 2), (1, 6), (2, 1)])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)], ids=str)
def test_heads_are_grouped_below_any_number_of_leading_axes(leading, keys, values):
    query, key, value, mask, upstream = drawn(
        *((*leading, *sizes) for sizes in ((6, 3, 4), (keys, 6, 4), (values, 6, 2))),
        (3, 6),
        (*leading, 6, 3, 2),
    )
    repeated = np.repeat(key, 6 // keys, axis=-3), np.repeat(value, 6 // values, axis=-3)
    same_bits(
        scaled_dot_product_attention(query, key, value, mask, enable_gqa=True),
        scaled_dot_product_attention(query, *repeated, mask),
    )
    grouped = scaled_dot_product_attention_backward(upstream, query, key, value, mask, enable_gqa=True)
    whole = scaled_dot_product_attention_backward(upstream, query, *repeated, mask)
    within(grouped[1], whole[1].reshape(*leading, keys, -1, 6, 4).sum(axis=-3), 64 * UNIT)
    within(grouped[2], whole[2].reshape(*leading, values, -1, 6, 2).sum(axis=-3), 64 * UNIT)


@pytest.mark.parametrize(
    ("shapes", "arguments", "exception"),
    [
        (((6, 3, 4), (0, 5, 4), (6, 5, 4)), {"enable_gqa": True}, RuntimeError),
        (((6, 3, 4), (6, 5, 4), (0, 5, 4)), {"enable_gqa": True}, RuntimeError),
        (((3, 4), (5, 4), (5, 4)), {"enable_gqa": True}, RuntimeError),
        (((2, 6, 3, 4), (3, 2, 5, 4), (3, 2, 5, 4)), {"enable_gqa": True}, RuntimeError),
        (((3, 4), (5, 4), (5, 4)), {"dropout_p": -0.5}, RuntimeError),
        (((3, 4), (5, 4), (5, 4)), {"dropout_p": 1.5}, RuntimeError),
        (((3, 4), (5, 4), (5, 4)), {"dropout_p": 0.5}, NotImplementedError),
        (((3, 4), (5, 4), (5, 4)), {"dropout_p": 1.0}, NotImplementedError),
    ],
    ids=str,
)
def test_calls_that_cannot_be_are_refused(shapes, arguments, exception):
    with pytest.raises(exception):
        scaled_dot_product_attention(*drawn(*shapes), **arguments)


def test_the_order_of_keys_does_not_matter():
    query, key, value = drawn((3, 4), (7, 4), (7, 2))
    order = np.array([3, 1, 6, 0, 2, 5, 4])
    within(
        scaled_dot_product_attention(query, key[order], value[order]),
        scaled_dot_product_attention(query, key, value),
        64 * UNIT,
    )


def test_the_three_readings_are_sides_of_one_trilinear_form():
    """<pairs(q, k), p> = <q, queries(p, k)> = <k, keys(p, q)>, in exact arithmetic."""
    rng = np.random.default_rng(0)
    query, key, pair = fractions(rng, 2, 3, 4), fractions(rng, 2, 5, 4), fractions(rng, 2, 3, 5)
    form = inner(read_pairs(query, key), pair)
    assert form == inner(query, read_queries(pair, key)) == inner(key, read_keys(pair, query))
    same_numbers(read_pairs(query, key), np.einsum("ble,bse->bls", query, key))


def test_readings_of_floats_are_the_exact_sums_rounded_seldom():
    query, key = drawn((1, 2, 3), (1, 4, 3))
    exact = read_pairs(exactly(query), exactly(key)).astype(np.float64)
    within(read_pairs(query, key), exact, 4 * UNIT * read_pairs(np.abs(query), np.abs(key)))


@pytest.mark.parametrize("arguments", [{}, {"is_causal": True}, {"scale": -0.7}], ids=str)
def test_gradients_by_differences(arguments):
    arrays = drawn((2, 3, 4), (2, 5, 4), (2, 5, 2))
    (upstream,) = drawn((2, 3, 2), seed=1)
    expected = finite_difference(
        lambda *operands: scaled_dot_product_attention(*operands, **arguments), arrays, upstream
    )
    actual = scaled_dot_product_attention_backward(upstream, *arrays, **arguments)
    for gradient, (difference, error) in zip(actual, expected, strict=False):
        within(gradient, difference, error)


def test_gradient_of_a_mask_and_of_repeated_operands_by_differences():
    arrays = drawn((2, 2, 3, 4), (1, 2, 5, 4), (2, 1, 5, 2), (3, 1))
    (upstream,) = drawn((2, 2, 3, 2), seed=1)
    expected = finite_difference(scaled_dot_product_attention, arrays, upstream)
    actual = scaled_dot_product_attention_backward(upstream, *arrays)
    for gradient, (difference, error) in zip(actual, expected, strict=True):
        within(gradient, difference, error)


def test_compiled_is_interpreted_bit_for_bit():
    pytest.importorskip("numba")
    arrays = drawn((2, 3, 4), (2, 5, 4), (2, 5, 2))
    (upstream,) = drawn((2, 3, 2), seed=1)
    results = []
    for mode in ("interpreted", "compiled"):
        with execution(mode):
            results.append([scaled_dot_product_attention(*arrays)])
            results[-1] += scaled_dot_product_attention_backward(upstream, *arrays)[:3]
    for one, other in zip(*results, strict=True):
        same_bits(one, other)


def bounded(dtype, algorithm="direct", size=1.0):
    arrays = [round_to(dtype, size * array) for array in drawn((1, 5, 8), (1, 9, 8), (1, 9, 8))]
    (upstream,) = drawn((1, 5, 8), seed=1)
    contract = replace(strictest(dtype), algorithm=algorithm)
    return arrays, ScaledDotProductAttention().bounded(contract, tuple(arrays), (round_to(dtype, upstream),))


def with_stored(arrays, dtype, stored_scores):
    """What an implementation gives that rounds weights to the type, and perhaps the scores before."""
    query, key, value = arrays
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    scores = round_to(dtype, scores) if stored_scores else scores
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = round_to(dtype, weights / weights.sum(-1, keepdims=True))
    return round_to(dtype, weights @ value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_store_of_the_weights_is_needed_in_the_bound(dtype):
    """Without it, a correct implementation that multiplies rounded weights and values is out of bound."""
    arrays, results = bounded(dtype)
    output = results["output"]
    error = np.abs(with_stored(arrays, dtype, stored_scores=False) - output.value)
    assert (error <= output.error).all()
    without = output.contract.stored(output.value, np.zeros_like(output.value))
    assert (error > 1.1 * without).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_scores_are_a_contract_of_their_own(dtype):
    """Scores of 10 and more, rounded, change the weights by more than the strictest contract allows."""
    arrays, weaker = bounded(dtype, STORED_SCORES, size=4.0)
    strict = bounded(dtype, size=4.0)[1]["output"]
    error = np.abs(with_stored(arrays, dtype, stored_scores=True) - strict.value)
    assert (error <= weaker["output"].error).all()
    assert (error > strict.error).any()


def test_in_float32_nothing_is_stored_in_between():
    for name, result in bounded("float32")[1].items():
        same_bits(result.error, bounded("float32", STORED_SCORES)[1][name].error)


def test_either_is_as_wide_as_the_farther_way():
    contract = strictest("float32")
    first, second = (replace(contract.exact(np.array([1.0])), error=np.array([e])) for e in (0.5, 0.25))
    assert either(first, replace(second, value=np.array([2.0]))).error == [1.25]


@pytest.mark.parametrize("added", [False, True])
def test_the_bound_of_a_product_is_that_of_a_sum_of_products(added):
    """Three products of exact numbers, each with as many roundings as there are terms; a mask is one more,
    off by what it is off itself."""
    contract, off = strictest("float32"), 0.25 if added else 0.0
    first, second, mask = drawn((4, 2, 3), (4, 5, 3), (4, 2, 5))
    terms = 4 if added else 3
    size = np.abs(first) @ np.abs(second).swapaxes(-1, -2) + added * np.abs(mask) + off
    more = replace(contract.exact(mask), error=np.full(mask.shape, off)) if added else None
    result = product(*map(contract.exact, (first, second)), more)
    error = off + gamma(terms, contract.u) * size + terms * contract.eta
    same_bits(result.error, outward(error, 16 + 4 * 3))


def test_a_product_with_zero_and_an_infinite_one_are_exact():
    contract = strictest("float32")
    first, second = np.array([[[0.0, 0.0], [1.0, np.inf]]]), np.array([[[3.0, 4.0]]])
    result = product(contract.exact(first), contract.exact(second))
    assert result.value.tolist() == [[[0.0], [np.inf]]] and result.error.tolist() == [[[0.0], [0.0]]]


def test_sixteen_keys_are_one_tile_and_one_more_begins_another(monkeypatch):
    """The exponentials of the first tile are rescaled when the second one comes."""

    def width(keys):
        return bounded_weights(strictest("float32").exact(np.zeros((1, 1, keys))))[0].error.max()

    tiled = [width(keys) for keys in (16, 17)]
    monkeypatch.setattr(attention_bounds, "TILE", 1000)
    whole = [width(keys) for keys in (16, 17)]
    assert tiled[0] == whole[0] and tiled[1] > whole[1]


def test_relu_is_certain_where_its_input_is():
    """Inputs surely 0 or below, surely above, and either; where one may be 0 its gradient is either."""
    contract = strictest("float32")
    bounds = Bounds(contract)
    values, errors = (
        np.array([-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 2.0]),
        np.array([0.25, 0.5, 0, 0.5, 0.5, 0.25, 0]),
    )
    input = Bounded(values, errors, contract)
    output = bounds.activation("relu", input)
    assert output.value.tolist() == [0, 0, 0, 0, 0.5, 0.5, 2]
    assert output.error.tolist() == [0, 0, 0, 0.5, 0.5, 0.25, 0]
    upstream = Bounded(np.full(7, -3.0), np.full(7, 0.125), contract)
    gradient = bounds.activation_gradient("relu", upstream, input)
    assert gradient.value.tolist() == [0, 0, 0, 0, -3, -3, -3]
    assert gradient.error.tolist() == [0, 3.125, 0, 3.125, 3.125, 0.125, 0.125]


@pytest.mark.parametrize("size", [0.0, 0.01, 0.3, 2.0])
def test_whatever_the_scores_may_be_the_weights_are_inside(size):
    """Also where the largest scores are off by so much that, with another's shift, the total is below 1."""
    contract = strictest("float64")
    rng = np.random.default_rng(0)
    scores = 3.0 * rng.standard_normal((40, 1, 4))
    off = size * rng.random(scores.shape)
    for bound in bounded_weights(replace(contract.exact(scores), error=off)):
        for _ in range(40):
            moved = scores + off * rng.choice([-1.0, 1.0], scores.shape)
            within(softmax(moved, -1), bound.value, bound.error)


def test_products_may_be_added_to_a_bias_or_a_mask_one_by_one():
    """Each rounds what it is added to: 0.6 units in the last place."""
    contract, products = strictest("float32"), np.full((1, 1, 40), np.float32(0.6 * 2.0**-24))
    query, key, mask = map(contract.exact, (products, np.ones((1, 1, 40)), np.full((1, 1, 1), -0.75)))
    total = np.float32(-0.75)
    for term in products.flat:
        total = np.float32(total + term)
    mask_last, bound = product(query, key) + mask, product(query, key, mask)
    error = np.abs(float(total) - mask_last.value)
    assert mask_last.error < error <= bound.error
    assert error <= bounded_scores(query, key, mask, 1.0).error

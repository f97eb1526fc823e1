"""Adversaries of the reference of multi-head attention."""

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, same_bits, within
from refimpl.attention import scaled_dot_product_attention
from refimpl.linear import linear
from refimpl.multihead_attention import MultiheadAttention

UNIT = np.finfo(np.float64).eps


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def layer_of(seed=3, **arguments):
    """A layer with random parameters, biases too."""
    layer = MultiheadAttention(**{"embed_dim": 4, "num_heads": 2, **arguments})
    state = layer.state_dict()
    numbers = drawn(*(array.shape for array in state.values()), seed=seed)
    layer.load_state_dict(dict(zip(state, numbers, strict=True)))
    return layer


def test_one_head_of_identity_projections_is_plain_attention():
    layer = MultiheadAttention(3, 1, bias=False, batch_first=True)
    layer.load_state_dict({"in_proj_weight": np.tile(np.eye(3), (3, 1)), "out_proj.weight": np.eye(3)})
    query, key, value = drawn((2, 4, 3), (2, 5, 3), (2, 5, 3))
    output, weights = layer(query, key, value)
    within(output, scaled_dot_product_attention(query, key, value), 64 * UNIT)
    within(weights.sum(axis=-1), np.ones((2, 4)), 16 * UNIT)


def test_heads_by_hand():
    """Every head is an attention of its own features, the output a projection of all of them."""
    layer = layer_of()
    query, key, value = drawn((5, 1, 4), (7, 1, 4), (7, 1, 4))
    parts = zip(
        (query, key, value), np.split(layer.in_proj_weight, 3), np.split(layer.in_proj_bias, 3), strict=True
    )
    q, k, v = (linear(operand[:, 0], weight, bias) for operand, weight, bias in parts)
    heads = [scaled_dot_product_attention(q[:, h], k[:, h], v[:, h]) for h in (slice(0, 2), slice(2, 4))]
    state = layer.state_dict()
    expected = linear(np.concatenate(heads, axis=1), state["out_proj.weight"], state["out_proj.bias"])
    within(layer(query, key, value)[0][:, 0], expected, 256 * UNIT)


def test_layouts_are_the_same_numbers():
    operands = drawn((5, 3, 4), (7, 3, 4), (7, 3, 4))
    output, weights = layer_of()(*operands)
    first = layer_of(batch_first=True)(*(operand.swapaxes(0, 1) for operand in operands))
    same_bits(first[0], np.ascontiguousarray(output.swapaxes(0, 1)))
    alone = layer_of()(*(operand[:, 1] for operand in operands))
    same_bits(alone[0], output[:, 1].copy())
    same_bits(alone[1], weights[1].copy())


def test_masks_hide_with_true():
    layer = layer_of()
    operands = drawn((2, 1, 4), (3, 1, 4), (3, 1, 4))
    hidden = np.array([[False, True, False]])
    weights = layer(*operands, hidden, True, np.array([[False, False, True], [True, False, False]]), False)[1]
    assert (weights[0, :, 0] == [1.0, 0.0, 0.0]).all()
    assert (weights[0, :, 1] == [0.0, 0.0, 1.0]).all()


def test_zeros_and_learnt_keys_come_last_and_are_never_hidden():
    operands = drawn((2, 1, 4), (3, 1, 4), (3, 1, 4))
    layer = layer_of(add_bias_kv=True, add_zero_attn=True)
    weights = layer(*operands, np.array([[True, True, True]]))[1]
    assert weights.shape == (1, 2, 5)
    assert (weights[..., :3] == 0).all()
    assert (weights[..., 3:] > 0).all()


def test_nothing_to_see_is_the_bias_of_the_output():
    layer = layer_of()
    output, weights = layer(*drawn((2, 1, 4), (3, 1, 4), (3, 1, 4)), np.array([[True] * 3]), False)
    assert weights is None
    same_bits(output, np.broadcast_to(layer.state_dict()["out_proj.bias"], (2, 1, 4)).copy())


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "own", [{}, {"kdim": 3, "vdim": 5, "add_bias_kv": True, "add_zero_attn": True}], ids=str
)
def test_gradients_by_differences(own, need_weights):
    layer = layer_of(**own)
    arrays = drawn((3, 2, 4), (2, 2, layer.kdim), (2, 2, layer.vdim))
    names, state = list(layer.state_dict()), layer.state_dict()
    ups = drawn(
        *(output.shape for output in layer(*arrays, None, need_weights) if output is not None), seed=1
    )
    upstream = np.concatenate([up.ravel() for up in ups])

    def flat(*operands):
        layer.load_state_dict(dict(zip(names, operands[3:], strict=True)))
        results = layer(*operands[:3], None, need_weights)
        return np.concatenate([result.ravel() for result in results if result is not None])

    expected = finite_difference(flat, [*arrays, *state.values()], upstream)
    layer.load_state_dict(state)
    layer(*arrays, None, need_weights)
    actual = [*layer.backward(*ups), *(layer.grads[name] for name in names)]
    for gradient, (difference, error) in zip(actual, expected, strict=True):
        within(gradient, difference, error)


def test_self_attention_adds_the_three_gradients():
    layer = layer_of()
    (same,), ups = drawn((3, 2, 4)), drawn((3, 2, 4), (2, 3, 3), seed=1)
    layer(same, same.copy(), same.copy())
    apart = layer.backward(*ups)
    layer(same, same, same)
    within(layer.backward(*ups), sum(apart), 64 * UNIT)


def test_one_feature_in_one_head():
    layer = MultiheadAttention(1, 1, bias=False)
    layer.load_state_dict({"in_proj_weight": np.ones((3, 1)), "out_proj.weight": np.full((1, 1), 2.0)})
    output, weights = layer(np.zeros((1, 1)), np.zeros((2, 1)), np.array([[3.0], [5.0]]))
    assert output.tolist() == [[8.0]] and weights.tolist() == [[0.5, 0.5]]


def test_every_head_of_every_sequence_has_a_mask_of_its_own():
    """Two sequences, two heads: each sees two of four keys, and no other sees the same two."""
    layer = layer_of(batch_first=True)
    seen = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    hidden = np.ones((4, 3, 4), dtype=bool)
    for head, keys in enumerate(seen):
        hidden[head][:, keys] = False
    weights = layer(*drawn((2, 3, 4), (2, 4, 4), (2, 4, 4)), None, True, hidden, False)[1]
    assert np.array_equal(weights > 0, ~hidden.reshape(2, 2, 3, 4))


def test_dropout_is_refused_in_training_and_takes_no_part_in_evaluation():
    operands = drawn((2, 1, 4), (3, 1, 4), (3, 1, 4))
    layer, plain = layer_of(dropout=0.5), layer_of()
    with pytest.raises(NotImplementedError):
        layer(*operands)
    same_bits(layer.eval()(*operands)[0], plain(*operands)[0])


@pytest.mark.parametrize(
    ("exception", "masks"),
    [
        (AssertionError, {"key_padding_mask": (7,)}),
        (AssertionError, {"key_padding_mask": (3, 5, 7)}),
        (AssertionError, {"key_padding_mask": (3, 5)}),
        (AssertionError, {"attn_mask": (7,)}),
        (AssertionError, {"attn_mask": (1, 2, 5, 7)}),
        (RuntimeError, {"attn_mask": (7, 5)}),
        (RuntimeError, {"attn_mask": (2, 5, 7)}),
    ],
    ids=str,
)
def test_masks_of_other_shapes_are_refused(exception, masks):
    given = {name: np.zeros(shape, dtype=bool) for name, shape in masks.items()}
    padding, mask = given.get("key_padding_mask"), given.get("attn_mask")
    with pytest.raises(exception, match="MultiheadAttention"):
        layer_of()(*drawn((5, 3, 4), (7, 3, 4), (7, 3, 4)), padding, True, mask)

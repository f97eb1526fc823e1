"""Adversaries of the references of transformer layers."""

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, within
from refimpl.attention_arithmetic import Bounds
from refimpl.error_bounds import Bounded, strictest
from refimpl.group_norm import layer_norm
from refimpl.linear import linear
from refimpl.multihead_attention import MultiheadAttention
from refimpl.transformer import TransformerDecoderLayer, TransformerEncoderLayer

UNIT = np.finfo(np.float64).eps
SMALL = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0}


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def layer_of(kind, **arguments):
    layer = kind(**SMALL, **arguments)
    state = layer.state_dict()
    numbers = drawn(*(array.shape for array in state.values()), seed=3)
    layer.load_state_dict(dict(zip(state, numbers, strict=True)))
    return layer


def test_an_encoder_layer_is_its_parts():
    layer = layer_of(TransformerEncoderLayer)
    state = layer.state_dict()
    attention = MultiheadAttention(4, 2)
    attention.load_state_dict(
        {
            name.removeprefix("self_attn."): array
            for name, array in state.items()
            if name.startswith("self_attn.")
        }
    )
    (source,) = drawn((5, 3, 4))

    def norm(place, x):
        return layer_norm(x, (4,), state[f"norm{place}.weight"], state[f"norm{place}.bias"])

    x = norm(1, source + attention(source, source, source)[0])
    inner = np.maximum(linear(x, state["linear1.weight"], state["linear1.bias"]), 0.0)
    expected = norm(2, x + linear(inner, state["linear2.weight"], state["linear2.bias"]))
    within(layer(source), expected, 1024 * UNIT * np.abs(expected).max())


def test_blocks_of_zero_leave_the_input_alone():
    """With norm_first the way around the blocks is free."""
    layer = TransformerDecoderLayer(**SMALL, norm_first=True)
    layer.load_state_dict({name: 0 * array for name, array in layer.state_dict().items()})
    target, memory = drawn((5, 3, 4), (7, 3, 4))
    assert (layer(target, memory) == target).all()


def test_a_causal_encoder_does_not_look_ahead():
    layer = layer_of(TransformerEncoderLayer, batch_first=True)
    mask = np.triu(np.ones((5, 5), dtype=bool), 1)
    source, other = drawn((1, 5, 4), (1, 5, 4))
    other[:, :3] = source[:, :3]
    first, second = layer(source, mask), layer(other, mask)
    assert (first[:, :3] == second[:, :3]).all()
    assert (first[:, 3:] != second[:, 3:]).all()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", [TransformerEncoderLayer, TransformerDecoderLayer])
def test_gradients_by_differences(kind, norm_first):
    layer = layer_of(kind, activation="gelu", norm_first=norm_first)
    arrays = drawn((3, 2, 4), (2, 2, 4))[: 1 + (kind is TransformerDecoderLayer)]
    (upstream,) = drawn((3, 2, 4), seed=1)
    state = layer.state_dict()

    def called(*operands):
        layer.load_state_dict(dict(zip(state, operands[len(arrays) :], strict=True)))
        return layer(*operands[: len(arrays)])

    expected = finite_difference(called, [*arrays, *state.values()], upstream)
    layer.load_state_dict(state)
    layer(*arrays)
    of_inputs = layer.backward(upstream)
    of_inputs = of_inputs if isinstance(of_inputs, tuple) else (of_inputs,)
    actual = [*of_inputs, *(layer.grads[name] for name in state)]
    for gradient, (difference, error) in zip(actual, expected, strict=True):
        within(gradient, difference, error)


def test_relu_has_either_slope_where_its_argument_has_either_sign():
    contract = strictest("float32")
    arithmetic = Bounds(contract)
    near = Bounded(np.array([0.5, -0.5, 2.0]), np.ones(3), contract)
    gradient = arithmetic.activation_gradient("relu", contract.exact(np.full(3, 3.0)), near)
    assert gradient.value.tolist() == [3.0, 0.0, 3.0]
    assert gradient.error.tolist() == [3.0, 3.0, 0.0]


def test_norm_of_numbers_that_are_off_covers_what_they_may_be():
    contract = strictest("float64")
    value, apart = drawn((6, 8), (6, 8))
    off = 1e-3 * np.abs(apart)
    weight, bias = drawn((8,), (8,), seed=2)
    bounded = Bounds(contract).norm(Bounded(value, off, contract), weight, bias, 1e-5)
    for side in (-1.0, 0.5, 1.0):
        moved = layer_norm(value + side * off * np.sign(apart), (8,), weight, bias)
        assert (np.abs(moved - bounded.value) <= bounded.error).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_sequence_whose_keys_are_all_hidden_is_what_passes_around_its_attention(norm_first):
    """The heads of such a query are 0, not NaN: the bias of the projection is all that the block adds."""
    hidden, arguments = np.array([[True] * 3, [False] * 3]), {"norm_first": norm_first, "batch_first": True}
    target, memory = drawn((2, 3, 4), (2, 3, 4))
    encoder, decoder = (
        layer_of(kind, **arguments) for kind in (TransformerEncoderLayer, TransformerDecoderLayer)
    )
    outputs = [
        encoder(target, None, hidden),
        decoder(target, memory, None, None, hidden),
        decoder(target, memory, None, None, None, hidden),
    ]
    assert all(np.isfinite(output).all() for output in outputs)
    other = memory + hidden[..., None]
    assert (decoder(target, other, None, None, None, hidden) == outputs[2]).all()


@pytest.mark.parametrize("kind", [TransformerEncoderLayer, TransformerDecoderLayer])
def test_parts_train_and_are_evaluated_with_their_layer(kind):
    layer = layer_of(kind)
    for training, set_ in ((False, layer.eval), (True, layer.train), (False, lambda: layer.train(False))):
        set_()
        assert [layer.training, *(part.training for part in layer.parts().values())] == [training] * (
            1 + len(layer.parts())
        )

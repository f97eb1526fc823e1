"""Adversaries of the references of stacked transformer layers."""

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, same_bits, within
from refimpl.group_norm import LayerNorm, layer_norm
from refimpl.transformer import TransformerDecoderLayer, TransformerEncoderLayer
from refimpl.transformer_stack import Transformer, TransformerDecoder, TransformerEncoder

UNIT = np.finfo(np.float64).eps
SMALL = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0}
COUNTS = {"num_encoder_layers": 2, "num_decoder_layers": 2}


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def filled(layer):
    state = layer.state_dict()
    numbers = drawn(*(array.shape for array in state.values()), seed=3)
    layer.load_state_dict(dict(zip(state, numbers, strict=True)))
    return layer


def encoder(norm=None, layers=2, **more):
    return filled(TransformerEncoder(TransformerEncoderLayer(**SMALL, **more), layers, norm))


def decoder(norm=None, layers=2, **more):
    return filled(TransformerDecoder(TransformerDecoderLayer(**SMALL, **more), layers, norm))


MODELS = {
    "encoder": (lambda: encoder(LayerNorm(4)), ((3, 2, 4),)),
    "encoder_without_norm": (lambda: encoder(norm_first=True), ((3, 2, 4),)),
    "encoder_plain_norm": (lambda: encoder(LayerNorm(4, elementwise_affine=False)), ((3, 2, 4),)),
    "decoder": (lambda: decoder(LayerNorm(4, bias=False)), ((3, 2, 4), (2, 2, 4))),
    "decoder_without_norm": (lambda: decoder(norm_first=True, layers=3), ((3, 2, 4), (2, 2, 4))),
    "transformer": (lambda: filled(Transformer(**SMALL, **COUNTS)), ((3, 2, 4), (2, 2, 4))),
    "transformer_without_bias": (
        lambda: filled(Transformer(**SMALL, **COUNTS, bias=False, batch_first=True)),
        ((2, 3, 4), (2, 2, 4)),
    ),
}


@pytest.fixture(params=MODELS)
def model_and_inputs(request):
    make, shapes = MODELS[request.param]
    return make(), drawn(*shapes)


def test_an_encoder_is_its_layers_and_its_norm():
    stack = encoder(LayerNorm(4))
    (x,) = drawn((3, 2, 4))
    mask, padding = np.eye(3, k=1, dtype=bool), np.array([[False, False, True], [False, True, False]])
    expected = x
    for layer in stack.layers:
        expected = layer(expected, mask, padding)
    state = stack.state_dict()
    expected = layer_norm(expected, (4,), state["norm.weight"], state["norm.bias"])
    same_bits(stack(x, mask, padding), expected)


def test_every_decoder_layer_looks_at_the_same_memory():
    stack = decoder()
    target, memory = drawn((3, 2, 4), (5, 2, 4))
    masks = (np.eye(3, k=1, dtype=bool), np.eye(3, 5, k=2, dtype=bool))
    same_bits(
        stack(target, memory, *masks),
        stack.layers[1](stack.layers[0](target, memory, *masks), memory, *masks),
    )


def test_a_transformer_is_a_decoder_of_an_encoder():
    model = filled(Transformer(**SMALL, **COUNTS))
    source, target = drawn((3, 2, 4), (5, 2, 4))
    of_source, of_target, of_memory = (np.eye(n, k=1, dtype=bool) for n in (3, 5, 5))
    paddings = [np.array([[False] * (n - 1) + [True]] * 2) for n in (3, 5, 3)]
    memory = model.encoder(source, of_source, paddings[0])
    expected = model.decoder(target, memory, of_target, of_memory[:, :3], *paddings[1:])
    same_bits(model(source, target, of_source, of_target, of_memory[:, :3], *paddings), expected)


def test_the_memory_has_a_gradient_from_every_layer():
    """It is the sum of what each layer gives by itself, all other layers' memories held fast."""
    stack = decoder()
    target, memory, upstream = drawn((3, 2, 4), (5, 2, 4), (3, 2, 4))
    first, second = stack.layers
    between = first(target, memory)
    second(between, memory)
    up, of_second = second.backward(upstream)
    first(target, memory)
    of_target, of_first = first.backward(up)
    stack(target, memory)
    whole = stack.backward(upstream)
    same_bits(whole[0], of_target)
    within(whole[1], of_first + of_second, 4 * UNIT * (np.abs(of_first) + np.abs(of_second)))


def test_gradients_along_lines_by_differences(model_and_inputs):
    """Along random lines through all operands and parameters at once."""
    model, inputs = model_and_inputs
    state = model.state_dict()
    start = [*inputs, *state.values()]
    upstream = drawn(*model.output_shapes(*inputs), seed=1)[0]

    def called(operands):
        model.load_state_dict(dict(zip(state, operands[len(inputs) :], strict=True)))
        return model(*operands[: len(inputs)])

    called(start)
    of_inputs = model.backward(upstream)
    of_inputs = of_inputs if isinstance(of_inputs, tuple) else (of_inputs,)
    gradients = [*of_inputs, *(model.grads[name] for name in state)]
    for seed in range(4):
        line = drawn(*(array.shape for array in start), seed=10 + seed)
        ((slope, error),) = finite_difference(
            lambda t, line=line: called([a + t[0] * d for a, d in zip(start, line, strict=True)]),
            [np.zeros(1)],
            upstream,
        )
        terms = [gradient * d for gradient, d in zip(gradients, line, strict=True)]
        size = sum(np.abs(term).sum() for term in terms)
        within(np.array([sum(term.sum() for term in terms)]), slope, error + 64 * UNIT * size)


def test_layers_are_copies_with_parameters_of_their_own():
    layer = TransformerEncoderLayer(**SMALL)
    stack = TransformerEncoder(layer, 2)
    (x,) = drawn((3, 2, 4))
    same_bits(stack(x), layer(layer(x)))
    changed = {name: array + name.startswith("layers.1.") for name, array in stack.state_dict().items()}
    stack.load_state_dict(changed)
    same_bits(stack.layers[0](x), layer(x))


def test_a_hint_changes_nothing():
    stack, model = decoder(), filled(Transformer(**SMALL, **COUNTS))
    target, memory = drawn((3, 2, 4), (5, 2, 4))
    causal = np.triu(np.ones((3, 3), dtype=bool), 1)
    same_bits(stack(target, memory, causal), stack(target, memory, causal, None, None, None, True))
    hinted = model(memory, target, None, causal, None, None, None, None, None, True)
    same_bits(hinted, model(memory, target, None, causal))


def test_training_and_evaluation_reach_every_layer():
    model = Transformer(**{**SMALL, "dropout": 0.5}, **COUNTS)
    source, target = drawn((3, 2, 4), (5, 2, 4))
    with pytest.raises(NotImplementedError):
        model(source, target)
    assert model.eval()(source, target).shape == target.shape


@pytest.mark.parametrize(("batch_first", "axis"), [(False, 1), (True, 0)])
def test_batches_of_source_and_target_must_agree(batch_first, axis):
    model = Transformer(**SMALL, **COUNTS, batch_first=batch_first)
    sizes = [3, 3, 4]
    sizes[axis] = 2
    source, target = drawn((3, 3, 4), sizes)
    with pytest.raises(RuntimeError, match="batches of different size"):
        model(source, target)


def test_unknown_keys_and_other_norms_are_refused():
    stack = encoder()
    with pytest.raises(RuntimeError, match="not known"):
        stack.load_state_dict(stack.state_dict() | {"norm.weight": np.ones(4)})
    with pytest.raises(NotImplementedError):
        TransformerEncoder(TransformerEncoderLayer(**SMALL), 1, norm=TransformerEncoderLayer(**SMALL))

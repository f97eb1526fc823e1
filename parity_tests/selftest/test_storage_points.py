"""Every store that the docstrings of recurrent and attention layers allow is needed in the bounds.

The layers are written once in the operations of an arithmetic.  Here a third one is a correct candidate: it
computes in float64 and rounds to the half type at every named point.  Within the bounds it must be; with one
store left out of the bounds it is beyond them, for numbers that bring that point out.
"""

from dataclasses import replace

import numpy as np
import pytest

from refimpl import attention_arithmetic as composite
from refimpl import attention_bounds as within_attention
from refimpl import multihead_attention, recurrent, transformer
from refimpl import recurrent_arithmetic as steps
from refimpl.attention import ScaledDotProductAttention
from refimpl.bounded import without_store
from refimpl.error_bounds import round_to, strictest
from refimpl.multihead_attention import MultiheadAttention, named
from refimpl.transformer import TransformerDecoderLayer, TransformerEncoderLayer

HALF = ("float16", "bfloat16")
ROWS = 1500  # sequences: so many that the worst of them comes near to a bound
SEEDS = 8  # how often that is tried with other parameters


class StoringSteps(steps.Plain):
    """Recurrent layers in float64, rounded at every storage point."""

    def __init__(self, dtype):
        self.rounded = lambda x: round_to(dtype, x)

    def store(self, x, point):
        return self.rounded(x)

    def total(self, first, second):
        return self.rounded(first + second)

    def affine(self, x, weight, bias, point):
        return self.rounded(x @ weight.T + (0.0 if bias is None else bias))

    def input_gradient(self, g, weight, point=""):
        return self.rounded(g @ weight)

    def weight_gradient(self, g, x):
        return self.rounded(g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1]))

    recurrent_gradient = weight_gradient

    def bias_gradient(self, g):
        return self.rounded(super().bias_gradient(g))

    recurrent_bias_gradient = bias_gradient


def filled(layer, dtype, rng, scales):
    """Parameters in [-1.5, 1.5], those of each gate (or whole ones, by name) times a factor."""
    state = {}
    for name, array in layer.state_dict().items():
        values = rng.uniform(-1.5, 1.5, array.shape)
        state[name] = round_to(dtype, values * scales(name, array.shape))
    layer.load_state_dict(state)
    return layer


def of_gates(cell, hidden, gates):
    """Factor 1 for the input's weights of these gates, 0 for all others; None: 1 for all."""

    def scales(name, shape):
        if gates is None or name.startswith("weight_hr"):
            return 1.0
        kept = np.isin(np.arange(cell.gates), gates).repeat(hidden)
        kept = kept & name.startswith("weight_ih")
        return kept.reshape(-1, *[1] * (len(shape) - 1))

    return scales


def utilisation(actual, bounds, names):
    worst = 0.0
    for name in names:
        error = np.abs(actual[name] - bounds[name].value)
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = max(worst, np.where(error == 0, 0.0, error / bounds[name].error).max(initial=0.0))
    return worst


def with_and_without(point, actual, evaluated, results):
    """Largest error / bound in the tensors that the store concerns, with it and without it.

    Of results with these names, which it ends, the store is no matter of the bound: they are stored again."""
    with np.errstate(all="ignore"):
        full = evaluated()
        with without_store(point):
            less = evaluated()
    assert utilisation(actual, full, full) <= 1
    less = {name: bound.store() if name.startswith(results) else bound for name, bound in less.items()}
    names = [name for name in full if (less[name].error < full[name].error).any()]
    assert names, f"no bound knows the store {point!r}"
    return utilisation(actual, full, names), utilisation(actual, less, names)


def shown_needed(what, point, case, results=()):
    """A correct candidate is within the bounds, and beyond them without one store, for some numbers."""
    for seed in range(SEEDS):
        full, narrow = with_and_without(point, *case(seed), results)
        if narrow > 1:
            break
    print(f"{what}: {point}: error / bound {full:.2f}, without that store {narrow:.2f}")
    assert narrow > 1


# Layer, its constructor's arguments, and for each point the gates whose input weights are not 0 (None: all).
RECURRENT = [
    ("RNNCell", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.STATE: None}),
    ("RNNCell", {}, {steps.GATE_GRADIENT: [0]}),
    ("LSTMCell", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.STATE: None}),
    ("LSTMCell", {}, {steps.GATES: None, steps.GATE_GRADIENT: [1]}),
    ("GRUCell", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.GATES: None}),
    ("GRUCell", {}, {steps.GATE_GRADIENT: [1], steps.STATE_GRADIENT: None}),
    ("RNN", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.STATE: None}),
    ("RNN", {}, {steps.GATE_GRADIENT: [0], steps.STATE_GRADIENT: None}),
    ("LSTM", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.STATE: None}),
    ("LSTM", {}, {steps.GATES: None, steps.GATE_GRADIENT: [3]}),
    ("LSTM", {"hidden_size": 2, "proj_size": 1}, {steps.STATE_GRADIENT: [3], steps.PROJECTION: []}),
    ("GRU", {}, {steps.INPUT_PRODUCT: None, steps.HIDDEN_PRODUCT: None, steps.STATE: None}),
    ("GRU", {}, {steps.GATES: None, steps.GATE_GRADIENT: [1], steps.STATE_GRADIENT: None}),
]


def recurrent_case(name, arguments, gates, dtype, seed):
    """Bounds of a layer of one feature under its contract, as a function, and what the candidate gives."""
    rng = np.random.default_rng(seed)
    layer = getattr(recurrent, name)(**{"input_size": 1, "hidden_size": 1, **arguments})
    filled(layer, dtype, rng, of_gates(layer.cell, layer.hidden_size, gates))
    steps_of, one = ((), ()) if name.endswith("Cell") else ((2,), (1,))
    sizes = (arguments.get("proj_size", layer.hidden_size), layer.hidden_size)[: layer.cell.states]
    states = tuple(round_to(dtype, rng.standard_normal((*one, ROWS, size))) for size in sizes)
    hx = states if len(states) > 1 else states[0]
    arranged = layer._arranged(round_to(dtype, rng.standard_normal((*steps_of, ROWS, 1))), hx, None)
    outputs = layer._evaluate(StoringSteps(dtype), hx, arranged, None).values()
    ups = tuple(round_to(dtype, rng.standard_normal(output.shape)) for output in outputs)
    actual = layer._evaluate(StoringSteps(dtype), hx, arranged, ups)
    return actual, lambda: layer._evaluate(steps.Tracked(strictest(dtype)), hx, arranged, ups)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("name", "arguments", "points"), RECURRENT)
def test_recurrent_stores_are_needed(name, arguments, points, dtype):
    ends = {steps.STATE: ("output",), steps.STATE_GRADIENT: ("grad_input1", "grad_input2")}
    for point, gates in points.items():
        shown_needed(
            f"{name} {dtype}",
            point,
            lambda seed, gates=gates: recurrent_case(name, arguments, gates, dtype, seed),
            ends.get(point, ()),
        )


def test_every_name_of_a_recurrent_store_is_explained_and_shown():
    shown = {point for _, _, points in RECURRENT for point in points}
    assert all(f"\n    {point} " in recurrent.__doc__ for point in shown)
    names = {value for name, value in vars(steps).items() if name.isupper() and name != "STORED"}
    assert shown == names


class StoringParts(composite.Loops):
    """Attention layers in float64, rounded at every storage point; scores too where weights are an output."""

    def __init__(self, dtype, stored_scores=False):
        self.rounded = lambda x: round_to(dtype, x)
        self.score = self.rounded if stored_scores else lambda x: x

    def affine(self, input, weight, bias):
        return self.rounded(input @ weight.T + (0.0 if bias is None else bias))

    def affine_gradients(self, grad_output, input, weight):
        rows, inputs = (x.reshape(-1, x.shape[-1]) for x in (grad_output, input))
        return self.rounded(grad_output @ weight), self.rounded(rows.T @ inputs), self.total(grad_output)

    def attention(self, query, key, value, mask, scale, safe):
        root = np.sqrt(scale)
        scores = self.score(self.score(query * root) @ (key * root).swapaxes(1, 2))
        scores = self.score(scores + mask) if mask.any() else scores
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        weights = self.rounded(exponentials / exponentials.sum(-1, keepdims=True))
        return self.rounded(weights @ value), weights, (query, key, value, weights, root)

    def attention_gradients(self, saved, grad_output, grad_weights):
        query, key, value, weights, root = saved
        up = self.score(grad_output @ value.swapaxes(1, 2))
        up = up if grad_weights is None else self.score(up + grad_weights)
        pair = self.rounded(weights * (up - (weights * up).sum(-1, keepdims=True)))
        grad_query = self.score(pair @ (key * root)) * root
        grad_key = pair.swapaxes(1, 2) @ self.score(query * root) * root
        gradients = (grad_query, grad_key, weights.swapaxes(1, 2) @ grad_output)
        return tuple(self.rounded(gradient) for gradient in gradients)

    def norm(self, input, weight, bias, eps):
        return self.rounded(self._normalized(input, eps)[0] * weight + (0.0 if bias is None else bias))

    def _normalized(self, input, eps):
        slope = 1.0 / np.sqrt(input.var(-1, keepdims=True) + eps)
        return (input - input.mean(-1, keepdims=True)) * slope, slope

    def norm_gradients(self, grad_output, input, weight, eps):
        normalized, slope = self._normalized(input, eps)
        up = grad_output * weight
        share = normalized * (up * normalized).mean(-1, keepdims=True)
        grad_weight = (grad_output * normalized).reshape(-1, input.shape[-1]).sum(0)
        grad_input = (up - up.mean(-1, keepdims=True) - share) * slope
        return self.rounded(grad_input), self.rounded(grad_weight), self.total(grad_output)

    def activation(self, name, input):
        return self.rounded(super().activation(name, input))

    def activation_gradient(self, name, grad_output, input):
        return self.rounded(super().activation_gradient(name, grad_output, input))

    def add(self, *operands):
        total = operands[0]
        for operand in operands[1:]:
            total = self.rounded(total + operand)
        return total

    def total(self, operand):
        return self.rounded(super().total(operand))

    def mean(self, operand, axis):
        return self.rounded(super().mean(operand, axis))

    def divided(self, operand, by):
        return self.rounded(operand / by)


def composite_case(kind, dtype, seed, scales, features=1, lengths=(1, 3), stored=False, **arguments):
    """As `recurrent_case`, of an attention or a transformer's layer; parameters times factors by name."""

    def factor(name, shape):
        return next((factor for part, factor in scales.items() if part in name), 1.0)

    rng = np.random.default_rng(seed)
    of_layer = () if kind is MultiheadAttention else (2, 0.0)
    layer = filled(kind(features, 1, *of_layer, batch_first=True, **arguments), dtype, rng, factor)
    first, second = (ROWS // features, lengths[0], features), (ROWS // features, lengths[1], features)
    shapes = {
        MultiheadAttention: (first, second, second),
        TransformerEncoderLayer: (first,),
        TransformerDecoderLayer: (first, second),
    }[kind]
    inputs = tuple(round_to(dtype, rng.standard_normal(shape)) for shape in shapes)
    ups = (round_to(dtype, rng.standard_normal(first)),)
    contract = strictest(dtype)
    if kind is not MultiheadAttention:
        return (
            named(*layer._everything(StoringParts(dtype), ups, inputs)),
            lambda: named(*layer._everything(composite.Bounds(contract), ups, inputs)),
        )
    call = layer._call(*inputs, None, stored)
    if stored:
        contract = replace(contract, algorithm=within_attention.STORED_SCORES)
        ups += (round_to(dtype, rng.standard_normal((first[0], *lengths))),)
    return (
        named(*layer._everything(StoringParts(dtype, stored), call, ups)),
        lambda: named(*layer._everything(composite.Bounds(contract), call, ups)),
    )


def attention_case(dtype, seed, size, masked=False, stored=False, scale=1.0):
    """As `recurrent_case`: one query and two keys of one feature, scores of a size."""
    rng = np.random.default_rng(seed)
    sizes = (size, size, 1.0, 1.0)
    shapes = ((ROWS, 1, 1), (ROWS, 2, 1), (ROWS, 2, 1), (ROWS, 1, 1))
    query, key, value, up = (
        round_to(dtype, s * rng.standard_normal(shape)) for s, shape in zip(sizes, shapes, strict=True)
    )
    mask = (round_to(dtype, rng.standard_normal((ROWS, 1, 2))),) if masked else ()
    contract = replace(strictest(dtype), algorithm=within_attention.STORED_SCORES if stored else "direct")
    candidate = StoringParts(dtype, stored)
    no_mask = np.zeros((1, 1, 1))
    output, _, saved = candidate.attention(query, key, value, (*mask, no_mask)[0], scale, True)
    gradients = candidate.attention_gradients(saved, up, None)
    actual = {"output": output} | {f"grad_input{i}": gradient for i, gradient in enumerate(gradients)}
    layer = ScaledDotProductAttention(scale=scale)

    def evaluated():
        bounds = layer.bounded(contract, (query, key, value, *mask), (up,))
        return {name: bounds[name] for name in actual}

    return actual, evaluated


# Size of queries and keys, other arguments of `attention_case`, and the points that they show.
ATTENTION = [
    (1.0, {}, within_attention.WEIGHTS),
    (4.0, {}, within_attention.SCORE_GRADIENT),
    (4.0, {"stored": True}, within_attention.SCORES),
    (0.3, {"stored": True, "masked": True}, within_attention.MASKED_SCORES),
    (4.0, {"stored": True, "scale": 0.7}, within_attention.SCALED_QUERY),
]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("size", "arguments", "point"), ATTENTION)
def test_stores_of_attention_are_needed(size, arguments, point, dtype):
    what = f"scaled_dot_product_attention {dtype}"
    shown_needed(what, point, lambda seed: attention_case(dtype, seed, size, **arguments))


def test_the_store_of_the_gradient_of_the_weights_is_hidden_by_another_way():
    """sum(weight * up) may be taken as sum(output * grad_output), which is off by as much."""
    for dtype in HALF:
        point, case = within_attention.WEIGHT_GRADIENT, attention_case(dtype, 0, 1.0, stored=True)
        full, narrow = with_and_without(point, *case, ())
        print(f"scaled_dot_product_attention {dtype}: {point}: {full:.2f}, without that store {narrow:.2f}")
        assert full < narrow <= 1


# Factors of parameters, lengths of query and key, points and the results that they end.
MULTIHEAD = [
    ({"bias": 0.0, "in_proj": 3.0}, (1, 3), composite.LINEAR, ("output",)),
    ({"bias": 0.0}, (1, 3), within_attention.WEIGHTS, ()),
    ({"bias": 0.0, "out_proj": 3.0}, (2, 2), within_attention.HEADS, ()),
    ({"bias": 0.0}, (1, 3), composite.LINEAR_GRADIENT, ("grad_input",)),
    ({"bias": 0.0}, (1, 3), within_attention.OPERAND_GRADIENT, ()),
]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("scales", "lengths", "point", "results"), MULTIHEAD)
def test_stores_of_multi_head_attention_are_needed(scales, lengths, point, results, dtype):
    def case(seed):
        return composite_case(MultiheadAttention, dtype, seed, scales, lengths=lengths)

    shown_needed(f"MultiheadAttention {dtype}", point, case, results)


# What comes behind a part of a transformer's layer, with operands x, y, up of (ROWS, 3) and a weight (3, 3).
BEHIND = {
    composite.LINEAR: lambda a, x, y, up, w: a.affine(a.affine(x, w, None), w, None),
    composite.NORM: lambda a, x, y, up, w: a.affine(a.norm(x, w[0], w[1], 1e-5), w, None),
    composite.SUM: lambda a, x, y, up, w: a.affine(a.add(x, y), w, None),
    composite.ACTIVATION: lambda a, x, y, up, w: a.affine(a.activation("gelu", x), w, None),
    composite.LINEAR_GRADIENT: lambda a, x, y, up, w: back(a, back(a, up, x, w), x, w),
    composite.NORM_GRADIENT: lambda a, x, y, up, w: back(a, a.norm_gradients(up, x, w[0], 1e-5)[0], x, w),
    composite.ACTIVATION_GRADIENT: lambda a, x, y, up, w: back(a, a.activation_gradient("gelu", up, x), x, w),
}


def back(arithmetic, up, x, weight):
    return arithmetic.affine_gradients(up, x, weight)[0]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("point", BEHIND)
def test_stores_between_the_parts_of_a_layer_are_needed(point, dtype):
    """A part of a transformer's layer and the linear layer behind it."""
    results = ("result",) if point in (composite.LINEAR, composite.LINEAR_GRADIENT) else ()

    def case(seed):
        rng = np.random.default_rng(seed)
        x, y, up, weight = (
            round_to(dtype, rng.standard_normal(shape)) for shape in ((ROWS, 3),) * 3 + ((3, 3),)
        )
        bounds = composite.Bounds(strictest(dtype))
        exact = [bounds.exact(operand) for operand in (x, y, up)]
        actual = {"result": BEHIND[point](StoringParts(dtype), x, y, up, weight)}
        return actual, lambda: {"result": BEHIND[point](bounds, *exact, weight)}

    shown_needed(f"parts of a transformer's layer {dtype}", point, case, results)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", [TransformerEncoderLayer, TransformerDecoderLayer])
def test_slack_of_the_stores_of_a_whole_layer(kind, dtype):
    """Behind all parts of a layer the worst of all roundings do not meet: what is left is printed."""
    arguments = {"features": 4, "lengths": (2, 2), "norm_first": True, "activation": "gelu"}
    case = composite_case(kind, dtype, 0, {"weight": 0.3}, **arguments)
    for point in BEHIND:
        results = ("output", "grad_input") if point == composite.SUM else ()
        full, narrow = with_and_without(point, *case, results)
        print(f"{kind.__name__} {dtype}: {point}: {full:.2f}, without that store {narrow:.2f}")


def test_every_name_of_a_store_of_attention_is_explained_and_shown():
    shown = {*(row[-1] for row in ATTENTION), *(row[2] for row in MULTIHEAD), *BEHIND}
    named_stores = {
        value
        for module in (within_attention, composite)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and name != "STORED_SCORES"
    }
    assert shown == named_stores - {within_attention.WEIGHT_GRADIENT}
    text = within_attention.__doc__ + multihead_attention.__doc__ + transformer.__doc__
    assert all(f"\n    {point} " in text for point in named_stores)

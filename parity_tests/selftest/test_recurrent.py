"""The recurrent references against numbers worked by hand, closed forms, laws and finite differences."""

import inspect
import math

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, within
from refimpl import recurrent
from refimpl.error_bounds import strictest
from refimpl.taps import execution

CELLS = (recurrent.RNNCell, recurrent.LSTMCell, recurrent.GRUCell)
LAYERS = (recurrent.RNN, recurrent.LSTM, recurrent.GRU)

# constructor arguments, (times, batch), lengths
CALLS = [
    ({}, (3, 2), None),
    ({"num_layers": 2, "bidirectional": True}, (2, 2), None),
    ({"num_layers": 2, "bias": False}, (3, 2), (1, 3)),
    ({"bidirectional": True, "batch_first": True}, (3, 2), (3, 2)),
]


@pytest.fixture
def rng():
    return np.random.default_rng(40)


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def with_parameters(layer, rng):
    layer.load_state_dict(
        {name: rng.uniform(-1, 1, array.shape) for name, array in layer.state_dict().items()}
    )
    return layer


def states_of(layer, batch, rng):
    count = layer.num_layers * (1 + layer.bidirectional)
    sizes = (layer.output_size, layer.hidden_size)[: layer.cell.states]
    return tuple(rng.standard_normal((count, batch, size)) for size in sizes)


def call(layer, input, states, lengths=None):
    """All outputs, flat."""
    output, last = layer(input, states if len(states) > 1 else states[0], lengths)
    return (output, *last) if isinstance(last, tuple) else (output, last)


def gradients(layer, ups):
    """The gradients of input and states, then those of the parameters, after a call."""
    return (*layer.backward(*ups), *(layer.grads[name] for name in layer.parameters))


def one_number(kind, **arguments):
    """A cell of one number with weights 0.5 (input) and 2 (hidden) for each gate, biases 0.25 and -0.5."""
    cell = kind(1, 1, **arguments)
    gates = cell.cell.gates
    values = {"weight_ih": 0.5, "weight_hh": 2.0, "bias_ih": 0.25, "bias_hh": -0.5}
    shapes = {name: (gates, 1) if name.startswith("weight") else (gates,) for name in values}
    cell.load_state_dict({name: np.full(shapes[name], value) for name, value in values.items()})
    return cell


NEAR = 2.0**-50  # a few roundings of numbers around 1


@pytest.mark.parametrize(("nonlinearity", "expected"), [("tanh", math.tanh(1.25)), ("relu", 1.25)])
def test_rnn_cell_by_hand(nonlinearity, expected):
    """0.5 x 1 + 0.25 + 2 x 0.5 - 0.5 = 1.25."""
    cell = one_number(recurrent.RNNCell, nonlinearity=nonlinearity)
    within(cell(np.array([1.0]), np.array([0.5])), [expected], NEAR)


def test_lstm_cell_by_hand():
    hidden, cell = one_number(recurrent.LSTMCell)(np.array([1.0]), (np.array([0.5]), np.array([-2.0])))
    gate, new = sigmoid(1.25), sigmoid(1.25) * -2.0 + sigmoid(1.25) * math.tanh(1.25)
    within(cell, [new], NEAR)
    within(hidden, [gate * math.tanh(new)], NEAR)


def test_gru_cell_by_hand():
    """The reset gate multiplies 2 h - 0.5 = 0.5, bias included; the input's part is 0.75."""
    gate = sigmoid(1.25)
    new = math.tanh(0.75 + gate * 0.5)
    output = one_number(recurrent.GRUCell)(np.array([1.0]), np.array([0.5]))
    within(output, [(1 - gate) * new + gate * 0.5], NEAR)


def test_rnn_gradient_by_hand():
    """relu, weights 1, no bias, x = 1, 2: h = 1, 3; dh2/dx1 = w, dh2/dw_hh = h1, dh2/dw_ih = x2 + x1."""
    layer = recurrent.RNN(1, 1, nonlinearity="relu", bias=False)
    layer.load_state_dict({"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))})
    output, last = layer(np.array([[1.0], [2.0]]))
    assert output.tolist() == [[1], [3]] and last.tolist() == [[3]]
    grad_input = layer.backward(np.array([[0.0], [1.0]]), np.zeros((1, 1)))
    assert grad_input.tolist() == [[1], [1]]
    assert layer.grads["weight_ih_l0"].tolist() == [[3]] and layer.grads["weight_hh_l0"].tolist() == [[1]]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("lead", [(2,), ()])
def test_finite_differences_of_cells(kind, lead, rng):
    cell = with_parameters(kind(3, 2), rng)
    input, states = rng.standard_normal((*lead, 3)), rng.standard_normal((cell.cell.states, *lead, 2))
    ups = rng.standard_normal(states.shape)

    def outputs(input, states, *parameters):
        cell.load_state_dict(dict(zip(cell.parameters, parameters, strict=True)))
        result = cell(input, tuple(states) if len(states) > 1 else states[0])
        return np.stack(result if isinstance(result, tuple) else (result,))

    arrays = [input, states, *(cell.state_dict()[name] for name in cell.parameters)]
    expected = finite_difference(outputs, arrays, ups)
    outputs(*arrays)
    grad_input, *grad_states = cell.backward(*ups)
    actual = (grad_input, np.stack(grad_states), *(cell.grads[name] for name in cell.parameters))
    for gradient, (value, error) in zip(actual, expected, strict=True):
        within(gradient, value, error)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("arguments", "sizes", "lengths"), CALLS)
def test_finite_differences_of_layers(kind, arguments, sizes, lengths, rng):
    if kind is recurrent.LSTM and arguments.get("num_layers") == 2:
        arguments = {**arguments, "proj_size": 1}
    layer = with_parameters(kind(2, 2, **arguments), rng)
    shape = sizes[::-1] if layer.batch_first else sizes
    states = states_of(layer, sizes[1], rng)
    arrays = [rng.standard_normal((*shape, 2)), *states, *layer.state_dict().values()]
    ups = [rng.standard_normal(output.shape) for output in call(layer, arrays[0], states, lengths)]

    def outputs(input, *rest):
        layer.load_state_dict(dict(zip(layer.parameters, rest[len(states) :], strict=True)))
        return np.concatenate([out.ravel() for out in call(layer, input, rest[: len(states)], lengths)])

    expected = finite_difference(outputs, arrays, np.concatenate([up.ravel() for up in ups]))
    outputs(*arrays)
    for gradient, (value, error) in zip(gradients(layer, ups), expected, strict=True):
        within(gradient, value, error)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_sequence_is_like_each_sequence_alone(kind, rng):
    layer = with_parameters(kind(3, 2, num_layers=2, bidirectional=True), rng)
    input, states, lengths = rng.standard_normal((5, 3, 3)), states_of(layer, 3, rng), (2, 5, 1)
    packed = call(layer, input, states, lengths)
    for n, length in enumerate(lengths):
        alone = call(layer, input[:length, n], tuple(state[:, n] for state in states))
        assert packed[0][:length, n].tobytes() == alone[0].tobytes() and not packed[0][length:, n].any()
        for state, own in zip(packed[1:], alone[1:], strict=True):
            assert state[:, n].tobytes() == own.tobytes()


@pytest.mark.parametrize("kind", LAYERS)
def test_what_lies_beyond_a_length_takes_no_part(kind, rng):
    layer = with_parameters(kind(3, 4, bidirectional=True), rng)
    input, states, lengths = rng.standard_normal((3, 2, 3)), states_of(layer, 2, rng), (1, 3)
    grads = []
    for beyond in (0.0, np.nan):
        input[1:, 0] = beyond
        ups = [np.ones_like(output) for output in call(layer, input, states, lengths)]
        layer.backward(*ups)
        grads.append(layer.grads)
    assert all(np.array_equal(grads[0][name], grads[1][name]) for name in layer.parameters)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_reverse_direction_reads_backwards(kind, rng):
    """With the same weights it gives what the forward direction gives for the reversed input, reversed."""
    layer = with_parameters(kind(3, 2, bidirectional=True), rng)
    own = layer.state_dict()
    layer.load_state_dict({name: own[name.removesuffix("_reverse")] for name in own})
    input = rng.standard_normal((4, 2, 3))
    assert (layer(input)[0][..., 2:] == layer(input[::-1])[0][::-1, :, :2]).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_of_one_time_is_a_cell(kind, rng):
    cell = with_parameters(getattr(recurrent, f"{kind.__name__}Cell")(3, 2), rng)
    layer = kind(3, 2)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    input, states = rng.standard_normal((1, 4, 3)), states_of(layer, 4, rng)
    alone = cell(input[0], tuple(s[0] for s in states) if len(states) > 1 else states[0][0])
    together = call(layer, input, states)
    assert together[0][0].tobytes() == (alone[0] if isinstance(alone, tuple) else alone).tobytes()


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_of_1_cuts_the_layers_apart(kind, rng):
    layer = with_parameters(kind(3, 2, num_layers=2, dropout=1.0), rng)
    input, states = rng.standard_normal((3, 2, 3)), states_of(layer, 2, rng)
    ups = [np.ones_like(output) for output in call(layer, input, states)]
    ups[1:] = [np.zeros_like(up) for up in ups[1:]]
    assert not gradients(layer, ups)[0].any() and not layer.grads["weight_ih_l1"].any()
    plain = with_parameters(kind(3, 2, num_layers=2), np.random.default_rng(1))
    plain.load_state_dict(layer.state_dict())
    assert call(layer.eval(), input, states)[0].tobytes() == call(plain, input, states)[0].tobytes()


def test_random_dropout_is_refused():
    with pytest.raises(NotImplementedError):
        recurrent.GRU(3, 2, num_layers=2, dropout=0.5)(np.zeros((1, 1, 3)))


def test_dropout_has_no_place_in_one_layer(rng):
    layer, input = with_parameters(recurrent.GRU(3, 2, dropout=0.5), rng), rng.standard_normal((4, 2, 3))
    trained = layer(input)[0]
    assert trained.tobytes() == layer.eval()(input)[0].tobytes()


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("sizes", [(0, 2), (3, 0), (0, 0)], ids=str)
def test_a_cell_may_have_no_features(kind, sizes):
    """Without biases nothing but zeros meets its functions, and their sum is 0."""
    cell, rows = kind(*sizes, bias=False), np.zeros((4, sizes[0]))
    state = cell(rows)
    for part in state if isinstance(state, tuple) else (state,):
        assert part.shape == (4, sizes[1]) and not part.any()


@pytest.mark.parametrize("kind", LAYERS)
def test_compiled_equals_interpreted(kind, rng):
    pytest.importorskip("numba")
    layer, results = with_parameters(kind(3, 2), rng), {}
    input, states = rng.standard_normal((3, 2, 3)), states_of(layer, 2, rng)
    for way in ("interpreted", "compiled"):
        with execution(way):
            outputs = call(layer, input, states)
            results[way] = [*outputs, *gradients(layer, [np.ones_like(output) for output in outputs])]
    for interpreted, compiled in zip(*results.values(), strict=True):
        assert interpreted.tobytes() == compiled.tobytes()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("times", [1, 2, 7, 33])
def test_torch_agrees_in_float64_within_the_bound(name, times, rng):
    torch = pytest.importorskip("torch")
    layer, theirs = getattr(recurrent, name)(3, 4), getattr(torch.nn, name)(3, 4).double()
    layer.load_state_dict({key: value.detach().numpy() for key, value in theirs.state_dict().items()})
    input, states = rng.standard_normal((times, 2, 3)), states_of(layer, 2, rng)
    hx = states if len(states) > 1 else states[0]
    ups = [rng.standard_normal(output.shape) for output in call(layer, input, states)]
    bounded = layer.bounded(strictest("float64"), (input, hx), tuple(ups))
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in (input, *states)]
    output, last = theirs(tensors[0], tuple(tensors[1:]) if len(states) > 1 else tensors[1])
    outputs = (output, *last) if isinstance(last, tuple) else (output, last)
    wanted = [*tensors, *theirs.parameters()]
    found = torch.autograd.grad(outputs, wanted, [torch.from_numpy(up) for up in ups])
    names = [f"grad_{key}" for key, _ in theirs.named_parameters()]
    names = [
        "output",
        *(f"output{i}" for i in range(1, len(outputs))),
        *(f"grad_input{i}" for i in range(len(tensors))),
        *names,
    ]
    for key, tensor in zip(names, (*outputs, *found), strict=True):
        within(tensor.detach().numpy(), bounded[key].value, bounded[key].error)


@pytest.mark.parametrize(
    ("kind", "arguments", "exception"),
    [
        (recurrent.RNN, {"nonlinearity": "sigmoid"}, ValueError),
        (recurrent.LSTM, {"proj_size": 2}, ValueError),
        (recurrent.GRU, {"num_layers": 0}, ValueError),
        (recurrent.GRU, {"dropout": 1.5}, ValueError),
        (recurrent.GRU, {"dropout": -0.5}, ValueError),
        (recurrent.GRU, {"dropout": True}, ValueError),
        (recurrent.GRU, {"dropout": "0.5"}, ValueError),
        (recurrent.GRU, {"num_layers": 1.0}, TypeError),
        (recurrent.GRU, {"batch_first": 0}, TypeError),
        (recurrent.LSTM, {"proj_size": -1}, ValueError),
        (recurrent.GRU, {"bias": 1}, TypeError),
    ],
)
def test_arguments_that_cannot_be_are_refused(kind, arguments, exception):
    with pytest.raises(exception):
        kind(3, 2, **arguments)


@pytest.mark.parametrize("lengths", [(0, 3), (1, 4), (3,), (1, 2, 3), ((1, 2),)], ids=str)
def test_lengths_that_cannot_be_are_refused(lengths):
    with pytest.raises(RuntimeError, match="lengths"):
        recurrent.GRU(3, 2)(np.zeros((3, 2, 3)), None, lengths)


@pytest.mark.parametrize(
    ("hx", "exception"),
    [
        (np.zeros((2, 2)), TypeError),
        ((np.zeros((2, 2)),), RuntimeError),
        ((np.zeros((2, 2)),) * 3, RuntimeError),
        ((np.zeros((2, 2)), np.zeros((2, 3))), RuntimeError),
        ((np.zeros((2, 2)), np.zeros((1, 2, 2))), ValueError),
        ((np.zeros((2, 2)), np.zeros(())), ValueError),
    ],
)
def test_states_that_cannot_be_are_refused(hx, exception):
    with pytest.raises(exception, match="LSTMCell"):
        recurrent.LSTMCell(3, 2)(np.zeros((2, 3)), hx)


def test_every_class_says_where_it_comes_from():
    assert all("Source: torch.nn." in inspect.getdoc(kind) for kind in (*CELLS, *LAYERS))

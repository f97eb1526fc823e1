"""Arguments and shapes of windowed layers, and what all layers share: parameters, gradients, modes."""

import numpy as np
import pytest

from refimpl.module import Module, uniform, xavier
from refimpl.shapes import batched, leading, lift, lower, per_axis


@pytest.mark.parametrize(
    ("value", "rank", "found"),
    [
        (3, 1, (3,)),
        (0, 2, (0, 0)),
        (-1, 3, (-1, -1, -1)),
        (np.int32(2), 2, (2, 2)),
        ((4,), 1, (4,)),
        ((4,), 3, (4, 4, 4)),
        ([1, 2], 2, (1, 2)),
        ((np.int64(1), 2, 3), 3, (1, 2, 3)),
    ],
)
def test_one_value_stands_for_all_axes(value, rank, found):
    given = per_axis(value, rank, "stride")
    assert given == found and all(type(item) is int for item in given)


@pytest.mark.parametrize(
    "value", [True, 1.0, "12", "1", None, (1, 2.0), (True, 1), [1, None], np.array([1, 2]), {1, 2}]
)
def test_values_that_are_no_ints(value):
    with pytest.raises(TypeError, match=r"stride is .*; needed is an int or 2 ints"):
        per_axis(value, 2, "stride")


@pytest.mark.parametrize(("value", "rank"), [((), 1), ((), 2), ((1, 2), 1), ((1, 2), 3), ((1, 2, 3), 2)])
def test_another_number_of_values(value, rank):
    with pytest.raises(RuntimeError, match=rf"stride is .*; needed is one int or {rank} ints"):
        per_axis(value, rank, "stride")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_batch_of_one_is_put_in_front(rank):
    input = np.arange(2.0**rank * 6).reshape(2, 3, *(2,) * rank)
    assert batched(input, rank, "Pool") == (input, True)
    single, whole = batched(input[0], rank, "Pool")
    assert single.shape == (1, 3, *(2,) * rank) and single.tolist() == input[:1].tolist() and whole is False
    for wrong in (input[0, 0], input[None]):
        with pytest.raises(RuntimeError, match=f"Pool: input has {wrong.ndim} axes"):
            batched(wrong, rank, "Pool")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_missing_axes_lead(rank):
    sizes = (4, 5, 6)[3 - rank :]
    array = np.arange(2.0 * 3 * np.prod(sizes)).reshape(2, 3, *sizes)
    lifted = lift(array, rank)
    assert lifted.shape == (2, 3, *(1,) * (3 - rank), *sizes)
    assert lifted.ravel().tolist() == array.ravel().tolist()
    back = lower(lifted, rank)
    assert back.shape == array.shape and back.tolist() == array.tolist()
    assert leading(sizes, 7) == (*(7,) * (3 - rank), *sizes)


class Scale(Module):
    """output = weight * input, and what the layer has seen as a buffer; more inputs are added up."""

    parameters = ("weight", "bias")
    buffers = ("seen", "names")

    def __init__(self, outputs=1):
        super().__init__()
        self.weight, self.bias, self.seen, self.names = np.array([2.0, 3.0]), None, np.array(0), None
        self.outputs = outputs

    def forward(self, *inputs):
        output = self.weight * sum(inputs)
        return output if self.outputs == 1 else (output, output.astype(np.int64), output[:1])

    def _backward(self, grad_outputs, *inputs):
        (grad,) = grad_outputs
        return tuple(self.weight * grad for _ in inputs), {"weight": grad * sum(inputs)}


def test_a_layer_gives_gradients_of_its_last_call():
    layer = Scale()
    assert layer.training is True and layer.grads == {}
    with pytest.raises(RuntimeError, match=r"Scale\.backward needs a forward call first"):
        layer.backward(np.ones(2))
    assert layer(np.array([5.0, 7.0])).tolist() == [10.0, 21.0]
    gradient = layer.backward(np.array([1.0, 10.0]))
    assert isinstance(gradient, np.ndarray) and gradient.tolist() == [2.0, 30.0]
    assert layer.grads["weight"].tolist() == [5.0, 70.0]
    layer(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    both = layer.backward(np.array([1.0, 10.0]))
    assert isinstance(both, tuple) and [grad.tolist() for grad in both] == [[2.0, 30.0]] * 2


def test_shapes_of_outputs_that_have_a_gradient():
    assert Scale().output_shapes(np.ones(2)) == ((2,),)
    assert Scale(outputs=3).output_shapes(np.ones(2)) == ((2,), (1,))


def test_training_and_evaluation():
    layer = Scale()
    assert layer.eval() is layer and layer.training is False
    assert layer.train().training is True and layer.train(False).training is False
    assert layer.train(1).training is True


def test_state_is_taken_over_whole():
    """Copies, in float64 but for whole numbers; other keys and shapes are refused and leave the layer as it
    was."""
    layer = Scale()
    assert set(layer.state_dict()) == {"weight", "seen"}
    weight = np.array([4, 5], dtype=np.float32)
    layer.load_state_dict({"weight": weight, "seen": np.int32(6)})
    weight[0] = 0
    assert layer.weight.tolist() == [4.0, 5.0] and layer.weight.dtype == np.float64
    assert layer.seen == 6 and layer.seen.dtype == np.int32
    for state, told in (
        ({"weight": weight}, r"missing \['seen'\], not known \[\]; it has \['seen', 'weight'\]"),
        ({"weight": weight, "seen": 1, "bias": weight}, r"missing \[\], not known \['bias'\]"),
        ({"seen": 1, "bias": weight}, r"missing \['weight'\], not known \['bias'\]"),
        ({"seen": 1, "weight": np.ones(3)}, r"weight has shape \(3,\), needed is \(2,\)"),
        ({"seen": np.ones(1), "weight": weight}, r"seen has shape \(1,\), needed is \(\)"),
    ):
        with pytest.raises(RuntimeError, match=told):
            layer.load_state_dict(state)
    assert layer.weight.tolist() == [4.0, 5.0] and layer.bias is None


@pytest.mark.parametrize(("fan_in", "limit"), [(1, 1.0), (4, 0.5), (100, 0.1)])
def test_weights_are_drawn_from_the_whole_interval(fan_in, limit):
    drawn = uniform((1000, 10), fan_in)
    assert drawn.shape == (1000, 10) and np.abs(drawn).max() <= limit
    assert drawn.min() < -0.99 * limit and drawn.max() > 0.99 * limit


@pytest.mark.parametrize(("rows", "columns", "limit"), [(100, 50, 0.2), (2000, 400, 0.05)])
def test_weights_by_the_sizes_of_both_sides(rows, columns, limit):
    """sqrt(6 / (rows + columns))."""
    drawn = xavier(rows, columns)
    assert drawn.shape == (rows, columns) and np.abs(drawn).max() <= limit
    assert drawn.min() < -0.99 * limit and drawn.max() > 0.99 * limit


def test_weights_of_layers_without_inputs_are_zeros():
    assert not uniform((3, 2), 0).any()

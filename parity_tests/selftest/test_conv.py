"""Adversaries of the convolutions: numbers by hand, finite differences, second sources; see also
test_conv_laws."""

from itertools import product

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.conv_settings import arguments, each, functions, make
from parity_tests.selftest.laws import UNIT, dyadic, finite_difference, same_bits, same_numbers, within
from refimpl.conv_taps import Geometry, read_output, taps, terms
from refimpl.error_bounds import strictest

# Numbers by hand.


@pytest.mark.parametrize(
    "kernel, given, expected",
    [
        (3, {"padding": 1}, (8, 8)),
        ((5, 3), {"padding": (2, 1)}, (8, 8)),
        (3, {"padding": 1, "stride": 2}, (4, 4)),
        ((3, 5), {"padding": (0, 1), "stride": (3, 4)}, (2, 2)),
    ],
)
def test_sizes_of_8x8(kernel, given, expected):
    layer = refimpl.Conv2d(1, 1, kernel, **given)
    assert layer(np.ones((1, 1, 8, 8))).shape[2:] == expected
    assert layer.output_shapes(np.ones((1, 1, 8, 8))) == ((1, 1, *expected),)


def test_sizes_named_elsewhere():
    assert refimpl.conv2d(np.ones((1, 28, 28)), np.ones((1, 1, 3, 3))).shape == (1, 26, 26)
    assert refimpl.conv2d(np.ones((1, 4, 4)), np.ones((1, 1, 3, 3))).shape == (1, 2, 2)
    # documented for torch.nn.ConvTranspose2d: 12x12 down to 6x6 and back with output_size
    down = refimpl.Conv2d(16, 16, 3, stride=2, padding=1)(np.ones((1, 16, 12, 12)))
    up = refimpl.ConvTranspose2d(16, 16, 3, stride=2, padding=1)
    assert down.shape == (1, 16, 6, 6) and up(down).shape == (1, 16, 11, 11)
    assert up(down, (12, 12)).shape == up(down, (1, 16, 12, 12)).shape == (1, 16, 12, 12)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_output_sizes_that_a_transposed_convolution_can_give(rank, batch):
    """Of n elements, with stride 3, kernel 2 and padding 1: 3 (n - 1) - 2 + 2, one more or two more."""
    layer = getattr(refimpl, f"ConvTranspose{rank}d")(1, 4, 2, stride=3, padding=1)
    input = np.ones((*batch, 1, *(4, 3, 5)[:rank]))
    smallest = (9, 6, 12)[:rank]
    for more in product(range(-1, 4), repeat=rank):
        wanted = tuple(n + e for n, e in zip(smallest, more, strict=True))
        for size in (wanted, (*batch, 4, *wanted)):
            if min(more) < 0 or max(more) > 2:
                with pytest.raises(ValueError, match="possible are"):
                    layer(input, size)
            else:
                shape = (*batch, 4, *wanted)
                assert layer.output_shapes(input, size) == (shape,) and layer(input, size).shape == shape
    for size in ((*smallest, 9), smallest[1:]):
        if len(size) != input.ndim:
            with pytest.raises(ValueError, match="entries"):
                layer(input, size)


def test_bounds_are_those_of_the_output_size_of_the_call():
    """Of two elements, with stride 3 and kernel 1, six numbers; where no element goes the bias is alone."""
    layer, input = refimpl.ConvTranspose1d(1, 1, 1, stride=3), np.array([[[1.0, 2]]])
    layer.load_state_dict({"weight": np.array([[[3.0]]]), "bias": np.array([0.5])})
    result = layer.bounded(strictest("float64"), (input, (6,)), (np.ones((1, 1, 6)),))
    same_numbers(result["output"].value, np.array([[[3.5, 0.5, 0.5, 6.5, 0.5, 0.5]]]))


def test_layers_without_channels_or_kernel_are_made_and_cannot_be_called():
    """torch warns that there is nothing to initialize."""
    for sizes, shape in (((0, 3, 2), (3, 0, 2)), ((3, 0, 2), (0, 3, 2)), ((2, 3, 0), (3, 2, 0))):
        layer = refimpl.Conv1d(*sizes)
        assert layer.weight.shape == shape and layer.bias.shape == (sizes[1],)


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_and_groups_of_a_call(transposed):
    """No output channel and no kernel are refused; without input channels a convolution is its bias."""
    forward, _ = functions(1, transposed)
    assert forward(np.zeros((1, 4, 3)), np.zeros((4, 4, 1))).shape == (1, 4, 3)
    refused = [((0, 2, 1), 1), ((2, 2, 0), 1), *(((4, 4, 1), groups) for groups in (0, -1, 3, 8))]
    for weight, groups in (*refused, *([((2, 0, 1), 1)] if transposed else [])):
        channels = weight[0] if transposed else weight[1] * max(groups, 1)
        with pytest.raises(RuntimeError, match="needed is"):
            forward(np.zeros((1, channels, 3)), np.zeros(weight), groups=groups)
    if not transposed:
        output = forward(np.zeros((1, 0, 3)), np.zeros((2, 0, 1)), np.array([1.0, 2]))
        same_numbers(output, np.array([[[1.0] * 3, [2.0] * 3]]))


def test_walk_visits_as_many_taps_as_it_says():
    """Without padding every tap is in the input."""
    geometry = Geometry(2, 6, 2, 3, (3, 5, 7), (2, 1, 3), (2, 3, 2), (1, 2, 3), (0, 0, 0), (1, 1, 1))
    visits = []
    taps(lambda arrays, *indices: visits.append(indices), (), geometry)
    assert geometry.taps == len(visits) == len(set(visits)) == 2 * 6 * 2 * 2 * 3 * 12


def test_walk_reads_what_lies_in_the_input():
    """By the formula, where on each axis size, kernel, stride, padding and dilation are others."""
    geometry = Geometry(1, 2, 1, 2, (5, 7, 6), (3, 2, 3), (3, 4, 7), (2, 3, 1), (2, 1, 3), (1, 4, 2))
    visits = []
    taps(lambda arrays, *indices: visits.append(indices), (), geometry)
    expected = set()
    for n, o, *places in np.ndindex(1, 2, *geometry.outputs, *geometry.kernel):
        y, k = places[:3], places[3:]
        x = [a * s - p + b * d for a, b, s, p, d in zip(y, k, *geometry[7:], strict=True)]
        if all(0 <= a < size for a, size in zip(x, geometry.inputs, strict=True)):
            expected.add(((n, o, *y), (n, o, *x), (o, 0, *k)))
    assert set(visits) == expected and len(visits) == len(expected) > 0


def test_roundings_of_a_gradient_of_the_bias():
    """A sum of n numbers takes n - 1 additions: none for one number, or for an empty batch."""
    for shape, additions in (((1, 2, 1), 0), ((1, 2, 4), 3), ((3, 2, 5), 14), ((0, 2, 4), 0)):
        layer = refimpl.Conv1d(2, 3, 1)
        up = np.ones((shape[0], 3, shape[2]))
        result = layer.bounded(strictest("float32"), (np.ones(shape),), (up,))
        assert result["grad_bias"].products.terms == additions


def test_edge_detector():
    """[1, -1] along the rows of a two-valued image is 1 and -1 at the two edges and 0 elsewhere."""
    image = np.ones((1, 6, 8))
    image[:, :, 2:6] = 0
    expected = np.zeros((1, 6, 7))
    expected[:, :, 1], expected[:, :, 5] = 1, -1
    same_numbers(refimpl.conv2d(image, np.array([[[[1.0, -1.0]]]])), expected)


def test_cross_correlation_by_hand():
    """The kernel is not flipped: [[0,1,2],[3,4,5],[6,7,8]] with [[0,1],[2,3]] gives [[19,25],[37,43]]."""
    image, kernel = np.arange(9.0).reshape(1, 1, 3, 3), np.arange(4.0).reshape(1, 1, 2, 2)
    same_numbers(refimpl.conv2d(image, kernel)[0, 0], np.array([[19.0, 25], [37, 43]]))
    square = np.arange(4.0).reshape(1, 1, 2, 2)
    up = np.array([[0.0, 0, 1], [0, 4, 6], [4, 12, 9]])
    same_numbers(refimpl.conv_transpose2d(square, kernel)[0, 0], up)
    wide = np.array([[0.0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]])
    same_numbers(refimpl.conv_transpose2d(square, kernel, stride=2)[0, 0], wide)


def test_convolution_is_a_matrix_and_the_transposed_one_its_transpose():
    """4x4 input, 3x3 kernel: y (4) = C (4 x 16) x (16), and the transposed convolution applies C' (16 x
    4)."""
    rng = np.random.default_rng(1)
    kernel, x, y = dyadic(rng, 3, 3), dyadic(rng, 16), dyadic(rng, 4)
    matrix = np.zeros((4, 16))
    for (i, j), (k, m) in product(np.ndindex(2, 2), np.ndindex(3, 3)):
        matrix[2 * i + j, 4 * (i + k) + j + m] = kernel[k, m]
    weight = kernel[None, None]
    same_numbers(refimpl.conv2d(x.reshape(1, 1, 4, 4), weight).ravel(), matrix @ x)
    same_numbers(refimpl.conv_transpose2d(y.reshape(1, 1, 2, 2), weight).ravel(), matrix.T @ y)


def test_convolution_is_unfold_matmul_fold():
    """Two channels, 3x3 input, 2x2 kernel: the four windows as columns, the kernels as rows."""
    rng = np.random.default_rng(2)
    input, weight = dyadic(rng, 1, 2, 3, 3), dyadic(rng, 3, 2, 2, 2)
    windows = [input[0, :, i : i + 2, j : j + 2].ravel() for i, j in np.ndindex(2, 2)]
    product_of = weight.reshape(3, 8) @ np.stack(windows, axis=1)
    same_numbers(refimpl.conv2d(input, weight), product_of.reshape(1, 3, 2, 2))


def test_bias_is_added_once():
    bias = np.array([0.5, -2.0])
    output = refimpl.conv2d(np.zeros((3, 1, 4, 5)), np.ones((2, 1, 3, 3)), bias, padding=1)
    same_numbers(output, np.broadcast_to(bias[:, None, None], (3, 2, 4, 5)))


def test_number_of_terms_of_a_padded_3x3():
    """A corner sees 4 of 9 taps, an edge 6, the inside 9; each times the channels of the group."""
    sizes, ones = (1, 4, 5), (1, 1, 1)
    geometry = Geometry(3, 6, 2, 2, sizes, (1, 3, 3), sizes, ones, (0, 1, 1), ones)
    of_output, of_input, of_weight = (array[0, 0, 0] for array in terms(geometry))
    same_numbers(of_output, 2 * np.outer([2, 3, 3, 2], [2, 3, 3, 3, 2]))
    same_numbers(of_input, 3 * np.outer([2, 3, 3, 2], [2, 3, 3, 3, 2]))
    same_numbers(of_weight, 3 * np.outer([3, 4, 3], [4, 5, 4]))


# Finite differences and second sources.


@each
def test_gradients_by_finite_differences(rank, groups, given, transposed):
    rng = np.random.default_rng(13)
    forward, backward = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    input, weight, bias = make(lambda *shape: rng.standard_normal(shape), rank, groups, transposed)
    input = input[:1, ..., :4] if rank == 3 else input[:1]
    grad_output = rng.standard_normal(forward(input, weight, bias, **given).shape)
    differences = finite_difference(
        lambda *arrays: forward(*arrays, **given), (input, weight, bias), grad_output
    )
    for gradient, difference in zip(
        backward(grad_output, input, weight, bias, **given), differences, strict=True
    ):
        within(gradient, *difference)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layer_gradients_by_finite_differences(rank, mode):
    rng = np.random.default_rng(14)
    padding = (2, 1, 1)[:rank]
    layer = getattr(refimpl, f"Conv{rank}d")(2, 3, (3, 2, 2)[:rank], padding=padding, padding_mode=mode)
    input = rng.standard_normal((1, 2, *(4, 3, 5)[:rank]))
    grad_output = rng.standard_normal(layer(input).shape)
    within(layer.backward(grad_output), *finite_difference(layer, (input,), grad_output)[0])

    def of_parameters(weight, bias):
        layer.load_state_dict({"weight": weight, "bias": bias})
        return layer(input)

    differences = finite_difference(of_parameters, (layer.weight, layer.bias), grad_output)
    within(layer.grads["weight"], *differences[0])
    within(layer.grads["bias"], *differences[1])


def test_scipy_correlates_the_same():
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(15)
    input, weight = rng.standard_normal((3, 7, 9)), rng.standard_normal((4, 3, 3, 2))
    pairs = [[(x, w) for x, w in zip(input, kernel, strict=True)] for kernel in weight]
    second = np.stack([sum(signal.correlate(x, w, "valid", "direct") for x, w in pair) for pair in pairs])
    magnitude = refimpl.conv2d(abs(input), abs(weight))
    within(refimpl.conv2d(input, weight), second, 2 * weight[0].size * UNIT * magnitude)
    full = np.stack([signal.convolve(input[0], w, "full", "direct") for w in weight[:, 0]])
    magnitude = refimpl.conv_transpose2d(abs(input[:1]), abs(weight[None, :, 0]))
    within(refimpl.conv_transpose2d(input[:1], weight[None, :, 0]), full, 12 * UNIT * magnitude)


@each
def test_compiled_equals_interpreted_bit_for_bit(rank, groups, given, transposed):
    pytest.importorskip("numba")
    rng = np.random.default_rng(16)
    forward, backward = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    operands = make(lambda *shape: rng.standard_normal(shape), rank, groups, transposed)
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            output = forward(*operands, **given)
            results.append((output, *backward(np.cos(output), *operands, **given)))
    for interpreted, compiled in zip(*results, strict=True):
        same_bits(interpreted, compiled)


def test_special_values_pass_through_the_taps_that_read_them():
    input = np.zeros((1, 1, 4, 5))
    input[0, 0, 1, 2] = np.nan
    nan = np.isnan(refimpl.conv2d(input, np.ones((1, 1, 2, 2))))[0, 0]
    assert np.argwhere(nan).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_walk_reads_exact_numbers_whatever_the_group():
    """The reading that the bounds rest on: a walk over ones counts, over a channel's index says who reads
    whom."""
    one, sizes = (1, 1, 1), (1, 1, 2)
    geometry = Geometry(1, 4, 2, 2, sizes, one, sizes, one, (0, 0, 0), one)
    channels = np.arange(1.0, 5.0).reshape(1, 4, 1, 1, 1) * np.ones((1, 4, 1, 1, 2))
    output = read_output(geometry, channels, np.ones((4, 2, 1, 1, 1)))
    same_numbers(output[0, :, 0, 0, 0], np.array([3.0, 3, 7, 7]))

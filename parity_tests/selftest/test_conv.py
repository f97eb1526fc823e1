"""Adversaries of the convolutions: numbers by hand, finite differences, second sources; see also
test_conv_laws."""

from itertools import product

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.conv_settings import arguments, each, functions, make
from parity_tests.selftest.laws import UNIT, dyadic, finite_difference, same_bits, same_numbers, within
from refimpl.conv_taps import Geometry, read_output, terms

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

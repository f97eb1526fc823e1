"""Adversaries of the convolutions: numbers by hand, exact arithmetic, laws, finite differences, second
sources."""

from itertools import product

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import (
    UNIT,
    dyadic,
    exactly,
    finite_difference,
    fractions,
    inner,
    same_bits,
    same_numbers,
    within,
)
from refimpl.conv_taps import Geometry, read_output, terms

# Every axis has another length, every per-axis argument another value: (rank, groups, arguments).
SETTINGS = [
    (1, 1, {}),
    (1, 2, {"stride": 3, "padding": 2, "dilation": 2}),
    (2, 1, {"stride": (2, 3), "padding": (2, 1), "dilation": (1, 2)}),
    (2, 2, {"stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)}),
    (2, 4, {"padding": (1, 2)}),
    (3, 2, {"stride": (2, 1, 3), "padding": (1, 0, 2), "dilation": (1, 2, 1)}),
]
SIZES = {1: (11,), 2: (7, 9), 3: (5, 6, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}
EXTRA = {1: (1,), 2: (1, 0), 3: (1, 0, 2)}
OUT = {1: 3, 2: 6, 4: 8}  # output channels, for 2, 4 and 4 input channels


def make(draw, rank, groups, transposed=False):
    """Input and weight, and one value for each output channel."""
    channels = {1: 2}.get(groups, 4)
    pair = (channels, OUT[groups] // groups) if transposed else (OUT[groups], channels // groups)
    return draw(2, channels, *SIZES[rank]), draw(*pair, *KERNELS[rank]), draw(OUT[groups])


def functions(rank, transposed):
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    return getattr(refimpl, name), getattr(refimpl, f"{name}_backward")


def arguments(rank, groups, given, transposed):
    fits = transposed and any(s > 1 for s in np.atleast_1d(given.get("stride", 1)))
    extra = (
        {
            "output_padding": tuple(
                min(e, s - 1)
                for e, s in zip(EXTRA[rank], np.broadcast_to(given.get("stride", 1), rank), strict=True)
            )
        }
        if fits
        else {}
    )
    return {**given, "groups": groups, **{k: tuple(map(int, v)) for k, v in extra.items()}}


CASES = [(*setting, transposed) for setting, transposed in product(SETTINGS, (False, True))]
each = pytest.mark.parametrize("rank, groups, given, transposed", CASES)


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


# Exact arithmetic.


@each
def test_float64_is_exact_on_dyadic_numbers(rank, groups, given, transposed):
    rng = np.random.default_rng(3)
    forward, backward = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    operands = make(lambda *shape: dyadic(rng, *shape), rank, groups, transposed)
    exact = [exactly(array) for array in operands]
    output = forward(*operands, **given)
    same_numbers(output, forward(*exact, **given))
    grad_output = dyadic(rng, *output.shape)
    for found, wanted in zip(
        backward(grad_output, *operands, **given),
        backward(exactly(grad_output), *exact, **given),
        strict=True,
    ):
        same_numbers(found, wanted)


@each
def test_adjoint(rank, groups, given, transposed):
    """<A x, y> = <x, A' y> exactly, for the input and for the weight; bias: the sum over its channel."""
    rng = np.random.default_rng(4)
    forward, backward = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    input, weight, bias = make(lambda *shape: fractions(rng, *shape), rank, groups, transposed)
    output = forward(input, weight, **given)
    y = fractions(rng, *output.shape)
    grad_input, grad_weight, absent = backward(y, input, weight, **given)
    assert absent is None
    assert inner(output, y) == inner(input, grad_input) == inner(weight, grad_weight)
    grad_bias = backward(y, input, weight, bias, **given)[2]
    assert inner(forward(input, weight, bias, **given), y) == inner(output, y) + inner(bias, grad_bias)


@pytest.mark.parametrize("rank, groups, given", SETTINGS)
def test_transposed_is_the_adjoint_of_the_convolution(rank, groups, given):
    """With the weight of a convolution, conv_transpose maps y to the gradient of its input."""
    rng = np.random.default_rng(5)
    forward, backward = functions(rank, False)
    transposed, _ = functions(rank, True)
    input, weight, _ = make(lambda *shape: fractions(rng, *shape), rank, groups)
    output = forward(input, weight, groups=groups, **given)
    y = fractions(rng, *output.shape)
    smallest = transposed(y, weight, groups=groups, **given).shape
    extra = tuple(n - m for n, m in zip(input.shape[2:], smallest[2:], strict=True))
    again = transposed(y, weight, groups=groups, output_padding=extra, **given)
    same_numbers(again, backward(y, input, weight, groups=groups, **given)[0])


# Laws.


@each
def test_groups_are_a_block_diagonal_weight(rank, groups, given, transposed):
    rng = np.random.default_rng(6)
    forward, _ = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    input, weight, bias = make(lambda *shape: dyadic(rng, *shape), rank, groups, transposed)
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], columns * groups, *KERNELS[rank]))
    for g in range(groups):
        full[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = weight[g * rows : (g + 1) * rows]
    same_numbers(forward(input, weight, bias, **given), forward(input, full, bias, **given | {"groups": 1}))


@pytest.mark.parametrize("stride", [(2, 3), (3, 1), (1, 2)])
def test_stride_is_subsampling(stride):
    rng = np.random.default_rng(7)
    input, weight = dyadic(rng, 2, 3, 9, 11), dyadic(rng, 4, 3, 3, 2)
    dense = refimpl.conv2d(input, weight, padding=(2, 1))
    same_numbers(
        refimpl.conv2d(input, weight, stride=stride, padding=(2, 1)), dense[:, :, :: stride[0], :: stride[1]]
    )


@pytest.mark.parametrize("dilation", [(2, 3), (3, 1), (1, 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_dilation_is_a_kernel_with_zeros(dilation, transposed):
    rng = np.random.default_rng(8)
    input, weight = dyadic(rng, 2, 3, 9, 11), dyadic(rng, 3, 3, 3, 2)
    wide = np.zeros((3, 3, 2 * dilation[0] + 1, dilation[1] + 1))
    wide[:, :, :: dilation[0], :: dilation[1]] = weight
    forward, _ = functions(2, transposed)
    same_numbers(forward(input, weight, dilation=dilation, padding=1), forward(input, wide, padding=1))


def test_translation():
    """An image moved by (2, 3) moves its convolution likewise, and by s times as much a strided one."""
    rng = np.random.default_rng(9)
    image, weight = dyadic(rng, 1, 2, 5, 6), dyadic(rng, 3, 2, 3, 2)

    def framed(top, left):
        frame = np.zeros((1, 2, 16, 20))
        frame[:, :, top : top + 5, left : left + 6] = image
        return frame

    same_numbers(
        refimpl.conv2d(framed(6, 8), weight)[:, :, 2:, 3:],
        refimpl.conv2d(framed(4, 5), weight)[:, :, :-2, :-3],
    )
    same_numbers(
        refimpl.conv2d(framed(6, 8), weight, stride=2)[:, :, 1:, 2:],
        refimpl.conv2d(framed(4, 4), weight, stride=2)[:, :, :-1, :-2],
    )


@each
def test_linearity_in_each_operand(rank, groups, given, transposed):
    rng = np.random.default_rng(10)
    forward, _ = functions(rank, transposed)
    given = arguments(rank, groups, given, transposed)
    first, weight, bias = make(lambda *shape: fractions(rng, *shape), rank, groups, transposed)
    second, other, _ = make(lambda *shape: fractions(rng, *shape), rank, groups, transposed)
    same_numbers(
        forward(3 * first - second, weight, **given),
        3 * forward(first, weight, **given) - forward(second, weight, **given),
    )
    same_numbers(
        forward(first, weight - 2 * other, **given) + bias.reshape(-1, *(1,) * rank),
        forward(first, weight, bias, **given) - 2 * forward(first, other, **given),
    )


def test_padding_same_keeps_the_size_and_valid_pads_nothing():
    """An even kernel has its odd element of padding behind: [1, 2, 3] with [1, 10] gives [21, 32, 3]."""
    row, kernel = np.array([[[1.0, 2, 3]]]), np.array([[[1.0, 10]]])
    same_numbers(refimpl.conv1d(row, kernel, padding="same"), np.array([[[21.0, 32, 3]]]))
    same_numbers(refimpl.conv1d(row, kernel, padding="valid"), np.array([[[21.0, 32]]]))


@pytest.mark.parametrize(
    "mode, numpy_mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_padding_modes_pad_first(mode, numpy_mode):
    rng = np.random.default_rng(11)
    layer = refimpl.Conv2d(2, 3, (3, 2), padding=(2, 1), padding_mode=mode)
    layer.load_state_dict({"weight": dyadic(rng, 3, 2, 3, 2), "bias": dyadic(rng, 3)})
    input = dyadic(rng, 2, 2, 5, 7)
    padded = np.pad(input, ((0, 0), (0, 0), (2, 2), (1, 1)), numpy_mode)
    same_numbers(layer(input), refimpl.conv2d(padded, layer.weight, layer.bias))


def test_unbatched_is_a_batch_of_one():
    rng = np.random.default_rng(12)
    input, weight, bias = make(lambda *shape: dyadic(rng, *shape), 2, 2)
    for forward, backward in (functions(2, False),):
        one = forward(input[0], weight, bias, groups=2)
        same_numbers(one, forward(input[:1], weight, bias, groups=2)[0])
        same_numbers(
            backward(one, input[0], weight, bias, groups=2)[0],
            backward(one[None], input[:1], weight, bias, groups=2)[0][0],
        )


def test_empty_batch():
    output = refimpl.conv2d(np.zeros((0, 2, 5, 4)), np.ones((3, 2, 3, 2)), np.ones(3))
    gradients = refimpl.conv2d_backward(output, np.zeros((0, 2, 5, 4)), np.ones((3, 2, 3, 2)), np.ones(3))
    assert output.shape == (0, 3, 3, 3) and gradients[0].shape == (0, 2, 5, 4)
    same_numbers(gradients[1], np.zeros((3, 2, 3, 2)))


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

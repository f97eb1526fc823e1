"""Convolutions in exact arithmetic, and the laws that they keep."""

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.conv_settings import KERNELS, SETTINGS, arguments, each, functions, make
from parity_tests.selftest.laws import dyadic, exactly, fractions, inner, same_numbers

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

"""The padding reference against worked numbers, numpy, exact arithmetic, laws and finite differences."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl.error_bounds import Contract, gamma, strictest
from refimpl.padding import Pad, pad_adjoint

MODES = ("constant", "reflect", "replicate", "circular")
# mode, amounts, shape: one, two and three axes, batched and not, crops
CALLS = [
    (mode, amounts, shape)
    for mode in MODES
    for amounts, shape in (
        ((2, 1), (2, 3, 5)),
        ((-1, 2), (3, 5)),
        ((1, 2, 3, 0), (2, 4, 5)),
        ((2, -2, -1, 1), (2, 1, 4, 5)),
        ((1, 2, 0, 1, 2, 1), (2, 1, 3, 4, 5)),
    )
]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize(
    ("mode", "amounts", "expected"),
    [
        ("constant", (2, 1), [0, 0, 1, 2, 3, 0]),
        ("reflect", (2, 1), [3, 2, 1, 2, 3, 2]),
        ("replicate", (2, 1), [1, 1, 1, 2, 3, 3]),
        ("circular", (2, 1), [2, 3, 1, 2, 3, 1]),
        ("constant", (-1, 2), [2, 3, 0, 0]),
        ("reflect", (-1, 2), [2, 3, 2, 1]),
        ("replicate", (-1, 2), [2, 3, 3, 3]),
        ("circular", (-1, 2), [2, 3, 2, 3]),
        ("replicate", (-4, 2), [3]),
        ("constant", (2, -3), [0, 0]),
        ("circular", (3, 3), [1, 2, 3] * 3),
    ],
)
def test_one_two_three_by_hand(mode, amounts, expected):
    assert refimpl.pad(np.array([[1.0, 2, 3]]), amounts, mode).tolist() == [expected]


def test_reflection_of_the_documented_plane():
    """torch.nn.ReflectionPad2d's example: arange(9) as 3 x 3, padding 2."""
    plane = refimpl.ReflectionPad2d(2)(np.arange(9.0).reshape(1, 3, 3))[0]
    assert plane.tolist() == [
        [8, 7, 6, 7, 8, 7, 6],
        [5, 4, 3, 4, 5, 4, 3],
        [2, 1, 0, 1, 2, 1, 0],
        [5, 4, 3, 4, 5, 4, 3],
        [8, 7, 6, 7, 8, 7, 6],
        [5, 4, 3, 4, 5, 4, 3],
        [2, 1, 0, 1, 2, 1, 0],
    ]


def test_replication_of_the_documented_plane():
    """torch.nn.ReplicationPad2d's second example: left and right 1, top 2, bottom 0."""
    plane = refimpl.ReplicationPad2d((1, 1, 2, 0))(np.arange(9.0).reshape(1, 3, 3))[0]
    assert plane.tolist() == [[0, 0, 1, 2, 2]] * 3 + [[3, 3, 4, 5, 5], [6, 6, 7, 8, 8]]


def test_circle_of_the_documented_plane():
    """torch.nn.CircularPad2d's second example: left and right 1, top 2, bottom 0."""
    plane = refimpl.CircularPad2d((1, 1, 2, 0))(np.arange(9.0).reshape(1, 3, 3))[0]
    assert plane.tolist() == [
        [5, 3, 4, 5, 3],
        [8, 6, 7, 8, 6],
        [2, 0, 1, 2, 0],
        [5, 3, 4, 5, 3],
        [8, 6, 7, 8, 6],
    ]


def test_gradient_of_a_mirror_by_hand():
    """[c b | a b c | b] of (a, b, c): a is there once, b three times, c twice."""
    grad_output = np.array([[1.0, 10, 100, 1000, 10000, 100000]])
    (grad_input,) = refimpl.pad_backward(grad_output, np.zeros((1, 3)), (2, 1), "reflect")
    assert grad_input.tolist() == [[100, 101010, 10001]]


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge", "wrap", "constant"])
def test_numpy_is_a_second_source(mode, rng):
    """numpy.pad has the same modes under other names; 'symmetric' is none of ours and must differ."""
    array = rng.standard_normal((2, 4, 5))
    expected = np.pad(array, ((0, 0), (3, 1), (2, 4)), mode=mode)
    ours = {"edge": "replicate", "wrap": "circular", "symmetric": "reflect"}.get(mode, mode)
    assert np.array_equal(refimpl.pad(array, (2, 4, 3, 1), ours), expected) == (mode != "symmetric")


@pytest.mark.parametrize(("mode", "amounts", "shape"), CALLS)
def test_padding_is_linear_and_its_gradient_adjoint(mode, amounts, shape, rng):
    """<pad(x), y> = <x, pad_backward(y)> in exact fractions, with the constant 0."""
    x = fractions(rng, *shape)
    padded = refimpl.pad(x, amounts, mode)
    y = fractions(rng, *padded.shape)
    assert inner(padded, y) == inner(x, refimpl.pad_backward(y, x, amounts, mode)[0])


@pytest.mark.parametrize(("mode", "amounts", "shape"), CALLS)
def test_finite_differences(mode, amounts, shape, rng):
    x = rng.standard_normal(shape)
    grad_output = rng.standard_normal(refimpl.pad(x, amounts, mode, None).shape)
    ((expected, error),) = finite_difference(lambda x: refimpl.pad(x, amounts, mode), [x], grad_output)
    within(refimpl.pad_backward(grad_output, x, amounts, mode)[0], expected, error)


@pytest.mark.parametrize("mode", MODES)
def test_axes_are_padded_independently(mode, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    whole = refimpl.pad(x, (3, 1, 0, 2), mode, None)
    rows_first = refimpl.pad(refimpl.pad(x, (0, 0, 0, 2), mode), (3, 1, 0, 0), mode)
    columns_first = refimpl.pad(refimpl.pad(x, (3, 1, 0, 0), mode), (0, 0, 0, 2), mode)
    assert np.array_equal(whole, rows_first) and np.array_equal(whole, columns_first)


@pytest.mark.parametrize("mode", MODES)
def test_padding_then_cropping_is_the_identity(mode, rng):
    x = rng.standard_normal((2, 3, 5))
    assert np.array_equal(refimpl.pad(refimpl.pad(x, (2, 4), mode), (-2, -4), mode), x)


def test_turning_the_axis_turns_the_amounts(rng):
    x = rng.standard_normal((2, 3, 5))
    for mode, (before, after) in itertools.product(MODES, ((3, 1), (-1, 2), (0, 4))):
        turned = refimpl.pad(x[..., ::-1], (after, before), mode)
        assert np.array_equal(refimpl.pad(x, (before, after), mode), turned[..., ::-1])


def test_any_number_of_axes_for_the_constant(rng):
    x = rng.standard_normal((1, 2, 3, 2, 1))
    amounts = (1, 0, 0, 2, -1, 1, 2, 0, 1, 1)
    widths = [(1, 1), (2, 0), (0, 1), (0, 2), (1, 0)]
    expected = np.pad(x[:, :, 1:], widths, constant_values=0.5)
    assert np.array_equal(refimpl.pad(x, amounts, value=0.5), expected)
    assert refimpl.pad(np.array(3.0), ()).shape == ()


@pytest.mark.parametrize(("mode", "amounts", "shape"), CALLS)
def test_compiled_equals_interpreted(mode, amounts, shape, rng):
    pytest.importorskip("numba")
    x, results = rng.standard_normal(shape), {}
    grad_output = rng.standard_normal(refimpl.pad(x, amounts, mode).shape)
    for way in ("interpreted", "compiled"):
        with refimpl.execution(way):
            (grad_input,) = refimpl.pad_backward(grad_output, x, amounts, mode)
            results[way] = (refimpl.pad(x, amounts, mode), grad_input)
    for interpreted, compiled in zip(*results.values(), strict=True):
        assert interpreted.tobytes() == compiled.tobytes()


def test_copies_are_bitwise_and_the_constant_is_rounded_to_the_type():
    x = np.array([[-0.0, math.nan, -math.inf]])
    output = Pad((1, 1), "constant", 1 / 3).bounded(strictest("float16"), (x,), (np.ones((1, 5)),))["output"]
    assert output.bitwise and not output.error.any()
    third = 0.333251953125  # 1365 / 4096
    assert np.array_equal(output.value, [[third, -0.0, math.nan, -math.inf, third]], equal_nan=True)
    assert np.signbit(output.value[0, 1])


def test_an_element_with_one_copy_has_an_exact_gradient(rng):
    """Mirrored (2, 1) of three elements: one, three and two copies."""
    grad_output = rng.standard_normal((1, 6))
    bounded = Pad((2, 1), "reflect").bounded(strictest("float32"), (np.zeros((1, 3)),), (grad_output,))
    error, magnitude = bounded["grad_input"].error[0], np.abs(grad_output[0])
    assert error[0] == 0
    within(error[1], gamma(2, 2.0**-24) * magnitude[[1, 3, 5]].sum(), 2.0**-50 * magnitude.sum())
    within(error[2], gamma(1, 2.0**-24) * magnitude[[0, 4]].sum(), 2.0**-50 * magnitude.sum())


def test_the_bound_of_a_carried_gradient_holds_every_element_of_it(rng):
    """Gradients inside the carried bound, summed and rounded to float32, stay inside the resulting one."""
    contract = strictest("float32")
    carried = replace(contract.exact(rng.standard_normal((2, 7))), error=np.full((2, 7), 1e-3))
    bound = pad_adjoint(carried, np.zeros((2, 3)), (2, 2), "replicate")
    for signs in rng.choice([-1, 1], (8, 2, 7)):
        moved = (carried.value + 0.99 * carried.error * signs).astype(np.float32)
        (actual,) = refimpl.pad_backward(moved, np.zeros((2, 3)), (2, 2), "replicate")
        within(actual.astype(np.float32), bound.value, bound.error)
    assert np.array_equal(bound.error[:, 1], [1e-3, 1e-3])


def test_a_carried_gradient_that_is_not_finite_has_no_error():
    carried = Contract("float16", "float32").exact([[math.inf, 1.0, math.nan, -math.inf]])
    bound = pad_adjoint(carried, np.zeros((1, 2)), (1, 1), "replicate")
    assert np.array_equal(bound.value, [[math.inf, math.nan]], equal_nan=True) and not bound.error.any()


@pytest.mark.parametrize(
    ("mode", "amounts", "shape", "exception"),
    [
        ("reflect", (3, 0), (2, 3), RuntimeError),
        ("circular", (4, 0), (2, 3), RuntimeError),
        ("circular", (3, -1), (2, 3), RuntimeError),
        ("constant", (-4, 5), (2, 3), RuntimeError),
        ("constant", (1,), (2, 3), RuntimeError),
        ("constant", (1, 1) * 3, (2, 3), RuntimeError),
        ("mirror", (1, 1), (2, 3), NotImplementedError),
        ("reflect", (1, 1), (3,), NotImplementedError),
        ("constant", (1.0, 1), (2, 3), TypeError),
        ("replicate", (1, 1), (2, 0, 3), RuntimeError),
    ],
)
def test_what_cannot_be_padded_is_refused(mode, amounts, shape, exception):
    with pytest.raises(exception):
        refimpl.pad(np.zeros(shape), amounts, mode)

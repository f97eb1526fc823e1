"""The padding reference against worked numbers, numpy, exact arithmetic, laws and finite differences."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl.error_bounds import Contract, gamma, strictest
from refimpl.padding import Pad, Padding, _check_axis, pad_adjoint, taps

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
    carried = Contract("float16", "float32").exact([[1.0, 2.0, math.inf]])
    bound = pad_adjoint(replace(carried, error=np.ones((1, 3))), np.zeros((1, 2)), (1, 0), "replicate")
    assert bound.value.tolist() == [[3, math.inf]] and bound.error[0, 0] > 2 and bound.error[0, 1] == 0


def test_walk_visits_every_copy_once():
    """2 x 3 with a row and two columns put in front: the constants are left out, in C order."""
    padding, visits = Padding(np.zeros((2, 3)), (2, 0, 1, 0), "constant"), []
    taps(lambda arrays, *indices: visits.append(indices), (), padding.geometry)
    assert padding.shape == (3, 5)
    assert visits == [(7, 0), (8, 1), (9, 2), (12, 3), (13, 4), (14, 5)]


def test_roundings_of_the_gradient_are_one_less_than_the_copies():
    """None of an element that is cropped away or there once; errors of T where several are added."""
    layer = Pad((2, -1), "replicate")
    result = layer.bounded(strictest("float16"), (np.zeros((1, 4)),), (np.ones((1, 5)),))["grad_input"]
    assert result.products.terms.tolist() == [[2, 0, 0, 0]]
    contract = strictest("float16")
    carried = replace(contract.exact(np.ones((1, 5))), error=np.full((1, 5), 2.0**-12))
    bound = pad_adjoint(carried, np.zeros((1, 4)), (2, -1), "replicate")
    assert bound.value.tolist() == [[3, 1, 1, 0]] and bound.error[0, 1:].tolist() == [2.0**-12, 2.0**-12, 0]
    error = 3 * 2.0**-12 + gamma(2, contract.u) * (3 + 3 * 2.0**-12)
    assert bound.error[0, 0] == contract.stored(np.array(3.0), np.array(error))
    bound = pad_adjoint(carried[:, :3], np.zeros((1, 2)), (1, 0), "replicate")
    assert (
        bound.value.tolist() == [[2, 1]]
        and bound.error[0, 0] > 2 * 2.0**-12
        and bound.error[0, 1] == 2.0**-12
    )


@pytest.mark.parametrize(
    ("mode", "fits", "not_any_more"),
    [
        # (before, after) of an axis of three: the most that can be added, and taken away
        ("constant", [(-3, 0), (0, -3), (-1, -2), (9, -3), (-3, 9)], [(-4, 9), (9, -4), (-2, -2), (-4, 0)]),
        ("reflect", [(2, 2), (-1, 2), (2, -5), (-5, 2), (-1, -1)], [(3, 0), (0, 3), (2, -6), (-6, 2)]),
        ("replicate", [(9, 9), (-1, 9), (9, -12), (-2, 0)], [(9, -13), (-4, 0), (0, -4)]),
        ("circular", [(3, 3), (2, -1), (-1, 2), (-3, 0), (-2, -1)], [(4, 0), (0, 4), (3, -1), (-2, 2)]),
    ],
)
def test_what_an_axis_can_give(mode, fits, not_any_more):
    """A padding of several axes, so that no other condition decides."""
    x = np.zeros((2, 2, 3, 4))
    for before, after in fits:
        assert refimpl.pad(x, (0, 0, before, after), mode).shape == (2, 2, 3 + before + after, 4)
    for before, after in not_any_more:
        with pytest.raises(RuntimeError, match=r"add at most|takes more"):
            refimpl.pad(x, (0, 0, before, after), mode)


def test_what_an_axis_without_room_can_give():
    """One element has none to mirror, and none that are left none to go around."""
    for x, amounts, mode in ((np.zeros((1, 1)), (1, 0), "reflect"), (np.zeros((1, 3)), (-3, 1), "circular")):
        with pytest.raises(RuntimeError, match="add at most 0"):
            refimpl.pad(x, amounts, mode)


def test_no_axis_is_as_long_as_2_to_the_62():
    _check_axis("constant", 5, 1, 2**62 - 7, (5,))
    with pytest.raises(RuntimeError, match="no axis"):
        _check_axis("constant", 5, 1, 2**62 - 6, (5,))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_ranks_and_empty_axes_of_the_modes(mode):
    """One to three axes, one or two more in front, of which the first of two, the batch, may be empty."""
    sizes = (2, 3, 4, 3, 4, 3, 2)
    for axes in range(5):
        for rank in range(axes, axes + 4):
            x, amounts = np.zeros(sizes[:rank]), (1, 1) * axes
            if 1 <= axes <= 3 and rank in (axes + 1, axes + 2):
                expected = tuple(n + 2 * (i >= rank - axes) for i, n in enumerate(x.shape))
                assert refimpl.pad(x, amounts, mode).shape == expected
            else:
                with pytest.raises(NotImplementedError, match="needed are 1, 2 or 3"):
                    refimpl.pad(x, amounts, mode)
    assert refimpl.pad(np.zeros((0, 2, 3)), (1, 1), mode).shape == (0, 2, 5)
    for shape in ((2, 0, 3), (0, 3)):
        if mode == "circular":
            assert refimpl.pad(np.zeros(shape), (1, 1), mode).shape == (*shape[:-1], 5)
        else:
            with pytest.raises(RuntimeError, match="only its batch"):
                refimpl.pad(np.zeros(shape), (1, 1), mode)


def test_a_plane_that_is_cropped_away():
    """Of all axes: refused in the modes that read at the border, elsewhere empty; of one of two: empty."""
    for mode in MODES:
        if mode in ("reflect", "replicate"):
            with pytest.raises(RuntimeError, match="leaves nothing"):
                refimpl.pad(np.zeros((1, 3)), (-2, -1), mode)
            with pytest.raises(RuntimeError, match="leaves nothing"):
                refimpl.pad(np.zeros((2, 2, 3)), (-2, -1), mode)
        else:
            assert refimpl.pad(np.zeros((1, 3)), (-2, -1), mode).shape == (1, 0)
        assert refimpl.pad(np.zeros((1, 3)), (-1, -1), mode).shape == (1, 1)
        assert refimpl.pad(np.zeros((1, 2, 3)), (-2, -1, 0, 0), mode).shape == (1, 2, 0)


def test_values_of_other_modes():
    """0 is no value that could be meant."""
    x = np.array([[1.0, 2]])
    for mode in ("reflect", "replicate", "circular"):
        assert (refimpl.pad(x, (1, 0), mode, 0) == refimpl.pad(x, (1, 0), mode)).all()
        with pytest.raises(RuntimeError, match="takes one"):
            refimpl.pad(x, (1, 0), mode, 0.5)
    for given, message in (({"value": "1"}, "a number"), ({"pad": "11"}, "a tuple"), ({"pad": 1}, "a tuple")):
        with pytest.raises(TypeError, match=message):
            refimpl.pad(**({"input": x, "pad": (1, 0)} | given))
    for amounts in ((True, 1), (1, None), (1.0, 0)):
        with pytest.raises(TypeError, match="needed are ints"):
            refimpl.pad(x, amounts)
    assert refimpl.pad(x, [np.int64(1), 0]).tolist() == [[0, 1, 2]]
    with pytest.raises(RuntimeError, match="grad_output"):
        refimpl.pad_backward(np.zeros((1, 2)), x, (1, 0))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Constant", "Zero", "Reflection", "Replication", "Circular"])
def test_amounts_of_the_layers(kind, rank):
    """One for all sides, or one for each, last axis first."""
    layer, value = getattr(refimpl, f"{kind}Pad{rank}d"), (0.5,) if kind == "Constant" else ()
    x = np.arange(2.0 * 3 * 4 * 5 * 6)[: 2 * 3 * math.prod((4, 5, 2)[:rank])].reshape(2, 3, *(4, 5, 2)[:rank])
    mode = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}.get(kind, "constant")
    each = (1, 0, 2, 1, 0, 1)[: 2 * rank]
    for given, amounts in ((1, (1,) * 2 * rank), (each, each), (list(each), each)):
        made, expected = layer(given, *value), refimpl.pad(x, amounts, mode, *value)
        assert (made(x) == expected).all() and made.output_shapes(x) == (expected.shape,)
        assert (made.backward(expected) == refimpl.pad_backward(expected, x, amounts, mode)[0]).all()
    if kind == "Circular":
        made(x[0])
        for wrong in (x[None], x[0, 0]):
            with pytest.raises(ValueError, match="axes"):
                made(wrong)


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

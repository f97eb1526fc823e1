"""The pooling reference against worked numbers, a second definition, exact arithmetic and laws."""

import itertools
import math

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl.error_bounds import strictest
from refimpl.pooling_taps import Geometry, windows

NAN, INF = math.nan, math.inf
# rank, shape, arguments that both layers have: asymmetric, ceil_mode with and without overhang, gaps
CALLS = [
    (1, (2, 3, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (1, (3, 8), {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True}),
    (2, (2, 2, 5, 6), {"kernel_size": (2, 3)}),
    (2, (1, 2, 5, 7), {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0), "ceil_mode": True}),
    (2, (2, 5, 4), {"kernel_size": 1, "stride": (2, 3), "ceil_mode": True}),
    (3, (2, 1, 3, 4, 5), {"kernel_size": (2, 3, 4), "stride": (1, 2, 3), "padding": (1, 0, 2),
                          "ceil_mode": True}),
]
DILATED = [
    (1, (2, 9), {"kernel_size": 3, "dilation": 2, "stride": 1, "padding": 1}),
    (2, (1, 2, 7, 9), {"kernel_size": (3, 2), "dilation": (2, 3), "stride": (1, 2), "padding": (1, 1),
                       "ceil_mode": True}),
    (3, (2, 4, 5, 6), {"kernel_size": 2, "dilation": (1, 2, 3), "stride": 2, "padding": (0, 1, 1)}),
]
COUNTED = [{}, {"count_include_pad": False}, {"divisor_override": 3}]


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def pool(name, rank, suffix=""):
    return getattr(refimpl, f"{name}_pool{rank}d{suffix}")


def distinct(rng, shape):
    """Different numbers, further apart than any step of a finite difference."""
    return rng.permutation(math.prod(shape)).reshape(shape) / 4 - 3.0


def window_by_window(x, rank, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Of every output of a plane: the coordinates that its window reads; how many lie in the padded input."""
    each = [value if isinstance(value, tuple) else (value,) * rank
            for value in (kernel_size, kernel_size if stride is None else stride, padding, dilation)]
    axes = []
    for n, k, s, p, d in zip(x.shape[-rank:], *each, strict=True):
        starts = range(-p, n + p, s)
        starts = [a for a in starts if (a < n if ceil_mode else a + d * (k - 1) < n + p)]
        if ceil_mode:  # one window may leave the padded input, and no more than one
            whole = [a for a in starts if a + d * (k - 1) < n + p]
            starts = starts[: len(whole) + (len(whole) < 1 or whole[-1] + d * (k - 1) + 1 < n + p)]
        axes.append([([c for c in range(a, a + d * k, d) if 0 <= c < n],
                      sum(-p <= c < n + p for c in range(a, a + d * k, d))) for a in starts])
    return {
        index: (list(itertools.product(*(coordinates for coordinates, _ in chosen))),
                math.prod(counted for _, counted in chosen))
        for index, chosen in ((index, [axis[i] for axis, i in zip(axes, index, strict=True)])
                              for index in itertools.product(*(range(len(axis)) for axis in axes)))
    }


def test_numbers_worked_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3)
    assert refimpl.max_pool2d(x, 2, 1).tolist() == [[[4, 5], [7, 8]]]
    assert refimpl.avg_pool2d(x, 2, 1).tolist() == [[[2, 3], [5, 6]]]
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert refimpl.MaxPool2d(3)(x).tolist() == [[[[10]]]]
    assert refimpl.MaxPool2d(3, padding=1, stride=2)(x).tolist() == [[[[5, 7], [13, 15]]]]
    both = refimpl.MaxPool2d((2, 3), padding=(1, 1), stride=(2, 3))(np.concatenate([x, x + 1], 1))
    assert both.tolist() == [[[[1, 3], [9, 11], [13, 15]], [[2, 4], [10, 12], [14, 16]]]]


def test_indices_are_flat_in_the_unpadded_plane():
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    output, indices = refimpl.max_pool2d(x, 2, 2, return_indices=True)
    assert output.tolist() == [[[[6, 8], [14, 16]]]] and indices.tolist() == [[[[5, 7], [13, 15]]]]
    x = np.array([[1.0, 9, 2, 8, 3, 7, 4, 6, 5]])
    output, indices = refimpl.max_pool1d(x, 2, 1, 1, 2, return_indices=True)
    assert output.tolist() == [[9, 2, 9, 3, 8, 4, 7, 5, 6]]
    assert indices.tolist() == [[1, 2, 1, 4, 3, 6, 5, 8, 7]] and indices.dtype == np.int64


def test_documented_average():
    """The example of torch.nn.AvgPool1d."""
    assert refimpl.AvgPool1d(3, stride=2)(np.arange(1.0, 8)[None, None]).tolist() == [[[2, 4, 6]]]


def test_average_of_windows_that_hang_over():
    assert refimpl.avg_pool1d(np.arange(1.0, 6)[None], 2, ceil_mode=True).tolist() == [[1.5, 3.5, 5]]
    ramp = np.arange(1.0, 17).reshape(1, 4, 4)
    assert refimpl.avg_pool2d(ramp, 3, 2, ceil_mode=True).tolist() == [[[6, 7.5], [12, 13.5]]]
    x = np.arange(49.0).reshape(1, 7, 7)
    assert refimpl.avg_pool2d(x, 2, 3, ceil_mode=True).tolist() == [
        [[4, 7, 9.5], [25, 28, 30.5], [42.5, 45.5, 48]]]
    gradient, = refimpl.avg_pool1d_backward(np.ones((1, 2)), np.zeros((1, 5)), 3, 3, ceil_mode=True)
    assert gradient.tolist() == [[1 / 3] * 3 + [1 / 2] * 2]


def test_divisors_at_the_border():
    """6 x 6, kernel 3, stride 2, padding 1, ceil_mode: the last windows leave the padding by one."""
    ones = np.ones((1, 6, 6))
    counted = refimpl.avg_pool2d(ones, 3, 2, 1, ceil_mode=True)[0]
    assert counted[:, 1].tolist() == [6 / 9, 1, 1, 3 / 6] and (counted[0, 0], counted[3, 3]) == (4 / 9, 1 / 4)
    assert (refimpl.avg_pool2d(ones, 3, 2, 1, ceil_mode=True, count_include_pad=False) == 1).all()
    assert refimpl.avg_pool2d(ones, 3, 2, 1, divisor_override=-2)[0, 1, 1] == -4.5


def test_last_window_never_starts_in_the_right_padding():
    assert refimpl.max_pool2d(np.zeros((1, 1, 6, 7)), 1, 2, ceil_mode=True).shape == (1, 1, 3, 4)
    assert refimpl.max_pool1d(np.zeros((1, 5)), 2, 3, 1, ceil_mode=True).shape == (1, 2)
    assert refimpl.max_pool1d(np.zeros((1, 6)), 2, 3, 1, ceil_mode=True).shape == (1, 3)


def test_nan_wins_at_every_place():
    for place in range(4):
        x = np.array([[3.0, INF, 8, 4]])
        x[0, place] = NAN
        output, indices = refimpl.max_pool1d(x, 4, return_indices=True)
        assert np.isnan(output).all() and indices.tolist() == [[place]]
    assert refimpl.max_pool1d(np.array([[NAN, 1, NAN, 2]]), 4, return_indices=True)[1].tolist() == [[2]]


def test_first_of_equal_maxima_takes_the_index_and_the_gradient():
    for value in (-1.0, -INF, INF, 0.0):
        x = np.full((1, 3, 3), value)
        assert refimpl.max_pool2d(x, 2, 1, return_indices=True)[1].tolist() == [[[0, 1], [3, 4]]]
        gradient, = refimpl.max_pool2d_backward(np.array([[[1.0, 2], [3, 4]]]), x, 2, 1)
        assert gradient.tolist() == [[[1, 2, 0], [3, 4, 0], [0, 0, 0]]]


def test_a_window_with_all_taps_in_the_padding_has_no_element():
    x = np.arange(1.0, 4)[None]
    output, indices = refimpl.max_pool1d(x, 2, 1, 1, 4, return_indices=True)
    assert output.tolist() == [[-INF]] and indices.tolist() == [[-1]]
    assert refimpl.max_pool1d_backward(np.ones((1, 1)), x, 2, 1, 1, 4)[0].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(("rank", "shape", "arguments"), CALLS + DILATED)
def test_maximum_window_by_window(rng, rank, shape, arguments):
    x = fractions(rng, *shape)
    output, indices = pool("max", rank)(x, **arguments, return_indices=True)
    windows = window_by_window(x, rank, **arguments)
    assert output.shape[-rank:] == tuple(1 + max(index[axis] for index in windows) for axis in range(rank))
    for lead in np.ndindex(shape[:-rank]):
        for index, (coordinates, _) in windows.items():
            best = max(x[lead][c] for c in coordinates)
            first = next(c for c in coordinates if x[lead][c] == best)
            assert output[lead + index] == best
            assert indices[lead + index] == np.ravel_multi_index(first, shape[-rank:])


@pytest.mark.parametrize(("rank", "shape", "arguments", "counted"),
                         [(*call, counted) for call in CALLS for counted in COUNTED[: 1 + min(call[0], 2)]])
def test_average_window_by_window(rng, rank, shape, arguments, counted):
    x = fractions(rng, *shape)
    output = pool("avg", rank)(x, **arguments, **counted)
    for lead in np.ndindex(shape[:-rank]):
        for index, (coordinates, padded) in window_by_window(x, rank, **arguments).items():
            divisor = padded if counted.get("count_include_pad", True) else len(coordinates)
            total = sum(x[lead][c] for c in coordinates)
            assert output[lead + index] == total / counted.get("divisor_override", divisor)


@pytest.mark.parametrize(("rank", "shape", "arguments"), CALLS + DILATED)
def test_maximum_and_its_gradient_are_adjoint(rng, rank, shape, arguments):
    """With its choices held fast a maximum is linear: <A x, y> = <x, A' y>, exactly."""
    x = fractions(rng, *shape)
    output = pool("max", rank)(x, **arguments)
    y = fractions(rng, *output.shape)
    assert inner(output, y) == inner(x, pool("max", rank, "_backward")(y, x, **arguments)[0])


@pytest.mark.parametrize(("rank", "shape", "arguments"), CALLS)
@pytest.mark.parametrize("counted", COUNTED[:2])
def test_average_and_its_gradient_are_adjoint(rng, rank, shape, arguments, counted):
    x = fractions(rng, *shape)
    output = pool("avg", rank)(x, **arguments, **counted)
    y = fractions(rng, *output.shape)
    assert inner(output, y) == inner(x, pool("avg", rank, "_backward")(y, x, **arguments, **counted)[0])


@pytest.mark.parametrize(("name", "rank", "shape", "arguments"),
                         [("max", *call) for call in CALLS + DILATED] + [("avg", *call) for call in CALLS])
def test_gradient_by_finite_differences(rng, name, rank, shape, arguments):
    x = distinct(rng, shape)
    grad_output = rng.standard_normal(pool(name, rank)(x, **arguments).shape)
    (expected, error), = finite_difference(lambda x: pool(name, rank)(x, **arguments), [x], grad_output)
    within(pool(name, rank, "_backward")(grad_output, x, **arguments)[0], expected, error)


@pytest.mark.parametrize("name", ["max", "avg"])
def test_stride_is_subsampling(rng, name):
    x = fractions(rng, 2, 9, 8)
    dense = pool(name, 2)(x, (3, 2), 1)
    assert (pool(name, 2)(x, (3, 2), (2, 3)) == dense[:, ::2, ::3]).all()


@pytest.mark.parametrize("name", ["max", "avg"])
def test_pooling_is_separable(rng, name):
    x = fractions(rng, 2, 4, 5, 6)
    once = pool(name, 3)(x, (2, 3, 2), 1, (1, 0, 1))
    apart = pool(name, 3)(pool(name, 3)(x, (2, 1, 1), 1, (1, 0, 0)), (1, 3, 2), 1, (0, 0, 1))
    assert (once == apart).all()


def test_dilation_takes_every_other_element(rng):
    x = fractions(rng, 1, 12)
    dilated = refimpl.max_pool1d(x, 3, 2, 0, 2)
    assert (dilated == refimpl.max_pool1d(x[:, ::2], 3, 1)).all()


@pytest.mark.parametrize("name", ["max", "avg"])
def test_lower_ranks_are_the_same_walk(rng, name):
    x = fractions(rng, 2, 3, 9)
    line = pool(name, 1)(x, 3, 2, 1)
    assert (pool(name, 2)(x[:, :, None], (1, 3), (1, 2), (0, 1))[:, :, 0] == line).all()
    assert (pool(name, 3)(x[:, :, None, None], (1, 1, 3), (1, 1, 2), (0, 0, 1))[:, :, 0, 0] == line).all()
    assert (pool(name, 1)(x[1], 3, 2, 1) == line[1]).all()


@pytest.mark.parametrize(("name", "rank", "shape", "arguments"),
                         [("max", *call) for call in CALLS + DILATED] + [("avg", *call) for call in CALLS])
def test_compiled_equals_interpreted(rng, name, rank, shape, arguments):
    pytest.importorskip("numba")
    x = np.where(rng.random(shape) < 0.2, rng.choice([NAN, INF, -0.0], shape), rng.standard_normal(shape))
    indices = {"return_indices": True} if name == "max" else {}
    found = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode), np.errstate(invalid="ignore"):
            output = pool(name, rank)(x, **arguments, **indices)
            grad = np.cos(np.arange(np.size(output[0] if indices else output)))
            grad = grad.reshape((output[0] if indices else output).shape)
            found.append((output, pool(name, rank, "_backward")(grad, x, **arguments)[0]))
    assert repr(found[0]) == repr(found[1])
    np.testing.assert_equal(found[0], found[1])


def test_bound_of_an_average_is_zero_where_every_step_is_exact():
    """Padding 1 with a 2 x 2 kernel, not counted: divisors 1, 2 and 4; 3 x 3 has 9 inside."""
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    for kernel, padding, exact in ((2, 1, True), (3, 0, False)):
        layer = refimpl.AvgPool2d(kernel, 1, padding, count_include_pad=False)
        up = np.ones(layer(x).shape)
        for bounded in layer.bounded(strictest("float16"), (x,), (up,)).values():
            assert (bounded.error == 0).all() if exact else (bounded.error > 0).all()


def test_bounds_of_a_maximum_pooling(rng):
    """Values and indices are copied; so is a gradient, unless several windows chose the element."""
    x, up = rng.standard_normal((1, 2, 6)), rng.standard_normal((1, 2, 5))
    result = refimpl.MaxPool1d(2, 1, return_indices=True).bounded(strictest("bfloat16"), (x,), (up,))
    assert result["output"].bitwise and not result["output"].error.any() and not result["indices"].error.any()
    chosen = refimpl.max_pool1d_backward(np.ones(up.shape), x, 2, 1)[0]
    assert ((result["grad_input"].error > 0) == (chosen > 1)).all()


def test_either_zero_may_win_a_tie_of_zeros():
    for x, bitwise in (([[0.0, -0.0]], False), ([[-0.0, -1.0]], True)):
        result = refimpl.MaxPool1d(2).bounded(strictest("float32"), (np.array(x),), (np.ones((1, 1)),))
        assert result["output"].bitwise == bitwise


@pytest.mark.parametrize(
    ("arguments", "of_output", "of_gradient"),
    [
        # divisors 2, 3, 3, 2: n - 1 additions, one rounding of a half, two of a third
        ((3, 1, 1, False, False), [2, 4, 4, 2], [3, 4, 4, 3]),
        ((3, 1, 1), [3, 4, 4, 3], [3, 4, 4, 3]),
        ((1,), [0, 0, 0, 0], [0, 0, 0, 0]),
        ((2,), [2, 2], [1, 1, 1, 1]),
        ((1, 3), [0, 0], [0, 0, 0, 0]),
        ((3, 3, 0, True), [4, 0], [2, 2, 2, 0]),
    ],
)
def test_roundings_of_an_average(arguments, of_output, of_gradient):
    layer, x = refimpl.AvgPool1d(*arguments), np.ones((1, 1, 4))
    result = layer.bounded(strictest("float32"), (x,), (np.ones((1, 1, len(of_output))),))
    assert result["output"].products.terms.tolist() == [[of_output]]
    found = result["grad_input"].products.terms
    assert np.broadcast_to(found, x.shape).tolist() == [[of_gradient]]


@pytest.mark.parametrize(
    ("divisor", "of_output", "unit"), [(1, 1, 0.25), (-1, 1, 0.25), (2, 2, 0.125), (-4, 2, 0.0625), (3, 3, 0)]
)
def test_unit_and_roundings_of_a_divisor(divisor, of_output, unit):
    """Quarters, two a window: by a power of two they stay multiples of a smaller unit."""
    layer = refimpl.AvgPool2d((1, 2), divisor_override=divisor)
    x, up = np.array([[[[0.75, 1.5, 2.0, -0.25]]]]), np.array([[[[1.0, 2.0]]]])
    result = layer.bounded(strictest("float32"), (x,), (up,))
    assert (result["output"].products.terms == of_output).all()
    assert (result["output"].products.unit == unit).all()
    assert (result["grad_input"].products.terms == of_output - 1).all()
    assert (result["grad_input"].products.unit == 4 * unit).all()


def test_walk_visits_as_many_taps_as_it_says():
    """Without padding every tap is in the input."""
    geometry = Geometry(2, 3, (3, 5, 7), (2, 1, 3), (2, 3, 2), (1, 2, 3), (0, 0, 0), (1, 1, 1))
    visits = []
    windows(lambda arrays, *indices: visits.append(indices), (), geometry)
    assert geometry.taps == len(visits) == len(set(visits)) == 2 * 3 * 2 * 3 * 12


def test_walk_reads_what_lies_in_the_input():
    """By the formula, where on each axis size, kernel, stride, padding and dilation are others."""
    geometry = Geometry(1, 2, (5, 7, 6), (3, 2, 3), (3, 4, 7), (2, 3, 1), (2, 1, 3), (1, 4, 2))
    visits = []
    windows(lambda arrays, *indices: visits.append(indices), (), geometry)
    expected = set()
    for n, c, *places in np.ndindex(1, 2, *geometry.outputs, *geometry.kernel):
        y, k = places[:3], places[3:]
        x = [a * s - p + b * d for a, b, s, p, d in zip(y, k, *geometry[5:], strict=True)]
        if all(0 <= a < size for a, size in zip(x, geometry.inputs, strict=True)):
            expected.add(((n, c, *y), (n, c, *x)))
    assert set(visits) == expected and len(visits) == len(expected) > 0


@pytest.mark.parametrize("kernel", [3, 7])
def test_averages_in_float32_stay_within_the_bound_and_come_near_it(rng, kernel):
    x = rng.standard_normal((1, 1, 400 * kernel)).astype(np.float32)
    layer, windows = refimpl.AvgPool1d(kernel), x.reshape(400, kernel)
    bounded = layer.bounded(strictest("float32"), (x,), (np.ones((1, 1, 400)),))["output"]
    sums = [windows[:, list(order)] for order in (range(kernel), reversed(range(kernel)))]
    averages = [np.add.accumulate(terms, axis=1)[:, -1] / np.float32(kernel) for terms in sums]
    averages.append(np.add.accumulate(windows * (np.float32(1) / np.float32(kernel)), axis=1)[:, -1])
    errors = [np.abs(average - bounded.value[0, 0]) / bounded.error[0, 0] for average in averages]
    assert 0.1 < np.max(errors) <= 1


REFUSED = [
    (RuntimeError, {"kernel_size": 0}), (RuntimeError, {"stride": 0}), (RuntimeError, {"padding": -1}),
    (RuntimeError, {"kernel_size": 3, "padding": 2}), (RuntimeError, {"kernel_size": 9}),
    (RuntimeError, {"kernel_size": (2, 2, 2)}), (TypeError, {"kernel_size": 1.5}),
    (TypeError, {"ceil_mode": None}),
]


@pytest.mark.parametrize(("exception", "arguments"), REFUSED)
@pytest.mark.parametrize("name", ["max", "avg"])
def test_wrong_arguments_are_refused(name, exception, arguments):
    with pytest.raises(exception, match="needed"):
        pool(name, 2)(np.zeros((1, 1, 5, 6)), **({"kernel_size": 2} | arguments))


@pytest.mark.parametrize("padding", [(3, 3), (-1, 0), (0, -1), (2, 0), (0, 3)])
def test_padding_is_at_most_half_of_the_kernel(padding):
    """Of a kernel of (3, 4): at most (1, 2), and at least 0."""
    x = np.zeros((1, 5, 6))
    assert refimpl.max_pool2d(x, (3, 4), 1, (1, 2)).shape == (1, 5, 7)
    for name in ("max", "avg"):
        with pytest.raises(RuntimeError, match="at most half"):
            pool(name, 2)(x, (3, 4), 1, padding)


@pytest.mark.parametrize("name", ["max", "avg"])
def test_a_stride_without_entries_is_none_given(name, rng):
    """As torch's functions, which pass an empty list on for None."""
    x = rng.standard_normal((2, 4, 6))
    for empty in ([], (), None):
        assert (pool(name, 2)(x, (2, 3), empty) == pool(name, 2)(x, (2, 3), (2, 3))).all()


def test_wrong_tensors_and_divisors_are_refused():
    for shape in ((5, 6), (1, 1, 1, 5, 6), (1, 0, 5, 6), (0, 5, 6), (1, 1, 0, 6)):
        with pytest.raises(RuntimeError):
            refimpl.max_pool2d(np.zeros(shape), 2)
    with pytest.raises(RuntimeError, match="grad_output"):
        refimpl.max_pool2d_backward(np.zeros((1, 2, 2)), np.zeros((1, 4, 6)), 2)
    with pytest.raises(RuntimeError, match="needed"):
        refimpl.max_pool1d(np.zeros((1, 4)), 3, 2, 0, 2)
    for exception, divisor in ((RuntimeError, 0), (TypeError, 2.5), (TypeError, True)):
        with pytest.raises(exception, match="divisor_override"):
            refimpl.avg_pool2d(np.zeros((1, 4, 4)), 2, divisor_override=divisor)


def test_an_empty_batch_gives_an_empty_output():
    assert refimpl.max_pool2d(np.zeros((0, 2, 5, 6)), 2).shape == (0, 2, 2, 3)
    assert refimpl.AvgPool3d(2)(np.zeros((0, 2, 4, 5, 6))).shape == (0, 2, 2, 2, 3)


def test_layers_call_the_functions(rng):
    x = rng.standard_normal((2, 3, 7, 6))
    layer = refimpl.MaxPool2d((3, 2), 2, 1, 1, True, True)
    output, indices = layer(x)
    expected = refimpl.max_pool2d(x, (3, 2), 2, 1, 1, True, True)
    assert (output == expected[0]).all() and (indices == expected[1]).all()
    assert (layer.backward(output) == refimpl.max_pool2d_backward(output, x, (3, 2), 2, 1, 1, True)[0]).all()
    layer = refimpl.AvgPool2d(3, 2, 1, True, False, 5)
    output = layer(x)
    assert (output == refimpl.avg_pool2d(x, 3, 2, 1, True, False, 5)).all()
    expected, = refimpl.avg_pool2d_backward(output, x, 3, 2, 1, True, False, 5)
    assert (layer.backward(output) == expected).all()

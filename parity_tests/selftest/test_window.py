"""The window references against worked numbers, a second definition, exact arithmetic, laws and
differences."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl import window
from refimpl.error_bounds import FLOATS, SuiteError, round_to, strictest

NAN, INF = math.nan, math.inf
# rank, shape, output_size: fewer, as many and more than elements, None
ADAPTIVE = [
    (1, (2, 3, 7), 3),
    (1, (3, 5), 8),
    (2, (2, 1, 5, 7), (3, 4)),
    (2, (2, 4, 6), (None, 9)),
    (3, (1, 2, 3, 4, 5), (2, None, 3)),
    (3, (2, 2, 3, 2), 1),
]
BLOCKS = [
    ((2, 3, 5, 6), {"kernel_size": (3, 2)}),
    ((1, 2, 5, 7), {"kernel_size": 2, "stride": (2, 3), "padding": (1, 0)}),
    ((2, 6, 5), {"kernel_size": (2, 3), "dilation": (3, 1), "padding": (0, 2), "stride": (1, 2)}),
]
POWERS = [
    (1, (2, 3, 7), {"norm_type": 2, "kernel_size": 3}),
    (1, (2, 8), {"norm_type": 1, "kernel_size": 3, "stride": 2, "ceil_mode": True}),
    (2, (1, 2, 5, 6), {"norm_type": 3, "kernel_size": (2, 3), "stride": (1, 2)}),
    (2, (2, 4, 5), {"norm_type": 1.5, "kernel_size": 2}),
    (3, (1, 1, 3, 4, 4), {"norm_type": 4, "kernel_size": (2, 3, 2), "stride": 1}),
    (2, (1, 2, 5, 6), {"norm_type": INF, "kernel_size": 2, "stride": 1}),
    (2, (1, 2, 5, 6), {"norm_type": -INF, "kernel_size": 2}),
]
FRACTIONAL = [
    (2, (2, 3, 7, 9), {"kernel_size": (2, 3), "output_size": (4, 3)}),
    (2, (3, 6, 8), {"kernel_size": 2, "output_ratio": (0.5, 0.7)}),
    (3, (1, 2, 5, 6, 7), {"kernel_size": (2, 1, 3), "output_size": (2, 4, 3)}),
]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def call(name, rank="", suffix=""):
    return getattr(window, f"{name}{rank}{'d' if rank else ''}{suffix}")


def distinct(rng, shape):
    """Different positive numbers, further apart than any step of a finite difference."""
    return rng.permutation(math.prod(shape)).reshape(shape) / 16 + 0.5


def samples_for(rng, shape, rank):
    lead = shape[:-rank] if len(shape) == rank + 2 else (1, *shape[:-rank])
    return (2 * rng.integers(0, 32, (*lead, rank)) + 1) / 64


def test_blocks_worked_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3)
    columns = window.unfold(x, 2)
    assert columns.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert window.fold(columns, 3, 2)[0].tolist() == [[0, 2, 2], [6, 16, 10], [6, 14, 8]]
    padded = window.unfold(np.array([[[1.0, 2]]]), (1, 2), padding=(0, 1))
    assert padded.tolist() == [[0, 1, 2], [1, 2, 0]]


def test_convolution_is_unfold_multiply_fold(rng):
    """The example of torch.nn.Unfold, in whole numbers."""
    x, weight = rng.integers(-4, 5, (1, 3, 10, 12)) * 1.0, rng.integers(-4, 5, (2, 3, 4, 5)) * 1.0
    columns = weight.reshape(2, -1) @ window.unfold(x, (4, 5))[0]
    assert (window.fold(columns[None], (7, 8), 1) == refimpl.conv2d(x, weight)).all()


@pytest.mark.parametrize(("shape", "arguments"), BLOCKS)
def test_fold_is_the_adjoint_of_unfold(rng, shape, arguments):
    x = fractions(rng, *shape)
    columns = window.unfold(x, **arguments)
    y = fractions(rng, *columns.shape)
    back = window.fold(y, shape[-2:], **arguments)
    assert inner(columns, y) == inner(x, back)
    assert (window.unfold_backward(y, x, **arguments)[0] == back).all()
    assert (window.fold_backward(x, y, shape[-2:], **arguments)[0] == columns).all()


def test_unpooling_worked_by_hand():
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    output, indices = refimpl.max_pool2d(x, 2, 2, return_indices=True)
    plane = window.max_unpool2d(output, indices, 2, 2)[0, 0]
    assert plane.tolist() == [[0, 0, 0, 0], [0, 6, 0, 8], [0, 0, 0, 0], [0, 14, 0, 16]]
    larger = window.MaxUnpool2d(2, 2)(output, indices, (1, 1, 5, 5))[0, 0]
    assert [(int(i), int(j)) for i, j in np.argwhere(larger)] == [(1, 0), (1, 2), (2, 3), (3, 0)]
    assert larger[larger > 0].tolist() == [6, 8, 14, 16]


def test_unpooling_is_the_adjoint_of_picking(rng):
    for rank, shape in ((1, (2, 3, 5)), (2, (3, 2, 3)), (3, (1, 2, 2, 3, 2))):
        x, room = fractions(rng, *shape), math.prod(2 * n for n in shape[-rank:])
        planes = math.prod(shape[:-rank])
        picked = [rng.permutation(room)[: math.prod(shape[-rank:])] for _ in range(planes)]
        indices = np.array(picked).reshape(shape)
        output = call("max_unpool", rank)(x, indices, 2)
        y = fractions(rng, *output.shape)
        back, none = call("max_unpool", rank, "_backward")(y, x, indices, 2)
        assert inner(output, y) == inner(x, back) and none is None


def test_the_last_of_equal_indices_wins_and_any_is_accepted():
    x, indices, up = np.array([[3.0, 5, 4]]), np.array([[1, 1, 0]]), np.array([[10.0, 20, 30, 40, 50, 60]])
    layer = window.MaxUnpool1d(2)
    assert layer(x, indices).tolist() == [[4, 5, 0, 0, 0, 0]]
    assert layer.backward(up)[0].tolist() == [[0, 20, 10]]
    bounded = layer.bounded(strictest("float32"), (x, indices), (up,))
    assert bounded["output"].error.tolist() == [[0, 2, 0, 0, 0, 0]]
    assert bounded["grad_input0"].error.tolist() == [[20, 20, 0]]


def test_indices_outside_are_refused():
    for index in (-1, 4, 10**9):
        with pytest.raises(RuntimeError, match="needed"):
            window.max_unpool1d(np.ones((1, 2)), np.array([[0, index]]), 2)


def test_adaptive_regions_worked_by_hand():
    x = np.arange(25.0).reshape(1, 5, 5)
    assert window.adaptive_max_pool2d(x, 3)[0].tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]
    assert window.adaptive_avg_pool1d(np.arange(5.0)[None], 3).tolist() == [[0.5, 2, 3.5]]
    assert window.adaptive_avg_pool1d(np.array([[1.0, 3]]), 4).tolist() == [[1, 1, 3, 3]]
    assert window.adaptive_avg_pool1d(np.array([[1.0, 2, 4]]), 4).tolist() == [[1, 1.5, 3, 4]]


def by_definition(x, rank, output_size):
    """Of every output of a plane the coordinates of its region, by fractions."""
    own = x.shape[-rank:]
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * rank
    sizes = [n if p is None else p for n, p in zip(own, sizes, strict=True)]
    axes = [[range(math.floor(Fraction(y * n, p)), math.ceil(Fraction((y + 1) * n, p))) for y in range(p)]
            for n, p in zip(own, sizes, strict=True)]  # fmt: skip
    for index in itertools.product(*map(range, sizes)):
        yield index, list(itertools.product(*(axis[i] for axis, i in zip(axes, index, strict=True))))


@pytest.mark.parametrize(("rank", "shape", "output_size"), ADAPTIVE)
def test_adaptive_pooling_region_by_region(rng, rank, shape, output_size):
    x = fractions(rng, *shape)
    average = call("adaptive_avg_pool", rank)(x, output_size)
    largest, indices = call("adaptive_max_pool", rank)(x, output_size, True)
    for lead in np.ndindex(shape[:-rank]):
        for index, region in by_definition(x, rank, output_size):
            values = [x[lead][place] for place in region]
            assert average[lead + index] == sum(values) / len(values)
            assert largest[lead + index] == max(values)
            first = region[values.index(max(values))]
            assert indices[lead + index] == np.ravel_multi_index(first, shape[-rank:])


@pytest.mark.parametrize(("rank", "shape", "output_size"), ADAPTIVE)
def test_adaptive_pooling_and_its_gradient_are_adjoint(rng, rank, shape, output_size):
    """A maximum with its choices held fast is linear."""
    x = fractions(rng, *shape)
    for name in ("adaptive_avg_pool", "adaptive_max_pool"):
        output = call(name, rank)(x, output_size)
        y = fractions(rng, *output.shape)
        assert inner(output, y) == inner(x, call(name, rank, "_backward")(y, x, output_size)[0])


def test_fractional_windows_worked_by_hand():
    """7 elements, windows of 2, 4 of them: a = 5/3; with sample 1/2: floor(5/6 + y 5/3) = 0, 2, 4; the last
    at 5."""
    x = np.arange(7.0)[:, None] + np.zeros((7, 3))
    samples = np.array([[[0.25, 0.5]]])  # the last axis first
    output = window.fractional_max_pool2d(x[None], (2, 1), (4, 3), _random_samples=samples)
    assert output[0, :, 0].tolist() == [1, 3, 5, 6]


@pytest.mark.parametrize(("rank", "shape", "arguments"), FRACTIONAL)
def test_fractional_windows_cover_and_choose(rng, rank, shape, arguments):
    """The first window begins at the first element, the last one ends at the last, gaps are floor(a) or one
    more."""
    ramp = np.zeros(shape) + np.arange(shape[-1])
    samples = samples_for(rng, shape, rank)
    output = call("fractional_max_pool", rank)(ramp, **arguments, _random_samples=samples)
    kernel = arguments["kernel_size"]
    width = kernel[-1] if isinstance(kernel, tuple) else kernel
    ends = output.reshape(-1, output.shape[-1])
    step = (shape[-1] - width) / (output.shape[-1] - 1)
    assert (ends[:, 0] == width - 1).all() and (ends[:, -1] == shape[-1] - 1).all()
    gaps = np.diff(ends[:, :-1])
    assert ((gaps == math.floor(step)) | (gaps == math.ceil(step))).all()


@pytest.mark.parametrize(("rank", "shape", "arguments"), FRACTIONAL)
def test_fractional_pooling_and_its_gradient_are_adjoint(rng, rank, shape, arguments):
    x, samples = fractions(rng, *shape), samples_for(rng, shape, rank)
    output = call("fractional_max_pool", rank)(x, **arguments, _random_samples=samples)
    y = fractions(rng, *output.shape)
    (back,) = call("fractional_max_pool", rank, "_backward")(y, x, **arguments, _random_samples=samples)
    assert inner(output, y) == inner(x, back)


def test_windows_that_rounding_decides_are_an_error_of_the_suite():
    """a = 5/3: the window of y = 3 begins at 5, or at 4 where a is rounded down."""
    layer = window.FractionalMaxPool2d(1, (4, 7), _random_samples=np.zeros((1, 1, 2)))
    x = np.zeros((1, 6, 11))
    with pytest.raises(SuiteError, match="draw another"):
        layer.bounded(strictest("float32"), (x,), (layer(x),))


def test_powers_worked_by_hand():
    x = np.array([[3.0, 4, 0, 5, 12]])
    assert window.lp_pool1d(x, 2, 2).tolist() == [[5, 5]]
    assert window.lp_pool1d(x, 2, 2, ceil_mode=True).tolist() == [[5, 5, 12]]
    assert window.lp_pool1d(np.array([[1.0, -3, 2, 4]]), INF, 2, 1).tolist() == [[3, 3, 4]]
    assert window.lp_pool1d(np.array([[1.0, -3, 2, 4]]), -INF, 2, 1).tolist() == [[1, 2, 2]]
    assert window.lp_pool1d(np.array([[1.0, -3]]), 1, 2).tolist() == [[-2]]
    assert np.isnan(window.lp_pool1d(np.array([[1.0, -3]]), 3, 2)).all()
    (back,) = window.lp_pool1d_backward(np.ones((1, 2)), np.array([[0.0, 0, 3, 4]]), 2, 2)
    within(back, np.array([[0, 0, 0.6, 0.8]]), 2 * FLOATS["float64"].roundoff)


def gradients(rng):
    """name, function of the input, its gradient, and an input on which it is smooth."""
    for rank, shape, size in ADAPTIVE:
        for name in ("adaptive_avg_pool", "adaptive_max_pool"):
            yield name, rank, shape, {"output_size": size}
    for rank, shape, arguments in POWERS:
        yield "lp_pool", rank, shape, arguments
    for rank, shape, arguments in FRACTIONAL:
        yield (
            "fractional_max_pool",
            rank,
            shape,
            arguments | {"_random_samples": samples_for(rng, shape, rank)},
        )
    for shape, arguments in BLOCKS:
        yield "unfold", "", shape, arguments


@pytest.mark.parametrize(
    "call_of", [*gradients(np.random.default_rng(1))], ids=lambda item: f"{item[0]}{item[1]}"
)
def test_gradient_by_finite_differences(rng, call_of):
    name, rank, shape, arguments = call_of
    x = distinct(rng, shape)
    grad_output = rng.standard_normal(call(name, rank)(x, **arguments).shape)
    ((expected, error),) = finite_difference(lambda x: call(name, rank)(x, **arguments), [x], grad_output)
    within(call(name, rank, "_backward")(grad_output, x, **arguments)[0], expected, error)


@pytest.mark.parametrize(
    "call_of", [*gradients(np.random.default_rng(2))], ids=lambda item: f"{item[0]}{item[1]}"
)
def test_compiled_equals_interpreted(rng, call_of):
    pytest.importorskip("numba")
    name, rank, shape, arguments = call_of
    x, found = rng.uniform(0.1, 2.0, shape), []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            output = call(name, rank)(x, **arguments)
            (back,) = call(name, rank, "_backward")(
                np.cos(np.arange(output.size)).reshape(output.shape), x, **arguments
            )
            found.append((output, back))
    np.testing.assert_equal(found[0], found[1])


def test_bound_of_a_mean_counts_divisors():
    """4 of 8 elements: one half; 3 of 7: regions of 3, not exact."""
    for length, outputs, exact in ((8, 4, True), (7, 3, False)):
        layer, x = window.AdaptiveAvgPool1d(outputs), np.arange(1.0, length + 1)[None]
        for bounded in layer.bounded(strictest("float16"), (x,), (np.ones((1, outputs)),)).values():
            assert (bounded.error == 0).all() if exact else (bounded.error > 0).all()


@pytest.mark.parametrize(("p", "least"), [(1, 0.1), (2, 0.1), (3, 0.1), (1.3, 1e-25)])
def test_power_means_in_float32_stay_within_the_bound(rng, p, least):
    """Of small numbers it shows that 1.3 and 1 / 1.3 are rounded to float32."""
    x = rng.uniform(least, 20 * least, (1, 600)).astype(np.float32)
    layer = window.LPPool1d(p, 3)
    bounded = layer.bounded(strictest("float32"), (x,), (np.ones((1, 200)),))["output"]
    sums = np.add.accumulate(x.reshape(200, 3) ** np.float32(p), axis=1)[:, -1]
    used = np.abs(sums ** np.float32(1 / p) - bounded.value[0]) / bounded.error[0]
    assert 0 < used.max() <= 1


REFUSED = [
    (RuntimeError, "unfold", (2, 4, 4), {"kernel_size": 5}),
    (RuntimeError, "unfold", (4, 4), {"kernel_size": 2}),
    (RuntimeError, "fold", (1, 12, 12), {"output_size": (4, 5), "kernel_size": 2, "dilation": 8}),
    (RuntimeError, "fold", (1, 5, 9), {"output_size": 4, "kernel_size": 2}),
    (RuntimeError, "adaptive_avg_pool2d", (1, 4, 4), {"output_size": (2, 2, 2)}),
    (TypeError, "adaptive_max_pool1d", (1, 4), {"output_size": None}),
    (RuntimeError, "adaptive_max_pool2d", (1, 4, 0), {"output_size": 2}),
    (RuntimeError, "fractional_max_pool2d", (1, 4, 4), {"kernel_size": 3, "output_size": 3}),
    (ValueError, "fractional_max_pool2d", (1, 4, 4), {"kernel_size": 2}),
    (ZeroDivisionError, "lp_pool1d", (1, 4), {"norm_type": 0, "kernel_size": 2}),
    (TypeError, "lp_pool2d", (1, 4, 4), {"norm_type": 2, "kernel_size": 2, "ceil_mode": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("exception", "name", "shape", "arguments"), REFUSED)
def test_wrong_arguments_are_refused(exception, name, shape, arguments):
    with pytest.raises(exception):
        getattr(window, name)(np.ones(shape), **arguments)


def test_an_empty_batch_gives_an_empty_output():
    assert window.adaptive_avg_pool2d(np.zeros((0, 2, 5, 6)), 3).shape == (0, 2, 3, 3)
    assert window.unfold(np.zeros((0, 2, 5, 6)), 2).shape == (0, 8, 20)
    assert window.LPPool2d(2, 2)(np.zeros((0, 2, 5, 6))).shape == (0, 2, 2, 3)


def test_samples_are_a_buffer_and_are_drawn_when_absent():
    samples = np.full((1, 2, 2), 0.25)
    assert (
        window.FractionalMaxPool2d(2, 3, _random_samples=samples).state_dict()["_random_samples"] == samples
    ).all()
    layer = window.FractionalMaxPool2d(2, 3)
    assert layer.state_dict() == {} and layer(np.zeros((2, 6, 7))).shape == (2, 3, 3)


def test_steps_that_are_stored_include_the_exponent():
    """x^3 and its root, each stored in bfloat16, and so is 1/3: 0.333984."""
    layer, strict = window.LPPool1d(3.0, 1), strictest("bfloat16")
    x = round_to("bfloat16", np.geomspace(1e-4, 1e3, 64)[None, None])
    third = float(round_to("bfloat16", 1 / 3))
    found = round_to("bfloat16", round_to("bfloat16", x**3) ** third)
    weak = layer.bounded(replace(strict, algorithm="stored steps"), (x,), (x,))["output"]
    assert (np.abs(found - x) <= weak.error).all()
    assert (np.abs(found - x) > layer.bounded(strict, (x,), (x,))["output"].error).any()


def test_full_windows_are_wider_only_where_a_window_hangs_over():
    """Of five elements the last is alone in its window of two: counted as full, its root is sqrt(2) times."""
    layer, strict, x = window.LPPool1d(2, 2, ceil_mode=True), strictest("float64"), np.full((1, 1, 5), 3.0)
    narrow, wide = (
        layer.bounded(replace(strict, algorithm=name), (x,), (np.ones((1, 1, 3)),))["output"].error[0, 0]
        for name in ("direct", "full windows")
    )
    assert (narrow[:2] == wide[:2]).all()
    within(wide[2], 3 * (math.sqrt(2) - 1), 4 * narrow.max())

"""The vision references against worked numbers, a second definition, exact arithmetic, laws and
differences."""

import math
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, fractions, inner, within
from refimpl import vision
from refimpl.error_bounds import FLOATS, strictest
from refimpl.interpolation import MODES, Interpolate
from refimpl.interpolation_axes import Axis

SIZE = {1: (7,), 2: (4, 5), 3: (3, 4, 2)}
TARGETS = [
    {"size": (5, 7, 3)},
    {"size": (3, 2, 4)},
    {"scale_factor": 2},
    {"scale_factor": (1.7, 0.6, 2.5)},
    {"scale_factor": (0.75, 1.5, 1.25), "recompute_scale_factor": True},
]
CALLS = [
    (
        rank,
        {
            "mode": mode,
            **({} if corners is None else {"align_corners": corners}),
            **{key: value[:rank] if isinstance(value, tuple) else value for key, value in target.items()},
        },
    )
    for mode, (kind, ranks) in MODES.items()
    for rank in ranks
    for target in TARGETS
    for corners in ((None, True) if kind in ("linear", "cubic") else (None,))
] + [
    (2, {"mode": mode, "antialias": True, "size": size})
    for mode in ("bilinear", "bicubic")
    for size in ((2, 3), (7, 6), (3, 8))
]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def interpolate(x, **arguments):
    return vision.interpolate(x, **arguments)


def test_numbers_worked_by_hand():
    x = np.array([[[1.0, 2, 3, 4]]])
    assert interpolate(x, scale_factor=2).tolist() == [[[1, 1, 2, 2, 3, 3, 4, 4]]]
    assert interpolate(x, scale_factor=0.5).tolist() == [[[1, 3]]]
    assert interpolate(x, size=6, mode="nearest-exact").tolist() == [[[1, 2, 2, 3, 4, 4]]]
    assert interpolate(x, size=6).tolist() == [[[1, 1, 2, 3, 3, 4]]]
    assert interpolate(x, size=7, mode="linear", align_corners=True).tolist() == [
        [[1, 1.5, 2, 2.5, 3, 3.5, 4]]
    ]
    assert interpolate(x, size=8, mode="linear").tolist() == [[[1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]]]
    assert interpolate(x, size=2, mode="area").tolist() == [[[1.5, 3.5]]]
    assert interpolate(x[:, :, None], size=(1, 2), mode="bilinear", antialias=True).tolist() == [
        [[[(1 * 0.75 + 2 * 0.75 + 3 * 0.25) / 1.75, (2 * 0.25 + 3 * 0.75 + 4 * 0.75) / 1.75]]]
    ]


def test_documented_upsampling():
    """The examples of torch.nn.Upsample: 2 x 2 by 2, and a corner of zeros."""
    x = np.arange(1.0, 5).reshape(1, 1, 2, 2)
    assert vision.Upsample(scale_factor=2, mode="nearest")(x)[0, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]
    assert vision.Upsample(scale_factor=2, mode="bilinear")(x)[0, 0].tolist() == [
        [1, 1.25, 1.75, 2],
        [1.5, 1.75, 2.25, 2.5],
        [2.5, 2.75, 3.25, 3.5],
        [3, 3.25, 3.75, 4],
    ]
    third = vision.UpsamplingBilinear2d(scale_factor=2)(x)[0, 0]
    expected = np.array([[3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10], [9, 10, 11, 12]]) / 3
    within(third, expected, 8 * FLOATS["float64"].roundoff * expected)
    y = np.zeros((1, 1, 3, 3))
    y[0, 0, :2, :2] = x
    assert vision.Upsample(scale_factor=2, mode="bilinear")(y)[0, 0, 1].tolist() == [
        1.5,
        1.75,
        2.25,
        1.875,
        0.625,
        0,
    ]


def test_cubic_weights_at_half():
    """Keys' kernel, a = -3/4, half way between two elements: -3/32, 19/32, 19/32, -3/32."""
    x = np.zeros((1, 1, 1, 9))
    x[..., 4] = 1
    row = interpolate(x, size=(1, 17), mode="bicubic", align_corners=True)[0, 0, 0]
    assert row.tolist()[4:13] == [0, -3 / 32, 0, 19 / 32, 1, 19 / 32, 0, -3 / 32, 0]


def test_shuffles_by_hand():
    x = np.arange(8.0).reshape(8, 1, 1)
    assert vision.pixel_shuffle(x, 2).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert vision.pixel_unshuffle(np.arange(8.0).reshape(2, 2, 2), 2).ravel().tolist() == list(range(8))
    channels = np.arange(6.0).reshape(1, 6, 1, 1)
    assert vision.channel_shuffle(channels, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert vision.channel_shuffle(channels, 3).ravel().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    ("name", "shape", "factor"),
    [
        ("pixel_shuffle", (2, 3, 18, 2, 4), 3),
        ("pixel_unshuffle", (2, 3, 4, 6), 2),
        ("channel_shuffle", (2, 6, 3, 4), 3),
    ],
)
def test_shuffles_move_and_their_gradients_move_back(rng, name, shape, factor):
    x = fractions(rng, *shape)
    output = getattr(vision, name)(x, factor)
    y = fractions(rng, *output.shape)
    (back,) = getattr(vision, f"{name}_backward")(y, x, factor)
    assert inner(output, y) == inner(x, back)
    assert (getattr(vision, f"{name}_backward")(output, x, factor)[0] == x).all()


def test_unshuffling_undoes_shuffling(rng):
    x = fractions(rng, 2, 12, 3, 5)
    assert (vision.pixel_unshuffle(vision.pixel_shuffle(x, 2), 2) == x).all()
    assert (vision.channel_shuffle(vision.channel_shuffle(x, 3), 4) == x).all()


@pytest.mark.parametrize(("rank", "arguments"), CALLS)
def test_interpolation_and_its_gradient_are_adjoint(rng, rank, arguments):
    x = fractions(rng, 1, 2, *SIZE[rank])
    output = interpolate(x, **arguments)
    y = fractions(rng, *output.shape)
    assert inner(output, y) == inner(x, vision.interpolate_backward(y, x, **arguments)[0])


@pytest.mark.parametrize(("rank", "arguments"), CALLS)
def test_weights_add_up_to_one(rank, arguments):
    ones = np.full((1, 1, *SIZE[rank]), Fraction(1), dtype=object)
    assert (interpolate(ones, **arguments) == 1).all()


@pytest.mark.parametrize(("rank", "arguments"), CALLS[::3])
def test_gradient_by_finite_differences(rng, rank, arguments):
    x = rng.standard_normal((1, 1, *SIZE[rank]))
    up = rng.standard_normal(interpolate(x, **arguments).shape)
    ((expected, error),) = finite_difference(lambda x: interpolate(x, **arguments), [x], up)
    within(vision.interpolate_backward(up, x, **arguments)[0], expected, error)


@pytest.mark.parametrize(("rank", "arguments"), CALLS)
def test_compiled_equals_interpreted(rng, rank, arguments):
    pytest.importorskip("numba")
    import refimpl

    x, found = rng.standard_normal((2, 1, *SIZE[rank])), []
    up = rng.standard_normal(interpolate(x, **arguments).shape)
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            bounded = Interpolate(**arguments).bounded(strictest("float16"), (x,), (up,))
            found.append([array for result in bounded.values() for array in (result.value, result.error)])
    np.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "area"])
def test_axes_are_interpolated_one_after_the_other(rng, mode):
    x = fractions(rng, 1, 2, 4, 5)
    rows = interpolate(x, size=(7, 5), mode=mode)
    assert (interpolate(rows, size=(7, 3), mode=mode) == interpolate(x, size=(7, 3), mode=mode)).all()


@pytest.mark.parametrize("mode", ["linear", "nearest", "nearest-exact"])
def test_lines_are_planes_of_one_row(rng, mode):
    x = fractions(rng, 1, 2, 6)
    plane = {"linear": "bilinear"}.get(mode, mode)
    assert (
        interpolate(x, size=9, mode=mode) == interpolate(x[:, :, None], size=(1, 9), mode=plane)[:, :, 0]
    ).all()


def test_linear_interpolation_is_numpys(rng):
    """numpy.interp at the documented coordinates is a second source."""
    x = rng.standard_normal(9)
    for size in (4, 7, 13):
        places = (np.arange(size) + 0.5) * 9 / size - 0.5
        expected = np.interp(places, np.arange(9.0), x)
        within(
            interpolate(x[None, None], size=size, mode="linear")[0, 0],
            expected,
            64 * FLOATS["float64"].roundoff,
        )


def test_scale_factor_or_ratio_of_sizes():
    """7 by 1.5: places are 2 / 3 apart; the ratio of the sizes is 7 / 10."""
    x = np.arange(7.0)[None, None]
    given = interpolate(x, scale_factor=1.5, mode="linear")[0, 0]
    again = interpolate(x, scale_factor=1.5, mode="linear", recompute_scale_factor=True)[0, 0]
    bound = 32 * FLOATS["float64"].roundoff
    within(given[4:6], np.array([4.5 / 1.5 - 0.5, 5.5 / 1.5 - 0.5]), bound)
    within(again[4:6], np.array([4.5 * 0.7 - 0.5, 5.5 * 0.7 - 0.5]), bound)


def test_size_is_rounded_down():
    assert interpolate(np.zeros((1, 1, 88)), scale_factor=120 / 88).shape == (1, 1, 119)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_modes_keep_the_sign_of_zero(mode):
    x = np.array([[[-0.0, 0.0, -1.0, -0.0]]])
    output = interpolate(x, scale_factor=2, mode=mode)
    assert np.array_equal(np.signbit(output), np.signbit(np.repeat(x, 2, axis=-1)))


def test_a_gradient_in_doubt_is_rounded_with_all_its_terms():
    """6.5 / 1.3 is 4.99999... or 5: where float32 chooses 5, another sum is rounded."""
    layer, contract = Interpolate(scale_factor=1.3, mode="nearest-exact"), strictest("float32")
    chosen = [math.floor((y + Fraction(1, 2)) / Fraction(1.3)) for y in range(9)]
    assert chosen[6] == 4
    chosen[6], rounded = 5, False
    for seed in range(100):
        up = np.random.default_rng(seed).standard_normal(9).astype(np.float32)
        sums = np.zeros(7, np.float32)
        np.add.at(sums, chosen, up)
        expected = layer.bounded(contract, (np.zeros((1, 1, 7)),), (up[None, None].astype(float),))
        off = np.abs(sums - expected["grad_input"].value[0, 0])
        assert (off <= expected["grad_input"].error[0, 0]).all()
        rounded |= bool((off[4:6] > abs(float(up[6]))).any())
    assert rounded


def test_places_that_rounding_may_move_are_known():
    """69 / 2.3 is 30; 69 times the reciprocal of 2.3 is 29.999998 in float32, 30 in float64."""
    assert np.floor(np.float32(69) * np.float32(1 / 2.3)) == 29 and math.floor(69 * (1 / 2.3)) == 30
    axis = Axis(33, 75, 1 / Fraction(2.3), "nearest")
    table, settled = axis.within(strictest("float32")), axis.within(strictest("float64"))
    assert table.index[69].tolist() == [30, 29] and table.drift[69].tolist() == [1, 1] and not table.exact
    assert settled.index[69, 0] == 30 and not settled.drift[69].any()


@pytest.mark.parametrize("mode", ["linear", "bilinear", "bicubic", "trilinear"])
@pytest.mark.parametrize("corners", [False, True])
def test_interpolation_in_float32_stays_within_the_bound_and_comes_near_it(rng, mode, corners):
    """Everything in float32, by the tables of weights that float32 coordinates give."""
    rank = MODES[mode][1][0]
    x = rng.standard_normal((1, 40, *SIZE[rank])).astype(np.float32)
    arguments = {"size": (13, 17, 11)[:rank], "mode": mode, "align_corners": corners}
    shape = interpolate(x, **arguments).shape
    bounded = Interpolate(**arguments).bounded(strictest("float32"), (x,), (np.ones(shape),))["output"]
    y = x
    for axis, (n, p) in enumerate(zip(SIZE[rank], arguments["size"], strict=True), 2):
        y = _in_float32(y, axis, n, p, mode == "bicubic", corners)
    used = np.abs(y - bounded.value)[bounded.error > 0] / bounded.error[bounded.error > 0]
    assert 0.1 < used.max() <= 1


def _in_float32(x, axis, size, outputs, cubic, corners):
    one, half = np.float32(1), np.float32(0.5)
    ratio = (
        np.float32(size - 1) / np.float32(outputs - 1) if corners else np.float32(size) / np.float32(outputs)
    )
    y = np.arange(outputs, dtype=np.float32)
    s = ratio * y if corners else ratio * (y + half) - half
    s = s if cubic else np.maximum(s, np.float32(0))
    floor = np.floor(s)
    t = s - floor
    weights, offsets = [one - t, t], (0, 1)
    if cubic:
        a = np.float32(-0.75)
        far, near = (
            (lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a),
            (lambda d: ((a + 2) * d - (a + 3)) * d * d + one),
        )
        weights, offsets = [far(t + one), near(t), near(one - t), far(one - t + one)], (-1, 0, 1, 2)
    total = np.float32(0)
    for weight, offset in zip(weights, offsets, strict=True):
        taken = np.take(x, np.clip(floor.astype(int) + offset, 0, size - 1), axis=axis)
        total = total + weight.reshape([-1 if other == axis else 1 for other in range(x.ndim)]) * taken
    assert total.dtype == np.float32
    return total


def test_bound_is_zero_where_every_step_is_exact():
    x = np.arange(1.0, 13).reshape(1, 1, 3, 4)
    for mode in ("bilinear", "bicubic"):
        layer = Interpolate(scale_factor=2, mode=mode)
        up = (np.arange(48.0) % 5).reshape(layer(x).shape)
        assert not any(
            result.error.any() for result in layer.bounded(strictest("float32"), (x,), (up,)).values()
        )


REFUSED = [
    (ValueError, {}),
    (ValueError, {"size": 3, "scale_factor": 2}),
    (ValueError, {"size": (2, 3, 4)}),
    (ValueError, {"size": 3, "align_corners": False}),
    (TypeError, {"size": 2.5}),
    (RuntimeError, {"size": 0}),
    (NotImplementedError, {"size": 3, "mode": "linear"}),
    (NotImplementedError, {"size": 3, "mode": "lanczos"}),
    (RuntimeError, {"scale_factor": math.nan}),
    (ValueError, {"size": 3, "antialias": True}),
    (TypeError, {"size": 3, "mode": "bilinear", "align_corners": 1}),
]


@pytest.mark.parametrize(("exception", "arguments"), REFUSED)
def test_wrong_arguments_are_refused(exception, arguments):
    with pytest.raises(exception, match="interpolate"):
        interpolate(np.zeros((1, 1, 4, 5)), **arguments)


def test_wrong_shuffles_are_refused():
    for exception, name, shape, factor in (
        (RuntimeError, "pixel_shuffle", (6, 2, 2), 2),
        (TypeError, "pixel_shuffle", (4, 2, 2), 2.0),
        (RuntimeError, "pixel_unshuffle", (1, 3, 4), 2),
        (RuntimeError, "channel_shuffle", (1, 5, 2), 2),
        (RuntimeError, "channel_shuffle", (4, 2), 2),
    ):
        with pytest.raises(exception, match="needed"):
            getattr(vision, name)(np.zeros(shape), factor)


def test_layers_call_the_functions(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    layer = vision.Upsample(
        scale_factor=(1.5, 2.0), mode="bilinear", align_corners=True, recompute_scale_factor=True
    )
    arguments = {
        "scale_factor": (1.5, 2.0),
        "mode": "bilinear",
        "align_corners": True,
        "recompute_scale_factor": True,
    }
    output = layer(x)
    assert (output == interpolate(x, **arguments)).all()
    assert (layer.backward(output) == vision.interpolate_backward(output, x, **arguments)[0]).all()
    assert (vision.UpsamplingNearest2d(size=3)(x) == interpolate(x, size=3)).all()

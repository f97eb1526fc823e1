"""The references of normalizations within a sample against hand values, exact arithmetic, laws and finite
differences."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import UNIT, finite_difference, within
from refimpl import row_norm
from refimpl.error_bounds import Bounded, round_to, strictest
from refimpl.floats import outward
from refimpl.group_norm import (
    CrossMapLRN2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    layer_norm,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
    machine_epsilon,
    rms_norm,
    rms_norm_backward,
)
from refimpl.local_response_norm import _power

PLANE = (2, 6, 2, 3)


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def near(actual, expected, roundings=16):
    """Equal but for so many roundings of float64, relative to the largest element."""
    expected = np.asarray(expected, dtype=np.float64)
    within(np.asarray(actual), expected, roundings * UNIT * np.max(np.abs(expected)))


# Numbers worked by hand.


def test_worked_row():
    row = np.array([[1.0, 2.0, 3.0, 4.0]])  # variance 5/4, and 5/4 + 3/4 = 2
    expected = np.array([[-1.5, -0.5, 0.5, 1.5]]) / np.sqrt(2)
    near(layer_norm(row, (4,), eps=0.75), expected)
    near(group_norm(row[..., None], 1, eps=0.75)[..., 0], expected)
    near(instance_norm(row[None], eps=0.75)[0], expected)
    near(rms_norm(row, (4,), eps=0.0), row / np.sqrt(7.5))


def test_worked_groups():
    channels = np.array([[1.0, 3.0, 10.0, 30.0]])
    near(group_norm(channels, 2, eps=0.0), [[-1.0, 1.0, -1.0, 1.0]])
    weight, bias = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
    near(group_norm(channels, 2, weight, bias, eps=0.0), [[-1.0, 3.0, -3.0, 5.0]])


def test_worked_response():
    """Sums of squares of two neighbours: the own channel and the one before it."""
    channels = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    near(local_response_norm(channels, 2, alpha=2.0, beta=1.0, k=1.0).ravel(), [1 / 2, 2 / 6, 3 / 14])
    near(local_response_norm(channels, 3, alpha=3.0, beta=1.0, k=0.0).ravel(), [1 / 5, 2 / 14, 3 / 13])


def test_instance_statistics_are_averaged():
    layer = InstanceNorm1d(1, track_running_stats=True)
    layer(np.array([[[1.0, 3.0]], [[5.0, 9.0]]]))  # means 2 and 7, unbiased variances 2 and 8
    near(layer.running_mean, [0.1 * 4.5])
    near(layer.running_var, [0.9 + 0.1 * 5.0])
    assert layer.num_batches_tracked == 0


def test_machine_epsilon_is_of_the_type_computed_in():
    found = [machine_epsilon(dtype) for dtype in ("float64", "float32", "float16", "bfloat16")]
    assert found == [2.0**-52, 2.0**-23, 2.0**-23, 2.0**-23]


# Laws.


def test_one_channel_groups_are_instances():
    x, weight, bias = draw(1, *PLANE), draw(2, 6), draw(3, 6)
    near(group_norm(x, 6, weight, bias), instance_norm(x, None, None, weight, bias))


def test_one_group_is_a_layer_norm_of_the_sample():
    x = draw(4, *PLANE)
    near(group_norm(x, 1), layer_norm(x, PLANE[1:]))


def test_layer_norm_is_the_root_mean_square_norm_of_the_centred_row():
    x, weight = draw(5, 4, 7), draw(6, 7)
    near(
        layer_norm(x, (7,), weight, eps=0.25),
        rms_norm(x - x.mean(1, keepdims=True), (7,), weight, eps=0.25),
        64,
    )


def test_a_batch_of_one_is_batch_norm():
    x, weight, bias = draw(7, 1, 3, 2, 5), draw(8, 3), draw(9, 3)
    statistics = [np.zeros(3), np.ones(3)], [np.zeros(3), np.ones(3)]
    first = instance_norm(x, *statistics[0], weight, bias)
    second = refimpl.batch_norm(x, *statistics[1], weight, bias, training=True)
    near(first, second)
    for one, other in zip(*statistics, strict=True):
        near(one, other)


def test_evaluation_is_batch_norms():
    x, mean, variance = draw(10, 3, 4, 5), draw(11, 4), np.abs(draw(12, 4)) + 0.5
    near(instance_norm(x, mean, variance, use_input_stats=False), refimpl.batch_norm(x, mean, variance))


def test_scale_is_ignored_without_eps():
    x = draw(13, 3, 8)
    near(rms_norm(x * 1024, (8,), eps=0.0), rms_norm(x, (8,), eps=0.0))


def test_gradients_of_a_row_sum_to_zero():
    x, g = draw(14, 3, 8), draw(15, 3, 8)
    within(layer_norm_backward(g, x, (8,))[0].sum(1), np.zeros(3), 64 * UNIT)


def test_windows_of_all_channels_see_them_all():
    x = draw(16, 2, 5, 3)
    base = 1 + 0.5 / 11 * np.square(x).sum(1, keepdims=True)
    near(local_response_norm(x, 11, alpha=0.5, beta=0.5), x / np.sqrt(base))


@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 5), (2, 6, 2, 3), (2, 6, 2, 1, 3), (0, 6, 2), (2, 6, 0)])
def test_shapes(shape):
    x = np.ones(shape)
    assert GroupNorm(2, 6)(x).shape == LayerNorm(shape[1:])(x).shape == RMSNorm(shape[-1:])(x).shape == shape
    if len(shape) > 2:
        assert LocalResponseNorm(2)(x).shape == shape


@pytest.mark.parametrize(("layer", "rank"), [(InstanceNorm1d, 1), (InstanceNorm2d, 2), (InstanceNorm3d, 3)])
def test_an_input_without_batch_is_a_batch_of_one(layer, rank):
    x = draw(17, 3, *(4, 2, 3)[:rank])
    near(layer(3)(x), layer(3)(x[None])[0])


def test_an_empty_batch_leaves_the_statistics():
    layer = InstanceNorm2d(3, track_running_stats=True, affine=True)
    assert layer(np.zeros((0, 3, 4, 5))).shape == layer.backward(np.zeros((0, 3, 4, 5))).shape == (0, 3, 4, 5)
    assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()
    assert (layer.grads["weight"] == 0).all()


def test_samples_without_elements_leave_the_statistics():
    layer = InstanceNorm2d(3, track_running_stats=True)
    nothing = np.zeros((2, 3, 0, 5))
    assert layer(nothing).shape == (2, 3, 0, 5)
    assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()
    bounds = layer.bounded(strictest("float32"), (nothing,), (nothing,))
    assert bounds["running_mean"].error.tolist() == bounds["running_var"].error.tolist() == [0, 0, 0]


def test_no_features_are_a_size():
    layer = InstanceNorm1d(0, affine=True, track_running_stats=True)
    assert layer.weight.shape == layer.running_var.shape == layer(np.zeros((2, 0, 4))).shape[1:2] == (0,)


# Gradients.

GRADIENTS = {
    "group": (
        lambda x, w, b: group_norm(x, 3, w, b, 0.25),
        lambda g, x, w, b: group_norm_backward(g, x, 3, w, b, 0.25),
        (PLANE, (6,), (6,)),
    ),
    "layer": (
        lambda x, w, b: layer_norm(x, (2, 3), w, b, 0.25),
        lambda g, x, w, b: layer_norm_backward(g, x, (2, 3), w, b, 0.25),
        (PLANE, (2, 3), (2, 3)),
    ),
    "root_mean_square": (
        lambda x, w: rms_norm(x, (2, 3), w),
        lambda g, x, w: rms_norm_backward(g, x, (2, 3), w),
        (PLANE, (2, 3)),
    ),
    "instance": (
        lambda x, w, b: instance_norm(x, None, None, w, b, eps=0.25),
        lambda g, x, w, b: [
            a for a in instance_norm_backward(g, x, None, None, w, b, eps=0.25) if a is not None
        ],
        (PLANE, (6,), (6,)),
    ),
    "instance_in_evaluation": (
        lambda x, w, b: instance_norm(x, draw(1, 6), np.full(6, 2.0), w, b, False),
        lambda g, x, w, b: [
            a for a in instance_norm_backward(g, x, draw(1, 6), np.full(6, 2.0), w, b, False) if a is not None
        ],
        (PLANE, (6,), (6,)),
    ),
    "response_even": (
        lambda x: local_response_norm(x, 2, 0.5, 0.75, 2.0),
        lambda g, x: local_response_norm_backward(g, x, 2, 0.5, 0.75, 2.0),
        (PLANE,),
    ),
    "response_odd": (
        lambda x: local_response_norm(x, 5, 2.0, 1.5),
        lambda g, x: local_response_norm_backward(g, x, 5, 2.0, 1.5),
        (PLANE,),
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_by_finite_differences(name):
    function, backward, shapes = GRADIENTS[name]
    arrays = [draw(20 + i, *shape) for i, shape in enumerate(shapes)]
    g = draw(30, *PLANE)
    differences = finite_difference(function, arrays, g)
    for gradient, (expected, error) in zip(backward(g, *arrays), differences, strict=True):
        within(gradient, expected, error)


def test_absent_parameters_have_no_gradient():
    x = draw(31, *PLANE)
    assert group_norm_backward(x, x, 2)[1:] == layer_norm_backward(x, x, (3,))[1:] == (None, None)
    assert rms_norm_backward(x, x, (3,))[1:] == (None,)
    layer = GroupNorm(2, 6, bias=False)
    layer(x)
    layer.backward(x)
    assert list(layer.grads) == list(layer.state_dict()) == ["weight"]


# Bounds.


def test_mean_of_squares_against_exact_arithmetic():
    row = draw(32, 1, 9)
    exact = sum(Fraction(v) ** 2 for v in row.ravel()) / 9
    call = row_norm.RowNormalization(row, row_norm.Geometry(1, 1, 9, 1), None, None, 0.0, centred=False)
    _, square = call.statistics(strictest("float64"))
    assert abs(Fraction(square.value.item()) - exact) <= Fraction(square.error.item())


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_bound_tells_two_passes_from_one(offset):
    """In float32: a variance E[x^2] - E[x]^2 is out of bound where the mean is large."""
    row = (draw(33, 1, 32) + offset).astype(np.float32)
    layer = LayerNorm(32, elementwise_affine=False, eps=0.25)
    bound = layer.bounded(strictest("float32"), (row.astype(np.float64),), (np.zeros((1, 32)),))["output"]
    mean, eps = row.mean(dtype=np.float32), np.float32(0.25)
    two_pass = np.square(row - mean).mean(dtype=np.float32)
    within(((row - mean) / np.sqrt(two_pass + eps)).astype(np.float64), bound.value, bound.error)
    one_pass = max(np.float32(0), np.square(row).mean(dtype=np.float32) - mean * mean)
    apart = np.abs((row - mean) / np.sqrt(one_pass + eps) - bound.value)
    assert offset < 1e4 or (apart > bound.error).any()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_sums_of_each_sample_may_be_stored_under_stored_statistics(groups):
    """Each sample's sum rounded to bfloat16, then their sum: beyond the strictest bound, inside that one."""
    rng = np.random.default_rng(34)
    input, upstream = (round_to("bfloat16", rng.standard_normal((64, 4, 3))) for _ in range(2))
    found = round_to("bfloat16", round_to("bfloat16", upstream.sum(2)).sum(0))
    outside = []
    for algorithm in ("direct", row_norm.STORED):
        contract = replace(strictest("bfloat16"), algorithm=algorithm)
        bound = GroupNorm(groups, 4).bounded(contract, (input,), (upstream,))["grad_bias"]
        outside.append((np.abs(found - bound.value) > bound.error).any())
    assert outside == [True, False]


# Wrong arguments.

REJECTED = [
    (RuntimeError, group_norm, {"input": np.ones(4), "num_groups": 2}),
    (RuntimeError, group_norm, {"input": np.ones((3, 5)), "num_groups": 2}),
    (RuntimeError, group_norm, {"input": np.ones((3, 4)), "num_groups": 0}),
    (RuntimeError, group_norm, {"input": np.ones((3, 4)), "num_groups": 2, "weight": np.ones(2)}),
    (ValueError, group_norm, {"input": np.ones((1, 4)), "num_groups": 4}),
    (RuntimeError, layer_norm, {"input": np.ones((3, 4)), "normalized_shape": ()}),
    (RuntimeError, layer_norm, {"input": np.ones((3, 4)), "normalized_shape": (3,)}),
    (RuntimeError, layer_norm, {"input": np.ones((3, 4)), "normalized_shape": (4,), "bias": np.ones(3)}),
    (ValueError, rms_norm, {"input": np.ones(4), "normalized_shape": (3, 4)}),
    (ValueError, instance_norm, {"input": np.ones((2, 3, 1))}),
    (RuntimeError, instance_norm, {"input": np.ones((2, 3))}),
    (RuntimeError, instance_norm, {"input": np.ones((2, 3, 2)), "use_input_stats": False}),
    (RuntimeError, instance_norm, {"input": np.ones((2, 3, 2)), "weight": np.ones(2)}),
    (ValueError, local_response_norm, {"input": np.ones((2, 3)), "size": 2}),
    (RuntimeError, local_response_norm, {"input": np.ones((2, 3, 4)), "size": 0}),
    (TypeError, local_response_norm, {"input": np.ones((2, 3, 4)), "size": 2.0}),
    (TypeError, GroupNorm, {"num_groups": "2", "num_channels": 4}),
    (TypeError, GroupNorm, {"num_groups": 2, "num_channels": 4.0, "affine": False}),
]


@pytest.mark.parametrize(("exception", "function", "arguments"), REJECTED)
def test_rejections(exception, function, arguments):
    with pytest.raises(exception, match=function.__name__):
        function(**arguments)


@pytest.mark.parametrize("layer", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("shape", [None, 2.0, (2, 3.0), ("2",)], ids=str)
def test_a_normalized_shape_is_of_ints(layer, shape):
    with pytest.raises(TypeError, match="normalized_shape is"):
        layer(shape)


@pytest.mark.parametrize("layer", [InstanceNorm1d, InstanceNorm2d, InstanceNorm3d])
@pytest.mark.parametrize("num_features", [True, 2.0, None])
def test_a_number_of_features_is_an_int(layer, num_features):
    assert layer(num_features).num_features is num_features  # nothing is made of it
    with pytest.raises(TypeError, match="num_features is"):
        layer(num_features, affine=True)


# Compiled and interpreted.


def test_compiled_equals_interpreted():
    pytest.importorskip("numba")
    x, g = draw(40, *PLANE), draw(41, *PLANE)
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            found = [group_norm(x, 3, draw(42, 6), draw(43, 6)), local_response_norm(x, 4, 0.5)]
            found += group_norm_backward(g, x, 3, draw(42, 6), draw(43, 6))
            found += rms_norm_backward(g, x, (2, 3), draw(44, 2, 3))
            found += instance_norm_backward(g, x, draw(45, 6), np.ones(6), None, None, False)[:1]
            found += local_response_norm_backward(g, x, 4, 0.5)
            results.append(found)
    for interpreted, compiled in zip(*results, strict=True):
        assert interpreted.tobytes() == compiled.tobytes()


@pytest.mark.parametrize(("size", "window"), [(1, 1), (3, 3), (5, 5), (2, 1), (4, 3)])
def test_cross_map_normalization_is_the_local_one_of_an_odd_window(size, window):
    x, g = draw(1, 2, 7, 3, 4), draw(2, 2, 7, 3, 4)
    layer = CrossMapLRN2d(size, 0.5, 0.75, 2.0)
    near(layer(x), local_response_norm(x, window, 0.5 * window / size, 0.75, 2.0))
    near(layer.backward(g), local_response_norm_backward(g, x, window, 0.5 * window / size, 0.75, 2.0)[0])


def test_cross_map_normalization_takes_images():
    with pytest.raises(ValueError, match="needed is"):
        CrossMapLRN2d(3)(draw(1, 2, 7, 3))


def test_an_exponent_that_float32_does_not_hold_is_rounded():
    """Where the response is large: 1e30^(d) is not near 1."""
    x = np.full((1, 1, 1), np.float32(1e15))
    base = np.float32(1.0) + x * x
    bound = LocalResponseNorm(1, 1.0, 0.7, 1.0).bounded(strictest("float32"), (x,), (np.ones((1, 1, 1)),))
    error = np.abs(x / base ** np.float32(0.7) - bound["output"].value)
    assert 6 * 2.0**-23 * bound["output"].value < error <= bound["output"].error


def test_a_rounded_exponent_moves_a_power_by_its_logarithm():
    """That of the interval's end which is farther from 1; a base of 0 has a power of 0 whatever it is."""
    contract = strictest("float32")
    base = Bounded(np.array([4.0, 0.25, 0.75, 0.0]), np.array([1.0, 0.125, 0.25, 0.0]), contract)
    power = base.apply(lambda b: b**0.1, contract.library("pow"))
    logarithm = np.abs(np.log(np.array([5.0, 0.125, 0.5, 1.0])))
    moved = (power.value + power.error) * np.expm1(abs(float(np.float32(0.1)) - 0.1) * logarithm)
    expected = outward(power.error + moved)
    expected[3] = power.error[3]
    assert _power(base, 0.1).error.tolist() == expected.tolist()
    root = base.apply(lambda b: b**0.5, contract.library("pow"))
    assert _power(base, 0.5).error.tolist() == root.error.tolist()


def test_no_channels_have_no_neighbours():
    nothing = np.zeros((2, 0, 3))
    assert local_response_norm(nothing, 2).shape == nothing.shape
    bounds = LocalResponseNorm(2).bounded(strictest("float32"), (nothing,), (nothing,))
    assert bounds["output"].error.shape == bounds["grad_input"].error.shape == nothing.shape

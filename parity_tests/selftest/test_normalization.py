"""The reference of batch normalization against hand values, exact arithmetic, laws and finite differences."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl
from parity_tests.selftest.laws import UNIT, finite_difference, within
from refimpl.error_bounds import statistics, strictest
from refimpl.normalization import FOLDED, INTERMEDIATES, STORED, Geometry, _elementwise, elements

SHAPES = {1: (4, 3, 6), 2: (3, 3, 2, 5), 3: (2, 3, 2, 1, 5)}


def rng():
    return np.random.default_rng(5)


def parameters(channels=3):
    """running_mean, running_var, weight, bias"""
    draw = rng()
    return (draw.standard_normal(channels), draw.uniform(0.5, 2.0, channels), draw.standard_normal(channels),
            draw.standard_normal(channels))


def near(actual, expected, roundings=16):
    """Equal but for so many roundings of float64, relative to the largest element."""
    expected = np.asarray(expected, dtype=np.float64)
    within(np.asarray(actual), expected, roundings * UNIT * np.max(np.abs(expected)))


def test_worked_channel():
    layer = refimpl.BatchNorm1d(1, eps=0.75)  # variance 5/4, and 5/4 + 3/4 = 2
    output = layer(np.array([[1.0], [2.0], [3.0], [4.0]]))
    near(output.ravel(), np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(2))
    near(layer.running_mean, [0.25])
    near(layer.running_var, [0.9 + 0.1 * 5 / 3])
    assert layer.num_batches_tracked == 1


def test_uniform_images():
    images = rng().random((20, 16, 784))
    layer = refimpl.BatchNorm1d(16)
    layer(images)
    assert np.all(np.abs(images.mean((0, 2)) - 0.5) < 0.02)
    near(layer.running_mean, 0.1 * images.mean((0, 2)), images.size)
    near(layer.running_var, 0.9 + 0.1 * images.var((0, 2), ddof=1), images.size)


def test_evaluation_is_the_affine_map_of_the_running_statistics():
    mean, variance, weight, bias = parameters()
    x = rng().standard_normal(SHAPES[2])
    column = (slice(None), None, None)
    near(refimpl.batch_norm(x, mean, variance, weight, bias, eps=0.5),
         (x - mean[column]) / np.sqrt(variance[column] + 0.5) * weight[column] + bias[column])


def test_momentum_none_averages_all_batches():
    batches = rng().standard_normal((5, 8, 2))
    layer = refimpl.BatchNorm1d(2, momentum=None)
    for batch in batches:
        layer(batch)
    near(layer.running_mean, batches.mean((0, 1)))
    near(layer.running_var, batches.var(1, ddof=1).mean(0))
    assert layer.num_batches_tracked == 5


def test_running_statistics_are_moved_in_place_in_training_only():
    mean, variance, *_ = parameters()
    x = rng().standard_normal(SHAPES[1])
    before = mean.copy(), variance.copy()
    refimpl.batch_norm(x, mean, variance)
    assert (mean == before[0]).all() and (variance == before[1]).all()
    refimpl.batch_norm(x, mean, variance, training=True, momentum=0.25)
    near(mean, 0.75 * before[0] + 0.25 * x.mean((0, 2)))
    near(variance, 0.75 * before[1] + 0.25 * x.var((0, 2), ddof=1))


def test_without_statistics_evaluation_uses_the_batch():
    x = rng().standard_normal(SHAPES[2])
    layer = refimpl.BatchNorm2d(3, track_running_stats=False, affine=False)
    assert layer.state_dict() == {}
    assert (layer.eval()(x) == layer.train()(x)).all()
    within(layer(x).mean((0, 2, 3)), np.zeros(3), 16 * UNIT)


@pytest.mark.parametrize("rank", [2, 3])
def test_all_ranks_agree(rank):
    x = rng().standard_normal(SHAPES[rank])
    flat = x.reshape(*x.shape[:2], -1)
    layers = [refimpl.BatchNorm1d(3), getattr(refimpl, f"BatchNorm{rank}d")(3)]
    first, second = (layer(y) for layer, y in zip(layers, (flat, x), strict=True))
    assert (first == second.reshape(flat.shape)).all()
    assert (layers[0].running_var == layers[1].running_var).all()


def test_statistics_against_exact_arithmetic():
    values = rng().standard_normal((7, 1)) * 3 + 100
    exact = [Fraction(v) for v in values.ravel()]
    mean = sum(exact) / 7
    variance = sum((v - mean) ** 2 for v in exact) / 7
    found = statistics(values, (0,), strictest("float64"))
    for bounded, number in zip(found, (mean, variance), strict=True):
        assert abs(Fraction(bounded.value.item()) - number) <= Fraction(bounded.error.item())


def streamed(values):
    """Welford's update in float32."""
    mean, squares = np.float32(0), np.float32(0)
    for count, value in enumerate(values.astype(np.float32), 1):
        distance = value - mean
        mean += distance / np.float32(count)
        squares += distance * (value - mean)
    return mean, squares / np.float32(len(values))


def one_pass(values):
    values = values.astype(np.float32)
    mean = values.mean(dtype=np.float32)
    return mean, np.square(values).mean(dtype=np.float32) - mean * mean


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4, 1e5])
def test_bound_tells_a_stream_from_one_pass(offset):
    values = (rng().standard_normal(101) + offset).astype(np.float32).astype(np.float64)
    bounds = statistics(values, (0,), strictest("float32"))
    for bounded, number in zip(bounds, streamed(values), strict=True):
        within(np.array([number]), bounded.value, bounded.error)
    apart = abs(one_pass(values)[1] - bounds[1].value[0])
    assert offset < 1e4 or apart > bounds[1].error[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_by_finite_differences(rank, training):
    mean, variance, weight, bias = parameters()
    x, g = (np.random.default_rng(seed).standard_normal(SHAPES[rank]) for seed in (1, 2))

    def function(x, weight, bias):
        return refimpl.batch_norm(x, mean.copy(), variance.copy(), weight, bias, training, eps=0.25)

    grad_input, of_mean, of_variance, *others = refimpl.batch_norm_backward(
        g, x, mean, variance, weight, bias, training, eps=0.25)
    assert of_mean is None and of_variance is None
    differences = finite_difference(function, (x, weight, bias), g)
    for gradient, (expected, error) in zip((grad_input, *others), differences, strict=True):
        within(gradient, expected, error)


def test_training_gradient_ignores_shift_and_nearly_scale():
    """Adding a constant changes nothing; nor does a factor, but for the part that eps has in the variance."""
    x, g = (np.random.default_rng(seed).standard_normal((9, 2)) for seed in (3, 4))
    eps = 0.125
    grad_input = refimpl.batch_norm_backward(g, x, None, None, training=True, eps=eps)[0]
    centered, variance = x - x.mean(0), x.var(0)
    within(grad_input.sum(0), np.zeros(2), 64 * UNIT)
    expected = (g * centered).sum(0) * eps / (variance + eps) ** 1.5
    within((grad_input * centered).sum(0), expected, 64 * UNIT * np.abs(g * centered).sum(0))


def test_absent_parameters_have_no_gradient():
    x = rng().standard_normal(SHAPES[1])
    assert refimpl.batch_norm_backward(x, x, None, None, training=True)[1:] == (None, None, None, None)
    layer = refimpl.BatchNorm1d(3, bias=False)
    layer(x)
    layer.backward(x)
    assert list(layer.grads) == ["weight"] and "bias" not in layer.state_dict()


def test_empty_batch():
    layer = refimpl.BatchNorm2d(3)
    assert layer(np.zeros((0, 3, 4, 5))).shape == (0, 3, 4, 5)
    assert layer.backward(np.zeros((0, 3, 4, 5))).shape == (0, 3, 4, 5)
    assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()
    assert layer.num_batches_tracked == 1
    assert (layer.grads["weight"] == 0).all()


def test_walk_visits_every_element_once():
    visits = []
    elements(lambda arrays, *indices: visits.append(indices), (), Geometry(2, 3, 5))
    assert sorted(visits) == [(c, (n, c, place)) for c in range(3) for n, place in np.ndindex(2, 5)]


def test_what_just_passes():
    """In evaluation a single value a channel and an eps of 0, in training an eps of 0 does not."""
    one, mean, variance = np.array([[3.0, 5.0]]), np.array([1.0, 1.0]), np.array([4.0, 16.0])
    assert refimpl.batch_norm(one, mean, variance, eps=0.0).tolist() == [[1, 1]]
    assert refimpl.batch_norm(one[:, :, None], mean, variance, eps=0.0).tolist() == [[[1], [1]]]
    for two in (np.array([[3.0, 5.0]] * 2), np.array([[[3.0, 3.0], [5.0, 5.0]]])):
        assert not refimpl.batch_norm(two, mean.tolist(), variance.tolist(), training=True).any()
    assert refimpl.batch_norm(np.zeros((0, 2)), None, None, training=True).shape == (0, 2)
    assert refimpl.batch_norm(np.zeros((4, 0)), None, None, training=True).shape == (4, 0)
    with pytest.raises(TypeError, match="momentum"):
        refimpl.batch_norm(one, mean, variance, momentum="0.1")
    for absent in ((None, variance), (mean, None)):
        with pytest.raises(RuntimeError, match="evaluation needs"):
            refimpl.batch_norm(one, *absent)
    with pytest.raises(RuntimeError, match="axes"):
        refimpl.batch_norm(np.zeros(2), mean, variance)


def test_sizes_of_layers():
    for wrong, error in ((-1, RuntimeError), (True, TypeError), (2.0, TypeError)):
        for given in ({}, {"affine": False}, {"track_running_stats": False}):
            with pytest.raises(error, match="num_features"):
                refimpl.BatchNorm1d(wrong, **given)
        bare = refimpl.BatchNorm1d(wrong, affine=False, track_running_stats=False)  # it is used nowhere
        assert bare(np.array([[1.0], [-1.0]])).shape == (2, 1)
    none = refimpl.BatchNorm1d(0)
    assert {name: array.shape for name, array in none.state_dict().items()} == {
        "weight": (0,), "bias": (0,), "running_mean": (0,), "running_var": (0,), "num_batches_tracked": ()}
    assert none(np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize(("rank", "axes"), [(1, (2, 3)), (2, (4,)), (3, (5,))])
def test_numbers_of_axes(rank, axes):
    layer = getattr(refimpl, f"BatchNorm{rank}d")(3)
    for number in range(1, 7):
        x = np.zeros((2, 3, 2, 1, 2, 1)[:number])
        if number in axes:
            assert layer(x).shape == x.shape
        else:
            with pytest.raises(ValueError, match="axes"):
                layer(x)


def test_evaluation_changes_no_statistics_and_counts_no_batch():
    """Nor does it need a batch before it, where momentum None would average over them."""
    x = rng().standard_normal(SHAPES[1])
    for momentum in (None, 0.1):
        layer = refimpl.BatchNorm1d(3, momentum=momentum, eps=3.0).eval()
        assert (layer(x) == x / 2).all() and layer.num_batches_tracked == 0
        assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()
        result = layer.bounded(strictest("float64"), (x,), (x,))
        assert set(result) == {"output", "grad_input", "grad_weight", "grad_bias"}
        result = layer.train().bounded(strictest("float64"), (x,), (x,))
        assert {"running_mean", "running_var", "num_batches_tracked"} <= set(result)
        assert result["num_batches_tracked"].value == 1 and layer.num_batches_tracked == 0
        layer(x)
        assert layer.num_batches_tracked == 1 and (layer.running_mean != 0).all()
    bare = refimpl.BatchNorm1d(3, track_running_stats=False)
    assert set(bare.bounded(strictest("float64"), (x,), (x,))) == {
        "output", "grad_input", "grad_weight", "grad_bias"}


def test_the_bound_of_an_empty_batch_leaves_the_statistics_as_they_are():
    layer, x = refimpl.BatchNorm1d(3), np.zeros((0, 3, 4))
    result = layer.bounded(strictest("float32"), (x,), (x,))
    for name, before in (("running_mean", 0), ("running_var", 1)):
        assert (result[name].value == before).all() and (result[name].error == 0).all()


def test_what_is_stored_before_it_is_used():
    """Channels of 1 and -1, variance + eps 5/4: 1 / sqrt(5/4) in bfloat16 is off by up to 2^-9."""
    x, strict = np.array([[1.0], [-1], [1], [-1]]), strictest("bfloat16")
    folded, stored = replace(strict, algorithm=FOLDED), replace(strict, algorithm=STORED)
    layer = refimpl.BatchNorm1d(1, eps=0.25)
    narrow, wide = (layer.bounded(contract, (x,), (x,))["output"].error for contract in (folded, stored))
    assert (wide >= narrow + 2.0**-9).all()
    layer.eval()  # there the inverse is not the batch's
    narrow, wide = (layer.bounded(contract, (x,), (x,))["output"].error for contract in (folded, stored))
    assert (wide == narrow).all()


def test_elementwise_operands_are_stored_where_they_were_computed():
    strict = strictest("float16")
    intermediates, exact = replace(strict, algorithm=INTERMEDIATES), np.array([1.0, 0.7])
    computed = replace(intermediates.exact(exact), error=np.array([0.0, 2.0**-20]))
    assert (_elementwise(computed).error == computed.store().error).all() and computed.store().error.all()
    assert not _elementwise(intermediates.exact(exact)).error.any()
    for operand in (computed, intermediates.exact(exact)):
        assert _elementwise(operand).contract.accumulate == "float16"
    other = replace(computed, contract=strict)
    assert _elementwise(other) is other


def test_nan_stays_in_its_channel():
    x = rng().standard_normal((4, 3))
    x[2, 1] = np.nan
    output = refimpl.batch_norm(x, None, None, training=True)
    assert np.isnan(output).all(0).tolist() == [False, True, False] and np.isfinite(output[:, [0, 2]]).all()


@pytest.mark.parametrize(("exception", "arguments"), [
    (RuntimeError, {"running_mean": np.zeros(4), "running_var": np.ones(4)}),
    (RuntimeError, {}),
    (RuntimeError, {"running_mean": np.zeros(3)}),
    (RuntimeError, {"training": True, "weight": np.ones(2)}),
    (RuntimeError, {"training": True, "bias": np.ones(1)}),
    (ValueError, {"training": True, "running_var": np.ones(3)}),
    (ValueError, {"training": True, "eps": 0.0}),
    (ValueError, {"running_mean": np.zeros(3), "running_var": np.ones(3), "eps": -1e-5}),
    (ValueError, {"training": True, "input": np.ones((1, 3, 1))}),
    (RuntimeError, {"training": True, "input": np.ones(3)}),
])
def test_rejections(exception, arguments):
    call = {"input": np.ones((2, 3)), "running_mean": None, "running_var": None} | arguments
    with pytest.raises(exception, match="batch_norm"):
        refimpl.batch_norm(**call)


def test_compiled_equals_interpreted():
    pytest.importorskip("numba")
    mean, variance, weight, bias = parameters()
    x, g = (np.random.default_rng(seed).standard_normal(SHAPES[2]) for seed in (6, 7))
    x[0, 0, 0, 0] = np.inf
    results = []
    for mode in ("interpreted", "compiled"):
        with refimpl.execution(mode):
            for training in (True, False):
                call = (mean.copy(), variance.copy(), weight, bias, training)
                results.append([refimpl.batch_norm(x, *call), *call[:2],
                                refimpl.batch_norm_backward(g, x, *call)[0]])
    for interpreted, compiled in zip(results[:2], results[2:], strict=True):
        for one, other in zip(interpreted, compiled, strict=True):
            assert np.array_equal(one.view(np.int64), other.view(np.int64)) or (
                np.array_equal(one, other, equal_nan=True) and np.isnan(one).any())

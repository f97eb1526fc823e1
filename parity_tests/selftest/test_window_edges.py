"""The window references at the edges of what they take, and what their bounds count."""

import importlib
import math

import numpy as np
import pytest

from refimpl import window
from refimpl.conv_taps import Geometry
from refimpl.conv_taps import taps as convolution_taps
from refimpl.error_bounds import SuiteError, strictest
from refimpl.regions import Regions, regions

INF = math.inf
HALVES = np.full((1, 2, 2), 0.5)
SPATIAL = {1: (3,), 2: (3, 4), 3: (3, 4, 5)}


def call(name, rank, suffix=""):
    return getattr(window, f"{name}{rank}d{suffix}")


def fits(function, *arguments, **more):
    """The shape of what a call gives, or the class of what it raises."""
    try:
        return function(*arguments, **more).shape
    except Exception as error:
        return type(error)


# What is counted.


def test_walk_over_regions_visits_as_many_taps_as_it_says():
    """Two planes with regions of their own on the last axis: of 1 + 2 and of 3 + 0 elements."""
    whole = np.array([[0, 2]]), np.array([[2, 3]])
    first = (np.array([[0], [0]]), np.array([[0, 2], [0, 2]]), np.array([[0, 1], [1, 4]]))
    last = (np.array([[2], [2]]), np.array([[2, 3], [2, 3]]), np.array([[1, 3], [4, 4]]))
    visits = []
    geometry = Regions(1, 2, (2, 3, 4), first, last)
    regions(lambda arrays, y, x: visits.append((y, x)), (), geometry)
    assert geometry.taps == len(visits) == len(set(visits)) == 2 * 3 * (3 + 3)
    read = {plane: sorted({x[4] for y, x in visits if y[1] == plane}) for plane in (0, 1)}
    assert read == {0: [0, 1, 2], 1: [1, 2, 3]}
    for_all = Regions(
        2, 3, (1, 1, 3), (*(np.array([[0]]),) * 2, whole[0]), (*(np.array([[1]]),) * 2, whole[1])
    )
    visits.clear()
    regions(lambda arrays, y, x: visits.append((y, x)), (), for_all)
    assert for_all.taps == len(visits) == 2 * 3 * 3


@pytest.mark.parametrize(
    ("length", "outputs", "of_output", "of_gradient", "unit"),
    [
        # regions of n: n - 1 additions, no division by 1, one rounding by a power of two, else two
        (4, 4, [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]),
        (4, 2, [2, 2], [1, 1, 1, 1], [1 / 2, 1 / 2]),
        (3, 1, [4], [2, 2, 2], [0]),
        (3, 2, [2, 2], [1, 2, 1], [1 / 2, 1 / 2]),
        (2, 4, [0, 0, 0, 0], [1, 1], [1, 1, 1, 1]),
        (5, 3, [2, 4, 2], [2, 3, 2, 3, 2], [1 / 2, 0, 1 / 2]),
        (8, 1, [8], [1] * 8, [1 / 8]),
    ],
)
def test_roundings_and_units_of_a_mean(length, outputs, of_output, of_gradient, unit):
    layer, x = window.AdaptiveAvgPool1d(outputs), np.ones((1, length))
    result = layer.bounded(strictest("float32"), (x,), (np.ones((1, outputs)),))
    assert result["output"].products.terms.tolist() == [of_output]
    assert result["output"].products.unit.tolist() == [unit]
    assert result["grad_input"].products.terms.tolist() == [of_gradient]


def test_units_of_the_gradient_of_a_mean_are_those_of_its_smallest_share():
    """Five elements in three regions, [0, 2), [1, 4) and [3, 5): halves, but the one of three knows none."""
    result = window.AdaptiveAvgPool1d(3).bounded(strictest("float32"), (np.ones((1, 5)),), (np.ones((1, 3)),))
    assert result["grad_input"].products.unit.tolist() == [[1 / 2, 0, 0, 0, 1 / 2]]


def test_roundings_add_up_over_the_axes():
    """Regions of 2 x 3: five additions, one rounding of a half and two of a third."""
    layer = window.AdaptiveAvgPool2d(1)
    result = layer.bounded(strictest("float32"), (np.ones((1, 2, 3)),), (np.ones((1, 1, 1)),))
    assert result["output"].products.terms.tolist() == [[[5 + 1 + 2]]]
    assert (result["grad_input"].products.terms == 1 + 2).all()


def test_a_gradient_of_maxima_takes_one_addition_less_than_it_has_terms():
    """Of 1, 3, 2 in regions [0, 1), [0, 2), [1, 3), [2, 3) the 3 is chosen twice; of two zeros each is."""
    layer = window.AdaptiveMaxPool1d(4)
    result = layer.bounded(strictest("float32"), (np.array([[1.0, 3.0, 2.0]]),), (np.ones((1, 4)),))
    assert result["grad_input"].products.terms.tolist() == [[0, 1, 0]]
    layer = window.AdaptiveMaxPool1d(4, return_indices=True)
    result = layer.bounded(strictest("float32"), (np.array([[0.0, -0.0]]),), (np.ones((1, 4)),))
    assert result["grad_input"].products.terms.tolist() == [[1, 1]]
    assert result["indices"].bitwise and not result["output"].bitwise
    for x in ([[0.0, 0.0]], [[-0.0, -0.0]], [[1.0, -0.0]], [[1.0, 2.0]]):
        assert layer.bounded(strictest("float32"), (np.array(x),), (np.ones((1, 4)),))["output"].bitwise


def test_additions_of_blocks():
    """Three blocks of two in four elements: the inner ones are in two of them."""
    x, columns = np.ones((1, 1, 4)), np.ones((2, 3))
    unfolded = window.Unfold((1, 2)).bounded(strictest("float32"), (x,), (columns,))
    folded = window.Fold((1, 4), (1, 2)).bounded(strictest("float32"), (columns,), (x,))
    for added, copied in (
        (unfolded["grad_input"], unfolded["output"]),
        (folded["output"], folded["grad_input"]),
    ):
        assert added.products.terms.tolist() == [[[0, 1, 1, 0]]] and copied.bitwise
    gaps = window.Fold((1, 4), (1, 1), stride=(1, 2)).bounded(strictest("float32"), (np.ones((1, 2)),), (x,))
    assert gaps["output"].products.terms.tolist() == [[[0, 0, 0, 0]]]


def test_several_writers_of_one_place_are_contested_in_their_plane_alone():
    x, indices = np.array([[[1.0, 5]], [[2.0, 4]]]), np.array([[[0, 1]], [[3, 3]]])
    result = window.MaxUnpool1d(2).bounded(
        strictest("float32"), (x, indices), (np.arange(8.0).reshape(2, 1, 4),)
    )
    assert result["output"].value.tolist() == [[[1, 5, 0, 0]], [[0, 0, 0, 4]]]
    assert result["output"].error.tolist() == [[[0, 0, 0, 0]], [[0, 0, 0, 2]]]
    assert result["grad_input0"].value.tolist() == [[[0, 1]], [[0, 7]]]
    assert result["grad_input0"].error.tolist() == [[[0, 0]], [[7, 7]]]
    alone = window.MaxUnpool1d(2).bounded(strictest("float32"), (x[:1], indices[:1]), (np.ones((1, 1, 4)),))
    assert alone["output"].bitwise and alone["grad_input0"].bitwise


# What just fits, and what does not.


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["adaptive_avg_pool", "adaptive_max_pool"])
def test_sizes_of_adaptive_pooling(name, rank):
    pool, spatial = call(name, rank), SPATIAL[rank]
    assert fits(pool, np.zeros((2, 1, *spatial)), 0) == (2, 1, *(0,) * rank)
    assert fits(pool, np.zeros((2, 1, *spatial)), (0,) + (2,) * (rank - 1)) == (2, 1, 0, *(2,) * (rank - 1))
    assert fits(pool, np.zeros((2, 1, *spatial)), -1) is RuntimeError
    assert fits(pool, np.zeros((0, 1, *spatial)), 2) == (0, 1, *(2,) * rank)
    no_channels = name == "adaptive_avg_pool" and rank < 3  # torch's own asks for channels in the others
    assert fits(pool, np.zeros((2, 0, *spatial)), 2) == (
        (2, 0, *(2,) * rank) if no_channels else RuntimeError
    )
    for axis in range(rank):
        empty = (*spatial[:axis], 0, *spatial[axis + 1 :])
        assert fits(pool, np.zeros((2, 1, *empty)), 2) is RuntimeError
    for sizes, error in (
        ((2,) * (rank + 1), RuntimeError),
        (True, TypeError),
        (1.5, TypeError),
        ("2", TypeError),
    ):
        assert fits(pool, np.zeros((2, 1, *spatial)), sizes) is error
    found = fits(pool, np.zeros((2, 1, *spatial)), np.int64(2))
    assert found == ((2, 1, 2) if rank == 1 else TypeError)  # what torch's functions make of it
    none = fits(pool, np.zeros((2, 1, *spatial)), (None,) * rank)
    assert none == (TypeError if rank == 1 else (2, 1, *spatial))


@pytest.mark.parametrize("rank", [2, 3])
def test_sizes_of_fractional_pooling(rank):
    """Of p windows of k elements the axis has p + k - 1, in 3-d one more."""
    pool, room, x = call("fractional_max_pool", rank), 6 - rank, np.zeros((2, 1, 6, 4, 5)[: rank + 2])
    for axis, size in enumerate(x.shape[2:]):
        for k in (1, 2):
            kernel = tuple(k if axis == other else 1 for other in range(rank))
            most = size - k + 1 - (rank - 2)
            wanted = [tuple(most + more if axis == other else 1 for other in range(rank)) for more in (0, 1)]
            assert fits(pool, x, kernel, wanted[0]) == (2, 1, *wanted[0])
            assert fits(pool, x, kernel, wanted[1]) is RuntimeError
    assert fits(pool, x, 1, 0) == (2, 1, *(0,) * rank) and fits(pool, x, 1, -1) is RuntimeError
    assert fits(pool, x, 1, None, 0.5) == (2, 1, *(int(n / 2) for n in x.shape[2:])) and room > 0
    for shape in ((2, 0, 6, 4, 5)[: rank + 2], (2, 1, 0, 4, 5)[: rank + 2]):
        assert fits(pool, np.zeros(shape), 1, 1) is RuntimeError
    assert fits(pool, x[:0], 1, 1) == (0, 1, *(1,) * rank)
    assert fits(pool, x, (1,) * (rank + 1), 1) is RuntimeError and fits(pool, x, 1.0, 1) is TypeError
    assert fits(pool, x, True, 1) is TypeError and fits(pool, x, 1, (1,) * (rank - 1)) is RuntimeError


def test_a_window_without_elements_has_no_maximum():
    """torch's 2-d pooling takes a kernel of 0, its 3-d one does not."""
    x = np.ones((1, 3, 4))
    output, indices = window.fractional_max_pool2d(x, 0, 2, None, True, HALVES[:1, :1])
    assert (output == -INF).all() and (indices == -1).all()
    back = window.fractional_max_pool2d_backward(np.ones((1, 2, 2)), x, 0, 2, None, HALVES[:1, :1])[0]
    assert (back == 0).all()
    assert fits(window.fractional_max_pool3d, x[None], 0, 1) is RuntimeError


@pytest.mark.parametrize("rank", [2, 3])
def test_arguments_of_fractional_layers(rank):
    layer = getattr(window, f"FractionalMaxPool{rank}d")
    for ratio in (0.0, 1.0, -0.5, (0.5, 1.0), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="less than 1"):
            layer(1, output_ratio=ratio)
    for sizes in ({}, {"output_size": 2, "output_ratio": 0.5}):
        with pytest.raises(ValueError, match="one of the two"):
            layer(1, **sizes)
    for kernel in (0, (1,) * (rank - 1) + (0,)):
        if rank == 3:
            with pytest.raises(ValueError, match="at least 1"):
                layer(kernel, 2)
        else:
            assert layer(kernel, 2).kernel_size == kernel


@pytest.mark.parametrize("rank", [2, 3])
def test_samples_of_every_plane(rank):
    """Rows beyond the batch are ignored; planes with other samples have other windows."""
    pool, layer = call("fractional_max_pool", rank), getattr(window, f"FractionalMaxPool{rank}d")
    x = np.zeros((2, 1, *(7,) * rank)) + np.arange(7.0)
    samples = np.array([1, 15, 9]).reshape(3, 1, 1) / 16 + np.zeros((3, 1, rank))
    output = pool(x, 2, 4, _random_samples=samples[:2])
    assert output[:, 0].reshape(2, -1)[:, :4].tolist() == [[1, 2, 4, 6], [1, 3, 4, 6]]
    assert (pool(x, 2, 4, _random_samples=samples) == output).all()
    assert (pool(x[1], 2, 4, _random_samples=samples[1:2]) == output[1]).all()
    for wrong in (samples[:1], samples[:2, 0], samples[:2, :, :1], np.concatenate([samples, samples], 1)):
        assert fits(pool, x, 2, 4, None, False, wrong) is RuntimeError
    up, made = np.ones(output.shape), layer(2, 4, return_indices=True, _random_samples=samples)
    assert made(x)[0].tolist() == output.tolist() and made(x)[1].dtype == np.int64
    assert made.output_shapes(x) == (output.shape,)
    assert "indices" in made.bounded(strictest("float64"), (x,), (up,))
    made = layer(2, 4, _random_samples=samples)
    assert made(x).tolist() == output.tolist() and set(made.bounded(strictest("float64"), (x,), (up,))) == {
        "output", "grad_input"}  # fmt: skip


def near_a_whole_number(roundings):
    """A sample whose first place, 5/3 of it, is so many roundings of float32 beyond 1."""
    return np.array([[[0.0, 0.6 * (1 + roundings * 2.0**-24)]]])


def test_windows_are_uncertain_within_four_roundings():
    """Six elements, four windows of one: a = 5/3, and only the first place is near a whole number."""
    x, up = np.zeros((1, 1, 6)), np.zeros((1, 1, 4))
    for roundings, certain in ((-4.5, True), (-3.5, False), (3.5, False), (4.5, True)):
        samples = near_a_whole_number(roundings)[:, :, ::-1]
        layer = window.FractionalMaxPool2d(1, (1, 4), _random_samples=samples)
        if certain:
            assert not layer.bounded(strictest("float32"), (x,), (up,))["output"].error.any()
        else:
            with pytest.raises(SuiteError, match="rounding in float32 decides"):
                layer.bounded(strictest("float32"), (x,), (up,))


def test_a_window_as_far_from_a_whole_number_as_rounding_goes_is_uncertain(monkeypatch):
    """Four windows, a = 4/3, sample 0: of the places 4/3 and 8/3 one is an eighth of itself away from 3."""
    monkeypatch.setattr(importlib.import_module("refimpl.fractional_pooling"), "gamma", lambda n, u: 0.125)
    layer = window.FractionalMaxPool2d((1, 2), (1, 4), _random_samples=np.zeros((1, 1, 2)))
    with pytest.raises(SuiteError, match="draw another"):
        layer.bounded(strictest("float32"), (np.zeros((1, 1, 6)),), (np.zeros((1, 1, 4)),))


@pytest.mark.parametrize(("size", "outputs"), [(11, 3), (11, 5), (19, 9)])
def test_steps_of_halves_and_quarters_are_exact(size, outputs):
    """Windows of one, a = 5, 5/2 and 9/4: sample 0 puts some of them on whole numbers."""
    layer = window.FractionalMaxPool2d(1, (1, outputs), _random_samples=np.zeros((1, 1, 2)))
    result = layer.bounded(strictest("float16"), (np.zeros((1, 1, size)),), (np.zeros((1, 1, outputs)),))
    assert not result["output"].error.any()


@pytest.mark.parametrize("name", ["kernel_size", "dilation", "stride", "padding"])
def test_numbers_of_blocks(name):
    least = 0 if name == "padding" else 1
    x, good = np.zeros((1, 4, 5)), {"kernel_size": (2, 3)}
    for function, first in ((window.unfold, (x,)), (window.fold, (np.zeros((6, 9)), (4, 5)))):
        for value in ((least - 1, 1), (1, least - 1), least - 1):
            assert fits(function, *first, **(good | {name: value})) is RuntimeError
    legal = (least, 2) if name == "padding" else (2, 1)
    given = good | {name: legal}
    columns = window.unfold(x, **given)
    assert window.fold(columns, (4, 5), **given).shape == (1, 4, 5)


def test_sizes_of_blocks():
    assert fits(window.unfold, np.zeros((1, 2, 3)), (2, 3)) == (6, 1)
    assert fits(window.unfold, np.zeros((1, 2, 3)), (3, 3)) is RuntimeError
    assert fits(window.unfold, np.zeros((1, 2, 3)), (2, 4)) is RuntimeError
    for shape in ((2, 0, 4, 4), (2, 1, 0, 4), (2, 1, 4, 0), (0, 4, 4), (4, 4), (1, 1, 1, 4, 4)):
        assert fits(window.unfold, np.zeros(shape), 2) is RuntimeError
    for shape in ((2, 0, 9), (2, 4, 0), (0, 9), (4, 0), (4,), (1, 1, 4, 9), (5, 9), (4, 8), (4, 10)):
        assert fits(window.fold, np.zeros(shape), 4, 2) is RuntimeError
    assert fits(window.fold, np.zeros((4, 9)), 4, 2) == (1, 4, 4)
    assert fits(window.fold, np.zeros((0, 4, 9)), 4, 2) == (0, 1, 4, 4)
    for layer, x in ((window.Unfold(2), np.zeros((1, 4, 4))), (window.Fold(4, 2), np.zeros((4, 9)))):
        for batch in ((), (2,)):
            given = np.zeros((*batch, *x.shape))
            assert layer.output_shapes(given) == (layer(given).shape,)
            assert fits(layer.bounded, strictest("float32"), (given,), (np.zeros((9, 9)),)) is RuntimeError


def test_blocks_have_one_plane():
    """The walk of a convolution in 3-d, its first axis of size 1."""
    visits = []
    geometry = Geometry(1, 2, 1, 2, (1, 3, 3), (1, 2, 2), (1, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1))
    convolution_taps(lambda arrays, y, x, w: visits.append((y[1], x[1])), (), geometry)
    assert len(visits) == 2 * 4 * 4 and all(y == x for y, x in visits)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_sizes_of_unpooling(rank):
    """Stride 3, kernel 2, padding 1 of n elements: 3 (n - 1) - 2 + 2, and less than 3 away from it."""
    unpool, spatial = call("max_unpool", rank), SPATIAL[rank]
    x, own = np.zeros((1, 1, *spatial)), tuple(3 * (n - 1) for n in spatial)
    indices = np.arange(x.size).reshape(x.shape) % math.prod(own)
    assert fits(unpool, x, indices, 2, 3, 1) == (1, 1, *own)
    assert fits(unpool, x[0], indices[0], 2, 3, 1) == (1, *own)
    for axis in range(rank):
        for more in range(-3, 4):
            wanted = tuple(n + (more if axis == other else 0) for other, n in enumerate(own))
            for given in (wanted, [1, 1, *wanted]):
                found = fits(unpool, x, indices % 6, 2, 3, 1, given)
                assert found == ((1, 1, *wanted) if abs(more) < 3 else ValueError)
    for sizes, error in (
        ((6,) * (rank + 1), ValueError),
        ((6.0,) * rank, TypeError),
        (6, TypeError),
        ("666", TypeError),
    ):
        assert fits(unpool, x, indices, 2, 3, 1, sizes) is error


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_arguments_of_unpooling(rank):
    unpool, spatial = call("max_unpool", rank), SPATIAL[rank]
    x, indices = np.zeros((2, 1, *spatial)), np.zeros((2, 1, *spatial), dtype=np.int64)
    assert fits(unpool, x, indices.astype(np.int32), 2) is RuntimeError
    assert fits(unpool, x, indices[:1], 2) is RuntimeError
    assert fits(unpool, x[None], indices[None], 2) is fits(unpool, x[0, 0], indices[0, 0], 2) is RuntimeError
    assert fits(unpool, x, indices, (2,) * (rank + 1)) is IndexError
    assert fits(unpool, x, indices, 2.0) is fits(unpool, x, indices, True) is TypeError
    # torch's 3-d unpooling alone asks for a stride
    assert fits(unpool, x, indices, 2, 0) == (RuntimeError if rank == 3 else (2, 1, *(2,) * rank))
    assert fits(unpool, x, indices, 2, 1) == (2, 1, *(n + 1 for n in spatial))
    for empty in ((2, 0, *spatial), (2, 1, 0, *spatial[1:]), (2, 1, *spatial[:-1], 0)):
        nothing = np.zeros(empty, dtype=np.int64)
        assert fits(unpool, nothing * 1.0, nothing, 2) is RuntimeError
    assert fits(unpool, x[:0], indices[:0], 2) == (0, 1, *(2 * n for n in spatial))
    # one stride an element less twice the padding: nothing is left, and then less than that
    padding = [(n - 1 + 2) // 2 for n in (3, 3, 3)[:rank]]
    threes = np.zeros((0, 1, *(3,) * rank), dtype=np.int64)
    assert fits(unpool, threes * 1.0, threes, 2, 1, padding) == (0, 1, *(0,) * rank)
    assert fits(unpool, threes * 1.0, threes, 2, 1, [*padding[1:], 3]) is ValueError
    layer = getattr(window, f"MaxUnpool{rank}d")(2)
    layer(x, indices)
    with pytest.raises(RuntimeError, match="needed"):
        layer.backward(np.zeros((2, 1, *spatial)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_arguments_of_power_pooling(rank):
    pool, spatial = call("lp_pool", rank), SPATIAL[rank]
    x = np.ones((1, 2, *spatial))
    for axis in range(rank):
        kernel = tuple(n if axis == other else 1 for other, n in enumerate(spatial))
        larger = tuple(n + 1 if axis == other else 1 for other, n in enumerate(spatial))
        zero = tuple(0 if axis == other else 1 for other in range(rank))
        assert fits(pool, x, 2, kernel, 1) == (
            1,
            2,
            *(n - k + 1 for n, k in zip(spatial, kernel, strict=True)),
        )
        assert fits(pool, x, 2, larger, 1) is RuntimeError
        assert fits(pool, x, 2, zero, 1) is fits(pool, x, 2, 1, zero) is RuntimeError
    for empty in ((1, 0, *spatial), (1, 2, *spatial[:-1], 0), (1, 2, 0, *spatial[1:])):
        assert fits(pool, np.zeros(empty), 2, 1) is RuntimeError
    layer = getattr(window, f"LPPool{rank}d")
    assert fits(layer(2, 2, ceil_mode=True), x) == layer(2, 2, None, True).output_shapes(x)[0]
    assert fits(layer(INF, 2), x) == layer(INF, 2).output_shapes(x)[0]
    assert fits(layer(0, 2), x) is ZeroDivisionError


@pytest.mark.parametrize("kind", ["Avg", "Max"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adaptive_layers_call_their_functions(rank, kind):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((2, 2, *SPATIAL[rank]))
    function, layer = (
        call(f"adaptive_{kind.lower()}_pool", rank),
        getattr(window, f"Adaptive{kind}Pool{rank}d"),
    )
    made, output = layer(2), function(x, 2)
    assert (made(x) == output).all() and made.output_shapes(x) == (output.shape,)
    back = call(f"adaptive_{kind.lower()}_pool", rank, "_backward")(output, x, 2)[0]
    assert (made.backward(output) == back).all()
    assert set(made.bounded(strictest("float64"), (x,), (output,))) == {"output", "grad_input"}
    if kind == "Max":
        made, (output, indices) = layer(2, return_indices=True), function(x, 2, True)
        for one, other in zip(made(x), (output, indices), strict=True):
            assert (one == other).all()
        assert set(made.bounded(strictest("float64"), (x,), (output,))) == {"output", "indices", "grad_input"}

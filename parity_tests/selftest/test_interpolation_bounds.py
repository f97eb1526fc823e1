"""The bounds of interpolation on axes worked by hand: what may be read, how far weights may be off, what
that does."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from refimpl.error_bounds import Contract, Products, gamma, strictest
from refimpl.floats import outward
from refimpl.interpolation import Interpolate
from refimpl.interpolation_bounds import left_open, weighted_sum

SINGLE = strictest("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def bounds_of(x, up, contract=SINGLE, **arguments):
    x, up = np.asarray(x, dtype=float), np.asarray(up, dtype=float)
    found = Interpolate(**arguments).bounded(contract, (x[None, None],), (up[None, None],))
    return found["output"], found["grad_input"]


def reads(outputs):
    """What each output of 'nearest-exact' by 1.3 may read: 6.5 / 1.3 is 4.99999... or 5."""
    chosen = [{math.floor((y + Fraction(1, 2)) / Fraction(1.3))} for y in range(outputs)]
    chosen[6] |= {5}
    return chosen


@pytest.mark.parametrize(
    "doubtful",
    [
        *((True,), (True, False), (False, True), (True, True)),
        *((True, False, False), (False, True, False), (False, False, True), (True, True, True)),
    ],
)
def test_every_element_in_doubt_counts_on_every_axis(rng, doubtful):
    """Axes of 6 elements by 1.3 have a place in doubt, axes of 3 have none.  The output may be as far off as
    the farthest element that it may read; a gradient may go to each of them, and is a sum of them all."""
    size = [6 if doubt else 3 for doubt in doubtful]
    outputs = [int(n * 1.3) for n in size]
    contract = Contract("float16", "float16")
    x, up = rng.integers(-99, 99, size), rng.integers(-99, 99, outputs)
    may = [reads(7)[:p] for p in outputs]
    value, apart, doubt, magnitude, terms = (np.zeros(s) for s in (outputs, outputs, size, size, size))
    for y in np.ndindex(*outputs):
        places = list(
            itertools.product(*(sorted(of_axis[place]) for of_axis, place in zip(may, y, strict=True)))
        )
        value[y] = x[places[0]]
        apart[y] = max(abs(x[place] - x[places[0]]) for place in places)
        magnitude[places[0]] += abs(up[y])
        terms[places[0]] += 1
        if len(places) > 1:
            for place in places:
                doubt[place] += abs(up[y])
                terms[place] += 1
    output, gradient = bounds_of(x, up, contract, scale_factor=1.3, mode="nearest-exact")
    assert (output.value == value).all() and (output.error == apart).all() and not output.bitwise
    off = doubt + gamma(terms, contract.u) * (magnitude + doubt)
    assert (gradient.error == np.where(doubt > 0, outward(off), 0.0)).all()


def test_a_copy_in_doubt_of_equal_elements_is_bitwise():
    output, gradient = bounds_of(np.full(6, 2.0), np.arange(7.0), scale_factor=1.3, mode="nearest-exact")
    assert output.bitwise and not output.error.any() and gradient.error.any()
    output, _ = bounds_of(np.arange(3.0), np.arange(3.0), scale_factor=1.3, mode="nearest-exact")
    assert output.bitwise


def test_a_difference_is_rounded_where_no_product_is():
    """2^24 - 4 and -1 at 3/4: both products and their sum are multiples of 1/4 that float32 holds, but
    3/4 (x1 - x0) is not, and x0 + f (x1 - x0) comes out wrong."""
    x = np.array([2.0**24 - 4, -1.0])
    x0, x1, f = *x.astype(np.float32), np.float32(0.75)
    off = abs(float(x0 + f * (x1 - x0)) - float(x[0] / 4 + x[1] * 3 / 4))
    output, gradient = bounds_of(x, np.zeros(4), scale_factor=2, mode="linear")
    assert 0 < off <= output.error[0, 0, 2] and not gradient.error.any()


@pytest.mark.parametrize(("x", "exact"), [([2.0**22 - 3, 3], True), ([2.0**22 - 3, 4], False)])
def test_sums_of_24_bits_are_exact(x, exact):
    """By 2 the weights are quarters: a sum of both elements of 2^22 is 2^24 quarters."""
    output, _ = bounds_of(x, np.zeros(4), scale_factor=2, mode="linear")
    assert (output.error[0, 0, 1:3] == 0).tolist() == [exact] * 2


@pytest.mark.parametrize(("last", "exact"), [(3, True), (4, False)])
def test_gradients_of_24_bits_are_exact(last, exact):
    """Element 0 gets 1, 3/4 and 1/4 of the first three gradients."""
    up = [2.0**21, 2.0**21 - 3, last, 0.0]
    _, gradient = bounds_of(np.zeros(2), up, scale_factor=2, mode="linear")
    assert (gradient.error[0, 0, 0] == 0) == exact


def test_the_bound_of_a_weighted_sum_is_evaluated_in_32_roundings_and_4_a_term():
    """Errors of weights of 1 and no products: 2 u more for each rounding, and one more."""
    contract, one, zero = strictest("float64"), np.ones(1), np.zeros(1)
    for terms in (0, 2):
        bound = weighted_sum(Products(zero, zero, terms), one, zero, contract)
        assert bound.error == 1 + (32 + 4 * terms + 1) * 2.0**-52
    products = Products(zero, one, 3)
    found = weighted_sum(products, zero, one, SINGLE)
    assert found.error == outward(gamma(3, SINGLE.u) + 3 * SINGLE.eta, 44) and found.products is products


def test_only_the_strictest_contract_asks_for_what_is_not_finite():
    error = np.array([1.0, np.nan, np.inf])
    assert left_open(error, SINGLE) is error
    most = np.finfo(np.float64).max
    assert left_open(error, Contract("float32", "float32", "tf32")).tolist() == [1, most, most]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_is_not_settled_on_one_axis_is_not_settled_anywhere_on_it(rank):
    """Of 4 elements by 1/2, with corners, each third place is whole: its neighbour has a weight of 0."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    call = Interpolate(size=(7, 4, 9)[:rank], mode=mode, align_corners=True).call(
        np.zeros((2, 3, *(4, 3, 5)[:rank]))
    )
    on_axes = [axis.unsettled(SINGLE) for axis in call.axes[3 - rank :]]
    found = call.unsettled(SINGLE)
    assert found.shape == (4, 3, 5)[:rank] and 0 < found.sum() < found.size
    for place in np.ndindex(found.shape):
        assert found[place] == any(axis[n] for axis, n in zip(on_axes, place, strict=True))


def test_corners_alone():
    x = np.array([[[[1.0, 2, 3, 5]]]])
    assert Interpolate(size=2, mode="linear", align_corners=True)(x[0]).tolist() == [[[1, 5]]]
    assert Interpolate(size=(1, 1), mode="bicubic", align_corners=True)(x).tolist() == [[[[1]]]]
    one = Interpolate(size=(1, 1), mode="bicubic", align_corners=True, antialias=True)(x)
    assert one.tolist() == [[[[9 / 8 - 2 / 8]]]]

"""What an axis of an interpolation reads, worked by hand: exact weights, how far they may be off, and where
another element may be read."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.laws import same_numbers
from refimpl.error_bounds import FLOATS, Contract, gamma, strictest
from refimpl.interpolation_axes import (
    STORED_WEIGHTS,
    Axis,
    _bare_error,
    _cubic_change,
    _kernel,
    far,
    near,
)

SINGLE, DOUBLE, HALF = strictest("float32"), strictest("float64"), Contract("float16", "float16")
U, A = SINGLE.u, -0.75
HALVES = Fraction(1, 2)


class Eighth(Axis):
    """An axis whose coordinates may be off by an eighth."""

    def slack(self, contract):
        return np.full(self.outputs, 0.125)


def quarter_steps(corners, kind="linear", of=Axis):
    """Four elements; places -1/4, 1/4, 3/4, 5/4 ... or, with corners, 0, 1/2, 1 ..."""
    return of(4, 8, HALVES, kind, corners)


def exactly(*numbers):
    return np.array([Fraction(n) for n in numbers], dtype=object)


@pytest.mark.parametrize("kind", [np.float64, object])
def test_linear_and_cubic_weights(kind):
    line = quarter_steps(False).table(kind)
    assert line.index[[0, 1, 3, 7]].tolist() == [[0, 1], [0, 1], [1, 2], [3, 3]]
    assert line.weight[[0, 1, 3, 7]].tolist() == [[1, 0], [0.75, 0.25], [0.75, 0.25], [0.75, 0.25]]
    cubic = quarter_steps(True, "cubic").table(kind)
    assert cubic.index[[0, 1, 7]].tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [2, 3, 3, 3]]
    assert cubic.weight[:2].tolist() == [[0, 1, 0, 0], [-3 / 32, 19 / 32, 19 / 32, -3 / 32]]
    assert isinstance(line.weight[0, 0], Fraction if kind is object else float)


def test_antialiased_weights():
    """Three to two: the centres are 3/4 and 9/4, 1/6, 1/2 and 7/6 of a window off.  Twelve to two: the window
    of 12 elements is cut off at the border.  Keys' kernel with a = -1/2 at halves is 9/16 and -1/16."""
    short = Axis(3, 2, Fraction(3, 2), "linear", antialias=True).table(object)
    assert short.index.tolist() == [[-1, 0, 1], [1, 2, -1]]
    same_numbers(short.weight, exactly(0, 0.625, 0.375, 0.375, 0.625, 0).reshape(2, 3))
    long = Axis(12, 2, Fraction(6), "linear", antialias=True).table(object)
    assert long.index[0][long.index[0] >= 0].tolist() == list(range(9))
    shares = [7, 9, 11, 11, 9, 7, 5, 3, 1]
    same_numbers(long.weight[0][long.index[0] >= 0], exactly(*(Fraction(n, 63) for n in shares)))
    cubic = Axis(4, 4, Fraction(1), "cubic", antialias=True).table(object)
    assert cubic.index.tolist() == [[0], [1], [2], [3]] and (cubic.weight == 1).all()
    corners = Axis(4, 1, Fraction(0), "cubic", True, True).table(object)
    same_numbers(corners.weight[corners.index >= 0], exactly(Fraction(9, 8), Fraction(-1, 8)))


def test_slack_is_a_rounding_of_the_ratio_the_product_and_the_difference():
    """By 1/3 nothing is held; 2^23 + 1 times 3/2 needs 25 bits, 2^24 - 1/2 does."""
    third, y = Fraction(1, 3), np.arange(3)
    product = (2 * y + 1) / 6
    off = gamma(2, U) * product
    assert (Axis(9, 3, third, "linear", True).slack(SINGLE) == gamma(2, U) * (y / 3)).all()
    assert (Axis(9, 3, third, "nearest-exact").slack(SINGLE) == off).all()
    shifted = np.array([Fraction(2 * n - 2, 6) for n in y]).astype(float)
    assert (Axis(9, 3, third, "linear").slack(SINGLE) == off + U * (np.abs(shifted) + off)).all()
    assert not quarter_steps(False).slack(SINGLE).any()
    rounded = gamma(2, U) * 12582913.5
    assert Axis(9, 2, Fraction(2**23 + 1), "linear").slack(SINGLE)[1] == rounded + U * (12582913 + rounded)
    assert Axis(9, 1, Fraction(2**25), "linear").slack(SINGLE)[0] == U * (2**24 - 0.5)


def test_a_linear_axis_an_eighth_off():
    """A neighbour may be read where the place is less than an eighth above its element, or no more than an
    eighth below; none before the first.  Places before it are clamped, of which 4 roundings are left."""
    table = Eighth(4, 16, Fraction(1, 4), "linear").within(SINGLE)  # at -3/8, -1/8, 1/8, 3/8, 5/8, 7/8 ...
    assert table.index[:9].tolist() == [
        [0, -1, -1], [0, 1, -1], [0, 1, -1], [0, 1, -1], [0, 1, -1], [0, 1, 2], [1, 2, -1], [1, 2, -1],
        [1, 2, -1],
    ]  # fmt: skip
    f = np.array([0, 0, 1, 3, 5, 7, 1, 3, 5]) / 8
    slack, lerp = np.array([0] + [1] * 8) / 8, gamma(2, U) * f
    assert (table.drift[:9, 0] == slack + lerp).all() and (table.drift[:9, 1] == slack + lerp).all()
    assert table.drift[5, 2] == 0.125 and not table.exact
    rounded = np.where(np.arange(9) < 2, gamma(4, U), U * (1 - f + slack))
    assert (table.loose[:9, 0] == rounded).all() and not table.loose[:, 1:].any()
    whole = Eighth(4, 4, Fraction(1), "linear", True).within(SINGLE)
    assert whole.index.tolist() == [[0, 1, -1], [1, 2, 0], [2, 3, 1], [3, 3, 2]]
    assert (whole.drift[1:] == 0.125).all() and whole.weight.tolist() == [[1, 0, 0]] * 4


def test_linear_weights_are_exact_where_1_minus_the_fraction_is():
    tiny = Axis(2, 2, Fraction(1, 2**29), "linear", True)
    assert tiny.within(DOUBLE).exact and not tiny.within(SINGLE).exact
    assert quarter_steps(False).within(SINGLE).exact


def test_a_cubic_axis_an_eighth_off():
    """Two elements on, the kernel's slope is 0: what a neighbour there may weigh is half the curvature."""
    table = Eighth(9, 12, Fraction(1, 8), "cubic", True).within(SINGLE)  # at 0, 1/8, ... 11/8
    edge = far(SINGLE.exact([2.0]), A).error[0]
    beside = 2.25 / 64 + edge
    assert table.index[[0, 1, 7, 8, 9]].tolist() == [
        [0, 0, 1, 2, 0, -1], [0, 0, 1, 2, -1, -1], [0, 0, 1, 2, -1, 3], [0, 1, 2, 3, 0, -1],
        [0, 1, 2, 3, -1, -1],
    ]  # fmt: skip
    assert table.drift[[0, 1, 7, 8], 4].tolist() == [beside, 0, 0, beside] and table.drift[7, 5] == beside
    for y, f in ((0, 0.0), (1, 0.125), (7, 0.875)):
        t, distances = SINGLE.exact([f]), np.array([1 + f, f, 1 - f, 2 - f])
        errors = [far(t + 1.0, A), near(t, A), near(1.0 - t, A), far(1.0 - t + 1.0, A)]
        assert (table.drift[y, :4] == _cubic_change(distances, np.full(4, 0.125), A)).all()
        assert table.loose[y].tolist() == [*(value.error[0] for value in errors), 0, 0]
    assert not table.exact
    last = Eighth(4, 4, Fraction(1), "cubic", True).within(SINGLE)
    assert last.index.tolist() == [[0, 0, 1, 2, 0], [0, 1, 2, 3, 0], [1, 2, 3, 3, 0], [2, 3, 3, 3, 1]]
    ends = Eighth(4, 26, Fraction(1, 8), "cubic", True).within(SINGLE)
    assert ends.index[[15, 23, 25], 5].tolist() == [3, 3, -1]


def test_a_cubic_weight_is_rounded_as_its_evaluation_is():
    """1/128 has more bits than the powers of a fraction may have; 1/64 has not."""
    table = Axis(9, 4, Fraction(1, 128), "cubic", True).within(SINGLE)
    t = SINGLE.exact([1 / 128])
    errors = [far(t + 1.0, A), near(t, A), near(1.0 - t, A), far(1.0 - t + 1.0, A)]
    assert table.loose[1].tolist() == [value.error[0] for value in errors] and all(table.loose[1])
    assert not table.drift.any() and not table.loose[[0, 2]].any() and not table.exact
    assert Axis(9, 4, Fraction(1, 64), "cubic", True).within(SINGLE).exact


def test_how_much_keys_kernel_changes():
    """Its slopes at 0, 1/2, 1, 3/2, 2 and 5/2 are 0, -21/16, -3/4, 3/16, 0 and 0; its curvature is at most
    9/2."""
    distances = exactly(0, 0.5, 1, 1.5, 2, 2.5)
    slopes = exactly(0, Fraction(21, 16), 0.75, Fraction(3, 16), 0, 0)
    found = _cubic_change(distances, Fraction(1, 8), Fraction(-3, 4))
    same_numbers(found, slopes / 8 + Fraction(9, 4) / 64)


def test_keys_kernel():
    """a = -1/2: 1, 9/16, 0, -1/16, 0, 0."""
    distances = exactly(0, 0.5, 1, 1.5, 2, 2.5)
    same_numbers(_kernel("cubic", distances, Fraction(-1, 2)), exactly(1, 9 / 16, 0, -1 / 16, 0, 0))
    same_numbers(_kernel("linear", distances, None), exactly(1, 0.5, 0, 0, 0, 0))


ARGUMENTS = np.array([0, 0.25, 0.5, 1, 1.0625, 1.5, 1.75, 2, 2.0625, 2.5])


def off_of(argument, stretch):
    off = (0.125 + gamma(2, U) * (argument * stretch + 1)) / stretch
    return off + gamma(3, U) * (argument + off)


def at_its_end(radius):
    """The argument that is off by just what it is beyond the kernel's end."""
    argument = float(radius)
    for _ in range(9):
        argument = radius + off_of(argument, 1.5)
    around = argument + np.arange(-4, 5) * np.spacing(argument)
    at = [argument for argument in around if argument - off_of(argument, 1.5) == radius]
    return at[0]


def test_the_error_of_a_linear_weight_before_the_division():
    axis, arguments = Eighth(9, 10, Fraction(3, 2), "linear", antialias=True), ARGUMENTS
    arguments = np.append(arguments[:-1], at_its_end(1))
    off = off_of(arguments, 1.5)
    expected = off + U * (np.maximum(1 - arguments, 0) + off)
    expected[5:] = 0.0
    assert (_bare_error(axis, SINGLE, arguments, None, 1.5) == expected).all()


def test_the_error_of_a_cubic_weight_before_the_division():
    axis, arguments = Eighth(9, 10, Fraction(3, 2), "cubic", antialias=True), ARGUMENTS
    arguments = np.append(arguments[:-1], at_its_end(2))
    kernels = [near] * 3 + [far] * 7
    rounding = [
        kernel(SINGLE.exact([min(d, 2.0)]), -0.5).error[0]
        for kernel, d in zip(kernels, arguments, strict=True)
    ]
    expected = _cubic_change(arguments, off_of(arguments, 1.5), -0.5) + rounding
    expected[9] = 0.0
    assert (_bare_error(axis, SINGLE, arguments, -0.5, 1.5) == expected).all()


def test_antialiased_weights_are_off_by_their_own_error_and_that_of_their_sum():
    """By 1/3: 2/3, 1, 2/3 and 1/3 of 8/3, in a window of 9; the fifth, at its end, may come in."""
    axis = Axis(6, 1, Fraction(3), "linear", antialias=True)
    arguments = np.array([1 / 3, 0, 1 / 3, 2 / 3, 1])
    bare, errors = 1 - arguments, _bare_error(axis, SINGLE, arguments, None, 3.0)
    table, total, all_errors = axis.within(SINGLE), sum(bare), sum(errors)
    there = table.index[0] >= 0
    assert table.index[0][there].tolist() == [0, 1, 2, 3, 4] and not table.exact
    least = total - all_errors
    assert (table.weight[0][there] == bare / total).all()
    assert (table.drift[0][there] == (errors + bare / total * all_errors) / least).all()
    summed = gamma(2, U) + gamma(9, U) * total / least
    assert (table.loose[0][there] == bare / total * summed).all()
    plain = axis.table().index
    assert plain[0][plain[0] >= 0].tolist() == [0, 1, 2, 3]
    cubic = Axis(6, 2, Fraction(3), "cubic", antialias=True).within(SINGLE)
    size = np.abs(cubic.weight[0]).sum()
    off = (cubic.loose / np.where(cubic.weight == 0, 1, np.abs(cubic.weight)))[0]
    assert size > 1 and (off[cubic.weight[0] != 0] > gamma(15, U)).all()


def test_stored_weights_are_rounded_to_their_type():
    stored = Contract("bfloat16", "float32", algorithm=STORED_WEIGHTS)
    axis = quarter_steps(False)
    plain, table = axis.within(strictest("bfloat16")), axis.within(stored)
    assert (table.loose == plain.loose + FLOATS["bfloat16"].roundoff).all() and not table.exact
    assert plain is axis.within(SINGLE) and table is not axis.within(replace(stored, store="float16"))


def test_what_nearest_modes_may_read():
    """6.5 / 1.3 is 4.99999... or 5.  By 2 places of half precision are odd from 1025 on, and 1/2 less even.
    Ten thousand by 1 are places that it has not, none of them beyond the last element."""
    table = Axis(7, 9, 1 / Fraction(1.3), "nearest-exact").within(SINGLE)
    assert table.index.tolist() == [
        [n, 5 if n == 4 and y == 6 else -1] for y, n in enumerate([0, 1, 1, 2, 3, 4, 4, 5, 6])
    ]
    assert table.drift.tolist() == [[y == 6, y == 6] for y in range(9)] and not table.exact
    settled = Axis(7, 9, Fraction(7, 9), "nearest").within(SINGLE)
    assert settled.index.shape == (9, 1) and settled.exact
    odd = Axis(1200, 600, Fraction(2), "nearest-exact").within(HALF)
    y = np.arange(600)
    expected = np.stack([2 * y + 1, np.where(y >= 512, 2 * y, -1)], axis=1)
    assert (odd.index == expected).all()
    assert Axis(1200, 600, Fraction(2), "nearest").within(HALF).exact
    end = Axis(3000, 3000, Fraction(1), "nearest").within(HALF)
    assert end.index[-1, 0] == 2999 and end.index.max() == 2999 and not end.drift[-1].any()


def test_elements_that_may_be_read_or_not():
    """Those of weight 0, those that a place in doubt may choose, those whose weight may be rounded to 0."""
    half = Axis(3, 5, HALVES, "linear", True)
    assert half.unsettled(SINGLE).tolist() == [False, True, True]
    assert Axis(1, 2, Fraction(0), "linear", True).unsettled(SINGLE).tolist() == [True]
    doubt = Axis(33, 75, 1 / Fraction(2.3), "nearest").unsettled(SINGLE)
    assert np.flatnonzero(doubt).tolist() == [29, 30]
    assert Axis(3, 3, 1 - Fraction(1, 2**40), "nearest").unsettled(SINGLE).tolist() == [True] * 3
    small = Axis(2, 1, 1 + Fraction(1, 256), "linear")
    assert small.unsettled(SINGLE).tolist() == [False, False]
    stored = Contract("bfloat16", "float32", algorithm=STORED_WEIGHTS)
    assert small.unsettled(stored).tolist() == [False, True]

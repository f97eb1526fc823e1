"""Bounds of losses hold for each order in which an implementation may multiply: candidates that underflow."""

import math

import numpy as np
import pytest

from refimpl import loss, loss_bounds
from refimpl.error_bounds import FLOATS, Bounded, Contract, Float, round_to, strictest
from refimpl.floats import gamma, outward
from refimpl.loss_bounds import AnyOrder, put, sum_of

HALF = Contract("float16", "float16")
COUNT = 333


def stored(x):
    return round_to("float16", x)


def test_the_gradient_of_a_mean_may_underflow_before_upstream_multiplies_it():
    """(d / N) g, where d / N is subnormal."""
    difference, upstream = stored(np.linspace(1e-4, 1e-2, COUNT)), 7.5
    bound = loss.HuberLoss().bounded(HALF, (difference, np.zeros(COUNT)), (np.array(upstream),))[
        "grad_input0"
    ]
    found = stored(stored(difference * stored(1.0 / COUNT)) * upstream)
    error = np.abs(found - bound.value)
    assert (error <= bound.error).all() and (error > bound.error - HALF.eta / 2 * upstream).any()


def test_the_divergence_may_be_differentiated_operation_by_operation():
    """d/dt of t log(t) is log(t) + t / t, and (g t) / t is not g where g t is subnormal."""
    target, input = stored(np.geomspace(1e-3, 1.0, COUNT)), np.zeros(COUNT)
    share = stored(1.0 / COUNT)
    found = stored(stored(share * stored(np.log(target))) + stored(stored(share * target) / target))
    bound = loss.KLDivLoss().bounded(HALF, (input, target), (np.array(1.0),))["grad_input1"]
    contract = AnyOrder.of(HALF)
    g, t = contract.exact(share), contract.exact(target)
    at_once = put(sum_of(g * t.log(), g))
    assert (np.abs(found - bound.value) <= bound.error).all()
    assert (np.abs(found - at_once.value) > at_once.error).any()


SINGLE = strictest("float32")


def bounded(*pairs, contract=SINGLE):
    """Numbers, each a value with its error."""
    values, errors = np.array(pairs, dtype=np.float64).T
    return Bounded(values, errors, contract)


def same(result, *pairs):
    expected = bounded(*pairs)
    assert np.array_equal(result.value, expected.value, equal_nan=True)
    assert result.error.tolist() == expected.error.tolist()


def test_a_branch_is_undecided_as_far_as_the_error_reaches():
    decides = bounded((1, 0.25), (-1, 0.25), (0.25, 0.25), (-0.25, 0.25), (0, 0), (0.5, 0.25))
    yes, no = bounded(*[(5, 0.5)] * 6), bounded(*[(2, 0.25)] * 6)
    wider = outward(0.5 + 3)
    same(
        loss_bounds.branch(decides.value >= 0, decides, yes, no),
        (5, 0.5), (2, 0.25), (5, wider), (2, wider), (5, 0.5), (5, 0.5),
    )  # fmt: skip
    same(
        loss_bounds.signed(bounded(*[(3, 0.5)] * 6), decides),
        (3, 0.5), (-3, 0.5), (3, 6.5), (-3, 6.5), (0, 0), (3, 0.5),
    )  # fmt: skip
    same(loss_bounds.signed(bounded((3, 0.5)), bounded((math.nan, 0))), (0, 0.5))


def test_a_ramp_has_no_error_where_it_cannot_be_reached():
    z = bounded((-1, 0.5), (-1, 1), (-1, 2), (0, 0.5), (2, 0.5), (math.nan, 1))
    same(loss_bounds.ramp(z), (0, 0), (0, 1), (0, 2), (0, 0.5), (2, 0.5), (math.nan, 0))


@pytest.mark.parametrize(
    ("first", "second", "exact"),
    [
        ((3, 0), (1, 0), True),
        ((1, 0), (2.0**-60, 0), False),  # no number of float64
        ((2.0**-60, 0), (1, 0), False),
        ((1, 0), (2.0**-30, 0), False),  # none of float32
        ((3, 2.0**-40), (1, 0), False),
        ((3, 0), (1, 2.0**-40), False),
    ],
)
def test_a_difference_that_is_a_number_is_exact(first, second, exact):
    found = loss_bounds.difference(bounded(first), bounded(second))
    rounded = bounded(first) - bounded(second)
    assert found.value == first[0] - second[0]
    assert found.error == (0 if exact else rounded.error) and rounded.error > 0


def test_a_product_with_a_power_of_two_is_exact():
    number, scale, tiny = (3, 0.5), (-4, 0), (2.0**-126, 0)
    for pair in ((number, scale), (scale, number)):
        same(loss_bounds.times(*map(bounded, pair)), (-12, outward(2.0)))
    for pair, widen in (
        ((number, number), outward),
        ((number, (4, 0.5)), outward),
        ((tiny, (0.5, 0)), float),
    ):
        first, second = map(bounded, pair)  # the last product may underflow
        assert loss_bounds.times(first, second).error == widen((first * second).error[0]) > 0
    assert loss_bounds.times(bounded(tiny), bounded((3, 0))).error == 0
    assert loss_bounds.times(bounded(tiny), bounded((1, 0))).error == 0
    same(loss_bounds.times(bounded((math.inf, 0)), bounded(scale)), (-math.inf, 0))


def test_what_is_put_is_rounded_unless_it_is_a_number():
    weak = Contract("float16", "float16")
    for contract in (weak, strictest("float16")):
        for pair, fits in (((0.5, 0), True), ((0.1, 0), False), ((0.5, 0.125), False)):
            own = bounded(pair, contract=contract)
            assert put(own).error == (0 if fits else own.store().error)
    lost = (1, math.inf)
    assert put(bounded(lost, contract=weak)).error == FLOATS["float16"].maximum
    assert put(bounded(lost, contract=strictest("float16"))).error == math.inf


def test_sums_are_charged_for_the_terms_that_are_there():
    terms = bounded((1, 0), (2, 0), (0, 0), (5, 0), (0, 0.5), (1, 0.25))
    found = loss_bounds.collected(terms, (np.array([0, 0, 0, 1, 2, 2]),), (4,))
    two = float(gamma(1, SINGLE.u))
    same(found, (3, outward(two * 3, 10)), (5, 0), (1, outward(0.75 + two * 1.75, 10)), (0, 0))


def test_every_order_of_factors():
    contract = AnyOrder.of(SINGLE)
    assert contract.rounding(np.array(3.0)) == contract.u * 3 + contract.eta
    assert contract.rounding(np.array(3.0), 4.0) == 4 * (contract.u * 3 + contract.eta)


def test_what_underflows_before_it_is_multiplied():
    slope = bounded((1, 2.0**-149), (1, 0), (math.inf, 1))
    for upstream, factor in ((-8.0, 8), (0.25, 1)):
        lost = SINGLE.eta / 2 * factor
        same(
            loss_bounds.underflowing(slope, np.array(upstream)),
            (1, outward(2.0**-149 + lost)), (1, 0), (math.inf, 0),
        )  # fmt: skip


def test_the_documented_soft_margin_counts_where_its_exponential_is_finite(monkeypatch):
    x, y = SINGLE.exact(80.0), SINGLE.exact(-1.0)
    power = SINGLE.exact(80.0).exp()
    stable = loss_bounds.softplus(SINGLE.exact(80.0))
    apart = []
    for limit in (power.value + power.error, power.value + 2 * power.error):
        kind = Float(24, -126, 127)
        vars(kind)["overflow"] = limit
        monkeypatch.setitem(FLOATS, "float32", kind)
        apart.append(bool(loss_bounds.soft_margin(x, y).error > stable.error))
    assert apart == [False, True]


def test_rounding_decides_on_the_side_of_a_corner():
    """The line has the smaller error, and the parabola is as good where its corner is within reach."""
    g, t, x, far = SINGLE.exact(1.0), SINGLE.exact(0.0), *(bounded((v, 0.25)) for v in (1.125, 4.0))
    line, parabola = x - 0.5, x * x * 0.5
    assert loss_bounds.smooth_l1(x, t, 1.0).error >= parabola.error > line.error
    assert loss_bounds.huber(x, t, 1.0).error >= parabola.error
    assert loss_bounds.smooth_l1(far, t, 1.0).error < (far * far * 0.5).error
    assert loss_bounds.huber(far, t, 1.0).error < (far * far * 0.5).error
    for name in ("smooth_l1", "huber"):
        slopes = getattr(loss_bounds, f"{name}_slopes")
        assert slopes(g, x, t, 1.0)[0].error >= 0.25
        assert slopes(g, far, t, 1.0)[0].error == 0
    corner = SINGLE.exact(3.0)
    assert loss_bounds.huber(corner, t, 3.0).error == (corner * corner * 0.5).error


def test_a_variance_at_its_floor_is_exact():
    for value, exact in ((2e-6, True), (1e-6, True), (5e-7, False)):
        assert (loss_bounds._variance(SINGLE.exact(value), 1e-6).error == 0) == exact


def test_an_entropy_differentiated_term_by_term_counts_above_its_floor():
    """Near the floor of (1 - x) x only the form with the floor is left."""
    floor, g, t = loss_bounds.EPSILON, SINGLE.exact(1.0), SINGLE.exact(0.5)
    around = 2 * floor * (1 + 2 * floor + 2.0**-52 * np.arange(-9, 9))
    at_twice = next(x for x in around if (1 - x) * x == 2 * floor)
    for x, counts in ((1.5 * floor, False), (at_twice, False), (2.5 * floor, True)):
        operand = SINGLE.exact(x)
        divisor = (loss_bounds._rest(operand) * operand).apply(lambda value: np.maximum(value, floor))
        alone = loss_bounds.times(g, loss_bounds.difference(operand, t)) / divisor
        assert (loss_bounds.bce_slopes(g, operand, t)[0].error > alone.error) == counts

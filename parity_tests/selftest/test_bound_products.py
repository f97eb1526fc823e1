"""The bounds of sums of products bit for bit, on every rung and for every algorithm, and their statistical
ratio."""

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import DOUBLE, ETA64, SINGLE, STORED, U64, same, up
from refimpl import error_bounds
from refimpl.bounded import Bounded
from refimpl.error_bounds import FLOATS, Contract, Products, ladder, multilinear, strictest
from refimpl.floats import gamma, grid


def every_rung():
    return [
        *ladder("float64", True),
        *ladder("float32", True),
        *ladder("float16", True),
        strictest("bfloat16"),
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-44, 1e-318])
@pytest.mark.parametrize("contract", every_rung(), ids=lambda contract: f"{contract.store}: {contract}")
def test_a_sum_of_products_step_by_step(contract, scale):
    rng = np.random.default_rng(1)
    value, magnitude = scale * rng.uniform(-3, 3, 12), scale * rng.uniform(3, 9, 12)
    terms = np.array([1, 2, 3, 4, 5, 6, 7, 9, 12, 100, 577, 4000])
    kind, factor = FLOATS[contract.accumulate], contract.factor_roundoff
    growth = {"direct": None, "winograd": 2304.0, "fft": np.log2(12)}[contract.algorithm]
    norm = magnitude if growth is None else np.full(12, growth * magnitude.max())
    grown = up(norm, 8 + terms)
    error = (1 + factor) * (gamma(terms, kind.roundoff) * grown + terms * kind.eta) + factor * grown
    error = up(error + gamma(terms, U64) * up(magnitude, 8 + terms) + terms * ETA64)
    if contract.store != contract.accumulate:
        error = up(error + FLOATS[contract.store].half_spacing(up(np.abs(value) + error)))
    same(Products(value, magnitude, terms).bounded(contract).error, error)


def test_winograds_transforms_are_a_convolution():
    """Y = inverse (filter g * data d) is the correlation of six numbers with three, exactly (24 g to stay
    whole)."""
    rng = np.random.default_rng(2)
    data, taps = rng.integers(-99, 99, (8, 6)), rng.integers(-99, 99, (8, 3))
    whole = np.rint(24 * error_bounds._FILTER).astype(int)
    assert (whole == 24 * error_bounds._FILTER).all()
    for d, g in zip(data, taps, strict=True):
        found = error_bounds._INVERSE @ ((whole @ g) * (error_bounds._DATA @ d))
        assert found.tolist() == (24 * np.correlate(d, g)).tolist()
    growth = error_bounds._norm_wise(np.ones(1), Contract("float32", "float32", algorithm="winograd"))
    assert growth == 2304.0 == 48.0**2


@pytest.mark.parametrize(("size", "growth"), [(1, 1.0), (2, 1.0), (8, 3.0)])
def test_growth_of_a_fourier_transform(size, growth):
    magnitude = np.full(size, 0.125)
    contract = Contract("float32", "float32", algorithm="fft")
    same(error_bounds._norm_wise(magnitude, contract), growth * magnitude)


def test_norms_are_those_of_finite_elements():
    contract = Contract("float32", "float32", algorithm="winograd")
    same(error_bounds._norm_wise(np.array([np.inf, 0.25, np.nan]), contract), [576.0] * 3)
    same(error_bounds._norm_wise(np.array([np.inf]), contract), [0.0])
    same(error_bounds._norm_wise(np.array([0.25]), contract), [576.0])
    assert error_bounds._norm_wise(np.zeros((0, 3)), contract).shape == (0, 3)


EXACT = [
    ("float64", 2.0**53 - 1, 1.0, True),
    ("float64", 2.0**53, 1.0, False),
    ("float64", 2.0**55 - 4, 4.0, True),
    ("float64", 2.0**55, 4.0, False),
    ("float32", 2.0**24, 1.0, True),
    ("float32", 2.0**24 + 2, 1.0, False),
    ("float32", 2.0**26, 4.0, True),
    ("float32", 2.0**26 + 8, 4.0, False),
    ("float32", 2.0**22, 0.25, True),
    ("float32", 2.0**22 + 1, 0.25, False),
    ("float16", 2.0**11, 1.0, True),
    ("float16", 2.0**11 + 1, 1.0, False),
    ("float16", 2.0**-24, 2.0**-24, True),
    ("float16", 2.0**-25, 2.0**-25, False),
    ("float32", 1.0, 0.0, False),
    ("float32", 0.0, 0.0, True),
]


@pytest.mark.parametrize(("dtype", "magnitude", "unit", "exact"), EXACT)
def test_what_is_never_rounded(dtype, magnitude, unit, exact):
    sums = np.array([magnitude])
    for terms in (1, 2):
        assert (Products(sums, sums, terms, unit).bounded(strictest(dtype)).error == 0).tolist() == [exact]
    assert Products(sums, sums, 0, unit).bounded(strictest(dtype)).error == 0
    for weaker in (
        contract for contract in ladder(dtype, True) if contract.accumulate == strictest(dtype).accumulate
    ):
        if weaker != strictest(dtype) and magnitude > 0:
            assert Products(sums, sums, 2, unit).bounded(weaker).error > 0, weaker


def test_the_unit_of_a_walk():
    """The product of the factors' grids, no coarser than the start's; unknown where one of them is."""

    def sums(first, second, start=None):
        return first * second if start is None else first * second + start

    three, half = np.array([3.0, 9.0]), np.array([0.5, 2.5])
    known = multilinear(sums, (three, half), 1)
    assert (known.unit, known.terms) == (0.5, 1)
    for start, unit in ((np.array([4.0, 8.0]), 0.5), (np.array([0.125, 1.0]), 0.125)):
        started = multilinear(sums, (three, half), 1, start)
        assert (started.unit, started.terms) == (unit, 2)
        same(started.value, three * half + start)
        same(started.magnitude, three * half + start)
        same(started.squares(), (three * half) ** 2 + start**2)
    with np.errstate(invalid="ignore"):
        assert multilinear(sums, (np.zeros(2), np.array([np.inf, 1.0])), 1).unit == 0.0
    assert grid(three) == 1.0


# The statistical ratio.


def ratio(error, contract=SINGLE, value=3.0, magnitude=5.0, terms=2, squares=None):
    products = Products(np.array([value]), np.array([magnitude]), terms, squares=squares)
    return products.statistical_ratio(contract, np.array([error]))


def test_statistical_ratio_without_underflow_and_store():
    single = 8.0 * (2.0**-24 + U64)
    assert ratio(0.5) == (0.5 - 2.0**-148) / (single * 5.0)
    tiny = 2.0**-140
    assert ratio(10 * 2.0**-149, value=tiny, magnitude=tiny) == 8 * 2.0**-149 / (single * tiny)
    assert ratio(2.0**-149) == 0.0
    # 3.75 +- 0.5 reaches 4, from where numbers of float16 are 2^-8 apart
    assert ratio(0.5, STORED, 3.75) == (0.5 - 2.0**-9) / (single * 5.0)
    assert ratio(2.0**-9, STORED, 3.75) == 2.0**-10 / (single * 5.0)
    assert ratio(2.0**-10, STORED, 3.75) == 0.0


def test_statistical_ratio_walks_on_squares_only_where_magnitudes_do_not_settle_it():
    """M is 64, the walk sqrt(2 (23 + 3^2)) = 8: more than a sum can have, so that the two can be told
    apart."""

    def squares():
        asked.append(True)
        return np.array([23.0])

    scale = 8.0 * DOUBLE.u
    for times, walked in ((0.5, False), (1.0, False), (1.5, True), (2.0, True), (3.0, True)):
        asked = []
        found = ratio(times * scale * 64.0, DOUBLE, magnitude=64.0, squares=squares)
        assert (found, bool(asked)) == (8 * times if walked else times, walked)


def test_statistical_ratio_is_the_largest_of_those_that_mean_something():
    def largest(error, magnitude):
        products = Products(np.zeros(2), np.array(magnitude), 0)
        return products.statistical_ratio(DOUBLE, np.array(error)) * 8.0 * DOUBLE.u

    assert largest([1.0, 0.0], [0.0, 2.0]) == 0.0
    assert largest([np.inf, 1.0], [1.0, 2.0]) == 0.5
    assert largest([1.0, 1.0], [np.inf, 4.0]) == 0.25
    assert largest([1.0, 1.0], [np.nan, np.inf]) == 0.0


def test_a_second_cast_has_no_statistics():
    products = Products(np.ones(1), np.ones(1), 1)
    for contract, known in ((SINGLE, True), (Contract("float32", "float64"), False)):
        once = Bounded(np.ones(1), np.ones(1), contract, products=products).cast("float16")
        assert (once.products is products) is known

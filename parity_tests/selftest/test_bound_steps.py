"""Every step of a bound written out, bit for bit: none becomes wider or narrower by a rounding unseen.

That the bounds hold is shown elsewhere (`test_bounded`, `test_error_bounds`), with numbers that come near
them; a term that is too small to be met there, or a bound that is a little too wide, shows only here.
"""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from refimpl import error_bounds
from refimpl.bounded import Bounded, SuiteError, finite_where, maximum, where, without_store
from refimpl.error_bounds import (
    DTYPES,
    FLOATS,
    ULPS,
    Contract,
    Products,
    inverse_deviation,
    ladder,
    multilinear,
    statistics,
    strictest,
)
from refimpl.floats import gamma, grid, outward

SINGLE, DOUBLE, STORED = strictest("float32"), strictest("float64"), strictest("float16")
HALF = Contract("float16", "float16")
U64, ETA64 = 2.0**-53, 2.0**-1074


def up(bound, roundings=8):
    """What was found in so many roundings, made no less than the exact number: one more, each charged
    twice."""
    return bound * (1.0 + (roundings + 1) * 2.0**-52)


def within(contract, value, error):
    return Bounded(np.array(value), np.array(error), contract)


def rounded(contract, value, error, roundings=1.0):
    """The error of a result that has this one of its operands and is then rounded so many times."""
    return up(error + contract.rounding(up(np.abs(value) + error), roundings))


def same(found, expected):
    assert np.asarray(found).tolist() == np.asarray(expected).tolist()


# Contracts.


def test_library_functions_are_charged_what_is_published():
    assert {name: SINGLE.library(name) for name in ULPS} == {
        "exp": 2, "expm1": 1, "log": 1, "log1p": 1, "tanh": 2, "erf": 2, "pow": 4, "rsqrt": 2,
        "reciprocal": 0.5,
    }  # fmt: skip


def test_outward_is_one_rounding_more_than_it_is_told():
    assert outward(3.0) == 3.0 * (1 + 9 * 2.0**-52) and outward(1.0, 0) == 1 + 2.0**-52
    same(outward(np.array([1.0, 2.0]), np.array([1, 3])), [1 + 2.0**-51, 2 + 2.0**-49])


@pytest.mark.parametrize("dtype", DTYPES)
def test_units_of_a_contract(dtype):
    """That of the type of accumulation, and float64's for the reference itself."""
    contract = strictest(dtype)
    units = (2 * U64, 2 * ETA64) if dtype == "float64" else (2.0**-24 + U64, 2.0**-149)
    assert (contract.u, contract.eta) == units


@pytest.mark.parametrize(("product", "error"), [("ieee", 0.0), ("tf32", 2.0**-11), ("bf16", 2.0**-8)])
def test_two_rounded_factors(product, error):
    assert Contract("float32", "float32", product).factor_roundoff == gamma(2, error)


def test_a_rounding_costs_half_a_spacing_there_and_one_here():
    same(DOUBLE.rounding(np.array([1.5, 0.0]), 3.0), [6 * U64, 6 * ETA64])
    same(DOUBLE.rounding(np.array([1.5, 0.0])), [2 * U64, 2 * ETA64])
    same(
        SINGLE.rounding(np.array([1.5, 4.0, 0.0]), 3.0) / 3,
        [2.0**-24 + 1.5 * U64, 4 * (2.0**-24 + U64), 2.0**-150],
    )
    same(STORED.rounding(np.array(1.5)), 2.0**-24 + 1.5 * U64)


def test_a_store_rounds_the_largest_number_that_it_may_meet():
    same(
        STORED.stored(np.array([1.75, -1.75, 1.0]), np.array([0.5, 0.5, 0.0])),
        up(np.array([0.5 + 2.0**-10] * 2 + [2.0**-11])),
    )
    same(SINGLE.stored(np.array(1.75), np.array(0.5)), 0.5)


def test_ladders_by_name():
    names = {
        dtype: [str(rung) for rung in ladder(dtype, multilinear=True, algorithms=("in parts",))]
        for dtype in DTYPES
    }
    assert names["float64"] == [
        f"float64 accumulation{more}" for more in ("", ", in parts", ", winograd", ", fft")
    ]
    single = [f"float32 accumulation{more}" for more in ("", ", in parts")]
    transforms = [f"float32 accumulation, {name}" for name in ("winograd", "fft")]
    tf32, bf16 = (f"float32 accumulation, {kind} products" for kind in ("tf32", "bf16"))
    assert names["float32"] == [*single, tf32, bf16, *transforms]
    assert names["float16"] == [*single, "float16 accumulation", bf16, *transforms]
    assert names["bfloat16"] == [*single, "bfloat16 accumulation", *transforms]
    assert [str(rung) for rung in ladder("float32", multilinear=False)] == single[:1]


def test_contracts_and_products_do_not_change():
    """They are keys of what is remembered."""
    for thing, name in (
        (SINGLE, "store"),
        (Products(np.ones(1), np.ones(1), 1), "unit"),
        (SINGLE.exact(1.0), "value"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, 0)


# Sums of products.


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


def test_only_copies_are_compared_bit_by_bit():
    x = SINGLE.exact(0.0)
    assert SINGLE.copied(0.0).bitwise and not any(
        result.bitwise for result in (x, x + 1.0, -x, x.store(), x.exp())
    )


# Bounded arithmetic.  X: the spacing at its largest value is twice that at its value; Y holds a sure zero.
X, X_ERROR = np.array([1.9, -0.6, 0.0, 3.0]), np.array([0.2, 0.0, 0.25, 0.0])
Y, Y_ERROR = np.array([-0.7, 1.5, 0.4, 0.0]), np.array([0.01, 0.03, 0.0, 0.0])
CONTRACTS = pytest.mark.parametrize(
    "contract", [SINGLE, DOUBLE, STORED, HALF], ids=lambda c: f"{c.store}: {c}"
)


@CONTRACTS
def test_sum_and_difference(contract):
    x, y = within(contract, X, X_ERROR), within(contract, Y, Y_ERROR)
    error = X_ERROR + Y_ERROR
    sure = np.array([False, False, False, True])  # a zero is added
    for found, value in ((x + y, X + Y), (x - y, X - Y)):
        same(found.value, value)
        same(found.error, np.where(sure, up(error), rounded(contract, value, error)))
    same((y - x).value, Y - X)
    same((y + x).error, (x + y).error)
    same((-x).value, -X)
    same(abs(x).value, np.abs(X))
    for found in (-x, abs(x)):
        same(found.error, X_ERROR)


@CONTRACTS
def test_sums_that_are_exact_and_those_that_are_not(contract):
    one = contract.exact(1.0)
    assert (one - one).error == 0 < (one + one).error  # numbers that cancel; those that do not
    same((one + one).error, rounded(contract, 2.0, 0.0))
    same((one - 0.5 - 0.5).error, rounded(contract, 0.0, rounded(contract, 0.5, 0.0)))
    unsure = within(contract, 1.0, 0.5)
    same((unsure - unsure).error, rounded(contract, 0.0, 1.0))  # 0 +- 1 is no exact zero
    nothing = within(contract, 0.0, 1.0)
    same((nothing + unsure).error, rounded(contract, 1.0, 1.5))
    same((one + unsure).error, rounded(contract, 2.0, 0.5))
    same((contract.exact(0.0) + unsure).error, up(0.5))
    same((1.0 - unsure).error, rounded(contract, 0.0, 0.5))


@CONTRACTS
def test_product(contract):
    x, y = within(contract, X, X_ERROR), within(contract, Y, Y_ERROR)
    error = np.abs(X) * Y_ERROR + (np.abs(Y) + Y_ERROR) * X_ERROR
    expected = np.where(Y == 0, 0.0, rounded(contract, X * Y, error))
    same((x * y).value, X * Y)
    same((x * y).error, expected)
    error = np.abs(Y) * X_ERROR + (np.abs(X) + X_ERROR) * Y_ERROR
    same((y * x).error, np.where(Y == 0, 0.0, rounded(contract, X * Y, error)))
    half = round(1.3, 1)
    held = contract.constant(half).error
    error = np.abs(X) * held + (half + held) * X_ERROR
    same((x * half).error, rounded(contract, X * half, error))
    same((half * x).error, (x * half).error)


@CONTRACTS
def test_quotient(contract):
    numbers, errors = Y[[0, 1, 2]], np.array([0.01, 0.03, 0.0])
    above, below = within(contract, X[:3], X_ERROR[:3]), within(contract, numbers, errors)
    error = (X_ERROR[:3] + np.abs(X[:3] / numbers) * errors) / (np.abs(numbers) - errors)
    same((above / below).value, X[:3] / numbers)
    same((above / below).error, rounded(contract, X[:3] / numbers, error))
    same((contract.exact(1.0) / contract.exact(3.0)).error, rounded(contract, 1 / 3, 0.0))
    same((1.0 / contract.exact(3.0)).error, rounded(contract, 1 / 3, 0.0))
    for sure, unsure in ((0.5, 0.0), (0.0, 1.0), (1.0, 0.0)):
        error = (sure + 0.25 * unsure) / (4.0 - unsure)
        found = within(contract, 1.0, sure) / within(contract, 4.0, unsure)
        same(found.error, rounded(contract, 0.25, error))


def test_quotient_by_what_may_be_zero():
    """Also where only the end of the interval is, and whatever is divided."""
    for value, error in ((0.5, 0.5), (0.25, 0.5), (0.0, 0.5)):
        for above in (within(DOUBLE, 1.0, 0.0), within(DOUBLE, 1.0, 0.25), within(DOUBLE, 0.0, 0.25)):
            found = above / within(DOUBLE, value, error)
            assert found.error == (np.inf if value else 0.0)  # by 0 itself: compared by kind
    assert (within(DOUBLE, 1.0, 0.0) / within(DOUBLE, 0.5, 0.25)).error < 3.0


@CONTRACTS
def test_powers_of_two_that_the_type_holds_only_scale(contract):
    kind, x = FLOATS[contract.accumulate], within(contract, [1.5, 0.0, 0.0], [0.25, 0.25, 0.0])
    underflow = np.array([contract.eta / 2, contract.eta / 2, 0.0])
    for power in (1.0, -1.0, 2.0, -8.0, 2.0**kind.largest):
        with np.errstate(over="ignore"):
            expected = np.where(np.isfinite(x.value * power), up(x.error * abs(power)), 0.0)
        same((x * power).value, x.value * power)
        same((x * power).error, expected)
    for power in (0.5, -0.25, 2.0**kind.smallest):
        same((x * power).error, up(x.error * abs(power) + underflow))
        same((x / (1 / power)).error, (x * power).error)
    same((x / 2.0).value, x.value / 2)
    same((x / 2.0**kind.smallest).error, (x * 2.0**-kind.smallest).error)
    for other in (3.0, 0.75, np.array(3.0)):
        same((x * other).error, (x * contract.exact(other)).error)
    same((x * np.array([2.0, 2.0, 2.0])).error, (x * contract.exact([2.0] * 3)).error)
    assert (contract.exact(1.0) * contract.exact(2.0)).error > 0 == (contract.exact(1.0) * 2.0).error


@CONTRACTS
def test_powers_of_two_whose_reciprocal_is_none_are_divided_by(contract):
    power = 2.0 ** FLOATS[contract.accumulate].largest  # its reciprocal is subnormal
    x = within(contract, 1.5, 0.25)
    same((x / power).error, (x / contract.exact(power)).error)
    if contract.accumulate != "float64":
        same((x * (1 / power)).error, (x * contract.constant(1 / power)).error)
        same((x * (2 * power)).error, (x * contract.constant(2 * power)).error)


@CONTRACTS
@pytest.mark.parametrize(
    "function", [np.square, np.sqrt, lambda v: 1 / v], ids=["square", "root", "reciprocal"]
)
@pytest.mark.parametrize("ulps", [0.0, 1.0, 4.0])
def test_a_function_by_differences(contract, function, ulps):
    value, error = np.array([1.9, 0.6, 9.0, 3.0]), np.array([0.2, 0.5, 0.25, 0.0])
    middle = function(value)
    low, high = np.nextafter(value - error, -np.inf), np.nextafter(value + error, np.inf)
    apart = np.maximum(np.abs(function(high) - middle), np.abs(function(low) - middle))
    moved = apart + 4.0 * ulps * U64 * (np.abs(middle) + apart)
    moved = np.where(error == 0, 0.0, moved)
    found = within(contract, value, error).apply(function, ulps)
    same(found.value, middle)
    same(found.error, rounded(contract, middle, moved, 2.0 * ulps))
    if not ulps:
        same(within(contract, value, error).apply(function).error, found.error)


@CONTRACTS
def test_zeros_of_a_function_and_underflows(contract):
    """Zeros at 0, at 1 and at infinity are the function's own; others are underflows, which may be rounded
    up."""
    values = np.array([0.0, 1.0, -1.0, np.inf, -np.inf, 1.5, 2.0, 0.5])
    found = contract.exact(values).apply(lambda v: np.where(np.isfinite(v), 0.0 * v, 0.0), 1.0)
    least = rounded(contract, 0.0, 0.0, 2.0)
    same(found.error, [0.0, 0.0, 0.0, 0.0, 0.0, least, least, 0.0])
    for error in (0.5, 1.0):
        spread = within(contract, 0.0, error).apply(lambda v: v, 1.0, lambda v, e: e)
        same(spread.error, rounded(contract, 0.0, error, 2.0))
    same(contract.exact(1.0).apply(lambda v: v, 1.0).error, rounded(contract, 1.0, 0.0, 2.0))


def near(v, e):
    return np.maximum(np.abs(v) - e, 0.0)


SPREADS = {
    "exp": (
        np.exp,
        lambda v, e: np.where(e < 1, np.exp(v) * np.expm1(e), np.exp(np.nextafter(v + e, np.inf))),
    ),
    "expm1": (
        np.expm1,
        lambda v, e: np.where(e < 1, np.exp(v) * np.expm1(e), np.exp(np.nextafter(v + e, np.inf))),
    ),
    "log": (np.log, lambda v, e: -np.log1p(-e / v)),
    "log1p": (np.log1p, lambda v, e: -np.log1p(-e / (1.0 + v))),
    "tanh": (np.tanh, lambda v, e: np.minimum(e / np.cosh(near(v, e)) ** 2, 2.0)),
    "erf": (
        np.vectorize(math.erf),
        lambda v, e: np.minimum(e * (2.0 / math.sqrt(math.pi)) * np.exp(-(near(v, e) ** 2)), 2.0),
    ),
}


@CONTRACTS
@pytest.mark.parametrize("name", SPREADS)
def test_spreads_of_functions(contract, name):
    """Steepest at the end that is nearest to 0, or at the lower, or at the upper one; 2 is the width of tanh
    and erf."""
    function, spread = SPREADS[name]
    value = np.array([0.3, 0.7, 1.2, 2.5, 3.0, 2.5, 6.0])
    error = np.array([0.25, 0.5, 0.0, 1.0, 2.0, 1.5, 5.9])
    if not name.startswith("log"):
        value, error = (
            np.concatenate([value, -value, [0.0, 0.5]]),
            np.concatenate([error, error, [5.0, 0.75]]),
        )
    found = getattr(within(contract, value, error), name)()
    with np.errstate(invalid="ignore"):
        moved = np.where(error == 0, 0.0, spread(value, error))
    same(found.value, function(value))
    same(found.error, rounded(contract, function(value), moved, 2.0 * ULPS[name]))


@CONTRACTS
def test_spread_of_a_root(contract):
    """Downwards while the interval ends above zero, upwards where it holds it."""
    value, error = np.array([4.0, 0.25, 0.0, 9.0, 1.0]), np.array([1.0, 6.0, 0.25, 0.0, 1.0])
    below = [1.0 / (2.0 + math.sqrt(3.0)), 0.25 / 0.5, 0.0, 0.0, 1.0]
    above = [1.0 / (math.sqrt(5.0) + 2.0), 6.0 / (2.5 + 0.5), 0.5, 0.0, 1.0 / (math.sqrt(2.0) + 1.0)]
    found = within(contract, value, error).sqrt()
    same(found.value, np.sqrt(value))
    moved = np.maximum(below, above)
    same(found.error[[0, 1, 2, 4]], rounded(contract, np.sqrt(value), moved)[[0, 1, 2, 4]])
    same(found.error[3], rounded(contract, 3.0, 0.0))


@CONTRACTS
def test_sum_along_axes(contract):
    """n terms that are no sure zeros take n - 1 roundings; finding the bound took 8 + n."""
    value = np.array([[1.7, -0.3, 0.0, 2.1], [0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    error = np.array([[0.1, 0.0, 0.2, 0.0], [0.0, 0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    terms = np.array([4, 1, 0])
    own, size = error.sum(1), np.abs(value).sum(1) + error.sum(1)
    expected = up(own + gamma(np.maximum(terms - 1, 0), contract.u) * size, 8 + terms)
    summed = within(contract, value, error).sum(1)
    same(summed.value, value.sum(1))
    same(summed.error, expected)
    assert within(contract, value, error).sum().error.shape == ()
    same(within(contract, value, error).sum(1, keepdims=True).error, expected[:, None])


def test_stores_by_name_can_be_left_out():
    """A store of a sure zero is free; one without a name is never left out."""
    x = within(STORED, [1.75, 0.0, 0.0], [0.5, 0.5, 0.0])
    expected = np.where([True, True, False], STORED.stored(x.value, x.error), 0.0)
    for inside in ("gates", "state"):
        with without_store(inside):
            same(x.store("gates").error, x.error if inside == "gates" else expected)
            same(x.store().error, expected)
    same(x.store("gates").error, expected)
    same(x.store().error, expected)


@pytest.mark.parametrize(
    ("store", "dtype", "free"),
    [
        ("float16", "float32", True),
        ("float16", "float64", True),
        ("float16", "float16", True),
        ("float32", "float64", True),
        ("bfloat16", "float32", True),
        ("float32", "float16", False),
        ("float32", "bfloat16", False),
        ("float16", "bfloat16", False),
        ("bfloat16", "float16", False),
        ("float64", "float32", False),
    ],
)
def test_a_cast_is_free_where_the_type_holds_every_number(store, dtype, free):
    value, error = np.array([1.0 + 2.0**-9, 1.75, 1e39, -1.75, 1.0]), np.array([0.0, 0.5, 0.0, 0.5, 1.0])
    x = Bounded(value, error, strictest(store))
    found = x.cast(dtype)
    if free:
        assert found is x
        return
    narrow = Contract(dtype, strictest(store).accumulate)
    expected = narrow.stored(value, error)
    # Exact numbers have an exact rounding; 1e39 has none in any of these types.
    expected[0], expected[2] = 2.0**-9 if dtype == "bfloat16" else 0.0, 0.0
    assert found.contract == narrow
    same(found.error, expected)
    same(found.value, value)


def test_a_second_cast_has_no_statistics():
    products = Products(np.ones(1), np.ones(1), 1)
    for contract, known in ((SINGLE, True), (Contract("float32", "float64"), False)):
        once = Bounded(np.ones(1), np.ones(1), contract, products=products).cast("float16")
        assert (once.products is products) is known


def test_agreeing_takes_the_end_of_the_interval_and_says_where_it_does_not():
    """The first of those that are wrong is named."""
    around = within(DOUBLE, [1.0, 2.0, np.inf, np.nan], [0.5, 0.25, 0.0, 0.0])
    found = around.agreeing(np.array([1.5, 1.75, np.inf, np.nan]), "output")
    same(found.error, [1.0, 0.5, 0.0, 0.0])
    one = within(DOUBLE, [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    for loops, index in (
        ([1.0, 2.5, 3.5], 1),
        ([0.0, 2.5, 3.0], 0),
        ([1.0, np.nan, 9.0], 1),
        ([1.0, 2.0, -3.0], 2),
    ):
        with pytest.raises(SuiteError, match=rf"x\[{index}\]: the loops give"):
            one.agreeing(np.array(loops), "x")
    with pytest.raises(SuiteError, match=r"x\[0\]"):
        within(DOUBLE, [np.nan], [0.0]).agreeing(np.array([1.0]), "x")


def test_errors_of_values_that_are_not_finite():
    same(
        finite_where(np.array([1.0, np.inf, np.nan, 0.0]), np.array([0.5, 0.5, np.nan, np.nan])),
        [0.5, 0.0, 0.0, np.inf],
    )


def test_selection_and_maximum():
    x, y = within(SINGLE, [1.0, 4.0], [0.5, 0.25]), within(SINGLE, [2.0, 3.0], [0.125, 1.0])
    chosen = where(np.array([True, False]), x, y)
    same(chosen.value, [1.0, 3.0])
    same(chosen.error, [0.5, 1.0])
    same(maximum(x, y).value, [2.0, 4.0])
    same(maximum(x, y).error, [0.5, 1.0])


# Statistics of normalizations.


@CONTRACTS
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 33])
def test_mean_and_variance(contract, count):
    """The roundings of the worst algorithm, what a mean that is off does to the variance, underflow."""
    values = np.random.default_rng(count).uniform(1, 2, (2, count, 3)) * np.array([1.0, 1e-40, 0.0])
    levels = {1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 33: 6}[count]
    roundings = count + 4 * (1 + levels)
    mean = values.sum(axis=1, keepdims=True) / count
    variance = np.square(values - mean).sum(axis=1, keepdims=True) / count
    size = np.abs(values).sum(axis=1, keepdims=True) / count
    underflow = count * contract.eta * (size != 0)
    off = up(gamma(roundings, contract.u) * size + underflow, count + 8)
    moved = off**2 + (1 + math.sqrt(2)) * off * np.sqrt(variance)
    spread = up(moved + gamma(roundings + 4, contract.u) * (variance + moved) + underflow, count + 8)
    found = statistics(values, (1,), contract)
    for result, value, error in zip(found, (mean, variance), (off, spread), strict=True):
        same(result.value, value)
        same(result.error, error)


def test_statistics_of_nothing():
    for axes in ((1,), (0, 1)):
        mean, variance = statistics(np.zeros((2, 0, 3)), axes, SINGLE)
        assert mean.value.size and not mean.value.any() and not mean.error.any() and not variance.error.any()


@CONTRACTS
def test_inverse_of_a_deviation(contract):
    """1 / sqrt at the ends of the interval, none below eps as it is held; differences without
    cancellation."""
    value, error, eps = np.array([1.0, 0.5, 0.25, 4.0, 0.0]), np.array([0.25, 0.5, 3.0, 0.0, 0.25]), 0.1
    total, held = within(contract, value, error) + eps, contract.constant(eps)
    least = held.value - held.error
    low = np.maximum(total.value - total.error, least)
    high = total.value + total.error

    def apart(low, high):
        return (high - low) / (np.sqrt(low) * np.sqrt(high) * (np.sqrt(low) + np.sqrt(high)))

    moved = np.maximum(apart(low, total.value), apart(total.value, high))
    found = inverse_deviation(within(contract, value, error), eps)
    same(found.value, 1 / np.sqrt(total.value))
    same(found.error, rounded(contract, found.value, moved, 4.0))
    sure = inverse_deviation(within(contract, 4.0, 0.0), 0.0)
    same(sure.error, rounded(contract, 0.5, 0.0, 4.0))
    negative = inverse_deviation(within(contract, -0.5, 0.25), 1.0)  # a buffer may hold anything
    total = within(contract, -0.5, 0.25) + 1.0
    low, high = total.value - total.error, total.value + total.error
    moved = np.maximum(apart(low, total.value), apart(total.value, high))
    same(negative.error, rounded(contract, negative.value, moved, 4.0))

"""Number formats: rounding against numpy and against exact rational rounding, constants, gamma, grids."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.laws import same_numbers
from refimpl.floats import DTYPES, FLOATS, gamma, grid, outward, round_to

FORMATS = [*DTYPES, "tf32"]
SHARED = ["float64", "float32", "float16"]  # those that numpy has


def rounded(value: float, dtype: str) -> float:
    """The number of `dtype` nearest to a float64, ties to even, by exact arithmetic."""
    kind, exact = FLOATS[dtype], abs(Fraction(value))
    if exact == 0:
        return value
    exponent = max(kind.smallest, math.frexp(value)[1] - 1)
    spacing = Fraction(2) ** (exponent - kind.precision + 1)
    nearest = round(exact / spacing) * spacing  # Python rounds Fractions half to even
    return math.copysign(math.inf if nearest > Fraction(kind.maximum) else float(nearest), value)


def awkward(dtype: str) -> np.ndarray:
    """Numbers of the type and what lies exactly and almost half-way between them, over its whole range."""
    kind, rng = FLOATS[dtype], np.random.default_rng(1)
    exponents = [kind.smallest - kind.precision, kind.smallest - 1, kind.smallest, -1, 0, 3, kind.largest]
    whole = np.concatenate([rng.integers(0, 2**kind.precision, 40), [0, 1, 2, 3, 2**kind.precision - 1]])
    halves = (2.0 * whole + [[0], [1]]).ravel()  # numbers and ties
    with np.errstate(over="ignore"):
        values = [np.ldexp(halves, exponent - kind.precision) for exponent in exponents]
    values = np.concatenate([*values, [kind.maximum, kind.eta, kind.eta / 2, kind.eta / 4, 1.5 * kind.eta]])
    values = values[values <= 2.0 * kind.maximum]
    with np.errstate(over="ignore"):
        values = np.concatenate([values, np.nextafter(values, np.inf), np.nextafter(values, 0.0)])
    return np.concatenate([values, -values])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "tf32"])
def test_round_to_against_exact_rounding(dtype):
    values = awkward(dtype)
    expected = np.array([rounded(value, dtype) for value in values])
    found = round_to(dtype, values)
    same_numbers(found, expected)
    assert (np.signbit(found) == np.signbit(values)).all()


@pytest.mark.parametrize("dtype", SHARED)
def test_round_to_against_numpy(dtype):
    with np.errstate(over="ignore"):
        same_numbers(round_to(dtype, awkward(dtype)), awkward(dtype).astype(dtype).astype(np.float64))


@pytest.mark.parametrize("dtype", FORMATS)
def test_round_to_keeps_what_is_not_finite(dtype):
    found = round_to(dtype, [np.nan, np.inf, -np.inf, -0.0])
    assert np.isnan(found[0]) and found[1] == np.inf and found[2] == -np.inf and np.signbit(found[3])


@pytest.mark.parametrize("dtype", FORMATS)
def test_numbers_of_the_type_are_kept_and_overflow_begins_where_it_says(dtype):
    kind = FLOATS[dtype]
    numbers = np.array([kind.maximum, kind.eta, 1.0, 1.0 + 2.0 * kind.roundoff, 2.0**kind.smallest])
    same_numbers(round_to(dtype, numbers), numbers)
    if dtype != "float64":
        assert round_to(dtype, kind.overflow) == np.inf
        assert round_to(dtype, np.nextafter(kind.overflow, 0.0)) == kind.maximum


@pytest.mark.parametrize("dtype", SHARED)
def test_constants_against_numpy(dtype):
    kind, info = FLOATS[dtype], np.finfo(dtype)
    assert kind.roundoff == float(info.eps) / 2 and kind.maximum == float(info.max)
    assert kind.eta == float(info.smallest_subnormal) and 2.0**kind.smallest == float(info.smallest_normal)


@pytest.mark.parametrize(
    ("dtype", "roundoff", "eta", "maximum", "overflow"),
    [
        ("float64", 2.0**-53, 2.0**-1074, (2**53 - 1) * 2.0**971, math.inf),
        ("float32", 2.0**-24, 2.0**-149, (2**24 - 1) * 2.0**104, (2**25 - 1) * 2.0**103),
        ("float16", 2.0**-11, 2.0**-24, 65504.0, 65520.0),
        ("bfloat16", 2.0**-8, 2.0**-133, 255 * 2.0**120, 511 * 2.0**119),
        ("tf32", 2.0**-11, 2.0**-136, 2047 * 2.0**117, 4095 * 2.0**116),
    ],
)
def test_constants_of_a_type(dtype, roundoff, eta, maximum, overflow):
    kind = replace(FLOATS[dtype])  # one that remembers nothing
    assert (kind.roundoff, kind.eta, kind.maximum, kind.overflow) == (roundoff, eta, maximum, overflow)
    assert kind.half_spacing(np.array([maximum, 0.0])).tolist() == [
        2.0**kind.largest * roundoff,
        max(eta / 2, 2.0**-1074),
    ]
    assert set(FLOATS) == {*DTYPES, "tf32"}


def test_constants_of_bfloat16():
    kind = FLOATS["bfloat16"]
    assert (kind.roundoff, kind.maximum, kind.eta) == (2.0**-8, 255 * 2.0**120, 2.0**-133)
    assert (FLOATS["tf32"].roundoff, FLOATS["tf32"].largest) == (2.0**-11, 127)


@pytest.mark.parametrize("dtype", FORMATS)
def test_half_spacing_is_the_largest_rounding_error(dtype):
    """No number up to `size` is rounded by more, and the largest below a power of two reach it."""
    kind, values = FLOATS[dtype], awkward(dtype)
    values = values[(np.abs(values) < kind.overflow) & np.isfinite(values)]
    half = kind.half_spacing(np.abs(values))
    error = np.array([abs(Fraction(rounded(v, dtype)) - Fraction(v)) for v in values])
    assert (error <= half).all()
    assert (half <= np.maximum(kind.roundoff * np.abs(values), kind.eta)).all()
    assert (error == half).sum() > 20 or dtype == "float64"
    assert kind.half_spacing(np.array(0.0)) >= kind.eta / 2
    assert kind.half_spacing(np.array(np.inf)) == np.inf


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100, 5_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_against_exact_powers(n, dtype):
    """(1 + u)^n - 1, which bounds every product of n factors 1 + d and is less than n u / (1 - n u)."""
    u = FLOATS[dtype].roundoff
    exact = (1 + Fraction(u)) ** n - 1
    found = float(gamma(n, u))
    assert abs(Fraction(found) - exact) <= 8 * Fraction(2) ** -53 * exact
    assert Fraction(float(outward(found))) >= exact >= 1 - (1 - Fraction(u)) ** n
    if n and n * u < 1:
        assert exact < n * Fraction(u) / (1 - n * Fraction(u))
    assert np.isfinite(gamma(10 * n + 1, FLOATS["bfloat16"].roundoff))


def test_grid():
    assert grid(np.array([6.0, -4.0, 0.0])) == 2.0
    assert grid(np.array([0.75, 3.0])) == 0.25
    assert grid(np.array([2.0**-1074, 1.0])) == 2.0**-1074
    assert grid(np.array([1.0 + 2.0**-52])) == 2.0**-52
    assert grid(np.zeros(3)) == grid(np.zeros(0)) == np.inf
    assert grid(np.array([1.0, np.inf])) == grid(np.array([np.nan])) == 0.0


def test_grid_of_more_than_a_block():
    values = np.full((1 << 20) + 3, 8.0)
    values[-1] = 0.5
    assert grid(values) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_grid_is_the_largest_that_divides(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, 6) * 2.0 ** rng.integers(-30, 30)
    found = grid(values)
    assert all((Fraction(v) / Fraction(found)).denominator == 1 for v in values)
    assert any((Fraction(v) / Fraction(2 * found)).denominator != 1 for v in values)

"""Bounds of sums of products, contracts and comparisons: never too narrow, nearly used up, exact where they
say so."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

import refimpl
from parity_tests.harness.compare import compare
from refimpl.error_bounds import (
    DTYPES,
    FLOATS,
    STATISTICAL_FACTOR,
    Bounded,
    Contract,
    Products,
    SuiteError,
    inverse_deviation,
    ladder,
    multilinear,
    round_to,
    statistics,
    strictest,
)


def dot(first, second, start=None):
    """Row by row: sum(first * second) from `start`."""
    total = np.zeros(len(first)) if start is None else start.copy()
    for x, y in zip(first.T, second.T, strict=True):
        total += x * y
    return total


def in_type(dtype, first, second, order, start=None):
    """The same in a type: every product and partial sum rounded to it, in an order of the terms."""
    total = np.zeros(len(first)) if start is None else start.copy()
    for column in order:
        total = round_to(dtype, total + round_to(dtype, first[:, column] * second[:, column]))
    return total


def operands(dtype, n, rows=400, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(round_to(dtype, rng.standard_normal((rows, n))) for _ in range(2))


def orders(n):
    rng = np.random.default_rng(n)
    return [np.arange(n), np.arange(n)[::-1], rng.permutation(n)]


# Soundness and tightness.


@pytest.mark.parametrize("n", [1, 2, 9, 65])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_sums_of_products_stay_within_their_bounds(dtype, n):
    """In any order, stored once; the half types use the bound up, float32 a good part of it for few terms."""
    factors, contract, best = operands(dtype, n), strictest(dtype), 0.0
    bounded = multilinear(dot, factors, n).bounded(contract)
    for order in orders(n):
        stored = round_to(dtype, in_type(contract.accumulate, *factors, order))
        comparison = compare("output", stored, bounded)
        assert len(comparison.wrong) == 0
        best = max(best, comparison.utilisation)
    assert best > (0.95 if dtype != "float32" else 0.3 if n < 10 else 0.02)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_accumulation_in_half_is_seen_and_named(dtype):
    factors = operands(dtype, 65)
    products = multilinear(dot, factors, 65)
    sloppy = in_type(dtype, *factors, np.arange(65))
    assert len(compare("output", sloppy, products.bounded(strictest(dtype))).wrong)
    assert not len(compare("output", sloppy, products.bounded(Contract(dtype, dtype))).wrong)


@pytest.mark.parametrize("product, kind", [("tf32", "tf32"), ("bf16", "bfloat16")])
def test_rounded_factors_are_seen_and_named(product, kind):
    factors = operands("float32", 9)
    products, rounded = multilinear(dot, factors, 9), [round_to(kind, factor) for factor in factors]
    sloppy = in_type("float32", *rounded, np.arange(9))
    strict = strictest("float32")
    assert len(compare("output", sloppy, products.bounded(strict)).wrong)
    comparison = compare("output", sloppy, products.bounded(replace(strict, product=product)))
    assert len(comparison.wrong) == 0 and comparison.utilisation > 0.2


def test_the_reference_itself_is_covered():
    """Exact sums of float64 products lie within the bound of the reference's own float64 sum."""
    first, second = operands("float64", 33, rows=100)
    bounded = multilinear(dot, (first, second), 33).bounded(strictest("float64"))
    for row in range(100):
        exact = sum(Fraction(x) * Fraction(y) for x, y in zip(first[row], second[row], strict=True))
        assert abs(exact - Fraction(bounded.value[row])) <= Fraction(bounded.error[row]) / 2


def test_subnormal_products():
    """Products that underflow cost half an eta each; a bound without that would be 0."""
    tiny = np.full((1, 5), 3 * 2.0**-76)
    bounded = multilinear(dot, (tiny, tiny), 5).bounded(strictest("float32"))
    assert abs(in_type("float32", tiny, tiny, range(5)) - bounded.value) <= bounded.error
    assert bounded.error >= 2 * FLOATS["float32"].eta


@pytest.mark.parametrize("dtype", DTYPES)
def test_bias_is_a_term_of_its_own(dtype):
    factors, start = operands(dtype, 3), operands(dtype, 1)[0][:, 0]
    products = multilinear(dot, factors, 3, start)
    assert products.terms == 4
    contract = strictest(dtype)
    for order in orders(3):
        stored = round_to(dtype, in_type(contract.accumulate, *factors, order, start))
        assert not len(compare("output", stored, products.bounded(contract)).wrong)


# The exact tier: bound 0 where nothing is rounded in any order, and nowhere else.


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_up_to_the_last_bit(dtype):
    """Sums of integers with sum |x y| = 2^p have bound 0; one more, and some order rounds."""
    full = 2.0 ** FLOATS[dtype].precision
    x = np.array([[full / 2, full / 4, full / 4 - 1, 1.0], [full / 2, full / 2, 1.0, 0.0]])
    bounded = multilinear(dot, (x, np.ones_like(x)), 4).bounded(strictest(dtype))
    magnitude = [Fraction(full), Fraction(full) + 1]
    # float64 cannot tell 2^53 from 2^53 + 1, so there 2^53 is not trusted either
    assert (bounded.error == 0).tolist() == [dtype != "float64", False], magnitude


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("unit", [1.0, 2.0**-9, 2.0**5])
def test_bound_zero_means_the_same_bits_in_any_order(dtype, unit):
    """Magnitudes around 2^p units: where the bound is 0, sums in T itself are exact; above, it is not 0."""
    rng, n, kind = np.random.default_rng(2), 12, FLOATS[dtype]
    largest = np.sqrt(2.0**kind.precision / n)
    factors = [np.ceil(rng.uniform(-1, 1, (3000, n)) * largest * 2.0) for _ in range(2)]
    products = multilinear(dot, (factors[0] * unit, factors[1]), n)
    error = products.bounded(strictest(dtype)).error
    exact = error == 0
    assert 200 < exact.sum() < 2800
    assert (products.magnitude[~exact] > 2.0**kind.precision * unit).all()
    for order in orders(n):
        found = in_type(dtype, factors[0] * unit, factors[1], order)
        assert (found[exact] == products.value[exact]).all()


@pytest.mark.parametrize("values", [[np.inf, 1.0], [np.nan, 1.0], [0.3, 1.0]])
def test_a_grid_that_is_unknown_or_too_fine_is_never_exact(values):
    x = np.array([values, [1.0, 2.0]])
    with np.errstate(invalid="ignore"):
        bounded = multilinear(dot, (x, np.ones_like(x)), 2).bounded(strictest("bfloat16"))
    assert bounded.error[1] > 0


def test_smaller_than_the_smallest_number_is_never_exact():
    x = np.full((1, 2), 2.0**-20)  # products 2^-40: no numbers of float16
    assert multilinear(dot, (x, x), 2).bounded(strictest("float16")).error > 0


def test_zeros_and_no_terms_are_exact():
    x = np.array([[0.0, 0.0], [0.1, 0.3]])
    assert multilinear(dot, (x, 0.7 * np.ones_like(x)), 2).bounded(strictest("float16")).error[0] == 0
    assert multilinear(dot, (x, np.ones_like(x)), 0).bounded(strictest("float32")).error.tolist() == [0, 0]


def test_weaker_contracts_round_small_integers_too():
    x = np.array([[1.0, 2.0]])
    for contract in ladder("float32", multilinear=True)[1:]:
        assert multilinear(dot, (x, x), 2).bounded(contract).error > 0, contract


def test_moving_the_sums_moves_all_that_belongs_to_them():
    unit = np.array([1.0, 0.0, 2.0])
    products = Products(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), np.array([1, 0, 5]), unit, lambda: unit)
    moved = products.map(lambda array: array[::-1])
    assert moved.value.tolist() == moved.magnitude.tolist() == [3, 2, 1] and moved.terms.tolist() == [5, 0, 1]
    assert moved.unit.tolist() == moved.squares().tolist() == [2, 0, 1]


# Contracts.


def test_strictest_contracts():
    assert [strictest(dtype).accumulate for dtype in DTYPES] == ["float64", "float32", "float32", "float32"]
    assert all(strictest(dtype) == Contract(dtype, strictest(dtype).accumulate) for dtype in DTYPES)
    assert str(strictest("float16")) == "float32 accumulation"
    assert str(replace(strictest("float32"), product="tf32")) == "float32 accumulation, tf32 products"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_ladder_begins_with_the_strictest_and_never_gets_stricter(dtype):
    rungs = ladder(dtype, multilinear=True, algorithms=("by parts",))
    assert rungs[0] == strictest(dtype) and len(set(rungs)) == len(rungs)
    assert rungs[1].algorithm == "by parts"
    products = multilinear(dot, operands(dtype, 9), 9)
    bounds = [products.bounded(rung).error for rung in rungs]
    assert all((bounds[0] <= bound).all() for bound in bounds)
    assert len(ladder(dtype, multilinear=False)) == (2 if dtype in ("float16", "bfloat16") else 1)


def test_a_constant_may_be_held_in_the_type_of_accumulation():
    constant = strictest("float16").constant(0.1)
    assert (
        constant.error == abs(float(np.float32(0.1)) - 0.1) and strictest("float64").constant(0.1).error == 0
    )


# The statistical ratio.


def test_statistical_ratio_of_a_long_sum():
    """A fair float32 sum is far below 1; a systematic error of the same bound, by truncation, is above."""
    n = 4000
    factors = tuple(np.abs(factor) for factor in operands("float32", n, rows=60))
    products, strict = multilinear(dot, factors, n), strictest("float32")
    fair = in_type("float32", *factors, np.arange(n))
    assert products.statistical_ratio(strict, np.abs(fair - products.value)) < 0.5
    drifting = products.value * (1 - 0.5 * n * FLOATS["float32"].roundoff)
    assert not len(compare("output", drifting, products.bounded(strict)).wrong)
    assert products.statistical_ratio(strict, np.abs(drifting - products.value)) > 1


def test_statistical_ratio_by_hand():
    """Products 12 and -5: sqrt(2) sqrt(7^2 + 13^2) = sqrt(436); without squares the cheaper 8 u M stands for
    it."""
    factors = np.array([[12.0, -5.0]]), np.ones((1, 2))
    products, strict = multilinear(dot, factors, 2), strictest("float32")
    scale = STATISTICAL_FACTOR * strict.u
    error = np.array([100 * scale])
    found = products.statistical_ratio(strict, error)
    assert abs(found - 100 / np.sqrt(436)) < 1e-6
    assert abs(replace(products, squares=None).statistical_ratio(strict, error) - 100 / 17) < 1e-6
    assert products.statistical_ratio(strict, np.array([0.0])) == 0


# The comparison.


def around(values, error, dtype="float16"):
    values = np.array(values)
    return Bounded(values, np.full(values.shape, error), strictest(dtype))


def wrong(actual, bounded):
    return compare("output", np.array(actual), bounded).wrong[:, 0].tolist()


def test_comparison_counts_and_measures():
    bounded = around([1.0, 2.0, 0.0, 4.0], 0.5)
    comparison = compare("output", np.array([1.25, 2.5, 0.0, 5.5]), bounded)
    assert comparison.elements == 4 and comparison.wrong.tolist() == [[3]]
    assert comparison.utilisation == 3.0 and comparison.zeros == 1 and comparison.exact == 0


def test_non_finite_values_must_meet_their_like():
    expected = around([np.nan, np.inf, -np.inf, 1.0], 0.0)
    assert wrong([np.nan, np.inf, -np.inf, 1.0], expected) == []
    assert wrong([1.0, -np.inf, np.nan, np.nan], expected) == [0, 1, 2, 3]
    assert wrong([np.inf, 65504.0, -65504.0, np.inf], expected) == [0, 1, 2, 3]


def test_where_the_interval_straddles_overflow_either_is_right():
    """float16 overflows at 65520: 65510 +- 16 may be 65504 or inf, 65500 +- 4 may not, 70000 +- 16 must be
    inf."""
    assert wrong([65504.0, np.inf], around([65510.0, 65510.0], 16.0)) == []
    assert wrong([-np.inf, np.nan], around([65510.0, 65510.0], 16.0)) == [0, 1]
    assert wrong([np.inf], around([65500.0], 4.0)) == [0]
    assert wrong([np.inf, 65504.0], around([70000.0, 70000.0], 16.0)) == [1]
    assert wrong([-np.inf, np.inf], around([-70000.0, -70000.0], 16.0)) == [1]


def test_bound_zero_is_equality_and_copies_keep_the_sign_of_zero():
    assert wrong([0.0, -0.0, 1.0], around([-0.0, 0.0, 1.0], 0.0)) == []
    assert wrong([1.0 + 2.0**-52], around([1.0], 0.0)) == [0]
    copied = strictest("float32").copied([-0.0, 0.0, np.nan])
    assert wrong([-0.0, 0.0, -np.nan], copied) == [] and wrong([0.0, 0.0, np.nan], copied) == [0]


@pytest.mark.parametrize("error", [np.nan, np.inf, -1.0])
def test_a_bound_that_is_none_is_an_error_of_the_suite(error):
    with pytest.raises(SuiteError, match="the suite must mend its bound"):
        compare("output", np.array([1.0]), around([1.0], error))


def test_bounds_wider_than_the_values_are_counted():
    assert compare("output", np.array([1.0, 1.0]), around([1.0, 1.0], 9.0)).tells_nothing
    assert not compare("output", np.array([1.0, 1.0]), around([1.0, 1.0], 0.1)).tells_nothing


# Statistics of normalizations.


def welford(values):
    mean, spread = np.float32(0), np.float32(0)
    for count, x in enumerate(values, 1):
        away = x - mean
        mean = mean + away / np.float32(count)
        spread = spread + away * (x - mean)
    return mean, spread / np.float32(len(values))


def two_passes(values):
    mean = sum(values[1:], values[0]) / np.float32(len(values))
    squares = (values - mean) ** 2
    return mean, sum(squares[1:], squares[0]) / np.float32(len(values))


def merged(values):
    """Chan's tree: halves that are merged."""

    def moments(part):
        if len(part) == 1:
            return part[0], np.float32(0)
        half = len(part) // 2
        (first, below), (second, above) = moments(part[:half]), moments(part[half:])
        away, share = second - first, np.float32(len(part) - half) / np.float32(len(part))
        return first + away * share, below + above + away * away * share * np.float32(half)

    mean, spread = moments(values)
    return mean, spread / np.float32(len(values))


def one_pass(values):
    mean = np.float32(sum(values[1:], values[0])) / np.float32(len(values))
    squares = values * values
    return mean, sum(squares[1:], squares[0]) / np.float32(len(values)) - mean * mean


@pytest.mark.parametrize("algorithm", [welford, two_passes, merged])
@pytest.mark.parametrize("offset", [0.0, 3.0, 1000.0, "first"])
def test_statistics_by_any_stable_algorithm(algorithm, offset):
    rng, best = np.random.default_rng(3), 0.0
    for n in [2, 3, 5, 16, 100] * 20:
        values = rng.standard_normal(n) + (0.0 if offset == "first" else offset)
        values[0] += 1e4 if offset == "first" else 0.0
        values = round_to("float32", values)
        bounds = statistics(values[None], (1,), strictest("float32"))
        for found, bounded in zip(algorithm(values.astype(np.float32)), bounds, strict=True):
            share = abs(float(found) - bounded.value.item()) / bounded.error.item()
            assert share <= 1, f"{share} for n = {n}"
            best = max(best, share)
    assert best > 0.02


def test_one_pass_variance_of_offset_data_is_seen():
    values = round_to("float32", np.random.default_rng(4).standard_normal(100) + 1000.0)
    _, bounded = statistics(values[None], (1,), strictest("float32"))
    assert abs(float(one_pass(values.astype(np.float32))[1]) - bounded.value) > bounded.error


def test_statistics_of_the_reference_are_exact_enough():
    values = np.random.default_rng(5).standard_normal(50)
    mean, variance = statistics(values[None], (1,), strictest("float64"))
    exact = [Fraction(v) for v in values]
    middle = sum(exact) / 50
    spread = sum((v - middle) ** 2 for v in exact) / 50
    assert abs(middle - Fraction(mean.value.item())) <= Fraction(mean.error.item())
    assert abs(spread - Fraction(variance.value.item())) <= Fraction(variance.error.item())


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 10.0])
def test_inverse_deviation(share):
    """Every variance in the interval, none below zero: 1 / sqrt by a root and a division in float32."""
    rng, eps = np.random.default_rng(6), 1e-5
    value = round_to("float32", rng.uniform(0, 1e-3, 2000))
    bounded = inverse_deviation(Bounded(value, share * value, strictest("float32")), eps)
    for side in (-1, -0.5, 0, 1):
        variance = np.maximum(value + side * share * value, 0).astype(np.float32)
        found = np.float32(1) / np.sqrt(variance + np.float32(eps))
        assert (np.abs(found - bounded.value) <= bounded.error).all()


# The whole way, as a layer uses it.


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_layer_is_held_to_its_bound(dtype):
    """A convolution in another order of summation is accepted; one with a lost tap is not."""
    rng = np.random.default_rng(7)
    layer = refimpl.Conv2d(3, 4, 3, padding=1)
    layer.load_state_dict({name: round_to(dtype, value) for name, value in layer.state_dict().items()})
    input = round_to(dtype, rng.standard_normal((2, 3, 5, 6)))
    grad_output = round_to(dtype, rng.standard_normal((2, 4, 5, 6)))
    results = layer.bounded(strictest(dtype), (input,), (grad_output,))
    assert set(results) == {"output", "grad_input", "grad_weight", "grad_bias"}
    compare_output = partial(compare, "output", bounded=results["output"])
    flipped = refimpl.conv2d(input[:, ::-1], layer.weight[:, ::-1], layer.bias, padding=1)
    assert not len(compare_output(actual=round_to(dtype, flipped)).wrong)
    lost = layer.weight.copy()
    lost[0, 0, 0, 0] = 0
    broken = refimpl.conv2d(input, lost, layer.bias, padding=1)
    assert len(compare_output(actual=round_to(dtype, broken)).wrong)

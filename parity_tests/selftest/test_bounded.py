"""`Bounded` arithmetic holds: no candidate strays farther than it says, some nearly as far; each case by
itself."""

from fractions import Fraction

import numpy as np
import pytest

from refimpl.attention_bounds import product
from refimpl.bounded import Bounded, SuiteError, finite_where, maximum, where
from refimpl.error_bounds import FLOATS, ULPS, Contract, round_to, strictest

SINGLE, DOUBLE, HALF = strictest("float32"), strictest("float64"), Contract("float16", "float16")
CONTRACTS = {"float32": SINGLE, "float64": DOUBLE, "float16": HALF}


def numbers(rng, dtype, *shape):
    """Numbers of the type, of both signs, over a few binades."""
    return round_to(dtype, rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(-3, 3, shape))


def used(bounded, candidate):
    """Largest share of the bound that a candidate's values use; they must be within it."""
    error = np.abs(candidate.astype(np.float64) - bounded.value)
    assert (error <= bounded.error).all(), f"{(error / bounded.error).max()} times the bound"
    return float(np.max(error / np.where(bounded.error > 0, bounded.error, 1.0), initial=0.0))


# Whole formulas, by numpy in the type itself.  Python numbers are constants of the formula.
FORMULAS = {
    "sum": lambda x, y, z: x + y,
    "product": lambda x, y, z: x * y,
    "quotient": lambda x, y, z: x / y,
    "constant": lambda x, y, z: x * 0.1,
    "reciprocal": lambda x, y, z: 1.0 / (1.5 + x * x),
    "cancellation": lambda x, y, z: (x * y + z) - x * y,
    "polynomial": lambda x, y, z: ((0.3 * x - 1.7) * x + y) * x - z,
    "softsign": lambda x, y, z: x / (1.0 + abs(x)),
    "halves": lambda x, y, z: (x + y) * 0.5 - z / 4.0 - 2.0 * y,
    "ratio of differences": lambda x, y, z: (x * y - z) / (x * x + y * y),
}


@pytest.mark.parametrize("dtype", CONTRACTS)
@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_stay_within_their_bounds(formula, dtype):
    rng, contract, evaluate = np.random.default_rng(1), CONTRACTS[dtype], FORMULAS[formula]
    operands = [numbers(rng, dtype, 20_000) for _ in range(3)]
    bounded = evaluate(*(contract.exact(x) for x in operands))
    share = used(bounded, evaluate(*(x.astype(dtype) for x in operands)))
    if formula in ("sum", "product", "quotient") and dtype != "float64":
        assert share > 0.99
    if dtype != "float64":
        assert share > 0.3


@pytest.mark.parametrize("formula", FORMULAS)
def test_float64_itself_is_within_the_bound_of_exact_arithmetic(formula):
    """In float64 candidate and reference do the same; that both may err shows against Fractions."""
    rng, evaluate = np.random.default_rng(2), FORMULAS[formula]
    for operands in numbers(rng, "float64", 300, 3):
        bounded = evaluate(*(DOUBLE.exact(np.array(x)) for x in operands))
        exact = evaluate(*(Fraction(x) for x in operands))
        if formula not in ("constant", "polynomial"):  # a Fraction times a float is a float
            assert abs(exact - Fraction(float(bounded.value))) <= Fraction(float(bounded.error))


FUNCTIONS = {
    "exp": (lambda x: x.exp(), np.exp, (-5, 5)),
    "expm1": (lambda x: x.expm1(), np.expm1, (-5, 5)),
    "log": (lambda x: x.log(), np.log, (0.01, 9)),
    "log1p": (lambda x: x.log1p(), np.log1p, (-0.9, 9)),
    "tanh": (lambda x: x.tanh(), np.tanh, (-4, 4)),
    "sqrt": (lambda x: x.sqrt(), np.sqrt, (0, 9)),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_inexact_arguments_stay_within_their_bounds(name, dtype):
    rng, (bounded, plain, span) = np.random.default_rng(3), FUNCTIONS[name]
    x, y = (round_to(dtype, rng.uniform(*span, 20_000)) for _ in range(2))
    if name == "sqrt":
        y = x[::-1]
    exact, contract = CONTRACTS[dtype].exact, CONTRACTS[dtype]
    argument = exact(x) * 0.3 + exact(y) * 0.3
    computed = (x.astype(dtype) * 0.3 + y.astype(dtype) * 0.3).astype(np.float64)
    ulp = 2 * FLOATS[dtype].half_spacing(np.abs(plain(computed)))
    for off in (
        -1,
        0,
        1,
    ):  # as wrong as a library may be: its published error, half an ulp of it the rounding
        wrong = (
            plain(computed) + off * (contract.library(name) - 0.5) * ulp if name in ULPS else plain(computed)
        )
        assert used(bounded(argument), round_to(dtype, wrong)) > 0.3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_references_own_functions_are_as_accurate_as_it_charges(name):
    """numpy's float64 functions against mpmath, in units in the last place."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.prec = 160
    _, plain, span = FUNCTIONS[name]
    values = np.random.default_rng(4).uniform(*span, 400)
    spacing = 2 * FLOATS["float64"].half_spacing(np.abs(plain(values)))
    exact = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in values]
    errors = [abs(e - mpmath.mpf(float(f))) for e, f in zip(exact, plain(values), strict=True)]
    assert max(float(e / s) for e, s in zip(errors, spacing, strict=True)) <= ULPS.get(name, 0.5)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("relative", [2.0**-52, 3 * 2.0**-53, 2.0**-30, 0.01, 0.5])
def test_spread_of_a_function_is_no_less_than_the_exact_one(name, relative):
    """Also where value + error is not a float64 and differences of two float64 results would be all
    rounding."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.prec = 200
    bounded, _, span = FUNCTIONS[name]
    function = getattr(mpmath, name)
    for v in np.random.default_rng(5).uniform(*span, 60):
        e = relative * abs(v) if name != "log1p" else relative * (1 + v) / 2
        argument = Bounded(np.array(v), np.array(e), DOUBLE)
        low, middle, high = (
            function(mpmath.mpf(float(v)) + side * mpmath.mpf(float(e))) for side in (-1, 0, 1)
        )
        ulps = 2 * FLOATS["float64"].roundoff * ULPS.get(name, 0.5) * abs(middle)  # of the candidate alone
        largest = max(abs(high - middle), abs(low - middle)) + ulps / 2
        assert mpmath.mpf(float(bounded(argument).error)) >= largest


def test_erf_is_steepest_at_zero():
    argument = Bounded(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5, 1e9]), SINGLE)
    from math import erf

    least = [erf(0.5), erf(1.0) - erf(0.5), 2.0]
    assert (argument.erf().error >= np.array(least)).all() and (argument.erf().error <= 2.01).all()


# Single steps that a careless bound gets wrong; each example went beyond an earlier version of these bounds.


def test_a_zero_with_an_error_underflows_when_halved():
    eta = FLOATS["float32"].eta
    halved = Bounded(np.array(0.0), np.array(3 * eta), SINGLE) * 0.5
    assert np.float32(3 * eta) * np.float32(0.5) == 2 * eta <= halved.error


def test_scaling_up_never_underflows():
    assert 1.0 <= (Bounded(np.array(1.0), np.array(0.25), SINGLE) * 4.0).error < 1.0 + 2.0**-40
    assert (SINGLE.exact([1.5, 2.0]) * -8.0).error.tolist() == [0.0, 0.0]


def test_a_power_of_two_that_the_type_cannot_hold_is_rounded():
    assert (HALF.exact([1.0]) * 2.0**-30).error >= 2.0**-30  # it is 0 in float16
    assert (SINGLE.exact([1.0]) * 2.0**-30).error < FLOATS["float32"].eta


def test_a_zero_with_an_error_is_rounded_when_stored():
    """1.5 eta becomes 2 eta in float16, though the reference's value is 0."""
    eta, contract = FLOATS["float16"].eta, strictest("float16")
    stored = Bounded(np.array(0.0), np.array(1.5 * eta), contract).store()
    assert round_to("float16", 1.5 * eta) == 2 * eta <= stored.error
    assert contract.exact([0.0]).store().error == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_store_is_within_its_bound_and_uses_it_up(dtype):
    rng, contract, kind = np.random.default_rng(6), strictest(dtype), FLOATS[dtype]
    exact = rng.standard_normal(20_000) * np.ldexp(1.0, rng.integers(kind.smallest - 9, 3, 20_000))
    errors = np.abs(exact) * rng.choice([0.0, 2.0**-20, 2.0**-6], exact.shape)
    stored = Bounded(exact, errors, contract).store()
    for place in (-1, -0.3, 0, 1):
        share = used(stored, round_to(dtype, exact + place * errors))
        assert share > 0.99


def test_root_near_zero():
    """An argument that may be anything in [0, e] has a root up to sqrt(e), which is itself rounded."""
    error = np.arange(1, 2000) * 2.0**-24
    root = Bounded(np.zeros_like(error), error, SINGLE).sqrt()
    assert used(root, np.sqrt(error.astype(np.float32))) > 0.999
    assert SINGLE.exact([0.0, 4.0]).sqrt().error[0] == 0


def test_functions_are_allowed_their_ulps_among_subnormal_numbers():
    """2 ulps of exp(-100) in float32 are two subnormal spacings, however small the value."""
    assert SINGLE.exact([-100.0]).exp().error >= 2 * FLOATS["float32"].eta


def test_what_every_candidate_finds_exactly():
    exact = SINGLE.exact
    zero, x = exact([0.0]), exact([0.3])
    for result in (
        x + zero,
        x - x,
        x * 0.0,
        zero / x,
        zero.tanh(),
        zero.expm1(),
        zero.sqrt(),
        exact([1.0]).log(),
    ):
        assert result.error == 0, result
    assert exact([-np.inf]).exp().error == 0
    assert (x + x).error > 0


def test_dividing_by_what_may_be_zero_has_no_bound():
    assert (SINGLE.exact([1.0]) / Bounded(np.array([0.1]), np.array([0.2]), SINGLE)).error == np.inf


def test_non_finite_values_have_no_error():
    with np.errstate(all="ignore"):
        result = SINGLE.exact([np.inf, np.nan, 1.0, -np.inf]) * SINGLE.exact([2.0, 1.0, np.inf, 0.0]) + 1.0
    assert result.value[0] == result.value[2] == np.inf and np.isnan(result.value[[1, 3]]).all()
    assert (result.error == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sums_in_any_order(dtype):
    """Forwards, backwards, shuffled, pairwise, in blocks, largest first: never beyond, and some reach a good
    part."""
    rng, contract, best = np.random.default_rng(7), CONTRACTS[dtype], 0.0
    for n in (2, 3, 17, 200):
        terms = numbers(rng, dtype, 500, n) * rng.choice([1.0, 1.0, 0.0], (500, n))
        bounded = contract.exact(terms).sum(axis=1)
        plain = terms.astype(dtype)
        orders = [np.arange(n), np.arange(n)[::-1], rng.permutation(n), np.argsort(-np.abs(terms[0]))]
        for order in orders:
            best = max(best, used(bounded, one_by_one(plain[:, order])))
        best = max(best, used(bounded, pairwise(plain)))
    assert best > 0.7


def one_by_one(terms):
    total = np.zeros(terms.shape[0], terms.dtype)
    for column in terms.T:
        total = total + column
    return total


def pairwise(terms):
    if terms.shape[1] == 1:
        return terms[:, 0]
    middle = terms.shape[1] // 2
    return pairwise(terms[:, :middle]) + pairwise(terms[:, middle:])


def test_zeros_take_no_part_in_a_sum():
    terms = SINGLE.exact([[0.3, 0.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0]])
    error = terms.sum(axis=1).error
    assert error[0] == error[2] == 0 < error[1] < 1.01 * 0.7 * (2.0**-24 + 2.0**-53)


def test_selection_takes_the_right_error():
    first, second = Bounded(np.array([1.0, 2.0]), np.array([0.1, 0.2]), SINGLE), SINGLE.exact([1.5, 1.5])
    assert where(np.array([True, False]), first, second).error.tolist() == [0.1, 0.0]
    assert maximum(first, second).error.tolist() == [0.1, 0.2]
    assert abs(-first).error.tolist() == [0.1, 0.2] and first[1].error == 0.2


def test_arrays_on_the_left_are_constants():
    result = np.array([1.0, 0.1]) * SINGLE.exact([2.0, 2.0])
    assert isinstance(result, Bounded) and result.value.tolist() == [2.0, 0.2]
    assert (result.error >= abs(2 * round_to("float32", 0.1) - 0.2) * np.array([0, 1])).all()


# What the loops find takes the place of the formula's value.


def test_agreeing_is_wider_by_what_lies_between():
    around = Bounded(np.array([1.0, 0.0]), np.array([0.5, 0.0]), SINGLE).agreeing(np.array([1.25, 0.0]), "x")
    assert around.value.tolist() == [1.25, 0.0] and around.error.tolist() == [0.75, 0.0]


@pytest.mark.parametrize("loops", [[1.0, 2.6], [np.nan, 2.0], [np.inf, 2.0]])
def test_agreeing_refuses_another_value(loops):
    with pytest.raises(SuiteError, match=r"output\[\d\]: the loops give .* one of the two is wrong"):
        Bounded(np.array([1.0, 2.0]), np.array([0.5, 0.5]), SINGLE).agreeing(np.array(loops), "output")


def test_agreeing_takes_equal_non_finite_values():
    values = np.array([np.nan, np.inf, -np.inf])
    assert SINGLE.exact(values).agreeing(values.copy(), "output").error.tolist() == [0, 0, 0]


def test_an_infinite_error_stays_infinite():
    """0 times it, and the difference of two, say nothing about the result: that is no bound, not NaN."""
    unknown = Bounded(np.zeros((1, 1)), np.full((1, 1), np.inf), SINGLE)
    for result in (unknown * unknown, unknown.exp() * unknown, unknown - unknown, product(unknown, unknown)):
        assert result.value == 0 and result.error == np.inf
    assert finite_where(np.array([0.0, np.inf]), np.array([np.nan, np.nan])).tolist() == [np.inf, 0.0]

"""What a contract charges, bit for bit: units, roundings, stores, library functions, and the ladders of
contracts."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import DOUBLE, ETA64, SINGLE, STORED, U64, same, up
from refimpl.error_bounds import DTYPES, ULPS, Contract, Products, ladder, strictest
from refimpl.floats import gamma, outward


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

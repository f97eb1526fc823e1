"""What tests share that write a bound out: contracts, the steps of a rounding, comparison bit by bit."""

import numpy as np
import pytest

from refimpl.bounded import Bounded
from refimpl.error_bounds import Contract, strictest

SINGLE, DOUBLE, STORED = strictest("float32"), strictest("float64"), strictest("float16")
HALF = Contract("float16", "float16")
U64, ETA64 = 2.0**-53, 2.0**-1074
CONTRACTS = pytest.mark.parametrize(
    "contract", [SINGLE, DOUBLE, STORED, HALF], ids=lambda c: f"{c.store}: {c}"
)


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
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


def same_bounds(found, expected):
    same(found.value, expected.value)
    same(found.error, expected.error)

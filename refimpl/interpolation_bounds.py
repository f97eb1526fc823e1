"""Roundings and bounds of sums whose weights add an error of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import Bounded, Contract, Products, gamma, strictest
from refimpl.floats import outward
from refimpl.interpolation_axes import Table


def _spread(vectors: list[np.ndarray], combine: np.ufunc) -> np.ndarray:
    """One vector an axis, combined over the grid of the three."""
    return reduce(combine.outer, vectors)[None, None]


def _multiplied(table: Table) -> np.ndarray:
    """Which outputs need a product on this axis: all but those that read one element with weight 1."""
    return (table.present.sum(axis=1) > 1) | table.loose.any(axis=1)


def roundings(tables: list[Table]) -> np.ndarray:
    """Roundings on each term of an output."""
    counts = _spread([table.present.sum(axis=1) for table in tables], np.multiply)
    return np.maximum(counts - 1, 0) + _spread(
        [_multiplied(table).astype(np.int64) for table in tables], np.add
    )


def roundings_back(tables: list[Table], sizes: tuple[int, ...]) -> np.ndarray:
    """Roundings on each term of an input gradient."""
    counts = [
        np.bincount(table.index[table.present], minlength=n) for table, n in zip(tables, sizes, strict=True)
    ]
    return np.maximum(_spread(counts, np.multiply) - 1, 0) + sum(_multiplied(table).any() for table in tables)


def weighted_sum(
    products: Products, weights: np.ndarray, magnitude: np.ndarray, contract: Contract
) -> Bounded:
    """The bound of a sum of products whose weights add an error of their own."""
    terms, value = products.terms, products.value
    with np.errstate(invalid="ignore", over="ignore"):
        error = gamma(terms, contract.u) * magnitude + np.multiply(terms, contract.eta) + weights
        error = contract.stored(value, outward(error, 32 + np.multiply(terms, 4)))
    return Bounded(value, finite_where(value, error), contract, products=products)


def left_open(error: np.ndarray, contract: Contract) -> np.ndarray:
    """Where a weak contract leaves it open whether what is not finite is read, any finite result is within
    it."""
    if contract == strictest(contract.store):
        return error
    most = np.finfo(np.float64).max
    return np.nan_to_num(error, nan=most, posinf=most)


def exactly(result: Bounded, reach: np.ndarray) -> Bounded:
    """0 for the bound where nothing is rounded, with sums of magnitudes as large as `reach`."""
    assert result.products is not None
    plain = replace(result.products, magnitude=np.maximum(result.products.magnitude, reach))
    return replace(result, error=np.where(plain.bounded(result.contract).error == 0, 0.0, result.error))

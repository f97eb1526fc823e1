"""The in-place renormalization of embedding vectors that are longer than `max_norm`.

    norm[v] = (sum over d of |weight[v, d]|^norm_type)^(1/norm_type)         the largest |weight[v, d]| for
    infinity weight[v, d] *= max_norm / (norm[v] + 1e-7)                              where norm[v] > max_norm

for the rows v that a call looks up.  The 1e-7 is torch's, on every device; its documentation leaves it out.
Source: torch.nn.functional.embedding, `max_norm`.

A contract weaker than the strictest, by name (`Contract.algorithm`):
    stored norm   the norm is rounded to T before it is compared and divided by, and so is the quotient
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.taps import Kernel

STORED_NORM = "stored norm"
_GUARD = 1e-7


class Table(NamedTuple):
    """Sizes of a table of vectors."""

    rows: int
    dimension: int


def entries(visit, arrays, geometry):
    """Every entry (v, d) of the table."""
    rows, dimension = geometry
    for v in range(rows):
        for d in range(dimension):
            visit(arrays, v, d)


def powers(arrays, v, d):
    total, weight, norm_type = arrays
    total[v] += abs(weight[v, d]) ** norm_type[0]


def largest(arrays, v, d):
    total, weight, _ = arrays
    total[v] = max(total[v], abs(weight[v, d]))


_powers = Kernel(entries, powers)
_largest = Kernel(entries, largest)


def renormalized(weight: np.ndarray, looked_up: np.ndarray, max_norm: Any, norm_type: Any) -> np.ndarray:
    """The weight after a call that looks up these rows; the same array where there is no `max_norm`.

    Raises TypeError for what is no number."""
    if max_norm is None:
        return weight
    for name, number in (("max_norm", max_norm), ("norm_type", norm_type)):
        if not isinstance(number, (int, float, np.number)):
            raise TypeError(f"{name} is {number!r}; needed is a number")
    norms, result = np.zeros(len(weight)), weight.copy()
    kernel = _largest if math.isinf(norm_type) else _powers
    kernel((norms, weight, np.array([float(norm_type)])), Table(*weight.shape), weight.size)
    if not math.isinf(norm_type):
        norms = norms ** (1.0 / norm_type)
    for v in np.unique(looked_up):
        if norms[v] > max_norm:
            result[v] *= max_norm / (norms[v] + _GUARD)
    return result


def renormalized_bounded(
    contract: Contract, weight: np.ndarray, looked_up: np.ndarray, max_norm: Any, norm_type: Any
) -> Bounded:
    """The weight after a call, stored in T; a row whose norm may be on either side of `max_norm` may be
    either."""
    loops = renormalized(weight, looked_up, max_norm, norm_type)
    given = contract.exact(weight)
    if max_norm is None:
        return given
    norms = _norms(given, norm_type)
    norms = norms.store() if contract.algorithm == STORED_NORM else norms
    scale = (contract.constant(max_norm) / (norms + _GUARD))[:, None]
    scale = scale.store() if contract.algorithm == STORED_NORM else scale
    scaled = (given * scale).store()
    used = np.isin(np.arange(len(weight)), looked_up)[:, None]
    norm, reach = norms.value[:, None], norms.error[:, None]
    longer = used & (norm > max_norm)
    value, error = np.where(longer, scaled.value, weight), np.where(longer, scaled.error, 0.0)
    undecided = used & (norm - reach <= max_norm) & (max_norm < norm + reach)
    error = np.where(undecided, scaled.error + np.abs(scaled.value - weight), error)
    return replace(given, value=value, error=error).agreeing(loops, "weight")


def _norms(weight: Bounded, norm_type: float) -> Bounded:
    size = abs(weight)
    if math.isinf(norm_type):
        return Bounded(size.value.max(1, initial=0.0), np.zeros(len(size.value)), weight.contract)
    if norm_type == 1:
        return size.sum(1)
    if norm_type == 2:
        return (weight * weight).sum(1).sqrt()
    ulps = weight.contract.library("pow")
    powers = size.apply(lambda values: np.power(values, norm_type), ulps)
    return powers.sum(1).apply(lambda values: np.power(values, 1.0 / norm_type), ulps)

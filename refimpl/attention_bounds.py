"""How far a correct attention may be from the exact one: its formula in Bounded arithmetic.

What is left open to an implementation, and therefore charged: `scale` may multiply the scores or, as its
root, queries and keys; exponents may be kept in base 2; the row may be read in tiles of at least TILE keys
whose exponentials are rescaled when a larger score comes; the weights, divided by their total or not yet, may
be rounded to T before they meet the values, and the gradient of the scores before it meets queries and keys;
going back, the weights may be made again from score - log(total), and sum(weight * grad_weight) may be taken
as sum(output * grad_output) of the stored output.

Stored in T:
    weights            before they meet the values
    heads              the output of every head
    score gradient     before it meets queries and keys
    operand gradient   of query, key and value, for each repetition by itself
Scores are kept in A, unless the contract's algorithm is 'stored scores': then what the documented formula
gives operation by operation is stored too:
    scaled query       times the root of the scale
    scores             of queries and keys
    masked scores      where there is a mask
    weight gradient    and its sum with the gradient of the weights as an output
Each but the last is needed: a self-test takes one out of the bounds at a time, and correct results are beyond
them.  The gradient of the weights hides behind the stored output, whose error is as large.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import FLOATS, ULPS, Bounded, Contract, gamma
from refimpl.floats import outward

STORED_SCORES = "stored scores"

# Names of what is stored, as in the docstrings of `attention`, `multihead_attention` and `transformer`.
WEIGHTS, HEADS, SCORE_GRADIENT, OPERAND_GRADIENT = "weights", "heads", "score gradient", "operand gradient"
SCALED_QUERY, SCORES, MASKED_SCORES = "scaled query", "scores", "masked scores"
WEIGHT_GRADIENT = "weight gradient"
TILE = 16  # the fewest keys that an instruction for small matrices takes at once


def product(first: Bounded, second: Bounded, added: Bounded | None = None) -> Bounded:
    """sum(first[..., l, e] * second[..., s, e] for every e), in any order, kept in A.

    Error: as a sum of products (Higham 2002, section 3.1), on operands that are off themselves.  `added` is
    one term more, a bias or a mask, to which the products may be added one by one."""
    contract, across = first.contract, second.value.swapaxes(-1, -2)
    off = second.error.swapaxes(-1, -2)
    own, size = np.abs(first.value), np.abs(across)
    with np.errstate(invalid="ignore", over="ignore"):
        terms = _present(first.value, first.error) @ _present(across, off)
        error = own @ off + first.error @ (size + off)
        value, magnitude = first.value @ across, own @ size + error
        if added is not None:
            terms = np.where(terms == 0, 0.0, terms + _present(added.value, added.error))
            value, error = value + added.value, error + added.error
            magnitude = magnitude + np.abs(added.value) + added.error
        error = error + gamma(terms, contract.u) * magnitude + terms * contract.eta
        error = finite_where(value, outward(error, 16 + 4 * first.value.shape[-1]))
        return Bounded(value, error, contract)


def transposed(operand: Bounded) -> Bounded:
    """The last two axes exchanged."""
    return Bounded(operand.value.swapaxes(-1, -2), operand.error.swapaxes(-1, -2), operand.contract)


def either(first: Bounded, second: Bounded) -> Bounded:
    """Two ways to the same number, both of them correct: as far off as the worse one."""
    with np.errstate(invalid="ignore"):
        error = np.maximum(first.error, second.error + np.abs(first.value - second.value))
    return Bounded(first.value, finite_where(first.value, error), first.contract)


def bounded_scores(query: Bounded, key: Bounded, mask: Bounded, scale: float) -> Bounded:
    """query key scale + mask, with two roundings more: of a factor log2(e) and of the product with it."""
    contract = query.contract
    put = Bounded.store if contract.algorithm == STORED_SCORES else _kept
    root, signed = _roots(contract, scale)
    factors = put(query * signed, SCALED_QUERY), key * root
    scores = put(product(*factors), SCORES)
    if np.any(mask.value != 0) or mask.error.any():
        scores = either(put(scores + mask, MASKED_SCORES), put(product(*factors, mask), MASKED_SCORES))
    with np.errstate(invalid="ignore"):
        return _wider(scores, contract.rounding(np.abs(scores.value) + scores.error, 2.0))


def bounded_weights(scores: Bounded) -> tuple[Bounded, Bounded]:
    """Softmax of the scores along their last axis, zeros in a row without keys; and once more as exp(score -
    log(total)), made again from a stored logarithm.

    A candidate's largest score differs by up to d from the one found here.  Any shift gives the same weights:
    only the rounding of score - largest and what underflows depend on it.  A weight is at most 1 with the
    rounding of its division, so nothing is off by more than that."""
    contract = scores.contract
    largest = scores.value.max(axis=-1, keepdims=True, initial=-np.inf)
    off = scores.error.max(axis=-1, keepdims=True, initial=0.0)
    alone = np.count_nonzero(scores.value != -np.inf, axis=-1, keepdims=True) <= 1
    with np.errstate(all="ignore"):
        # In a row without keys the largest is -inf, and -inf - -inf would be NaN.
        distance = np.where(np.isneginf(scores.value), -np.inf, scores.value - largest)
        error = scores.error + contract.rounding(np.abs(distance) + scores.error + off)
        error = np.where(alone | ~np.isfinite(distance), 0.0, error)
        exponential = Bounded(distance, error, contract).exp()
        rescaled = 3.0 * (math.ceil(scores.value.shape[-1] / TILE) - 1)
        exponential = _wider(exponential, contract.rounding(exponential.value + exponential.error, rescaled))
        total = exponential.sum(-1, keepdims=True)
        # With the shift used here a candidate's total may be below 1: its largest term is exp(-off) or more.
        least = 1.0 / outward(np.exp(off))
        weights = exponential * total.apply(lambda t: 1.0 / np.maximum(t, least), ULPS["reciprocal"])
        underflow = (scores.value.shape[-1] + 1) * contract.eta
        weights = _wider(weights, np.full(weights.value.shape, underflow))
        error = np.where(alone, 0.0, np.fmin(weights.error, outward(1.0 + 4.0 * contract.u)))
        weights = Bounded(weights.value, error, contract)
        logarithm = contract.exact(largest) + total.apply(_log_from_one, ULPS["log"])
        shifted = scores - logarithm
        shifted = replace(shifted, value=np.where(np.isneginf(scores.value), -np.inf, shifted.value))
        again = either(weights, shifted.exp())
    return weights, Bounded(weights.value, np.where(alone & (weights.value == 0), 0.0, again.error), contract)


def bounded_attention(
    operands: tuple[Bounded, Bounded, Bounded], mask: Bounded, scale: float, safe: bool
) -> tuple[Bounded, Bounded, Bounded]:
    """Output as stored, weights as they may be rounded to T before they are used, and the same made again.

    Shapes (B, L, E), (B, S, E), (B, S, V), (B, L, S) -> (B, L, V), (B, L, S), (B, L, S).  `safe`: a row
    without keys has weights of 0, and not NaN."""
    query, key, value = operands
    scores = bounded_scores(query, key, mask, scale)
    weights, again = bounded_weights(scores)
    if not safe:
        dead = np.isneginf(scores.value).all(axis=-1, keepdims=True)
        weights, again = (replace(w, value=np.where(dead, np.nan, w.value)) for w in (weights, again))
    weights, again = _stored_weights(weights), _stored_weights(again)
    return product(weights, transposed(value)).store(HEADS), weights, again


def bounded_gradients(
    operands: tuple[Bounded, Bounded, Bounded],
    results: tuple[Bounded, Bounded, Bounded],
    upstream: Bounded,
    scale: float,
    grad_weights: Bounded | None = None,
) -> tuple[Bounded, ...]:
    """Gradients of query, key, value and mask, each as stored.  `grad_weights`: of the weights by themselves,
    where they are an output."""
    (query, key, value), (output, _, again) = operands, results
    contract = query.contract
    put = Bounded.store if contract.algorithm == STORED_SCORES else _kept
    up = put(product(upstream, value), WEIGHT_GRADIENT)
    by_weights = None
    if grad_weights is None:
        by_weights = (output * upstream).sum(-1, keepdims=True)
    else:
        up = put(up + grad_weights, WEIGHT_GRADIENT)
    total = (again * up).sum(-1, keepdims=True)
    total = total if by_weights is None else either(total, by_weights)
    difference = up - total
    pair = again * difference
    pair = Bounded(pair.value, np.where(again._zero, 0.0, pair.error), contract).store(SCORE_GRADIENT)
    root, signed = _roots(contract, scale)
    grad_query = put(product(pair, transposed(key * root)), OPERAND_GRADIENT) * signed
    grad_key = product(transposed(pair), transposed(put(query * signed, SCALED_QUERY))) * root
    grad_value = product(transposed(again), transposed(upstream))
    stored = (gradient.store(OPERAND_GRADIENT) for gradient in (grad_query, grad_key, grad_value))
    return (*stored, pair)


def _roots(contract: Contract, scale: float) -> tuple[Bounded, Bounded]:
    """The root of the scale's magnitude, and the same with the scale's sign."""
    root = math.sqrt(abs(scale))
    return contract.constant(root), contract.constant(math.copysign(root, scale))


def _kept(operand: Bounded, point: str) -> Bounded:
    return operand


def _present(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    return ((value != 0) | (error != 0)).astype(np.float64)


def _wider(operand: Bounded, by: np.ndarray) -> Bounded:
    error = np.where(operand._zero, 0.0, outward(operand.error + by))
    return replace(operand, error=finite_where(operand.value, error))


def _stored_weights(weights: Bounded) -> Bounded:
    """Rounded to T before or after the division by the total, which is at least 1: off by u_T of itself, not
    only by half of its own spacing."""
    contract = weights.contract
    if contract.store == contract.accumulate or weights.store(WEIGHTS) is weights:
        return weights
    kind = FLOATS[contract.store]
    certain = (weights.value == 1) & (weights.error == 0)
    return _wider(weights, np.where(certain, 0.0, kind.roundoff * (weights.value + weights.error) + kind.eta))


def _log_from_one(total: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(total, 1.0))


__all__ = ["STORED_SCORES", "bounded_attention", "bounded_gradients", "either", "product", "transposed"]

"""The statistics of a normalization with their errors: mean and variance of exact values, in one pass or
two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from refimpl.bounded import Bounded, finite_where
from refimpl.floats import gamma, outward

if TYPE_CHECKING:
    from refimpl.error_bounds import Contract


def statistics(values: np.ndarray, axes: tuple[int, ...], contract: Contract) -> tuple[Bounded, Bounded]:
    """Mean and biased variance of exact `values` over `axes` (kept with size 1), however they are summed.

        |mean - exact| <= e = gamma(r) mean|x|                    r = n + 4 (1 + ceil(log2 n))
        |variance - exact| <= P + gamma(r + 4)(variance + P)      P = e^2 + (1 + sqrt 2) e sqrt(variance)

    Mean: a sum puts n - 1 roundings on each term and the division one (Higham 2002, section 4.2).  The update
    m_k = m_(k-1) + (x_k - m_(k-1)) / k puts n - j + 1 on x_j, and two more at each k on x_k - m_(k-1), in all
    4 + 2 ln n; a tree that merges (n_a m_a + n_b m_b) / (n_a + n_b) puts four a level; a mixture at most r.

    Variance: two passes around a mean that is off by d find variance + d^2, d <= e.  Welford's update adds
    (x_k - m_(k-1))(x_k - m_k), which errors d_k of the means change by at most
        |d_(k-1)||x_k - m_k| + |d_k||x_k - m_(k-1)| + |d_k d_(k-1)|.
    With S_k the exact sums of squares and D = S_k - S_(k-1), (x_k - m_k)^2 <= D and (x_k - m_(k-1))^2 <= 2 D.
    Each d_k has two parts.  The additions put at most gamma(k) mean|x_1..x_k| <= e on m_k: by Cauchy-Schwarz
    that changes the sum by at most n P.  The quotients put at most 2 u sqrt(2 S_k / k) on it: that comes to
    at most (1 + sqrt 2) sqrt(8 (1 + ln n)) u S_n, less than 5 + 4 ceil(log2 n) roundings, which are what r +
    4 leaves beyond the n + 3 that the increments, all positive, take themselves.
    Chan, Golub, LeVeque (The American Statistician 37(3), 1983, table 2) give the same orders: n u + (n u
    kappa)^2 for two passes, n u kappa for updates; kappa = rms / deviation.  One pass, E[x^2] - E[x]^2, is
    off by n u kappa^2: not within this bound when kappa is large.
    """
    n = max(1, math.prod(values.shape[axis] for axis in axes))
    roundings = n + 4 * (1 + math.ceil(math.log2(n)))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.sum(axis=axes, keepdims=True) / n
        variance = np.square(values - mean).sum(axis=axes, keepdims=True) / n
        magnitude = np.abs(values).sum(axis=axes, keepdims=True) / n
        underflow = n * contract.eta * (magnitude != 0)
        off = outward(gamma(roundings, contract.u) * magnitude + underflow, n + 8)
        moved = off**2 + (1 + math.sqrt(2)) * off * np.sqrt(variance)
        spread = moved + gamma(roundings + 4, contract.u) * (variance + moved) + underflow
        spread = outward(spread, n + 8)
    return (
        Bounded(mean, finite_where(mean, off), contract),
        Bounded(variance, finite_where(variance, spread), contract),
    )


def inverse_deviation(variance: Bounded, eps: float) -> Bounded:
    """1 / sqrt(variance + eps), by a library's rsqrt or by a root and a division; variances are >= 0."""
    contract = variance.contract
    total, least = variance + eps, contract.constant(eps)
    with np.errstate(all="ignore"):
        floor = np.where(variance.value >= 0, np.maximum(least.value - least.error, 0.0), 0.0)
        low, high = np.maximum(total.value - total.error, floor), total.value + total.error
        spread = np.maximum(_apart(low, total.value), _apart(total.value, high))
        return total.apply(lambda t: 1 / np.sqrt(t), contract.library("rsqrt"), lambda t, e: spread)


def _apart(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """1 / sqrt(low) - 1 / sqrt(high) without cancellation."""
    first, second = np.sqrt(low), np.sqrt(high)
    return (high - low) / (first * second * (first + second))

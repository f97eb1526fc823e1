"""The walk of attention: every query meets every key, feature by feature; three readings of it are all that
is needed.

    pair[b, l, s]  ~  query[b, l, e]  ~  key[b, s, e]

Each of the three is a sum over the taps of the product of the other two: scores are pairs of queries and
keys, outputs are the "queries" of weights and values, and the gradients are the other sides of both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refimpl.taps import Kernel, float_array, zeros_like_kind


class Geometry(NamedTuple):
    """Sizes of an attention: batches (heads among them), queries, keys, features of both."""

    batches: int
    queries: int
    keys: int
    features: int


def taps(visit, arrays, geometry):
    """Every tap: query q = (b, l, e) meets key k = (b, s, e) in the pair p = (b, l, s)."""
    batches, queries, keys, features = geometry
    for b in range(batches):
        for l in range(queries):
            for s in range(keys):
                for e in range(features):
                    visit(arrays, (b, l, s), (b, l, e), (b, s, e))


def pair_reading(arrays, p, q, k):
    pair, query, key = arrays
    pair[p] += query[q] * key[k]


def query_reading(arrays, p, q, k):
    pair, query, key = arrays
    query[q] += pair[p] * key[k]


def key_reading(arrays, p, q, k):
    pair, query, key = arrays
    key[k] += pair[p] * query[q]


_pairs = Kernel(taps, pair_reading)
_queries = Kernel(taps, query_reading)
_keys = Kernel(taps, key_reading)


def _run(kernel: Kernel, pair: np.ndarray, query: np.ndarray, key: np.ndarray) -> None:
    batches, queries, keys = pair.shape
    geometry = Geometry(batches, queries, keys, query.shape[2])
    kernel((pair, query, key), geometry, math.prod(geometry))


def read_pairs(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """pair[b, l, s] = sum(query[b, l, e] * key[b, s, e] for every e)"""
    query, key = float_array(query), float_array(key)
    pair = zeros_like_kind((*query.shape[:2], key.shape[1]), query, key)
    _run(_pairs, pair, query, key)
    return pair


def read_queries(pair: np.ndarray, key: np.ndarray) -> np.ndarray:
    """query[b, l, e] = sum(pair[b, l, s] * key[b, s, e] for every s)"""
    pair, key = float_array(pair), float_array(key)
    query = zeros_like_kind((*pair.shape[:2], key.shape[2]), pair, key)
    _run(_queries, pair, query, key)
    return query


def read_keys(pair: np.ndarray, query: np.ndarray) -> np.ndarray:
    """key[b, s, e] = sum(pair[b, l, s] * query[b, l, e] for every l)"""
    pair, query = float_array(pair), float_array(query)
    key = zeros_like_kind((pair.shape[0], pair.shape[2], query.shape[2]), pair, query)
    _run(_keys, pair, query, key)
    return key

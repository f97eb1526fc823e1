"""Shards: the cases of a run dealt out to several machines, the same way on each of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from parity_tests.harness.cases import Case


def share(cases: Sequence[Case], shard: tuple[int, int] | None) -> tuple[Case, ...]:
    """The cases of one layer that shard (i, n), i from 1, runs, in their order; all of them without shards.

    Dealt like cards: n cases of about one size at a time, one to each shard, in an order drawn from their
    ids.  So a shard gets its share of the slow cases, and no axis of n values falls into step with the
    shards, as it does where every n-th row is taken.
    """
    if shard is None:
        return tuple(cases)
    number, of = shard
    by_size, mine = sorted(cases, key=_size, reverse=True), set()
    for start in range(0, len(by_size), of):
        hand = sorted(by_size[start : start + of], key=lambda case: _drawn(case.id))
        first = _drawn(cases[0].layer)  # the last hand, which is not full, begins elsewhere in each layer
        mine |= {case for place, case in enumerate(hand, first) if place % of == number - 1}
    return tuple(case for case in cases if case in mine)


def _size(case: Case) -> int:
    return sum(math.prod(shape) for shape in case.shapes)


def _drawn(text: str) -> int:
    """A number that looks random and is the same everywhere, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

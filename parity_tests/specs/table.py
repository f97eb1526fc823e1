"""What the specifications of lookups share: how indices, offsets and weights are drawn, axes, constraints.

Input 0 holds indices, input 1 of the bags offsets.  Data regimes of the indices: 'repeated' (two rows only),
'padded' (every other position the padding index).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import Built, Rejection

ROWS = 7
DIMENSIONS = (3, 1, 17, 33)
NORMS = {
    "none": {},
    "two": {"max_norm": 1.0},
    "one": {"max_norm": 2.5, "norm_type": 1.0},
    "three": {"max_norm": 0.8, "norm_type": 3.0},
    "largest": {"max_norm": 1.25, "norm_type": float("inf")},
    "rarely": {"max_norm": 20.0},
}
PADDING = (None, 2, 0, -3)


def values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Indices and offsets; weights with special values; the rest in the general way."""
    arguments = dict(case.arguments)
    bags = case.layer in ("EmbeddingBag", "embedding_bag")
    function = case.layer in ("embedding", "embedding_bag")
    rows = arguments.get("num_embeddings", case.shapes[1][0] if function and len(case.shapes[1]) else ROWS)
    if name == "input0":
        return _indices(case, rng, shape, rows, arguments.get("padding_idx"))
    if name == ("input2" if function else "input1") and bags:
        return _offsets(case, rng, shape, bool(arguments.get("include_last_offset")))
    if name == ("input1" if function else "weight") and case.tier == "rounding":
        return _weights(case, rng, shape)
    return None


def _indices(case: Any, rng: np.random.Generator, shape: tuple, rows: int, padding: int | None) -> np.ndarray:
    if case.name.startswith("rejects_index_beyond_the_table"):
        return np.full(shape, rows)
    if case.name == "rejects_negative_index":
        return np.full(shape, -1)
    if case.name.startswith("rejects_float_indices"):
        return np.zeros(shape)
    if case.data == "repeated":
        return rng.choice([1 % max(rows, 1), max(rows, 1) - 1], shape)
    drawn = rng.integers(0, max(rows, 1), shape)
    if case.data == "padded" and padding is not None:
        drawn = np.where(rng.random(shape) < 0.5, padding % rows, drawn)
    return drawn


def _offsets(case: Any, rng: np.random.Generator, shape: tuple, last_given: bool) -> np.ndarray:
    """Begins of bags, some of them empty: a sorted draw."""
    fixed = {
        "rejects_first_offset_not_0": (1, 2), "rejects_negative_offset": (-1, 2),
        "rejects_offset_beyond_the_end": (0, 99), "rejects_decreasing_offsets": (0, 3, 1),
    }.get(case.name)  # fmt: skip
    if fixed is not None:
        return np.array(fixed)
    if case.name.startswith("indices_behind_the_last_offset"):
        return np.array((0, 2, 2, 3))
    if case.name.startswith("rejects_float_offsets"):
        return np.zeros(shape)
    length = case.shapes[0][0]
    drawn = np.sort(rng.integers(0, length, shape, endpoint=True))
    drawn.flat[:1] = 0
    if last_given and drawn.size > 1:
        drawn[-1] = length
    return drawn


def _weights(case: Any, rng: np.random.Generator, shape: tuple) -> np.ndarray | None:
    special = {"nan": (np.nan,), "infinity": (np.inf, -np.inf), "zeros": (0.0, -0.0)}.get(case.data)
    values = rng.standard_normal(shape)
    if special is not None:
        return np.where(rng.random(shape) < 1 / 6, rng.choice(np.array(special), shape), values)
    scale = {"large": 2.0**9, "tiny": 2.0**-10}.get(case.data)
    return None if scale is None else values * scale


def written(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    return ("weight",) if "max_norm" in arguments else ()


NORMAL_DATA = Constraint(
    ("norm", "data"),
    lambda norm, data: norm == "none" or data in ("normal", "repeated", "padded"),
    "the norm of what is not finite, or out of range, is nothing to compare",
)
EXACT_DATA = Constraint(
    ("tier", "data", "norm"),
    lambda tier, data, norm: (
        tier == "rounding" or (data in ("normal", "repeated", "padded") and norm == "none")
    ),
    "the exact tier has its own numbers, and no roots",
)
PADDED = Constraint(
    ("data", "padding_idx"),
    lambda data, padding: data != "padded" or padding is not None,
    "there is no padding index",
)
DENSE = Constraint(
    ("sparse", "scale_grad_by_freq"),
    lambda sparse, scale: not (sparse and scale),
    "torch has no sparse gradient that is scaled by frequency",
)
WRITABLE = Constraint(
    ("norm", "parameter_layout"),
    lambda norm, layout: norm == "none" or layout != "expanded",
    "an expanded weight cannot be written",
)


def some(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The arguments of an axis that are not the default one."""
    return {name: row[name] for name in names if row[name] not in (None, False)}


def bad_function(
    name: str, exception: type[Exception], *shapes: tuple, note: str = "", **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, shapes), exception, note)

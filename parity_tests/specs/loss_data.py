"""Numbers for losses: probabilities, labels, counts, classes, ties of differences, vectors that are alike.

A regime is a table: name of an input -> function of (rng, shape, case) that draws it.  Inputs without a
function are drawn the general way.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...], Any], np.ndarray]
Regimes = Mapping[str, Mapping[str, Draw]]


def values_of(regimes: Regimes) -> Callable[..., Any]:
    """A specification's `values`: by the case's regime, else by the one called 'normal'."""

    def values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
        draw = regimes.get(case.data, {}).get(name) or regimes["normal"].get(name)
        return None if draw is None else draw(rng, shape, case)

    return values


def argument(case: Any, name: str, default: Any) -> Any:
    return dict(case.arguments).get(name, default)


def common(case: Any) -> np.random.Generator:
    """The same generator for every input of a case, so that inputs can be alike."""
    return np.random.default_rng(zlib.crc32(case.id.encode()))


def numbers(*choices: float) -> Draw:
    """Random elements of a few numbers."""
    return lambda rng, shape, case: rng.choice(np.array(choices), shape)


def uniform(low: float, high: float) -> Draw:
    return lambda rng, shape, case: rng.uniform(low, high, shape)


def normal(scale: float = 1.0, offset: float = 0.0) -> Draw:
    return lambda rng, shape, case: offset + scale * rng.standard_normal(shape)


def quarters(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
    """Multiples of 1/4 in [-2, 2]: differences of them meet each other and every breakpoint exactly."""
    return rng.integers(-8, 9, shape) / 4.0


def labels(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
    """1 and -1, as integers: labels have no gradient."""
    return 2 * rng.integers(0, 2, shape) - 1


def signs(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
    """1 and -1, as numbers."""
    return labels(rng, shape, case).astype(np.float64)


def scaled(scale: Mapping[str, float]) -> Draw:
    """Normal numbers of a magnitude for each dtype."""
    return lambda rng, shape, case: scale[case.dtype] * rng.standard_normal(shape)


def log_probabilities(scale: float = 1.0, axis: int = 1) -> Draw:
    """The log-softmax of random numbers along an axis."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
        scores = scale * rng.standard_normal(shape)
        if not scores.size or not shape:
            return scores
        along = min(axis, len(shape) - 1) if axis >= 0 else axis
        scores = scores - scores.max(axis=along, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=along, keepdims=True))

    return draw


def distribution(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
    """Probabilities along the classes."""
    return np.exp(log_probabilities()(rng, shape, case))


def class_count(case: Any) -> int:
    shape = case.shapes[0]
    return shape[min(1, len(shape) - 1)] if shape else 1


def classes(ignored: float = 0.0) -> Draw:
    """Class indices; that share of them is the case's `ignore_index`."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
        index = rng.integers(0, max(1, class_count(case)), shape)
        return np.where(rng.random(shape) < ignored, argument(case, "ignore_index", -100), index)

    return draw


def sprinkled(special: tuple[float, ...], scale: float = 1.0) -> Draw:
    """Normal numbers, a sixth of them replaced by special ones."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
        values = scale * rng.standard_normal(shape)
        return np.where(rng.random(shape) < 1 / 6, rng.choice(np.array(special), shape), values)

    return draw


def label_lists(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
    """For each row some distinct classes, then -1, then anything."""
    count = shape[-1]
    rows = []
    for _ in range(math.prod(shape[:-1])):
        order = rng.permutation(count)
        order[rng.integers(0, count + 1) :][:1] = -1
        rows.append(order)
    return np.array(rows, dtype=np.int64).reshape(shape)


def alike(share: float) -> Draw:
    """Rows of which that share is the same in every input."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], case: Any) -> np.ndarray:
        both = common(case)
        base, same = both.standard_normal(shape), both.random(shape[:-1] or (1,)) < share
        own = rng.standard_normal(shape)
        return np.where(same[..., None] if len(shape) > 1 else same[0], base, own)

    return draw

"""What the specifications of the window layers share: shapes, constraints, ways to draw values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, Rejection
from refimpl.error_bounds import FLOATS

# For 1, 2 and 3 spatial axes; the axes of a tensor differ in length.
SIZE: dict[int, tuple[int, ...]] = {1: (13,), 2: (9, 11), 3: (5, 6, 8)}
_SIZES = {"many_channels": {1: (6,), 2: (6, 7), 3: (4, 5, 6)}, "long": {1: (70,), 2: (5, 33), 3: (4, 5, 17)}}
# Batch and channels; 17 spans a vector and a tail where channels are contiguous.
LEAD: dict[str, tuple[int, ...]] = {
    "batch_3": (3, 2),
    "unbatched": (4,),
    "many_channels": (2, 17),
    "long": (2, 1),
    "batch_0": (0, 2),
}
SHAPES = tuple(LEAD)


def spatial(rank: int, shape: str) -> tuple[int, ...]:
    return _SIZES.get(shape, {}).get(rank, SIZE[rank])


def whole_shape(rank: int, shape: str) -> tuple[int, ...]:
    return (*LEAD[shape], *spatial(rank, shape))


def each(value: Any, rank: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * rank


CONSTRAINTS = (
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or shape != "unbatched",
        "channels_last needs a batch axis",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape != "batch_0" or data in ("normal", "positive"),
        "an empty batch has no special values",
    ),
)
TIERS = (
    Constraint(
        ("tier", "data"),
        lambda tier, data: tier != "exact" or data in ("normal", "duplicates"),
        "the exact tier has its own numbers",
    ),
    Constraint(
        ("shape", "tier"),
        lambda shape, tier: shape != "batch_0" or tier == "rounding",
        "an empty batch has no exact tier",
    ),
)


def corner(
    name: str,
    shape: tuple[int, ...],
    data: str = "normal",
    dtypes: tuple[str, ...] = DTYPES,
    layout: str = "contiguous",
    sweep: str = "default",
    **arguments: Any,
) -> Corner:
    return Corner(name, {"layout": layout}, Built(arguments, (shape,)), data, dtypes, sweep)


def rejection(
    name: str, exception: type[Exception], shape: tuple[int, ...], note: str = "", **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, (shape,)), exception, note)


def special_values(case: Any, name: str, rng: np.random.Generator, shape: tuple) -> np.ndarray | None:
    """The data regimes that only these families have, for inputs."""
    if not name.startswith("input"):
        return None
    kind = FLOATS[case.dtype]
    drawn: dict[str, Callable[[], np.ndarray]] = {
        "ties": lambda: rng.integers(-3, 0, shape) * 1.0,  # below zero: a start at 0 would win
        "equal": lambda: np.full(shape, -1.5),
        "all_negative_infinity": lambda: np.full(shape, -math.inf),
        "positive": lambda: rng.uniform(0.1, 2.0, shape),
        "all_zero": lambda: np.zeros(shape),
        "subnormal": lambda: (
            rng.integers(1 - 2 ** (kind.precision - 1), 2 ** (kind.precision - 1), shape) * kind.eta
        ),
    }
    return drawn[case.data]() if case.data in drawn else None

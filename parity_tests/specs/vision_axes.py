"""What the specifications of interpolate and its relatives share: shapes, targets, data, constraints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import refimpl.vision as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner
from refimpl.error_bounds import FLOATS, strictest
from refimpl.interpolation import MODES, Interpolate, Interpolation

_SIZE: dict[int, tuple[int, ...]] = {1: (7,), 2: (5, 8), 3: (3, 5, 4)}
_LONG: dict[int, tuple[int, ...]] = {1: (33,), 2: (3, 33), 3: (2, 3, 17)}
LEAD = {
    "batch_2": (2, 3),
    "many_channels": (1, 17),
    "long": (3, 1),
    "size_1": (2, 2),
    "batch_0": (0, 2),
}
# Named targets -> what is passed, from the spatial size; every axis gets another ratio.
TARGETS = {
    "size_up": lambda size: {"size": tuple(n + 4 + 3 * axis for axis, n in enumerate(size))},
    "size_up_and_down": lambda size: {
        "size": tuple((2 * n + 3, max(1, n - 3), n)[axis] for axis, n in enumerate(size))
    },
    "size_same": lambda size: {"size": size},
    "size_int": lambda size: {"size": 6},
    "scale_2": lambda size: {"scale_factor": 2},
    "scale_half": lambda size: {"scale_factor": 0.5 if min(size) > 1 else 1.0},
    "scale_each": lambda size: {"scale_factor": (1.7, 2.3, 1.25)[: len(size)]},
    "scale_up_and_down": lambda size: {
        "scale_factor": (1.3, 0.7, 2.5)[: len(size)] if min(size) > 1 else 1.5
    },
    "scale_same": lambda size: {"scale_factor": (1.05, 1.1, 1.2)[: len(size)]},
}
_LINEAR = ("linear", "bilinear", "trilinear")


def _rank_of(mode: str, rank: int) -> bool:
    return rank in MODES[mode][1]


def spatial(rank: int, shape: str) -> tuple[int, ...]:
    return {"long": _LONG[rank], "size_1": (1,) * rank}.get(shape, _SIZE[rank])


def _arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is passed, without what has its default."""
    given = TARGETS[row["target"]](spatial(row["rank"], row["shape"]))
    mode = {} if row["interpolation"] == "nearest" else {"mode": row["interpolation"]}
    options = {"align_corners": None, "recompute_scale_factor": None, "antialias": False}
    return (
        given
        | mode
        | {name: row[name] for name, value in options.items() if row.get(name, value) is not value}
    )


def build(row: Mapping[str, Any]) -> Built:
    return Built(_arguments(row), ((*LEAD[row["shape"]], *spatial(row["rank"], row["shape"])),))


def _call(case: Any, shape: tuple[int, ...]) -> Any:
    """The reference's call of a case."""
    layer = Interpolate if case.layer == "interpolate" else getattr(reference, case.layer)
    return layer(**dict(case.arguments)).call(np.zeros(shape))


def values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """NaN and infinity only where every implementation must read them, or none may."""
    if name != "input0":
        return None
    if case.data == "subnormal":
        limit = 2 ** (FLOATS[case.dtype].precision - 1)
        return rng.integers(1 - limit, limit, shape) * FLOATS[case.dtype].eta
    if case.data not in ("nan", "infinity"):
        return None
    values, special = rng.standard_normal(shape), {"nan": (np.nan,), "infinity": (np.inf, -np.inf)}[case.data]
    chosen = rng.random(shape) < 1 / 6
    call = _call(case, case.shapes[0])
    if isinstance(call, Interpolation):
        chosen &= ~np.broadcast_to(call.unsettled(strictest(case.dtype)), case.shapes[0])[
            tuple(map(slice, shape))
        ]
    return np.where(chosen, rng.choice(special, shape), values)


CONSTRAINTS = (
    Constraint(("interpolation", "rank"), _rank_of, "the mode exists for other numbers of axes only"),
    Constraint(
        ("interpolation", "align_corners"),
        lambda mode, corners: corners is None or MODES[mode][0] in ("linear", "cubic"),
        "only linear and cubic modes have corners to align",
    ),
    Constraint(
        ("target", "recompute_scale_factor"),
        lambda target, recompute: recompute is None or target.startswith("scale"),
        "only a scale factor can be recomputed",
    ),
    Constraint(
        ("interpolation", "data"),
        lambda mode, data: data != "infinity" or mode not in _LINEAR,
        "x0 + f (x1 - x0) makes NaN of an infinity, the weighted sum does not",
    ),
    Constraint(
        ("layout", "rank"),
        lambda layout, rank: layout != "channels_last" or rank > 1,
        "channels_last needs two axes",
    ),
    Constraint(
        ("tier", "data"),
        lambda tier, data: tier != "exact" or data == "normal",
        "the exact tier has its own numbers",
    ),
    Constraint(
        ("shape", "data", "tier"),
        lambda shape, data, tier: shape != "batch_0" or (data, tier) == ("normal", "rounding"),
        "an empty batch has no numbers",
    ),
    Constraint(
        ("shape", "layout"),
        lambda shape, layout: shape != "batch_0" or layout != "channels_last",
        "an empty batch has no memory format",
    ),
)


def corner(
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...] = DTYPES,
    data: str = "normal",
    **arguments: Any,
) -> Corner:
    return Corner(name, built=Built(arguments, (shape,)), dtypes=dtypes, data=data)

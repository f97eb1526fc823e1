"""Specifications of LPPool1d, LPPool2d and LPPool3d."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import refimpl.window as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from parity_tests.specs.window_shapes import (
    CONSTRAINTS,
    SHAPES,
    SIZE,
    corner,
    rejection,
    special_values,
    whole_shape,
)

_POWERS = (2, 1, 3.0, 1.5, 4, math.inf)
_POWER_WINDOWS: dict[int, dict[str, tuple]] = {
    1: {"stride": (None, 1, 2, 5), "kernel": (3, 2, 1)},
    2: {"stride": (None, 1, 2, (2, 3)), "kernel": ((3, 2), 2, (2, 4), 1)},
    3: {"stride": (None, 1, 2, (2, 1, 3)), "kernel": ((3, 2, 4), 2, (1, 2, 3), 1)},
}


def _build_power(rank: int, row: Mapping[str, Any]) -> Built:
    optional = {"stride": None, "ceil_mode": False}
    given = {name: row[name] for name, value in optional.items() if row[name] != value}
    return Built(
        {"norm_type": row["norm_type"], "kernel_size": row["kernel"], **given},
        (whole_shape(rank, row["shape"]),),
    )


_POWER_CONSTRAINTS = (
    *CONSTRAINTS,
    Constraint(
        ("norm_type", "data"),
        lambda norm_type, data: norm_type != 1.5 or data == "positive",
        "powers with a fraction are NaN of negative numbers",
    ),
    Constraint(
        ("data", "dtype", "norm_type"),
        lambda data, dtype, norm_type: data != "large" or (dtype == "float16" and norm_type <= 3),
        "powers of numbers that large overflow the accumulation type",
    ),
    Constraint(
        ("norm_type", "data"),
        lambda norm_type, data: norm_type != 3.0 or data in ("normal", "positive", "nan"),
        "sums with cancelling terms whose sign is uncertain have no certain root",
    ),
)


def _power_corners(rank: int) -> tuple[Corner, ...]:
    size, ones, few = SIZE[rank], (1,) * rank, ("float32", "bfloat16")

    def plain(
        name: str, shape: tuple, norm: Any, data: str = "positive", dtypes: tuple = DTYPES, **more: Any
    ) -> Corner:
        return corner(name, shape, data, dtypes, norm_type=norm, **{"kernel_size": 2, **more})

    def along(length: int) -> Any:
        return (*ones[1:], length) if rank > 1 else length

    return (
        plain("negative_infinity_norm", (2, 3, *size), -math.inf, "normal"),
        plain("negative_power", (2, 3, *size), -2.0),
        plain("power_one_half", (2, 3, *size), 0.5),
        plain("zeros_power_2", (2, 3, *size), 2, "all_zero"),
        plain("zeros_power_one_half", (2, 3, *size), 0.5, "all_zero"),
        plain("negative_sums", (2, 3, *size), 3.0, "equal"),
        plain("negative_numbers_to_a_fraction", (2, 3, *size), 1.5, "equal"),
        plain("window_hangs_over", (2, 3, *(5, 7, 3)[:rank]), 2, stride=2, ceil_mode=True),
        plain("kernel_covers_input", (2, 3, *(3,) * rank), 2, kernel_size=3),
        plain("kernel_hangs_over_all", (2, 3, *(2,) * rank), 2, kernel_size=3, ceil_mode=True),
        plain("size_one_axes", (2, 3, *ones), 2, kernel_size=1),
        plain(
            "axis_beyond_65536",
            (1, 2, *ones[1:], 70_001),
            2,
            dtypes=few,
            kernel_size=along(3),
            stride=along(2),
        ),
        plain(
            "channels_beyond_65536",
            (1, 66_000, *ones[1:], 3),
            2,
            dtypes=few[:1],
            kernel_size=along(2),
            stride=along(1),
        ),
    )


def _power_rejections(rank: int) -> tuple[Rejection, ...]:
    shape, many = (3, 2, *SIZE[rank]), (2,) * (rank + 1)

    def bad(
        name: str, exception: type[Exception], shape: tuple = shape, note: str = "", **arguments: Any
    ) -> Rejection:
        return rejection(name, exception, shape, note, **{"norm_type": 2, "kernel_size": 2, **arguments})

    division = "an accident of 1 / norm_type"
    return (
        bad("zero_power", ZeroDivisionError, note=division, norm_type=0),
        bad("power_none", TypeError, norm_type=None),
        bad("zero_kernel", RuntimeError, kernel_size=0),
        bad("negative_kernel", RuntimeError, kernel_size=-2),
        bad("zero_stride", RuntimeError, stride=0),
        bad("negative_stride", RuntimeError, stride=-1),
        bad("kernel_larger_than_input", RuntimeError, kernel_size=40),
        bad("too_many_strides", RuntimeError, stride=many),
        bad("fractional_kernel", TypeError, kernel_size=2.5),
        bad("ceil_mode_none", TypeError, ceil_mode=None),
        bad("too_many_axes", RuntimeError, (1, *shape)),
        bad("no_channels", RuntimeError, (3, 0, *SIZE[rank])),
        bad("empty_axis", RuntimeError, (*shape[:-1], 0)),
    )


def _power_spec(rank: int) -> LayerSpec:
    axes = {
        "norm_type": _POWERS,
        **_POWER_WINDOWS[rank],
        "ceil_mode": (False, True),
        "shape": SHAPES,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "data": ("normal", "positive", "large", "nan", "infinity"),
    }
    name = f"LPPool{rank}d"
    return LayerSpec(
        name=name,
        family="window",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("norm_type", "stride", "ceil_mode"),
        build=partial(_build_power, rank),
        constraints=_POWER_CONSTRAINTS,
        corners=_power_corners(rank),
        rejections=_power_rejections(rank),
        functions=(f"lp_pool{rank}d",),
        values=special_values,
    )


POWERS = tuple(_power_spec(rank) for rank in (1, 2, 3))

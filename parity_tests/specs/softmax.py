"""Specifications of Softmax, Softmin, Softmax2d and LogSoftmax, and of the adaptive log-softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs import adaptive_softmax
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts

_SHAPES = {
    "matrix": (5, 33),
    "row": (17,),
    "cube": (3, 4, 7),
    "image": (2, 5, 3, 7),
    "volume": (2, 3, 4, 5, 7),
    "batch_0": (0, 5, 7),
}
_IMAGES = {
    "batch_2": (2, 5, 3, 7),
    "unbatched": (5, 3, 7),
    "batch_0": (0, 5, 3, 7),
    "one_pixel": (3, 5, 1, 1),
    "long": (2, 33, 1, 17),
}
_DATA = ("normal", "wide", "offset", "specials", "negative_infinity", "masked", "equal")
_FAR = {"float16": 3e4, "bfloat16": 1e7, "float32": 1e7, "float64": 1e15}
# Distances around which exp leaves the normal, then the subnormal numbers of float16, float32 and float64.
_STEPS = (0.0, -0.0, -9.8, -16.7, -17.5, -87.3, -88.8, -95.0, -103.9, -104.1, -710.0, -745.0)

# Regimes that matter to exponentials, functions of (rng, shape, dtype); the others are the harness's.
_DRAW: Mapping[str, Callable[..., np.ndarray]] = {
    "wide": lambda rng, shape, dtype: 15 * rng.standard_normal(shape),
    "far_offset": lambda rng, shape, dtype: (
        4 * rng.standard_normal(shape) + rng.choice([-1.0, 1.0]) * _FAR[dtype]
    ),
    "masked": lambda rng, shape, dtype: np.where(
        rng.random(shape) < 0.6, -np.inf, rng.standard_normal(shape)
    ),
    "equal": lambda rng, shape, dtype: np.full(shape, rng.standard_normal()),
    "all_negative_infinity": lambda rng, shape, dtype: np.full(shape, -np.inf),
    "steps": lambda rng, shape, dtype: np.resize(_STEPS, shape),
    "one_nan": lambda rng, shape, dtype: np.append(rng.standard_normal(math.prod(shape) - 1), np.nan).reshape(
        shape
    ),
}


def _peaks(rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The largest element of row r stands at the r-th place from behind, a little above the others."""
    x = rng.standard_normal(shape)
    rows = np.moveaxis(x, axis, -1)
    for row, index in enumerate(np.ndindex(rows.shape[:-1])):
        rows[index][-1 - row % rows.shape[-1]] = rows[index].max() + rng.exponential(0.5)
    return x


def _empty(shape: str, data: str) -> bool:
    return shape != "batch_0" or data == "normal"


def _possible(shape: str, dim: int | None) -> bool:
    return dim is None or -len(_SHAPES[shape]) <= dim < len(_SHAPES[shape])


def _varies(shape: str, dim: int | None, layout: str) -> bool:
    rank = len(_SHAPES[shape])
    axis = (0 if rank in (1, 3) else 1) if dim is None else dim % rank
    return layout != "expanded" or shape == "batch_0" or axis != 0


def _channels_last(shape: str, layout: str) -> bool:
    return layout != "channels_last" or len((_SHAPES | _IMAGES)[shape]) in (4, 5)


_CONSTRAINTS = (
    Constraint(("shape", "data"), _empty, "an empty batch has no special values"),
    Constraint(("shape", "layout"), _channels_last, "channels_last needs 4 or 5 axes"),
)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    if not name.startswith("input") or case.data not in (*_DRAW, "peaks"):
        return None
    if case.data == "peaks":
        peaks = _peaks(rng, shape, 0 if case.name.endswith("first_axis") else 1)
        return -peaks if case.layer == "Softmin" else peaks
    return _DRAW[case.data](rng, shape, case.dtype)


def _corners(build: Callable[[int, int, bool], Built]) -> tuple[Corner, ...]:
    """`build` makes a case of `rows` rows of a `length`, with the axis as the last one or not."""
    return (
        Corner("all_negative_infinity", built=build(3, 5, True), data="all_negative_infinity", sweep="quick"),
        Corner("large", built=build(3, 5, True), data="large"),
        Corner("large_first_axis", built=build(3, 5, False), data="large"),
        Corner("nan_in_one_row", built=build(3, 5, True), data="one_nan"),
        Corner("underflow_in_steps", built=build(2, 12, True), data="steps"),
        Corner("underflow_in_steps_first_axis", built=build(2, 12, False), data="steps"),
        Corner("far_offset", built=build(3, 33, True), data="far_offset"),
        Corner("far_offset_first_axis", built=build(3, 33, False), data="far_offset"),
        Corner("largest_at_each_place", built=build(40, 37, True), data="peaks"),
        Corner("largest_at_each_place_first_axis", built=build(40, 37, False), data="peaks"),
        Corner(
            "largest_near_the_end", built=build(3, 1_027, True), data="peaks", dtypes=("float32", "float64")
        ),
        Corner("length_4097", built=build(2, 4097, True)),
        Corner("length_4097_first_axis", built=build(3, 4097, False)),
        Corner("length_65537", built=build(1, 65_537, True), dtypes=("float32", "float16")),
        Corner("length_65537_equal", built=build(1, 65_537, True), data="equal", dtypes=("float16",)),
        Corner("length_65537_first_axis", built=build(2, 65_537, False), dtypes=("float32",)),
        Corner("rows_beyond_65536", built=build(65_539, 2, True), dtypes=("float32",)),
        Corner("empty_rows", built=build(10, 0, True)),
        Corner("no_rows_empty_length", built=build(0, 0, True)),
        Corner("network_imagenet_classifier", built=build(1, 1000, True)),
    )


def _built(rows: int, length: int, last: bool) -> Built:
    return Built({"dim": int(last)}, ((rows, length) if last else (length, rows),))


def _built_2d(rows: int, length: int, last: bool) -> Built:
    return Built({}, ((rows, length, 1, 1) if last else (length, rows, 1),))


def _build(row: Mapping[str, Any]) -> Built:
    return Built({} if row["dim"] is None else {"dim": row["dim"]}, (_SHAPES[row["shape"]],))


def _rejections() -> tuple[Rejection, ...]:
    def bad(
        name: str, exception: type[Exception], dim: Any, shape: tuple = (3, 5), note: str = ""
    ) -> Rejection:
        return Rejection(name, Built({"dim": dim}, (shape,)), exception, note)

    return (
        bad("dim_too_large", IndexError, 2),
        bad("dim_too_small", IndexError, -3),
        bad("dim_of_scalar", IndexError, 1, ()),
        bad("dim_of_empty", IndexError, 2, (10, 0)),
        bad("text_dim", TypeError, "last"),
        bad("real_dim", TypeError, 1.0),
        bad("several_dims", TypeError, (0, 1)),
        bad("boolean_dim", TypeError, True, note="torch takes no bool for an int"),
    )


def _softmax(name: str, function: str) -> LayerSpec:
    return LayerSpec(
        name=name,
        family="softmax",
        reference=getattr(refimpl, name),
        axes={
            "shape": tuple(_SHAPES),
            "dim": (1, 0, 2, -1, -3, None),
            "data": _DATA,
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("shape", "dim"),
        build=_build,
        constraints=(
            Constraint(("shape", "dim"), _possible, "dim must be an axis of the input"),
            Constraint(("shape", "dim", "layout"), _varies, "expanded rows have a gradient of zeros"),
            *_CONSTRAINTS,
        ),
        corners=(
            *_corners(_built),
            Corner("inner_axis", {"shape": "volume", "dim": 3}),
            Corner("inner_axis_from_behind", {"shape": "volume", "dim": -2}),
            Corner("scalar", built=Built({"dim": 0}, ((),))),
            Corner("scalar_implicit", built=Built({}, ((),))),
            Corner("scalar_nan", built=Built({"dim": -1}, ((),)), data="nan"),
            Corner("length_1", built=Built({"dim": 2}, ((3, 4, 1, 6),))),
        ),
        rejections=_rejections(),
        functions=(function,),
        values=_values,
    )


_WRONG_RANK = tuple(
    Rejection(name, Built({}, (shape,)), ValueError)
    for name, shape in (("one_axis", (5,)), ("two_axes", (5, 3)), ("five_axes", (2, 3, 4, 5, 1)))
)

SPECS = (
    _softmax("Softmax", "softmax"),
    _softmax("Softmin", "softmin"),
    LayerSpec(
        name="Softmax2d",
        family="softmax",
        reference=refimpl.Softmax2d,
        axes={"shape": tuple(_IMAGES), "data": _DATA, "dtype": DTYPES, "layout": layouts(2)},
        factorial=("shape", "layout"),
        build=lambda row: Built({}, (_IMAGES[row["shape"]],)),
        constraints=(
            Constraint(
                ("shape", "layout"),
                lambda shape, layout: shape != "unbatched" or layout != "expanded",
                "expanded rows have a gradient of zeros",
            ),
            *_CONSTRAINTS,
        ),
        corners=(*_corners(_built_2d), Corner("one_channel", built=Built({}, ((3, 1, 4, 5),)))),
        rejections=_WRONG_RANK,
        functions=("softmax",),
        values=_values,
    ),
    _softmax("LogSoftmax", "log_softmax"),
    *adaptive_softmax.SPECS,
)

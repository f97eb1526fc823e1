"""Specifications of the padding layers, 1-d to 3-d, and of `pad`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl.padding import Pad

_MODE = {
    "Constant": "constant",
    "Zero": "constant",
    "Reflection": "reflect",
    "Replication": "replicate",
    "Circular": "circular",
}
# Last axis first, before and after: all sides different, one side only, one axis only, crops, crops and more.
_PADDING = {
    1: (2, 0, (1, 3), (3, 0), (0, 1), (-1, 2), (2, -1), (-1, -2)),
    2: (1, (3, 1, 2, 0), (0, 2, 0, 0), (0, 0, 1, 2), (2, -1, -1, 3), (-1, 1, 0, -2), (-2, -1, 2, 1)),
    3: (
        1,
        (3, 1, 2, 0, 1, 2),
        (0, 2, 0, 0, 0, 0),
        (0, 0, 0, 0, 2, 1),
        (2, -1, 0, 0, -1, 2),
        (-1, 1, 2, -2, 0, -1),
        (1, 0, -2, -1, 0, 2),
    ),
}
_SIZE = {1: (7,), 2: (5, 7), 3: (4, 5, 6)}
_LONG = {1: (33,), 2: (5, 33), 3: (3, 4, 17)}
_SHAPES = ("batch_3", "batch_1", "batch_0", "unbatched", "one_channel", "size_1", "long")
_NO_BATCH = ("unbatched", "batch_0")
_VALUES = (1.5, -0.0, 1 / 3, math.inf)

# Of the function: amounts for none to five axes, shapes of one to five axes.
_AMOUNTS = (
    (1, 2),
    (),
    (0, 3),
    (-1, 2),
    (2, 0, 1, 3),
    (1, -2, -1, 1),
    (1, 2, 0, 1, 2, 0),
    (-1, 0, 2, 1, 0, -1),
    (2, 1, 1, 0, 0, 1, 1, 2),
    (1, 0, 0, 1, 2, 0, -1, 2, 1, 0),
)
_INPUTS = ((3, 7), (7,), (3, 5, 7), (2, 3, 5, 7), (2, 3, 4, 5, 6), (0, 3, 5, 7), (2, 3, 1), (1, 2, 3, 17))

_CONSTRAINTS = (
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
)


def _gives(mode: str, size: int, before: int, after: int) -> bool:
    """Whether an axis can be padded so and something is left of it."""
    kept = size + min(before, 0) + min(after, 0)
    most = {"reflect": size - 1, "circular": kept}.get(mode, math.inf)
    enough = kept >= 0 or mode in ("reflect", "replicate")
    return enough and max(before, after) <= max(0, most) and size + before + after >= 1


def _fits(mode: str, amounts: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether `pad` takes these amounts for this shape."""
    axes = len(amounts) // 2
    ranks = range(axes, 99) if mode == "constant" else (axes + 1, axes + 2)
    if len(shape) not in ranks or (mode != "constant" and axes not in (1, 2, 3)):
        return False
    if mode in ("reflect", "replicate") and 0 in shape[-axes - 1 :]:
        return False
    padded = zip(reversed(shape), amounts[::2], amounts[1::2], strict=False)
    return all(_gives(mode, size, before, after) for size, before, after in padded)


def _sides(padding: Any, rank: int) -> tuple[int, ...]:
    return (padding,) * (2 * rank) if isinstance(padding, int) else padding


def _input_shape(rank: int, shape: str) -> tuple[int, ...]:
    size = {"long": _LONG[rank], "size_1": (1, *_SIZE[rank][1:])}.get(shape, _SIZE[rank])
    first = {"unbatched": (3,), "batch_0": (0, 2), "batch_1": (1, 3), "one_channel": (3, 1), "long": (1, 2)}
    return (*first.get(shape, (3, 2)), *size)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """NaN and infinity at the border, where padding reads; and in the upstream gradient."""
    values = rng.standard_normal(shape)
    if case.data == "border_not_finite" and name == "input0":
        values[..., :1], values[..., -1:] = math.nan, -math.inf
        return values
    if case.data == "gradient_not_finite" and name == "grad_output0":
        return np.where(rng.random(shape) < 1 / 6, rng.choice([math.nan, math.inf, -math.inf], shape), values)
    return None


def _build(rank: int, row: Mapping[str, Any]) -> Built:
    value = {"value": row["value"]} if "value" in row else {}
    return Built({"padding": row["padding"], **value}, (_input_shape(rank, row["shape"]),))


def _corners(kind: str, rank: int) -> tuple[Corner, ...]:
    value = {"value": -1.25} if kind == "Constant" else {}
    size, none, mode = _SIZE[rank], (0,) * (2 * rank - 2), _MODE[kind]
    batch, two = (2, 3, *size), ("float32", "float16")

    def corner(
        name: str, padding: Any, shape: tuple[int, ...] = batch, dtypes: tuple[str, ...] = DTYPES, **more: Any
    ) -> Corner:
        return Corner(name, built=Built({"padding": padding, **value, **more}, (shape,)), dtypes=dtypes)

    def special(name: str) -> Corner:
        padding = 2 if rank == 1 else _PADDING[rank][1]
        return Corner(name, built=Built({"padding": padding, **value}, (batch,)), data=name)

    most = {"reflect": lambda n: n - 1, "circular": lambda n: n}.get(mode, lambda n: n + 1)
    corners = [
        corner("far_end_reached", tuple(most(n) for n in reversed(size) for _ in range(2))),
        corner("far_end_reached_from_one_side", (most(size[-1]), 0, *none)),
        corner("cropped_to_one", (-3, 4 - size[-1], *none)),
        corner("axis_beyond_65536", (2, 1, *none), (1, 1, *(2,) * (rank - 1), 70_001), ("float32",)),
        corner("first_axis_beyond_65536", (1, 2, *none), (65_541, *(1,) * rank, 3), ("float32",)),
        special("border_not_finite"),
        special("gradient_not_finite"),
    ]
    if mode == "constant":
        corners += [
            corner("empty_axis", (1, 2, *none), (*batch[:-1], 0), two),
            corner("all_cropped_then_padded", (-size[-1], 3, *none)),
            corner("more_axes", 1, (2, 1, *batch)),
            corner("no_batch_no_channels", 2, size),
        ]
    else:
        corners += [corner("crop_and_pad_by_as_much", (-2, 2, *none))]
    if mode in ("constant", "circular"):
        corners += [
            corner("cropped_to_nothing", (-2, 2 - size[-1], *none), dtypes=two),
            corner("no_channels", 1, (2, 0, *size), two),
        ]
    if kind == "Constant":
        corners += [corner("value_nan", 2, value=math.nan)]
    return tuple(corners)


def _rejections(kind: str, rank: int) -> tuple[Rejection, ...]:
    value = {"value": 0.5} if kind == "Constant" else {}
    mode, good, none = _MODE[kind], (2, 3, *_SIZE[rank]), (0,) * (2 * rank - 2)
    last = good[-1]
    wrong_rank = ValueError if mode == "circular" else NotImplementedError

    def bad(
        name: str, exception: type[Exception], padding: Any, shape: tuple = good, note: str = "",
        crashes: bool = False,
    ) -> Rejection:  # fmt: skip
        built = Built({"padding": padding, **value}, (shape,))
        return Rejection(name, built, exception, note, crashes=crashes)

    rejections = [
        bad("odd_number_of_amounts", RuntimeError, (1, *none)),
        bad("fractional_amount", TypeError, 1.5),
        bad("text", TypeError, "same"),
        bad("more_amounts_than_axes", RuntimeError, (1,) * 2 * (rank + 3)),
        bad("cropped_beyond_nothing", RuntimeError, (-last, -1, *none)),
        bad("padding_that_overflows", RuntimeError, 2**63 - 1, crashes=mode == "replicate"),
    ]
    if mode == "constant":
        return (
            *rejections,
            bad("too_few_axes", RuntimeError, 1, good[3:]),
            bad("cropped_beyond_nothing_then_padded", RuntimeError, (-last - 1, 5, *none)),
        )
    too_few = RuntimeError if rank > 1 and mode != "circular" else wrong_rank
    rejections += [
        bad("too_few_axes", too_few, 1, good[-1:]),
        bad("too_many_axes", wrong_rank, 1, (1, 1, *good)),
    ]
    if mode in ("reflect", "replicate"):
        rejections += [
            bad("no_channels", RuntimeError, 1, (2, 0, *good[2:])),
            bad("empty_axis", RuntimeError, 0, (*good[:-1], 0)),
        ]
    if mode == "reflect":
        rejections += [
            bad("as_much_as_the_axis", RuntimeError, (last, 0, *none)),
            bad("as_much_behind_as_the_axis", RuntimeError, (0, last, *none)),
            bad("axis_of_1", RuntimeError, (1, 0, *none), (*good[:-1], 1)),
        ]
    if mode == "circular":
        rejections += [
            bad("more_than_the_axis", RuntimeError, (last + 1, 0, *none)),
            bad("empty_axis", RuntimeError, (1, 0, *none), (*good[:-1], 0)),
            bad(
                "more_than_the_crop_leaves",
                RuntimeError,
                (3, 2 - last, *none),
                note="torch compares with the axis before the crop",
            ),
        ]
    return tuple(rejections)


def _layer(kind: str, rank: int) -> LayerSpec:
    mode, name = _MODE[kind], f"{kind}Pad{rank}d"
    axes = {
        "padding": _PADDING[rank],
        "shape": _SHAPES,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "tier": ("rounding", "exact"),
        "data": ("normal", "specials", "tiny"),
    }
    axes |= {"value": _VALUES} if kind == "Constant" else {}
    constraints = (
        *_CONSTRAINTS,
        Constraint(
            ("padding", "shape"),
            lambda padding, shape: _fits(mode, _sides(padding, rank), _input_shape(rank, shape)),
            f"mode {mode!r} cannot give that much for an axis that short",
        ),
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: layout != "channels_last" or shape not in _NO_BATCH,
            "channels_last needs a batch",
        ),
    )
    return LayerSpec(
        name=name,
        family="padding",
        reference=getattr(refimpl, name),
        axes=axes,
        factorial=("padding", "shape"),
        build=partial(_build, rank),
        constraints=constraints,
        corners=_corners(kind, rank),
        rejections=_rejections(kind, rank),
        functions=("pad",),
        values=_values,
        keeps_channels_last=mode != "circular",
    )


def _build_function(row: Mapping[str, Any]) -> Built:
    mode = {} if row["padding_mode"] == "constant" else {"mode": row["padding_mode"]}
    value = {} if row["value"] is None else {"value": row["value"]}
    return Built({"pad": row["pad"], **mode, **value}, (row["shape"],))


def _function_rejections() -> tuple[Rejection, ...]:
    def bad(name: str, exception: type[Exception], shape: tuple = (2, 3, 7), **arguments: Any) -> Rejection:
        return Rejection(name, Built({"pad": (1, 1), **arguments}, (shape,)), exception)

    return (
        bad("unknown_mode", NotImplementedError, mode="zeros"),
        bad("one_number", TypeError, pad=1),
        bad("value_in_another_mode", RuntimeError, mode="reflect", value=1.0),
        bad("text_value", TypeError, value="1"),
        bad("scalar", RuntimeError, ()),
        bad(
            "four_axes_in_another_mode", NotImplementedError, (2, 3, 4, 5, 6), pad=(1,) * 8, mode="replicate"
        ),
        bad("one_axis_in_another_mode", NotImplementedError, (7,), mode="circular"),
        bad("two_axes_too_many", NotImplementedError, (2, 3, 5, 7), mode="reflect"),
        bad("no_amounts_in_another_mode", NotImplementedError, pad=(), mode="replicate"),
    )


def _function() -> LayerSpec:
    axes = {
        "pad": _AMOUNTS,
        "padding_mode": ("constant", "reflect", "replicate", "circular"),
        "shape": _INPUTS,
        "value": (None, *_VALUES),
        "dtype": DTYPES,
        "layout": layouts(3),
        "tier": ("rounding", "exact"),
        "data": ("normal", "specials", "tiny"),
    }
    constraints = (
        _CONSTRAINTS[0],
        Constraint(
            ("shape", "data", "tier"),
            lambda shape, data, tier: 0 not in shape or (data, tier) == ("normal", "rounding"),
            "an empty batch has no numbers",
        ),
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: layout != "channels_last" or (len(shape) > 3 and 0 not in shape),
            "channels_last needs four or five axes and a batch",
        ),
        Constraint(("padding_mode", "pad", "shape"), _fits, "the mode cannot give that much for that shape"),
        Constraint(
            ("padding_mode", "value"),
            lambda mode, value: mode == "constant" or value is None,
            "only mode 'constant' takes a value",
        ),
    )
    corners = (
        Corner(
            "value_zero_in_another_mode",
            built=Built({"pad": (2, 1), "mode": "reflect", "value": 0.0}, ((3, 5),)),
        ),
        Corner("scalar", built=Built({"pad": (), "value": 1.0}, ((),))),
        Corner(
            "reflect_cropped_to_nothing",
            sweep="full",
            built=Built({"pad": (1, 1, -2, -2, 0, 0), "mode": "reflect"}, ((2, 3, 4, 4, 3),)),
        ),
    )
    return LayerSpec(
        name="pad",
        family="padding",
        reference=Pad,
        axes=axes,
        factorial=("padding_mode", "pad", "shape"),
        build=_build_function,
        constraints=constraints,
        corners=corners,
        rejections=_function_rejections(),
        functions=("pad",),
        values=_values,
        is_function=True,
        keeps_channels_last=lambda arguments: arguments.get("mode", "constant") != "circular",
    )


SPECS = (*(_layer(kind, rank) for kind in _MODE for rank in (1, 2, 3)), _function())

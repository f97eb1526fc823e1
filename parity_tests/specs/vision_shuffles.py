"""Specifications of PixelShuffle, PixelUnshuffle and ChannelShuffle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import refimpl.vision as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts

_NAMES = {"PixelShuffle": "upscale_factor", "PixelUnshuffle": "downscale_factor", "ChannelShuffle": "groups"}
# Leading axes, channels (times what the factor needs), height and width (in blocks).
_SHAPES: dict[str, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    "batch_3": ((3,), 2, (5, 7)),
    "unbatched": ((), 3, (4, 5)),
    "more_axes": ((2, 3), 2, (3, 4)),
    "one_channel": ((2,), 1, (3, 5)),
    "many_channels": ((1,), 17, (2, 3)),
    "size_1": ((2,), 3, (1, 1)),
    "long": ((1,), 2, (3, 33)),
    "batch_0": ((0,), 2, (3, 4)),
}
_CONSTRAINTS = (
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or shape not in ("unbatched", "more_axes", "batch_0"),
        "channels_last needs a batch axis and no more",
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
)


def _shape(name: str, factor: int, shape: str) -> tuple[int, ...]:
    lead, channels, size = _SHAPES[shape]
    if name == "PixelShuffle":
        return (*lead, channels * factor**2, *size)
    if name == "PixelUnshuffle":
        return (*lead, channels, *(factor * n for n in size))
    return (*(lead[:1] or (3,)), channels * factor, *lead[1:], *size)


def _build(name: str, row: Mapping[str, Any]) -> Built:
    return Built({_NAMES[name]: row["factor"]}, (_shape(name, row["factor"], row["shape"]),))


def _corners(name: str) -> tuple[Corner, ...]:
    def plain(
        corner: str, shape: tuple[int, ...], factor: int = 2, dtypes: tuple[str, ...] = DTYPES
    ) -> Corner:
        return Corner(corner, built=Built({_NAMES[name]: factor}, (shape,)), dtypes=dtypes)

    few = ("float32", "bfloat16")
    common = (plain("no_channels", (2, 0, 4, 6), dtypes=few), plain("empty_axis", (2, 4, 0, 6), dtypes=few))
    if name == "ChannelShuffle":
        return (
            *common,
            plain("one_spatial_axis", (2, 6, 5), 3),
            plain("three_spatial_axes", (2, 6, 3, 4, 5), 3),
            plain("as_many_groups_as_channels", (2, 5, 3, 4), 5),
            plain("channels_beyond_65536", (1, 66_000, 1, 1), 3, few),
        )
    size = (1, 1, 140_002) if name == "PixelShuffle" else (1, 2, 140_002)
    channels = 4 if name == "PixelShuffle" else 1
    return (
        *common,
        plain("axis_beyond_65536", (1, channels, *size[1:]), 2, few),
        plain("factor_5", _shape(name, 5, "batch_3"), 5),
    )


def _rejections(name: str) -> tuple[Rejection, ...]:
    good = _shape(name, 2, "batch_3")

    def bad(
        what: str, exception: type[Exception], factor: Any = 2, shape: tuple[int, ...] = good
    ) -> Rejection:
        return Rejection(what, Built({_NAMES[name]: factor}, (shape,)), exception)

    # one element too many where the factor must divide
    odd = {"PixelUnshuffle": (*good[:-1], good[-1] + 1)}.get(name, (good[0], good[1] + 1, *good[2:]))
    return (
        bad("zero", RuntimeError, 0),
        bad("negative", RuntimeError, -2),
        bad("fractional", TypeError, 2.0),
        bad("text", TypeError, "2"),
        bad("none", TypeError, None),
        bad("two_numbers", TypeError, (2, 2)),
        bad("bool", TypeError, True),
        bad("not_divisible", RuntimeError, shape=odd),
        bad("two_axes", RuntimeError, shape=(4, 6)),
    )


def _spec(name: str) -> LayerSpec:
    axes = {
        "factor": (2, 3, 1),
        "shape": tuple(_SHAPES),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "tiny", "specials"),
    }
    return LayerSpec(
        name=name,
        family="vision",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("factor", "shape", "layout"),
        build=partial(_build, name),
        constraints=_CONSTRAINTS,
        corners=_corners(name),
        rejections=_rejections(name),
        functions=(
            {"PixelShuffle": "pixel_shuffle", "PixelUnshuffle": "pixel_unshuffle"}.get(
                name, "channel_shuffle"
            ),
        ),
        keeps_channels_last=True,
    )


SHUFFLES = tuple(map(_spec, _NAMES))

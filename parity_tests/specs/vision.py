"""Specifications of the vision layers: interpolate, Upsample and its two relatives, and the shuffles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import refimpl.vision as reference
from parity_tests.specs.spec import DTYPES, Built, LayerSpec, Rejection, layouts
from parity_tests.specs.vision_axes import CONSTRAINTS, LEAD, TARGETS, build, corner, spatial, values
from parity_tests.specs.vision_interpolation import INTERPOLATE
from parity_tests.specs.vision_shuffles import SHUFFLES


def _upsample() -> LayerSpec:
    axes = {
        "interpolation": ("nearest", "linear", "bilinear", "bicubic", "trilinear", "nearest-exact"),
        "target": ("scale_2", "size_up", "size_up_and_down", "scale_each", "scale_up_and_down", "size_int"),
        "align_corners": (None, False, True),
        "recompute_scale_factor": (None, True, False),
        "rank": (2, 1, 3),
        "shape": tuple(LEAD),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "tiny", "offset", "nan"),
    }
    plane = (2, 3, 5, 6)
    rejections = (
        Rejection("neither_size_nor_scale", Built({}, (plane,)), ValueError),
        Rejection("scale_0", Built({"scale_factor": 0}, (plane,)), ValueError),
        Rejection("size_and_scale", Built({"size": 4, "scale_factor": 2}, (plane,)), ValueError),
        Rejection("scale_text", Built({"scale_factor": "two"}, (plane,)), ValueError),
        Rejection(
            "linear_of_a_plane", Built({"scale_factor": 2, "mode": "linear"}, (plane,)), NotImplementedError
        ),
        Rejection("no_channels", Built({"scale_factor": 2}, ((2, 0, 5, 6),)), RuntimeError),
    )
    return LayerSpec(
        name="Upsample",
        family="vision",
        reference=reference.Upsample,
        axes=axes,
        factorial=("interpolation", "target", "align_corners"),
        build=build,
        constraints=CONSTRAINTS,
        corners=(corner("scale_as_text", (2, 3, 4, 5), ("float32",), scale_factor="2"),),
        rejections=rejections,
        functions=("interpolate",),
        values=values,
        keeps_channels_last=True,
    )


def _build_plane(mode: str, row: Mapping[str, Any]) -> Built:
    size = spatial(2, row["shape"])
    return Built(TARGETS[row["target"]](size), ((*LEAD[row["shape"]], *size),))


def _upsampling(name: str, mode: str, corners: bool) -> LayerSpec:
    axes = {
        "target": (
            "scale_2",
            "size_up_and_down",
            "size_int",
            "scale_half",
            "scale_each",
            "scale_same",
        ),
        "shape": tuple(LEAD),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "nan", "zeros")
        if mode == "nearest"
        else ("normal", "large", "offset", "nan"),
    }
    constraints = tuple(c for c in CONSTRAINTS if set(c.axes) <= axes.keys())
    line = (
        ()
        if mode == "nearest"
        else (Rejection("line", Built({"size": (4,)}, ((2, 3, 5),)), NotImplementedError),)
    )
    rejections = (
        Rejection("neither_size_nor_scale", Built({}, ((2, 3, 5, 6),)), ValueError),
        Rejection("too_many_sizes", Built({"size": (2, 3, 4)}, ((2, 3, 5, 6),)), ValueError),
        Rejection("two_axes", Built({"size": 4}, ((5, 6),)), NotImplementedError),
        Rejection("empty_axis", Built({"size": 4}, ((2, 3, 5, 0),)), RuntimeError),
        *line,
    )
    return LayerSpec(
        name=name,
        family="vision",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("target", "shape"),
        build=partial(_build_plane, mode),
        constraints=constraints,
        corners=(
            corner("one_pixel", (2, 3, 1, 1), size=(3, 4)),
            corner("to_one_pixel", (2, 3, 4, 5), size=1),
        ),
        rejections=rejections,
        functions=("interpolate",),
        values=values,
        keeps_channels_last=True,
    )


SPECS = (
    INTERPOLATE,
    _upsample(),
    _upsampling("UpsamplingNearest2d", "nearest", False),
    _upsampling("UpsamplingBilinear2d", "bilinear", True),
    *SHUFFLES,
)

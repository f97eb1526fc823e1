"""Specifications of the vision layers: interpolate, Upsample and its two relatives, and the shuffles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import refimpl.vision as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection, layouts
from parity_tests.specs.vision_shuffles import SHUFFLES
from refimpl.error_bounds import FLOATS, strictest
from refimpl.interpolation import MODES, Interpolate, Interpolation

_SIZE: dict[int, tuple[int, ...]] = {1: (7,), 2: (5, 8), 3: (3, 5, 4)}
_LONG: dict[int, tuple[int, ...]] = {1: (33,), 2: (3, 33), 3: (2, 3, 17)}
_LEAD = {
    "batch_2": (2, 3),
    "one_channel": (3, 1),
    "many_channels": (1, 17),
    "long": (1, 2),
    "size_1": (2, 2),
    "batch_0": (0, 2),
}
# Named targets -> what is passed, from the spatial size; every axis gets another ratio.
_TARGETS = {
    "size_up": lambda size: {"size": tuple(n + 4 + 3 * axis for axis, n in enumerate(size))},
    "size_down": lambda size: {"size": tuple(max(1, n - 2 - axis) for axis, n in enumerate(size))},
    "size_up_and_down": lambda size: {
        "size": tuple((2 * n + 3, max(1, n - 3), n)[axis] for axis, n in enumerate(size))
    },
    "size_same": lambda size: {"size": size},
    "size_int": lambda size: {"size": 6},
    "scale_2": lambda size: {"scale_factor": 2},
    "scale_3": lambda size: {"scale_factor": 3.0},
    "scale_half": lambda size: {"scale_factor": 0.5 if min(size) > 1 else 1.0},
    "scale_each": lambda size: {"scale_factor": (1.7, 2.3, 1.25)[: len(size)]},
    "scale_up_and_down": lambda size: {
        "scale_factor": (1.3, 0.7, 2.5)[: len(size)] if min(size) > 1 else 1.5
    },
    "scale_of_no_change": lambda size: {"scale_factor": (1.05, 1.1, 1.2)[: len(size)]},
}
_LINEAR = ("linear", "bilinear", "trilinear")


def _rank_of(mode: str, rank: int) -> bool:
    return rank in MODES[mode][1]


def _size(rank: int, shape: str) -> tuple[int, ...]:
    return {"long": _LONG[rank], "size_1": (1,) * rank}.get(shape, _SIZE[rank])


def _arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is passed, without what has its default."""
    given = _TARGETS[row["target"]](_size(row["rank"], row["shape"]))
    mode = {} if row["interpolation"] == "nearest" else {"mode": row["interpolation"]}
    options = {"align_corners": None, "recompute_scale_factor": None, "antialias": False}
    return (
        given
        | mode
        | {name: row[name] for name, value in options.items() if row.get(name, value) is not value}
    )


def _build(row: Mapping[str, Any]) -> Built:
    return Built(_arguments(row), ((*_LEAD[row["shape"]], *_size(row["rank"], row["shape"])),))


def _call(case: Any, shape: tuple[int, ...]) -> Any:
    """The reference's call of a case."""
    layer = Interpolate if case.layer == "interpolate" else getattr(reference, case.layer)
    return layer(**dict(case.arguments)).call(np.zeros(shape))


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
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


_CONSTRAINTS = (
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
_ANTIALIAS = Constraint(
    ("interpolation", "antialias"),
    lambda mode, antialias: not antialias or mode in ("bilinear", "bicubic"),
    "only bilinear and bicubic interpolation have antialias",
)


def _corner(
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...] = DTYPES,
    data: str = "normal",
    **arguments: Any,
) -> Corner:
    return Corner(name, built=Built(arguments, (shape,)), dtypes=dtypes, data=data)


def _corners() -> tuple[Corner, ...]:
    few = ("float32", "bfloat16")
    return (
        # size is floor(119.99999999999999)
        _corner("ratio_of_sizes", (1, 2, 88), scale_factor=120 / 88),
        _corner("four_to_six_exactly", (1, 2, 4), size=6, mode="nearest-exact"),
        _corner("nearest_quarter", (1, 2, 4, 4), scale_factor=0.25),
        _corner("nearest_twice_as_long_by_2_3", (2, 3, 3), scale_factor=2.3),
        _corner("nearest_twice_as_long_by_2_3_plane", (2, 3, 3, 4), scale_factor=(2.3, 2.1)),
        _corner("linear_same_length_by_1_3", (1, 2, 3), scale_factor=1.3, mode="linear"),
        _corner("bilinear_seven_by_1_5", (1, 2, 7, 7), scale_factor=1.5, mode="bilinear"),
        _corner("two_to_257", (1, 2, 2), size=257),
        _corner("one_pixel_to_many", (2, 3, 1, 1), size=(3, 4), mode="bicubic"),
        _corner("many_pixels_to_one", (2, 3, 5, 7), size=1, mode="bilinear", align_corners=True),
        _corner("large_reduction", (1, 2, 64, 50), size=(3, 2), mode="bicubic", antialias=True),
        _corner("large_reduction_bilinear", (1, 2, 64, 50), size=(3, 2), mode="bilinear", antialias=True),
        _corner("nearest_beyond_65536", (1, 1, 70_001), few, size=70_003),
        _corner("linear_beyond_65536", (1, 1, 70_001), few, size=9, mode="linear"),
        _corner(
            "bilinear_beyond_65536", (1, 1, 1, 7), few, size=(1, 70_001), mode="bilinear", align_corners=True
        ),
        _corner("channels_beyond_65536", (1, 66_000, 1, 2), few, size=(1, 3), mode="bilinear"),
        _corner("subnormal_bilinear", (1, 2, 4, 5), data="subnormal", scale_factor=2, mode="bilinear"),
        # Feature pyramid (Lin et al., arXiv:1612.03144); U-Net with bilinear upsampling (Ronneberger et al.,
        # 2015)
        _corner("network_pyramid_top_down", (1, 256, 14, 14), ("float32", *HALF), scale_factor=2.0),
        _corner(
            "network_unet_up1",
            (1, 64, 56, 56),
            ("float32",),
            scale_factor=2,
            mode="bilinear",
            align_corners=True,
        ),
    )


def _rejections() -> tuple[Rejection, ...]:
    plane = (2, 3, 5, 6)

    def bad(
        name: str, exception: type[Exception], shape: tuple[int, ...] = plane, **arguments: Any
    ) -> Rejection:
        given = (
            arguments if {"size", "scale_factor"} & arguments.keys() else {"scale_factor": 2.0, **arguments}
        )
        return Rejection(name, Built(given, (shape,)), exception)

    return (
        bad("neither_size_nor_scale", ValueError, size=None),
        bad("size_and_scale", ValueError, size=4, scale_factor=2.0),
        bad("corners_of_nearest", ValueError, align_corners=True),
        bad("corners_of_nearest_off", ValueError, align_corners=False),
        bad("corners_of_area", ValueError, mode="area", align_corners=False),
        bad("corners_int", TypeError, mode="bilinear", align_corners=1),
        bad("recomputed_size", ValueError, size=4, recompute_scale_factor=True),
        bad("too_many_sizes", ValueError, size=(2, 3, 4)),
        bad("too_few_scales", ValueError, scale_factor=(2.0,)),
        bad("fractional_size", TypeError, size=4.5),
        bad("fractional_sizes", TypeError, size=(4.5, 3)),
        bad("size_text", TypeError, size="4"),
        bad("size_bool", TypeError, size=True),
        bad("size_0", RuntimeError, size=0),
        bad("size_negative", RuntimeError, size=-1),
        bad("scale_0", RuntimeError, scale_factor=0.0),
        bad("scale_negative", RuntimeError, scale_factor=-1.5),
        bad("scale_to_nothing", RuntimeError, scale_factor=0.1, mode="bicubic"),
        bad("scale_nan", RuntimeError, scale_factor=float("nan")),
        bad("unknown_mode", NotImplementedError, mode="cubic"),
        bad("mode_none", NotImplementedError, mode=None),
        bad("linear_of_a_plane", NotImplementedError, mode="linear"),
        bad("bilinear_of_a_line", NotImplementedError, (2, 3, 5), mode="bilinear"),
        bad("bicubic_of_a_volume", NotImplementedError, (2, 3, 4, 5, 6), mode="bicubic"),
        bad("trilinear_of_a_plane", NotImplementedError, mode="trilinear"),
        bad("two_axes", NotImplementedError, (5, 6)),
        bad("six_axes", NotImplementedError, (1, 1, 2, 3, 5, 6)),
        bad("no_channels", RuntimeError, (2, 0, 5, 6)),
        bad("empty_axis", RuntimeError, (2, 3, 5, 0), mode="bilinear"),
        bad("empty_axis_area", RuntimeError, (2, 3, 5, 0), size=2, mode="area"),
        bad("antialias_of_nearest", ValueError, antialias=True),
        bad("antialias_of_a_line", ValueError, (2, 3, 5), mode="linear", antialias=True),
    )


def _interpolate() -> LayerSpec:
    axes = {
        "interpolation": tuple(MODES),
        "target": tuple(_TARGETS),
        "align_corners": (None, False, True),
        "antialias": (False, True),
        "recompute_scale_factor": (None, True, False),
        "rank": (2, 1, 3),
        "shape": tuple(_LEAD),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "tiny", "offset", "nan", "infinity"),
    }
    return LayerSpec(
        name="interpolate",
        family="vision",
        reference=Interpolate,
        axes=axes,
        factorial=("interpolation", "target", "align_corners", "antialias"),
        build=_build,
        constraints=(*_CONSTRAINTS, _ANTIALIAS),
        corners=_corners(),
        rejections=_rejections(),
        functions=("interpolate",),
        values=_values,
        is_function=True,
        keeps_channels_last=_keeps,
    )


def _keeps(arguments: Mapping[str, Any]) -> bool:
    """Adaptive pooling of volumes does not keep the memory format; its size has three entries or stands for
    three."""
    return arguments.get("mode") != "area"


def _upsample() -> LayerSpec:
    axes = {
        "interpolation": ("nearest", "linear", "bilinear", "bicubic", "trilinear", "nearest-exact"),
        "target": ("scale_2", "size_up", "size_up_and_down", "scale_each", "scale_up_and_down", "size_int"),
        "align_corners": (None, False, True),
        "recompute_scale_factor": (None, True, False),
        "rank": (2, 1, 3),
        "shape": tuple(_LEAD),
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
        build=_build,
        constraints=_CONSTRAINTS,
        corners=(_corner("scale_as_text", (2, 3, 4, 5), ("float32",), scale_factor="2"),),
        rejections=rejections,
        functions=("interpolate",),
        values=_values,
        keeps_channels_last=True,
    )


def _build_plane(mode: str, row: Mapping[str, Any]) -> Built:
    size = _size(2, row["shape"])
    return Built(_TARGETS[row["target"]](size), ((*_LEAD[row["shape"]], *size),))


def _upsampling(name: str, mode: str, corners: bool) -> LayerSpec:
    axes = {
        "target": tuple(_TARGETS),
        "shape": tuple(_LEAD),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "tiny", "offset", "nan"),
    }
    constraints = tuple(c for c in _CONSTRAINTS if set(c.axes) <= axes.keys())
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
            _corner("one_pixel", (2, 3, 1, 1), size=(3, 4)),
            _corner("to_one_pixel", (2, 3, 4, 5), size=1),
        ),
        rejections=rejections,
        functions=("interpolate",),
        values=_values,
        keeps_channels_last=True,
    )


SPECS = (
    _interpolate(),
    _upsample(),
    _upsampling("UpsamplingNearest2d", "nearest", False),
    _upsampling("UpsamplingBilinear2d", "bilinear", True),
    *SHUFFLES,
)

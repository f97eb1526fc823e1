"""Specification of interpolate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection, layouts
from parity_tests.specs.vision_axes import CONSTRAINTS, LEAD, TARGETS, build, corner, values
from refimpl.interpolation import MODES, Interpolate

_ANTIALIAS = Constraint(
    ("interpolation", "antialias"),
    lambda mode, antialias: not antialias or mode in ("bilinear", "bicubic"),
    "only bilinear and bicubic interpolation have antialias",
)


def _corners() -> tuple[Corner, ...]:
    few, wide = ("float32", "bfloat16"), ("float64", "float32")
    return (
        # size is floor(119.99999999999999)
        corner("ratio_of_sizes", (1, 2, 88), scale_factor=120 / 88),
        corner("four_to_six_exactly", (1, 2, 4), size=6, mode="nearest-exact"),
        corner("signed_zeros_nearest", (2, 3, 5, 8), data="zeros", scale_factor=2),
        corner("signed_zeros_nearest_exact", (2, 3, 7), data="zeros", size=10, mode="nearest-exact"),
        corner("nearest_quarter", (1, 2, 4, 4), scale_factor=0.25),
        corner("nearest_twice_as_long_by_2_3", (2, 3, 3), scale_factor=2.3),
        corner("nearest_twice_as_long_by_2_3_plane", (2, 3, 3, 4), scale_factor=(2.3, 2.1)),
        corner("nearest_places_beyond_float32", (1, 2, 3, 33), scale_factor=(1.7, 2.3)),
        corner(
            "antialias_same_length", (2, 3, 5, 8), scale_factor=(1.05, 1.1), mode="bilinear", antialias=True
        ),
        corner("area_of_a_volume", (2, 5, 7, 6, 9), size=(2, 4, 3), mode="area"),
        corner("area_reduced_to_nothing", (1, 2, 1, 1), scale_factor=0.5, mode="area"),
        corner("linear_same_length_by_1_3", (1, 2, 3), scale_factor=1.3, mode="linear"),
        corner("bilinear_seven_by_1_5", (1, 2, 7, 7), scale_factor=1.5, mode="bilinear"),
        corner("two_to_257", (1, 2, 2), size=257),
        corner("one_pixel_to_many", (2, 3, 1, 1), size=(3, 4), mode="bicubic"),
        corner("many_pixels_to_one", (2, 3, 5, 7), size=1, mode="bilinear", align_corners=True),
        corner("to_two_corners", (1, 2, 5, 7), wide, size=2, mode="bicubic", align_corners=True),
        corner(
            "antialias_to_one_corner",
            (1, 2, 5, 7),
            wide,
            size=1,
            mode="bicubic",
            align_corners=True,
            antialias=True,
        ),
        corner("large_reduction", (1, 2, 64, 50), size=(3, 2), mode="bicubic", antialias=True),
        corner("large_reduction_bilinear", (1, 2, 64, 50), size=(3, 2), mode="bilinear", antialias=True),
        corner("nearest_beyond_65536", (1, 1, 70_001), few, size=70_003),
        corner("linear_beyond_65536", (1, 1, 70_001), few, size=9, mode="linear"),
        corner(
            "bilinear_beyond_65536", (1, 1, 1, 7), few, size=(1, 70_001), mode="bilinear", align_corners=True
        ),
        corner("channels_beyond_65536", (1, 66_000, 1, 2), few[:1], size=(1, 3), mode="bilinear"),
        corner("subnormal_bilinear", (1, 2, 4, 5), data="subnormal", scale_factor=2, mode="bilinear"),
        # Feature pyramid (Lin et al., arXiv:1612.03144); U-Net with bilinear upsampling (Ronneberger et al.,
        # 2015)
        corner("network_pyramid_top_down", (1, 256, 14, 14), ("float32", *HALF), scale_factor=2.0),
        corner(
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


def _specification() -> LayerSpec:
    axes = {
        "interpolation": tuple(MODES),
        "target": tuple(TARGETS),
        "align_corners": (None, False, True),
        "antialias": (False, True),
        "recompute_scale_factor": (None, True, False),
        "rank": (2, 1, 3),
        "shape": tuple(LEAD),
        "dtype": DTYPES,
        "layout": layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "offset", "nan", "infinity"),
    }
    return LayerSpec(
        name="interpolate",
        family="vision",
        reference=Interpolate,
        axes=axes,
        factorial=("interpolation", "target", "align_corners", "antialias"),
        build=build,
        constraints=(*CONSTRAINTS, _ANTIALIAS),
        corners=_corners(),
        rejections=_rejections(),
        functions=("interpolate",),
        values=values,
        is_function=True,
        keeps_channels_last=_keeps,
    )


def _keeps(arguments: Mapping[str, Any]) -> bool:
    """Adaptive pooling of volumes does not keep the memory format; its size has three entries or stands for
    three."""
    return arguments.get("mode") != "area"


INTERPOLATE = _specification()

"""Specifications of Unfold and Fold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import refimpl.window as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from parity_tests.specs.window_shapes import (
    CONSTRAINTS,
    SHAPES,
    TIERS,
    corner,
    each,
    rejection,
    spatial,
    special_values,
    whole_shape,
)

_BLOCKS = {
    "stride": (1, 2, (2, 3), (5, 4)),
    "padding": (0, 1, (2, 1), (0, 3)),
    "dilation": (1, 2, (1, 3), (3, 2)),
    "kernel": ((3, 2), 2, (1, 4), 1),
}


def _blocks(size: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[int]:
    values = (each(value, 2) for value in (kernel, stride, padding, dilation))
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, *values, strict=True)]


def _fits_blocks(kernel: Any, padding: Any, dilation: Any, shape: str) -> bool:
    return min(_blocks(spatial(2, shape), kernel, 1, padding, dilation)) >= 1


def _block_arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """kernel_size, then the arguments that differ from torch's defaults."""
    defaults = {"dilation": 1, "padding": 0, "stride": 1}
    return {"kernel_size": row["kernel"]} | {
        name: row[name] for name in defaults if row[name] != defaults[name]
    }


def _build_unfold(row: Mapping[str, Any]) -> Built:
    return Built(_block_arguments(row), (whole_shape(2, row["shape"]),))


def _columns(
    shape: tuple[int, ...], kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> tuple:
    """Shape of the columns of an image (N, C, H, W) or (C, H, W)."""
    count = math.prod(_blocks(shape[-2:], kernel, stride, padding, dilation))
    return (*shape[:-3], shape[-3] * math.prod(each(kernel, 2)), count)


def _build_fold(row: Mapping[str, Any]) -> Built:
    shape = whole_shape(2, row["shape"])
    columns = _columns(shape, row["kernel"], row["stride"], row["padding"], row["dilation"])
    return Built({"output_size": shape[-2:], **_block_arguments(row)}, (columns,))


def _block_corners(folding: bool) -> tuple[Corner, ...]:
    few = ("float32", "bfloat16")

    def plain(
        name: str, shape: tuple, dtypes: tuple = DTYPES, data: str = "normal", **arguments: Any
    ) -> Corner:
        rest = {key: value for key, value in arguments.items() if key != "kernel_size"}
        if not folding:
            return corner(name, shape, data, dtypes, **arguments)
        columns = _columns(shape, arguments["kernel_size"], **rest)
        return corner(name, columns, data, dtypes, output_size=shape[-2:], **arguments)

    return (
        plain("kernel_covers_image", (2, 3, 5, 7), kernel_size=(5, 7)),
        plain("all_padding_around_one", (2, 3, 1, 1), kernel_size=3, padding=1),
        plain("padding_first_element", (2, 3, 4, 8), kernel_size=2, padding=1),
        plain("padding_wider_than_kernel", (2, 2, 3, 4), kernel_size=(2, 1), padding=(3, 2)),
        plain("gaps_between_blocks", (2, 3, 9, 11), kernel_size=2, stride=4),
        plain("axis_beyond_65536", (1, 2, 1, 70_001), few, kernel_size=(1, 3), stride=(1, 2)),
        plain("batch_beyond_65536", (66_000, 1, 1, 3), few[:1], kernel_size=(1, 2)),
        plain("channels_beyond_65536", (1, 66_000, 1, 3), few[:1], kernel_size=(1, 2)),
        plain("subnormal_blocks", (2, 3, 5, 7), data="subnormal", kernel_size=2),
        # The first layers of LeNet-5 and AlexNet as matrices
        plain("network_lenet5_conv1", (1, 1, 32, 32), kernel_size=5),
        plain("network_alexnet_conv1", (1, 3, 224, 224), few, kernel_size=11, stride=4, padding=2),
    )


def _block_rejections(folding: bool) -> tuple[Rejection, ...]:
    image = {"output_size": (5, 6)} if folding else {}
    good = (2, 12, 20) if folding else (2, 3, 5, 6)

    def bad(name: str, exception: type[Exception], shape: tuple = good, **arguments: Any) -> Rejection:
        return rejection(name, exception, shape, **{**image, "kernel_size": 2, **arguments})

    rejections = (
        bad("zero_kernel", RuntimeError, kernel_size=0),
        bad("negative_kernel", RuntimeError, kernel_size=-2),
        bad("zero_stride", RuntimeError, stride=0),
        bad("zero_dilation", RuntimeError, dilation=0),
        bad("negative_padding", RuntimeError, padding=-1),
        bad("kernel_larger_than_image", RuntimeError, kernel_size=(2, 9)),
        bad("too_many_kernel_sizes", RuntimeError, kernel_size=(2, 2, 2)),
        bad("too_many_strides", RuntimeError, stride=(1, 1, 1)),
        bad("too_many_paddings", RuntimeError, padding=(1, 1, 1)),
        bad("too_many_dilations", RuntimeError, dilation=(1, 1, 1)),
        bad("fractional_kernel", TypeError, kernel_size=2.5),
        bad("kernel_none", TypeError, kernel_size=None),
        bad("too_many_axes", RuntimeError, (1, *good)),
        bad("no_channels", RuntimeError, (2, 0, *good[2:])),
    )
    if not folding:
        return (
            *rejections,
            bad("dilated_beyond_image", RuntimeError, dilation=5),
            bad("empty_axis", RuntimeError, (2, 3, 0, 6)),
            replace(bad("kernel_that_overflows", RuntimeError, kernel_size=2**40), crashes=True),
        )
    return (
        *rejections,
        bad("too_few_axes", RuntimeError, (20,)),
        bad("another_number_of_columns", RuntimeError, (2, 12, 21)),
        bad("no_columns", RuntimeError, (2, 12, 0)),
        bad("rows_not_divisible", RuntimeError, (2, 13, 20)),
        bad("negative_numbers_of_blocks", RuntimeError, (1, 12, 12), output_size=(4, 5), dilation=8),
        bad("empty_output", RuntimeError, output_size=0),
        bad("too_many_output_sizes", RuntimeError, output_size=(5, 6, 7)),
        bad("fractional_output", TypeError, output_size=2.5),
        replace(bad("huge_padding", RuntimeError, padding=2**31), crashes=True),
        replace(bad("padding_that_overflows", RuntimeError, padding=2**40), crashes=True, sweep="full"),
    )


def _block_spec(folding: bool) -> LayerSpec:
    name = "Fold" if folding else "Unfold"
    axes = {
        **_BLOCKS,
        "shape": SHAPES,
        "dtype": DTYPES,
        "layout": layouts(1) if folding else layouts(2),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "nan", "infinity", "zeros"),
    }
    fits = Constraint(
        ("kernel", "padding", "dilation", "shape"), _fits_blocks, "a block must fit into the image"
    )
    return LayerSpec(
        name=name,
        family="window",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("stride", "padding", "dilation"),
        build=_build_fold if folding else _build_unfold,
        constraints=(*CONSTRAINTS, *TIERS, fits),
        corners=_block_corners(folding),
        rejections=_block_rejections(folding),
        functions=(name.lower(),),
        values=special_values,
    )


BLOCKS = tuple(_block_spec(folding) for folding in (False, True))

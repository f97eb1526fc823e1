"""Specifications of MaxUnpool1d, MaxUnpool2d and MaxUnpool3d."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import refimpl.window as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from parity_tests.specs.window_shapes import (
    CONSTRAINTS,
    TIERS,
    each,
    special_values,
)

_UNPOOLED: dict[int, dict[str, tuple]] = {
    1: {"stride": (None, 1, 2, 4), "padding": (0, 1, 2), "kernel": (3, 2, 5)},
    2: {"stride": (None, 1, 2, (2, 3)), "padding": (0, 1, (1, 0)), "kernel": ((3, 2), 2, (4, 5))},
    3: {"stride": (None, 1, 2, (2, 1, 3)), "padding": (0, 1, (1, 0, 2)), "kernel": ((3, 2, 4), 2, (2, 4, 5))},
}
_POOLED: dict[int, tuple[int, ...]] = {1: (7,), 2: (4, 5), 3: (2, 3, 4)}
_POOLED_LONG: dict[int, tuple[int, ...]] = {1: (33,), 2: (3, 17), 3: (2, 3, 9)}
_POOLED_LEAD = {
    "batch_3": (3, 2),
    "unbatched": (4,),
    "many_channels": (2, 9),
    "long": (2, 1),
    "batch_0": (0, 2),
}


def _pooled(rank: int, shape: str) -> tuple[int, ...]:
    return _POOLED_LONG[rank] if shape == "long" else _POOLED[rank]


def _unpooled_size(
    rank: int, size: tuple, kernel: Any, stride: Any, padding: Any, output_size: str = "default"
) -> tuple:
    strides = each(kernel if stride is None else stride, rank)
    more = {"plus": 1, "minus": -1}.get(output_size, 0)
    axes = zip(size, each(kernel, rank), strides, each(padding, rank), strict=True)
    return tuple((n - 1) * s - 2 * p + k + more * min(s - 1, 2) for n, k, s, p in axes)


def _unpools(rank: int, kernel: Any, stride: Any, padding: Any, output_size: str, shape: str) -> bool:
    return min(_unpooled_size(rank, _pooled(rank, shape), kernel, stride, padding, output_size)) >= 1


def _distinct(
    rank: int, kernel: Any, stride: Any, padding: Any, output_size: str, shape: str, data: str
) -> bool:
    size = _pooled(rank, shape)
    room = math.prod(_unpooled_size(rank, size, kernel, stride, padding, output_size))
    return data not in ("nan", "infinity") or math.prod(size) <= room


def _build_unpool(rank: int, row: Mapping[str, Any]) -> Built:
    shape = (*_POOLED_LEAD[row["shape"]], *_pooled(rank, row["shape"]))
    size = _unpooled_size(
        rank, shape[-rank:], row["kernel"], row["stride"], row["padding"], row["output_size"]
    )
    arguments = {"kernel_size": row["kernel"]}
    arguments |= {name: row[name] for name, value in (("stride", None), ("padding", 0)) if row[name] != value}
    lead = _POOLED_LEAD[row["shape"]]
    whole = {"full": (*(lead if len(lead) == 2 else (1, *lead)), *size), "default": None}.get(
        row["output_size"], size
    )
    return Built(arguments, (shape, shape), {} if whole is None else {"output_size": whole})


def _unpool_values(
    rank: int, case: Any, name: str, rng: np.random.Generator, shape: tuple
) -> np.ndarray | None:
    """Indices that differ within a plane where there is room, drawn with repetitions for data
    'duplicates'."""
    if name != "input1":
        return special_values(case, name, rng, shape)
    if case.rejects:
        return np.full(
            shape, {"rejects_index_negative": -1, "rejects_index_too_large": 10**6}.get(case.name, 0)
        )
    arguments, call = dict(case.arguments), dict(case.call)
    kernel, stride, padding = (arguments.get(key) for key in ("kernel_size", "stride", "padding"))
    size = _unpooled_size(rank, case.shapes[0][-rank:], kernel, stride, padding or 0)
    room, wanted = math.prod(call.get("output_size", size)[-rank:]), math.prod(shape[-rank:])
    planes = math.prod(shape[:-rank])
    if case.data == "duplicates" or wanted > room:
        return rng.integers(0, max(1, min(room, wanted)), shape)
    return rng.random((planes, room)).argsort(axis=1)[:, :wanted].reshape(shape)


def _unpool_corners(rank: int) -> tuple[Corner, ...]:
    few, ones = ("float32", "bfloat16"), (1,) * rank

    def plain(
        name: str,
        shape: tuple,
        data: str = "normal",
        dtypes: tuple = DTYPES,
        call: Any = None,
        **arguments: Any,
    ) -> Corner:
        return Corner(
            name,
            built=Built({"kernel_size": 2, **arguments}, (shape, shape), call or {}),
            data=data,
            dtypes=dtypes,
        )

    sized = {"output_size": (5, 5, 3)[:rank]}
    return (
        plain("documented_output_size", (1, 1, *(2, 2, 1)[:rank]), stride=2, call=sized),
        plain("size_one_axes", (2, 3, *ones)),
        plain("as_large_as_the_input", (2, 3, *_POOLED[rank]), kernel_size=1),
        plain(
            "duplicates_in_overlapping_windows", (2, 3, *_POOLED[rank]), "duplicates", kernel_size=3, stride=2
        ),
        plain("axis_beyond_65536", (1, 2, *ones[1:], 40_000), dtypes=few, kernel_size=(*ones[1:], 2)),
        plain("batch_beyond_65536", (66_000, 1, *ones[1:], 2), dtypes=few[:1], kernel_size=(*ones[1:], 2)),
        plain("channels_beyond_65536", (1, 66_000, *ones[1:], 2), dtypes=few[:1], kernel_size=(*ones[1:], 2)),
        plain("subnormal_values", (2, 3, *_POOLED[rank]), "subnormal"),
    )


def _unpool_rejections(rank: int) -> tuple[Rejection, ...]:
    good = (2, 3, *_POOLED[rank])
    size = _unpooled_size(rank, good[2:], 2, None, 0)

    def bad(
        name: str, exception: type[Exception], shape: tuple = good, indices: tuple | None = None,
        note: str = "",
        call: Any = None, **arguments: Any
    ) -> Rejection:  # fmt: skip
        shapes = (shape, shape if indices is None else indices)
        return Rejection(name, Built({"kernel_size": 2, **arguments}, shapes, call or {}), exception, note)

    accident = "an accident of a loop over the axes"
    return (
        bad("index_negative", RuntimeError),
        bad("index_too_large", RuntimeError),
        bad("indices_of_another_shape", RuntimeError, indices=(*good[:-1], good[-1] - 1)),
        bad("output_size_too_small", ValueError, call={"output_size": (1,) * rank}),
        bad("output_size_too_large", ValueError, call={"output_size": (size[0] + 2, *size[1:])}),
        bad("output_size_of_another_rank", ValueError, call={"output_size": (*size, 4)}),
        bad("output_size_fractional", TypeError, call={"output_size": tuple(map(float, size))}),
        bad("output_size_int", TypeError, call={"output_size": 8}),
        bad("negative_kernel", ValueError, kernel_size=-30),
        bad("zero_kernel", RuntimeError, kernel_size=0),
        bad("too_many_kernel_sizes", IndexError, note=accident, kernel_size=(2,) * (rank + 1)),
        bad("fractional_kernel", TypeError, kernel_size=2.5),
        bad("too_few_axes", RuntimeError, good[2:]),
        bad("too_many_axes", RuntimeError, (1, *good)),
        bad("no_channels", RuntimeError, (2, 0, *good[2:])),
        bad("empty_axis", RuntimeError, (*good[:-1], 0)),
    )


def _unpool_spec(rank: int) -> LayerSpec:
    axes = {
        **_UNPOOLED[rank],
        "output_size": ("default", "plus", "minus", "full"),
        "shape": tuple(_POOLED_LEAD),
        "dtype": DTYPES,
        "layout": layouts(rank),
        "tier": ("rounding", "exact"),
        "data": ("normal", "duplicates", "nan", "infinity", "zeros"),
    }
    axes_of_size = ("kernel", "stride", "padding", "output_size", "shape")
    room = Constraint(axes_of_size, partial(_unpools, rank), "the output must have elements")
    distinct = Constraint(
        (*axes_of_size, "data"),
        partial(_distinct, rank),
        "where indices must repeat any of several values may win, and none may be infinite",
    )
    name = f"MaxUnpool{rank}d"
    return LayerSpec(
        name=name,
        family="window",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("stride", "padding", "output_size"),
        build=partial(_build_unpool, rank),
        constraints=(*CONSTRAINTS, *TIERS, room, distinct),
        corners=_unpool_corners(rank),
        rejections=_unpool_rejections(rank),
        functions=(f"max_unpool{rank}d",),
        values=partial(_unpool_values, rank),
        keeps_channels_last=rank == 2,
    )


UNPOOLINGS = tuple(_unpool_spec(rank) for rank in (1, 2, 3))

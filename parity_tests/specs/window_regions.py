"""Specifications of the poolings over regions: adaptive average and max pooling, fractional max pooling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import refimpl.window as reference
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, Drawn, LayerSpec, Rejection, layouts
from parity_tests.specs.window_shapes import (
    CONSTRAINTS,
    LEAD,
    SHAPES,
    SIZE,
    TIERS,
    corner,
    each,
    rejection,
    spatial,
    special_values,
    whole_shape,
)

# One output, a length that does not divide, more outputs than elements, entries None.
_OUTPUT: dict[int, tuple] = {
    1: (5, 1, 4, 20, (7,)),
    2: ((4, 5), 1, 3, (12, 7), (None, 3), (None, None)),
    3: ((2, 4, 3), 1, 2, (7, 2, 5), (None, 3, None), (None, None, None)),
}


def _build_adaptive(rank: int, row: Mapping[str, Any]) -> Built:
    indices = {"return_indices": True} if row.get("return_indices") else {}
    return Built({"output_size": row["output_size"], **indices}, (whole_shape(rank, row["shape"]),))


def _adaptive_corners(rank: int, largest: bool) -> tuple[Corner, ...]:
    size, ones, few = SIZE[rank], (1,) * rank, ("float32", "bfloat16")
    indices = {"return_indices": True} if largest else {}
    odd, even = (5, 4, 7)[:rank], (3, 4, 5)[:rank]

    def plain(
        name: str, shape: tuple, output: Any, dtypes: tuple = DTYPES, data: str = "normal", **row: Any
    ) -> Corner:
        return corner(name, shape, data, dtypes, output_size=output, **indices, **row)

    layouts_of = ("contiguous", "channels_last") if rank > 1 else ("contiguous",)
    corners = [
        plain("five_to_three", (2, 3, *odd), 3),
        plain("two_to_four", (2, 3, *(2,) * rank), 4),
        plain("size_one_axes", (2, 3, *ones), 1),
        plain("size_one_axes_repeated", (2, 3, *ones), (3, 2, 4)[:rank] if rank > 1 else 3),
        plain("no_outputs", (2, 3, *size), 0, ("float32", "float16")),
        plain("no_outputs_on_one_axis", (2, 3, *size), (0, 2, 3)[:rank], ("float32", "float16")),
        plain("windows_of_65", (1, 2, *even[1:], 191), (*even[1:], 3)),
        plain("axis_beyond_65536", (1, 2, *ones[1:], 70_001), (*ones[1:], 9), few),
        plain("outputs_beyond_65536", (1, 2, *ones[1:], 9), (*ones[1:], 70_001), few),
        plain("batch_beyond_65536", (66_000, 1, *ones[1:], 3), (*ones[1:], 2), few[:1]),
        plain("channels_beyond_65536", (1, 66_000, *ones[1:], 3), (*ones[1:], 2), few[:1]),
        plain("subnormal_regions", (2, 3, *size), (2, 4, 3)[:rank] if rank > 1 else 4, data="subnormal"),
        plain("channels_33_as_one", (2, 33, *(8, 8, 3)[:rank]), (7, 7, 2)[:rank] if rank > 1 else 7),
    ]
    if largest:
        corners += [
            plain(
                f"{data}_regions",
                (2, 3, *size),
                (4, 5, 3)[:rank] if rank > 1 else 5,
                data=data,
                layout=layout,
            )
            for data in ("equal", "all_negative_infinity")
            for layout in layouts_of
        ]
    if rank == 2:
        corners += [
            # Heads of torchvision's AlexNet, VGG-16, ResNet-18 and DenseNet-121
            plain("network_alexnet_average", (1, 256, 6, 6), 6, ("float32", *HALF)),
            plain("network_vgg16_average", (1, 512, 7, 7), 7, ("float32", *HALF)),
            plain("network_resnet18_average", (1, 512, 7, 7), 1, ("float32", *HALF)),
            plain("network_densenet_average", (1, 1024, 7, 7), 1),
        ]
    return tuple(corners)


def _adaptive_rejections(rank: int, largest: bool) -> tuple[Rejection, ...]:
    shape = (3, 2, *SIZE[rank])

    def bad(name: str, exception: type[Exception], output: Any = 2, shape: tuple = shape) -> Rejection:
        return rejection(name, exception, shape, output_size=output)

    rejections = [
        bad("negative", RuntimeError, -1),
        bad("none", TypeError, None),
        bad("fractional", TypeError, 2.5),
        bad("text", TypeError, "2"),
        bad("too_many_sizes", RuntimeError, (2,) * (rank + 1)),
        bad("too_few_sizes", RuntimeError, (2,) * (rank - 1)),
        bad("empty_axis", RuntimeError, shape=(*shape[:-1], 0)),
        bad("too_few_axes", RuntimeError, shape=shape[2:]),
        bad("too_many_axes", RuntimeError, shape=(1, *shape)),
    ]
    if largest or rank == 3:
        rejections += [bad("no_channels", RuntimeError, shape=(3, 0, *SIZE[rank]))]
    return tuple(rejections)


def _adaptive_spec(rank: int, largest: bool) -> LayerSpec:
    kind = "Max" if largest else "Avg"
    indices = {"return_indices": (True, False)} if largest else {}
    data = ("normal", "ties", "nan", "infinity", "zeros")
    axes = {
        "output_size": _OUTPUT[rank],
        **indices,
        "shape": SHAPES,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "tier": ("rounding", "exact"),
        "data": data if largest else ("normal", "large", "offset", "nan", "infinity"),
    }
    name = f"Adaptive{kind}Pool{rank}d"
    return LayerSpec(
        name=name,
        family="window",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("output_size", "shape"),
        build=partial(_build_adaptive, rank),
        constraints=(*CONSTRAINTS, *TIERS),
        corners=_adaptive_corners(rank, largest),
        rejections=_adaptive_rejections(rank, largest),
        functions=(f"adaptive_{kind.lower()}_pool{rank}d",),
        values=special_values,
        keeps_channels_last=rank == 2,
    )


_KERNEL: dict[int, tuple] = {2: ((3, 2), 2, (2, 4), 1), 3: ((2, 3, 2), 2, (1, 2, 3), 1)}
# As sizes or as ratios; a number stands for all axes.
_FRACTION: dict[int, tuple] = {
    2: ((3, 4), 2, 1, (5, 3), 0.6, (0.5, 0.3)),
    3: ((3, 2, 4), 2, 1, (2, 3, 5), 0.6, (0.5, 0.3, 0.6)),
}


def _outputs(rank: int, size: tuple[int, ...], wanted: Any) -> tuple[int, ...]:
    return tuple(
        int(n * value) if isinstance(value, float) else value
        for n, value in zip(size, each(wanted, rank), strict=True)
    )


def _fits(rank: int, kernel: Any, wanted: Any, shape: str) -> bool:
    size = spatial(rank, shape)
    return all(
        p >= 1 and p + k - 1 + (rank == 3) <= n
        for n, k, p in zip(size, each(kernel, rank), _outputs(rank, size, wanted), strict=True)
    )


def _build_fractional(rank: int, row: Mapping[str, Any]) -> Built:
    wanted = row["wanted"]
    name = "output_ratio" if isinstance(each(wanted, rank)[0], float) else "output_size"
    indices = {"return_indices": True} if row["return_indices"] else {}
    lead = LEAD[row["shape"]]
    samples = Drawn((*((1,) if len(lead) == 1 else ()), *lead, rank))
    arguments = {"kernel_size": row["kernel"], name: wanted, **indices, "_random_samples": samples}
    return Built(arguments, (whole_shape(rank, row["shape"]),))


def _fractional_values(case: Any, name: str, rng: np.random.Generator, shape: tuple) -> np.ndarray | None:
    """Samples that are odd multiples of 1/64: no window then begins where rounding would decide."""
    if name != "_random_samples":
        return special_values(case, name, rng, shape)
    if case.data == "smallest_samples":
        return np.zeros(shape)
    if case.data == "largest_samples":
        return np.full(shape, 63 / 64)
    return (2 * rng.integers(0, 32, shape) + 1) / 64


def _fractional_corners(rank: int) -> tuple[Corner, ...]:
    size, few = SIZE[rank], ("float32", "bfloat16")

    def plain(
        name: str, shape: tuple, kernel: Any, data: str = "normal", dtypes: tuple = DTYPES, **more: Any
    ) -> Corner:
        samples = Drawn((*shape[:2], rank))
        arguments = {"kernel_size": kernel, "return_indices": True, "_random_samples": samples}
        return corner(name, shape, data, dtypes, **arguments, **more)

    many, least = (2, 3, *(10, 8, 9)[:rank]), (rank - 1,) * (rank - 1)  # a window of 1 fits into
    along = (1,) * (rank - 1) + (2,)
    return (
        plain("smallest_samples", many, 2, "smallest_samples", output_size=(5, 4, 3)[:rank]),
        plain("largest_samples", many, 2, "largest_samples", output_size=(5, 4, 3)[:rank]),
        plain("all_negative_infinity_windows", (2, 3, *size), 2, "all_negative_infinity", output_size=2),
        plain("equal_windows", (2, 3, *size), 2, "equal", output_size=(3, 4, 5)[:rank]),
        plain("two_outputs", (2, 3, *size), 2, output_size=2),
        plain("no_outputs", (2, 3, *size), 2, dtypes=few, output_size=0),
        plain("window_as_large_as_the_axis", (2, 3, *(4,) * rank), 4 - (rank == 3), output_size=1),
        plain("axis_beyond_65536", (1, 2, *least, 70_001), along, dtypes=few, output_size=along),
        plain("channels_beyond_65536", (1, 66_000, *least, 3), 1, dtypes=few[:1], output_size=1),
        plain("ratio_near_1", (2, 3, *(9, 11, 10)[:rank]), 2, output_ratio=0.8),
    )


def _fractional_rejections(rank: int) -> tuple[Rejection, ...]:
    shape, samples = (3, 2, *SIZE[rank]), Drawn((3, 2, rank))

    def bad(
        name: str, exception: type[Exception], shape: tuple = shape, samples: Any = samples, **more: Any
    ) -> Rejection:
        arguments = {"kernel_size": 2, "_random_samples": samples, **more}
        if not {"output_size", "output_ratio"} & more.keys():
            arguments["output_size"] = 3
        return rejection(name, exception, shape, **arguments)

    rejections = (
        bad("both_size_and_ratio", ValueError, output_size=3, output_ratio=0.5),
        bad("ratio_of_1", ValueError, output_ratio=1.0),
        bad("ratio_of_0", ValueError, output_ratio=0.0),
        bad("negative_output", RuntimeError, output_size=-1),
        bad("too_many_outputs", RuntimeError, output_size=SIZE[rank][0]),
        bad("kernel_larger_than_input", RuntimeError, kernel_size=40, output_size=1),
        bad("too_many_kernel_sizes", RuntimeError, kernel_size=(2,) * (rank + 1)),
        bad("too_many_output_sizes", RuntimeError, output_size=(2,) * (rank + 1)),
        bad("too_few_output_sizes", RuntimeError, output_size=(2,) * (rank - 1)),
        bad("fractional_kernel", TypeError, kernel_size=2.5),
        bad("fractional_output", TypeError, output_size=2.5),
        bad("too_few_axes", RuntimeError, shape[2:]),
        bad("too_many_axes", RuntimeError, (1, *shape)),
        bad("no_channels", RuntimeError, (3, 0, *SIZE[rank]), Drawn((3, 0, rank))),
        bad("empty_axis", RuntimeError, (*shape[:-1], 0)),
        bad("samples_of_fewer_batches", RuntimeError, samples=Drawn((2, 2, rank))),
        bad("samples_of_other_channels", RuntimeError, samples=Drawn((3, 1, rank))),
        bad("samples_of_more_axes", RuntimeError, samples=Drawn((3, 2, rank + 1))),
        bad("samples_without_batch", RuntimeError, samples=Drawn((2, rank))),
    )
    if rank == 3:  # FractionalMaxPool2d accepts these
        rejections += (
            bad("zero_kernel", ValueError, kernel_size=0),
            bad("negative_kernel", ValueError, kernel_size=-1),
        )
    return rejections


def _fractional_spec(rank: int) -> LayerSpec:
    axes = {
        "kernel": _KERNEL[rank],
        "wanted": _FRACTION[rank],
        "return_indices": (True, False),
        "shape": SHAPES,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "tier": ("rounding", "exact"),
        "data": ("normal", "ties", "nan", "infinity", "zeros"),
    }
    fits = Constraint(
        ("kernel", "wanted", "shape"), partial(_fits, rank), "the windows must fit into the axis"
    )
    name = f"FractionalMaxPool{rank}d"
    return LayerSpec(
        name=name,
        family="window",
        reference=getattr(reference, name),
        axes=axes,
        factorial=("kernel", "wanted"),
        build=partial(_build_fractional, rank),
        constraints=(*CONSTRAINTS, *TIERS, fits),
        corners=_fractional_corners(rank),
        rejections=_fractional_rejections(rank),
        functions=(f"fractional_max_pool{rank}d",),
        values=_fractional_values,
    )


REGIONS = (
    *(_adaptive_spec(rank, largest) for largest in (False, True) for rank in (1, 2, 3)),
    *(_fractional_spec(rank) for rank in (2, 3)),
)

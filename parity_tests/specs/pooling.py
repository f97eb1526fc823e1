"""Specifications of MaxPool1d/2d/3d and AvgPool1d/2d/3d."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection, layouts
from refimpl.error_bounds import FLOATS, Float

# For 1, 2 and 3 spatial axes.  The axes of a tensor differ in length, the entries of an argument in value.
_KERNEL = {1: (3, 2, 4, 1), 2: ((3, 2), (4, 5), 2, 1), 3: ((3, 2, 4), (2, 4, 3), 2, 1)}
_STRIDE = {1: (None, 1, 2, 5), 2: (None, 1, 2, (2, 3), (5, 4)), 3: (None, 1, 2, (2, 1, 3), (3, 5, 4))}
_PADDING = {1: (0, 1, 2), 2: (0, 1, (1, 0), (2, 1), (0, 2)), 3: (0, 1, (1, 0, 2), (0, 1, 2), (1, 2, 0))}
_DILATION = {1: (1, 2, 3), 2: (1, 2, (1, 3), (3, 2)), 3: (1, 2, (2, 1, 3), (1, 3, 2))}
_SIZES = {"many_channels": {1: (6,), 2: (6, 7), 3: (4, 5, 6)}, "long": {1: (70,), 2: (5, 33), 3: (4, 5, 17)}}
_SIZE = {1: (13,), 2: (9, 11), 3: (5, 6, 8)}
# Batch and channels; 17 spans a vector and a tail where channels are contiguous.
_SHAPES = {"batch_3": (3, 2), "unbatched": (4,), "one_channel": (1, 1), "many_channels": (2, 17),
           "long": (1, 2), "batch_0": (0, 2)}


def _each(rank: int, value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * rank


def _spatial(rank: int, shape: str) -> tuple[int, ...]:
    return _SIZES.get(shape, {}).get(rank, _SIZE[rank])


def _admits(rank: int, kernel: Any, padding: Any) -> bool:
    return all(2 * p <= k for k, p in zip(_each(rank, kernel), _each(rank, padding), strict=True))


def _reaches(rank: int, kernel: Any, padding: Any, dilation: Any, shape: str) -> bool:
    each = (_each(rank, value) for value in (kernel, padding, dilation))
    return all(d <= size and d * (k - 1) < size + 2 * p
               for size, k, p, d in zip(_spatial(rank, shape), *each, strict=True))


_CONSTRAINTS = (
    Constraint(("layout", "shape"), lambda layout, shape: layout != "channels_last" or shape != "unbatched",
               "channels_last needs a batch axis"),
    Constraint(("tier", "data"), lambda tier, data: tier != "exact" or data == "normal",
               "the exact tier has its own numbers"),
    Constraint(("shape", "data"), lambda shape, data: shape != "batch_0" or data == "normal",
               "an empty batch has no special values"),
    Constraint(("shape", "tier"), lambda shape, tier: shape != "batch_0" or tier == "rounding",
               "an empty batch has no exact tier"),
)


def _constraints(rank: int) -> tuple[Constraint, ...]:
    return (*_CONSTRAINTS, Constraint(("kernel", "padding"), partial(_admits, rank),
                                      "padding is at most half of the kernel"))


def _build(rank: int, names: tuple[str, ...], row: Mapping[str, Any]) -> Built:
    """kernel_size, then the arguments that differ from torch's defaults."""
    defaults = {"padding": 0, "dilation": 1, "return_indices": False, "ceil_mode": False,
                "count_include_pad": True}
    given = {name: row[name] for name in names if row[name] != defaults.get(name)}
    shape = (*_SHAPES[row["shape"]], *_spatial(rank, row["shape"]))
    return Built({"kernel_size": row["kernel"], **given}, (shape,))


# Special values that are put at every place of a window in turn, one window a sample.
_PLACED = {"one_nan": (math.nan,), "two_nan": (math.nan,) * 2, "one_infinity": (math.inf,),
           "two_infinity": (math.inf,) * 2, "one_negative_infinity": (-math.inf,),
           "opposite_infinities": (math.inf, -math.inf), "nan_and_infinity": (math.nan, math.inf)}
_WINDOW = {1: (5,), 2: (2, 3), 3: (1, 3, 2)}
_LARGE = {1: (257,), 2: (17, 15), 3: (7, 6, 5)}


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """The data regimes that only this family has."""
    if not name.startswith("input"):
        return None
    if case.data in _PLACED:
        values = rng.standard_normal(shape)
        for window, places in zip(values.reshape(shape[0], -1), _places(case.data, shape[1:]), strict=True):
            window[list(places)] = _PLACED[case.data]
        return values
    drawn: dict[str, Callable[[], np.ndarray]] = {
        "ties": lambda: rng.integers(-3, 0, shape) * 1.0,  # below zero: padding read as 0 would win
        "equal": lambda: np.full(shape, -1.5),
        "all_negative_infinity": lambda: np.full(shape, -math.inf),
        "subnormal": lambda: _subnormal(FLOATS[case.dtype], rng, shape),
    }
    return drawn[case.data]() if case.data in drawn else None


def _subnormal(kind: Float, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whole multiples of the smallest number, below the smallest normal one."""
    limit = 2 ** (kind.precision - 1)
    return rng.integers(1 - limit, limit, shape) * kind.eta


def _places(data: str, window: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(math.prod(window)), len(_PLACED[data])))


def _placed(rank: int, data: str, **arguments: Any) -> Corner:
    window = _WINDOW[rank]
    shape = (len(_places(data, window)), 1, *window)
    return Corner(data, built=Built({"kernel_size": window, **arguments}, (shape,)), data=data)


def _corner(name: str, shape: tuple[int, ...], data: str = "normal", dtypes: tuple[str, ...] = DTYPES,
            layout: str = "contiguous", sweep: str = "default", **arguments: Any) -> Corner:
    return Corner(name, {"layout": layout}, Built(arguments, (shape,)), data, dtypes, sweep)


def _common_corners(rank: int) -> list[Corner]:
    """Degenerate sizes, lengths beyond 65,536, ceil_mode where a window would start outside."""
    ones, size, few = (1,) * rank, _SIZE[rank], ("float32", "bfloat16")
    return [
        _corner("kernel_covers_input", (2, 3, *size), kernel_size=size, sweep="quick"),
        _corner("kernel_larger_than_input", (2, 3, *(2,) * rank), kernel_size=3, padding=1),
        _corner("kernel_hangs_over_all", (2, 3, *(2,) * rank), kernel_size=3, ceil_mode=True),
        _corner("size_one_axes", (2, 3, *ones), kernel_size=1),
        _corner("size_one_axes_padded", (2, 3, *ones), kernel_size=2, stride=1, padding=1),
        _corner("kernel_1_stride_2_ceil", (2, 3, *(6, 7, 4)[:rank]), kernel_size=1, stride=2, ceil_mode=True),
        _corner("last_window_in_padding", (2, 3, *(5, 7, 3)[:rank]), kernel_size=2, stride=3, padding=1,
                ceil_mode=True),
        _corner("axis_beyond_65536", (1, 2, *ones[1:], 70_001), dtypes=few,
                kernel_size=(*ones[1:], 3), stride=(*ones[1:], 2)),
        _corner("batch_beyond_65536", (66_000, 1, *ones[1:], 3), dtypes=few,
                kernel_size=(*ones[1:], 2), stride=1),
        _corner("channels_beyond_65536", (1, 66_000, *ones[1:], 3), dtypes=few,
                kernel_size=(*ones[1:], 2), stride=1),
        _corner("large_window", (2, 1, *_LARGE[rank]), kernel_size=_LARGE[rank]),
    ]


def _max_corners(rank: int) -> tuple[Corner, ...]:
    size, narrow = _SIZE[rank], {"kernel_size": 2, "stride": 1, "padding": 1, "return_indices": True}
    wide = narrow | {"kernel_size": 3}
    return (
        *_common_corners(rank),
        *(_placed(rank, data, return_indices=True) for data in _PLACED),
        replace(_corner("windows_of_padding_alone", (3, 2, *(1,) * (rank - 1), 7), dtypes=("float32",),
                        kernel_size=2, padding=1, dilation=2, return_indices=True), crashes=True),
        replace(_corner("last_windows_of_padding_alone", (3, 2, *(1,) * rank), dtypes=("float32",),
                        kernel_size=2, padding=1, dilation=2), crashes=True),
        _corner("subnormal_windows", (2, 3, *size), "subnormal", **narrow),
        *(_corner(f"{data}_windows", (2, 3, *size), data, layout=layout, **wide)
          for data in ("ties", "equal", "all_negative_infinity")
          for layout in ("contiguous", *(("channels_last",) if rank > 1 else ()))),
        *(_NETWORKS_MAX if rank == 2 else ()),
    )


def _avg_corners(rank: int) -> tuple[Corner, ...]:
    size = _SIZE[rank]
    huge = _corner("huge_divisor", (2, 3, *size), dtypes=("float32", "float64", "bfloat16"),
                   kernel_size=3, divisor_override=2**33)
    return (
        *_common_corners(rank),
        *(_placed(rank, data) for data in _PLACED),
        _corner("subnormal_windows", (2, 3, *size), "subnormal", kernel_size=2, stride=1),
        *((huge,) if rank > 1 else ()),
        *(_NETWORKS_AVG if rank == 2 else ()),
    )


def _network(name: str, channels: int, size: int, dtypes: tuple[str, ...] = ("float32",),
             **arguments: Any) -> Corner:
    """A pooling of a published network at its real size, batch 1."""
    return _corner(f"network_{name}", (1, channels, size, size), dtypes=dtypes, **arguments)


_NETWORKS_MAX = (
    # AlexNet: Krizhevsky et al. 2012, overlapping windows; 64 channels in the later one-tower variant
    _network("alexnet_pool1", 96, 55, ("float32", *HALF), kernel_size=3, stride=2),
    _network("alexnet_pool1_one_tower", 64, 55, kernel_size=3, stride=2),
    _network("alexnet_pool2", 256, 27, kernel_size=3, stride=2),
    _network("alexnet_pool5", 256, 13, kernel_size=3, stride=2),
    # VGG-16: Simonyan and Zisserman, arXiv:1409.1556
    *(_network(f"vgg16_pool{n}", channels, size, kernel_size=2, stride=2)
      for n, channels, size in ((1, 64, 224), (2, 128, 112), (3, 256, 56), (4, 512, 28), (5, 512, 14))),
    # GoogLeNet: Szegedy et al., arXiv:1409.4842; ceil_mode gives its printed sizes
    _network("googlenet_pool1", 64, 112, kernel_size=3, stride=2, ceil_mode=True),
    _network("googlenet_pool2", 192, 56, kernel_size=3, stride=2, ceil_mode=True),
    _network("googlenet_3a_pool", 192, 28, ("float32", *HALF), kernel_size=3, stride=1, padding=1),
    _network("googlenet_3b_pool", 256, 28, kernel_size=3, stride=1, padding=1),
    _network("googlenet_pool3", 480, 28, kernel_size=3, stride=2, ceil_mode=True),
    # ResNet-18: He et al., arXiv:1512.03385; DenseNet: Huang et al., arXiv:1608.06993, has the same
    _network("resnet18_pool", 64, 112, kernel_size=3, stride=2, padding=1),
    _network("resnet18_pool", 64, 112, layout="channels_last", kernel_size=3, stride=2, padding=1),
)
_NETWORKS_AVG = (
    # LeNet-5: LeCun et al. 1998
    _network("lenet5_pool1", 6, 28, DTYPES, kernel_size=2, stride=2),
    _network("lenet5_pool2", 16, 10, DTYPES, kernel_size=2, stride=2),
    # DenseNet-121: transitions; GoogLeNet and ResNet-18: the average before the classifier
    _network("densenet_transition1", 128, 56, ("float32", *HALF), kernel_size=2, stride=2),
    _network("googlenet_pool5", 1024, 7, ("float32", *HALF), kernel_size=7, stride=1),
    _network("resnet18_average", 512, 7, ("float32", *HALF), kernel_size=7, stride=1),
)


def _rejections(rank: int, average: bool) -> tuple[Rejection, ...]:
    shape = (3, 2, *_SIZE[rank])

    def bad(name: str, exception: type[Exception], shape: tuple = shape, **arguments: Any) -> Rejection:
        return Rejection(name, Built({"kernel_size": 2, **arguments}, (shape,)), exception)

    too_many = (2,) * (rank + 1)
    common = (
        bad("zero_kernel", RuntimeError, kernel_size=0), bad("negative_kernel", RuntimeError, kernel_size=-2),
        bad("zero_stride", RuntimeError, stride=0), bad("negative_stride", RuntimeError, stride=-1),
        bad("negative_padding", RuntimeError, padding=-1),
        bad("padding_above_half_of_kernel", RuntimeError, kernel_size=3, padding=2),
        bad("kernel_larger_than_input", RuntimeError, kernel_size=40),
        bad("too_many_kernel_sizes", RuntimeError, kernel_size=too_many),
        bad("too_many_strides", RuntimeError, stride=too_many),
        bad("too_many_paddings", RuntimeError, padding=(1,) * (rank + 1)),
        bad("too_many_axes", RuntimeError, shape=(1, *shape)),
        bad("no_channels", RuntimeError, shape=(3, 0, *_SIZE[rank])),
        bad("empty_axis", RuntimeError, shape=(3, 2, *_SIZE[rank][1:], 0)),
        bad("unbatched_and_empty", RuntimeError, shape=(0, *_SIZE[rank])),
        bad("fractional_kernel", TypeError, kernel_size=2.5),
        bad("kernel_as_text", TypeError, kernel_size="2"),
        bad("ceil_mode_none", TypeError, ceil_mode=None), bad("ceil_mode_int", TypeError, ceil_mode=1),
    )
    if not average or rank != 2:  # AvgPool2d raises IndexError here, an accident of a shape function
        common += (bad("too_few_axes", RuntimeError, shape=shape[2:]),)
    if not average:
        return (*common, bad("zero_dilation", RuntimeError, dilation=0),
                bad("negative_dilation", RuntimeError, dilation=-1),
                bad("too_many_dilations", RuntimeError, dilation=too_many),
                bad("dilated_kernel_larger_than_input", RuntimeError, kernel_size=3, dilation=30))
    common += (bad("count_include_pad_none", TypeError, count_include_pad=None),)
    return common if rank == 1 else (
        *common, bad("zero_divisor", RuntimeError, divisor_override=0),
        bad("fractional_divisor", TypeError, divisor_override=2.5))


def _max_spec(rank: int) -> LayerSpec:
    axes = {
        "stride": _STRIDE[rank], "padding": _PADDING[rank], "dilation": _DILATION[rank],
        "ceil_mode": (False, True), "return_indices": (True, False), "kernel": _KERNEL[rank],
        "shape": tuple(_SHAPES), "dtype": DTYPES, "layout": layouts(rank), "tier": ("rounding", "exact"),
        "data": ("normal", "ties", "nan", "infinity", "zeros"),
    }
    reaches = Constraint(("kernel", "padding", "dilation", "shape"), partial(_reaches, rank),
                         "the window must fit; dilated by more than the input it may see none of it")
    names = ("stride", "padding", "dilation", "return_indices", "ceil_mode")
    return LayerSpec(
        name=f"MaxPool{rank}d", family="pooling", reference=getattr(refimpl, f"MaxPool{rank}d"), axes=axes,
        factorial=("stride", "padding", "dilation", "ceil_mode"), build=partial(_build, rank, names),
        constraints=(*_constraints(rank), reaches), corners=_max_corners(rank),
        rejections=_rejections(rank, False), functions=(f"max_pool{rank}d",), values=_values,
        keeps_channels_last=True,
    )


def _avg_spec(rank: int) -> LayerSpec:
    axes = {
        "stride": _STRIDE[rank], "padding": _PADDING[rank], "ceil_mode": (False, True),
        "count_include_pad": (True, False), "kernel": _KERNEL[rank], "shape": tuple(_SHAPES), "dtype": DTYPES,
        "layout": layouts(rank), "tier": ("rounding", "exact"),
        "data": ("normal", "large", "tiny", "offset", "nan", "infinity"),
    }
    names: tuple[str, ...] = ("stride", "padding", "ceil_mode", "count_include_pad")
    if rank > 1:
        axes["divisor_override"] = (None, 1, 3, 8, -5)
        names += ("divisor_override",)
    return LayerSpec(
        name=f"AvgPool{rank}d", family="pooling", reference=getattr(refimpl, f"AvgPool{rank}d"), axes=axes,
        factorial=("stride", "padding", "ceil_mode", "count_include_pad"), build=partial(_build, rank, names),
        constraints=_constraints(rank), corners=_avg_corners(rank), rejections=_rejections(rank, True),
        functions=(f"avg_pool{rank}d",), values=_values, keeps_channels_last=rank == 2,
    )


SPECS = (*(_max_spec(rank) for rank in (1, 2, 3)), *(_avg_spec(rank) for rank in (1, 2, 3)))

"""Specifications of Conv1d/2d/3d and ConvTranspose1d/2d/3d."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.conv_networks import NETWORKS
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts

# Values for 1, 2 and 3 spatial axes; every axis of a tensor has another length, every per-axis argument has
# another value.
_KERNEL = {1: (3, 1, 4), 2: ((3, 2), 1, (1, 4)), 3: ((3, 2, 1), 1, (1, 3, 2))}
_STRIDE = {1: (1, 2, 3), 2: (1, 2, (2, 3)), 3: (1, 2, (1, 3, 2))}
_PADDING = {1: (0, 1, 2), 2: (0, 1, (2, 1)), 3: (0, 1, (1, 0, 2))}
_DILATION = {1: (1, 2, 3), 2: (1, 2, (1, 3)), 3: (1, 2, (2, 1, 3))}
_EXTRA = {1: (0, 1, 2), 2: (0, 1, (0, 2)), 3: (0, 1, (1, 2, 0))}
_SIZE = {1: (13,), 2: (9, 11), 3: (8, 7, 9)}
_LONG = {1: (33,), 2: (5, 33), 3: (6, 5, 17)}
# groups -> (in_channels, out_channels, groups): one group, 1 < groups < in_channels, one channel a group.
_CHANNELS = {"one": (2, 5, 1), "two": (4, 6, 2), "depthwise": (4, 8, 4), "single": (1, 3, 1)}
# More channels than a vector holds, and a tail: in corners only, they are expensive.
_MORE_CHANNELS = {"nine": (9, 17, 1), "twelve_in_two": (12, 10, 2)}
_SHAPES = ("batch_3", "batch_1", "batch_0", "unbatched", "long")

_CONSTRAINTS = (
    Constraint(
        ("padding", "stride"),
        lambda padding, stride: padding != "same" or stride == 1,
        "padding='same' needs stride 1",
    ),
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or shape != "unbatched",
        "channels_last needs a batch axis",
    ),
    Constraint(
        ("tier", "data"),
        lambda tier, data: tier != "exact" or data == "normal",
        "the exact tier has its own numbers",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape != "batch_0" or data == "normal",
        "an empty batch has no special values",
    ),
    Constraint(
        ("shape", "tier"),
        lambda shape, tier: shape != "batch_0" or tier == "rounding",
        "an empty batch has no exact tier",
    ),
)


def _axes(rank: int) -> dict[str, tuple]:
    return {
        "stride": _STRIDE[rank],
        "padding": _PADDING[rank],
        "dilation": _DILATION[rank],
        "groups": tuple(_CHANNELS),
        "kernel": _KERNEL[rank],
        "bias": (True, False),
        "shape": _SHAPES,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "parameter_layout": ("contiguous", "transposed", "sliced", *(("channels_last",) if rank > 1 else ())),
        "tier": ("rounding", "exact"),
        "data": ("normal", "large", "tiny", "nan", "infinity"),
    }


def _input_shape(rank: int, shape: str, channels: int) -> tuple[int, ...]:
    size = _LONG[rank] if shape == "long" else (1,) * rank if shape == "ones" else _SIZE[rank]
    batch = {"unbatched": (), "batch_0": (0,), "batch_1": (1,)}.get(shape, (3,))
    return (*batch, channels, *size)


def _arguments(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Constructor arguments of a row: channels and kernel, then what differs from torch's defaults."""
    in_channels, out_channels, groups = (_CHANNELS | _MORE_CHANNELS)[row["groups"]]
    defaults = {
        "stride": 1,
        "padding": 0,
        "output_padding": 0,
        "dilation": 1,
        "bias": True,
        "padding_mode": "zeros",
    }
    given = {name: row[name] for name in names if row[name] != defaults[name]}
    grouped = {"groups": groups} if groups != 1 else {}
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": row["kernel"],
        **given,
        **grouped,
    }


def _build(rank: int, names: tuple[str, ...], row: Mapping[str, Any]) -> Built:
    arguments = _arguments(row, names)
    return Built(arguments, (_input_shape(rank, row["shape"], arguments["in_channels"]),))


def _corners(rank: int, transposed: bool) -> tuple[Corner, ...]:
    long = (1, 2, *(1,) * (rank - 1), 70_001)
    corners = [
        Corner(
            "kernel_covers_input", {"kernel": (_SIZE[rank] if rank > 1 else _SIZE[rank][0])}, sweep="quick"
        ),
        Corner(
            "axis_beyond_65536",
            built=Built(
                {"in_channels": 2, "out_channels": 1, "kernel_size": (1,) * (rank - 1) + (3,)}, (long,)
            ),
            dtypes=("float32", "float16"),
        ),
        Corner(
            "sums_beyond_1024",  # of the output and of the input gradient: kernels split such sums
            built=Built(
                {"in_channels": 132, "out_channels": 140, "kernel_size": ((9,), (3, 3), (2, 2, 2))[rank - 1]},
                ((2, 132, *((17,), (7, 5), (4, 3, 5))[rank - 1]),),
            ),
        ),
    ]
    corners += [
        Corner(
            f"size_one_axes_{groups}",
            {"shape": "ones", "padding": 0 if transposed else 1, "groups": groups, "layout": layout},
            dtypes=("float32", "bfloat16"),
        )
        for groups in ("one", "two", "depthwise")
        for layout in layouts(rank)
    ]
    corners += [
        Corner(f"channels_{groups}", {"shape": "batch_1", "groups": groups, "layout": layout})
        for groups in _MORE_CHANNELS
        for layout in ("contiguous", *layouts(rank)[4:])
    ]
    kernel, stride, padding = (3, 3, 1) if transposed else (4, 2, 3 if rank == 1 else 2)
    wide = {"in_channels": 16, "out_channels": 16, "kernel_size": kernel, "stride": stride}
    corners.append(
        Corner(
            "taps_of_cropped_border_alone" if transposed else "taps_of_padding_alone",
            built=Built({**wide, "padding": padding}, ((1, 16, *(1,) * rank),)),
            dtypes=("float32", "bfloat16"),
        )
    )
    if not transposed:
        size = (3, 2, *_SIZE[rank])
        grouped = {"padding": "same", "dilation": 2, "groups": "two", "kernel": _KERNEL[rank][2]}
        corners += [
            Corner(
                f"grouped_dilated_weight_{layout}", {**grouped, "parameter_layout": layout, "shape": "long"}
            )
            for layout in ("contiguous", *layouts(rank)[4:])
        ]
        corners += [
            Corner(f"grouped_dilated_input_{layout}", {**grouped, "layout": layout, "shape": "long"})
            for layout in layouts(rank)[4:]
        ]
        corners += [
            Corner(
                f"padding_{padding}_{mode}",
                built=Built(
                    {
                        "in_channels": 2,
                        "out_channels": 3,
                        "kernel_size": kernel,
                        "dilation": dilation,
                        "padding": padding,
                        "padding_mode": mode,
                    },
                    (size,),
                ),
                dtypes=DTYPES,
            )
            for padding, kernel, dilation in (
                ("same", _KERNEL[rank][2], 1),
                ("same", _KERNEL[rank][0], _DILATION[rank][2]),
                ("valid", _KERNEL[rank][0], 2),
            )
            if (padding, dilation) != ("same", 1)
            for mode in ("zeros", "reflect", "replicate", "circular")
        ]
        corners += [
            Corner(
                f"padding_same_even_kernel_{mode}",
                built=Built(
                    {
                        "in_channels": 2,
                        "out_channels": 3,
                        "kernel_size": _KERNEL[rank][2],
                        "padding": "same",
                        "padding_mode": mode,
                    },
                    (size,),
                ),
                dtypes=("float32", "float16"),
            )
            for mode in ("zeros", "reflect", "replicate", "circular")
        ]
    if transposed:
        arguments = {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "stride": 3, "padding": 1}
        sizes = [(n - 1) * 3 - 2 + 3 for n in _SIZE[rank]]
        corners += [
            Corner(
                f"output_size_plus_{extra}{name}",
                built=Built(
                    arguments,
                    ((*batch, 2, *_SIZE[rank]),),
                    {"output_size": tuple(n + (extra + axis) % 3 for axis, n in enumerate(sizes))},
                ),
            )
            for name, batch in (("", (3,)), ("_unbatched", ()))
            for extra in range(3)
        ]
    return (*corners, *(NETWORKS if rank == 2 and not transposed else ()))


def _rejections(rank: int, transposed: bool) -> tuple[Rejection, ...]:
    good = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    shape = (3, 4, *_SIZE[rank])

    def bad(
        name: str,
        exception: type[Exception],
        shape: tuple = shape,
        call: Mapping | None = None,
        note: str = "",
        crashes: bool = False,
        **arguments: Any,
    ) -> Rejection:
        built = Built({**good, **arguments}, (shape,), call or {})
        return Rejection(name, built, exception, note, crashes=crashes)

    rejections = [
        bad("groups_that_do_not_divide_inputs", ValueError, groups=3),
        bad("groups_that_do_not_divide_outputs", ValueError, groups=4),
        bad("zero_groups", ValueError, groups=0),
        bad("zero_stride", RuntimeError, stride=0),
        bad("negative_stride", RuntimeError, stride=-1),
        bad("negative_padding", RuntimeError, padding=-1),
        bad("zero_dilation", RuntimeError, dilation=0),
        bad("too_few_axes", RuntimeError, shape=shape[2:]),
        bad("too_many_axes", RuntimeError, shape=(1, 1, *shape)),
        bad("wrong_channels", RuntimeError, shape=(3, 5, *shape[2:])),
        bad("no_channels", RuntimeError, shape=(3, 0, *shape[2:])),
        bad("empty_axis", RuntimeError, shape=(*shape[:-1], 0)),
        bad("negative_in_channels", RuntimeError, in_channels=-4),
        bad("negative_out_channels", RuntimeError, out_channels=-6),
        bad("negative_kernel", RuntimeError, kernel_size=-1),
        bad("negative_dilation", RuntimeError, dilation=-1),
    ]
    if transposed:
        return (
            *rejections,
            bad("output_padding_too_large", RuntimeError, output_padding=1),
            bad(
                "output_of_size_0",
                RuntimeError,
                shape=(3, 4, *(2,) * rank),
                kernel_size=2,
                stride=2,
                padding=2,
            ),
            bad("output_of_negative_size", RuntimeError, shape=(3, 4, *(1,) * rank), padding=3),
            bad("unknown_padding_mode", ValueError, padding_mode="reflect"),
            bad("output_size_too_large", ValueError, call={"output_size": (99,) * rank}, stride=2),
        )
    return (
        *rejections,
        bad("unknown_padding_mode", ValueError, padding_mode="mirror"),
        bad("unknown_padding", ValueError, padding="full"),
        bad("same_with_stride", ValueError, padding="same", stride=2),
        bad("kernel_larger_than_input", RuntimeError, kernel_size=40),
        bad("huge_dilation", RuntimeError, dilation=2**40),
        bad("dilation_that_overflows", RuntimeError, crashes=True, dilation=2**63 - 1),
    )


def _functions(rank: int, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"conv{rank}d",) + (("pad",) if arguments.get("padding_mode", "zeros") != "zeros" else ())


def _convolution(rank: int) -> LayerSpec:
    axes = _axes(rank)
    axes["padding"] = (*axes["padding"], "same", "valid")
    axes["padding_mode"] = ("zeros", "reflect", "replicate", "circular")
    names = ("stride", "padding", "dilation", "bias", "padding_mode")
    empty = Constraint(
        ("shape", "padding_mode"),
        lambda shape, mode: shape != "batch_0" or mode in ("zeros", "circular"),
        "torch pads an empty batch in some modes and ranks only",
    )
    return LayerSpec(
        name=f"Conv{rank}d",
        family="conv",
        reference=getattr(refimpl, f"Conv{rank}d"),
        axes=axes,
        factorial=("stride", "padding", "dilation", "groups"),
        build=partial(_build, rank, names),
        constraints=(*_CONSTRAINTS, empty),
        corners=_corners(rank, False),
        rejections=_rejections(rank, False),
        functions=partial(_functions, rank),
        multilinear=True,
        keeps_channels_last=lambda arguments: arguments.get("padding_mode", "zeros") == "zeros",
    )


def _transposed(rank: int) -> LayerSpec:
    axes = _axes(rank)
    axes["output_padding"] = _EXTRA[rank]

    def fits(extra: Any, stride: Any, dilation: Any) -> bool:
        values = [
            value if isinstance(value, tuple) else (value,) * rank for value in (extra, stride, dilation)
        ]
        return all(e < max(s, d) for e, s, d in zip(*values, strict=True))

    names = ("stride", "padding", "output_padding", "dilation", "bias")
    return LayerSpec(
        name=f"ConvTranspose{rank}d",
        family="conv",
        reference=getattr(refimpl, f"ConvTranspose{rank}d"),
        axes=axes,
        factorial=("stride", "padding", "dilation", "groups"),
        build=partial(_build, rank, names),
        constraints=(
            *_CONSTRAINTS,
            Constraint(
                ("output_padding", "stride", "dilation"),
                fits,
                "output_padding must be less than stride or dilation",
            ),
        ),
        corners=_corners(rank, True),
        rejections=_rejections(rank, True),
        functions=(f"conv_transpose{rank}d",),
        multilinear=True,
        keeps_channels_last=True,
    )


SPECS = (*(_convolution(rank) for rank in (1, 2, 3)), *(_transposed(rank) for rank in (1, 2, 3)))

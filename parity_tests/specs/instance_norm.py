"""Specifications of InstanceNorm1d/2d/3d."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs.norm_data import AXES, EMPTY, beyond_65536, rejects, values
from parity_tests.specs.spec import Built, Corner, LayerSpec, Rejection, layouts
from refimpl.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d

# InstanceNorm: the input is (N, C, *L), or (C, *L) without a batch.

_CHANNELS = 5
_SIZE = {1: (11,), 2: (4, 7), 3: (2, 4, 7)}
_LONG = {1: (33,), 2: (2, 33), 3: (2, 1, 33)}
_ONES = {1: (2,), 2: (6, 1), 3: (1, 6, 1)}


def _instance_shape(rank: int, shape: str) -> tuple[int, ...]:
    return {
        "batch_3": (3, _CHANNELS, *_SIZE[rank]),
        "batch_1": (1, _CHANNELS, *_SIZE[rank]),
        "batch_0": (0, _CHANNELS, *_SIZE[rank]),
        "unbatched": (_CHANNELS, *_SIZE[rank]),
        "one_channel": (3, 1, *_SIZE[rank]),
        "long": (2, 3, *_LONG[rank]),
        "ones": (4, 3, *_ONES[rank]),
    }[shape]


def _instance_build(rank: int, row: Mapping[str, Any]) -> Built:
    defaults = {"eps": 1e-5, "momentum": 0.1, "affine": False, "track_running_stats": False}
    shape = _instance_shape(rank, row["shape"])
    given = {name: row[name] for name in defaults if row[name] != defaults[name]}
    return Built({"num_features": shape[-rank - 1], **given}, (shape,))


_INSTANCE = (
    EMPTY,
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or shape not in ("batch_0", "unbatched"),
        "without a batch of elements there is no channels_last",
    ),
    Constraint(
        ("layout", "data"),
        lambda layout, data: layout != "expanded" or data != "constant",
        "all samples are the constant one",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape != "batch_1" or data != "constant",
        "one sample, and that constant, has a gradient of zeros",
    ),
    Constraint(
        ("mode", "track_running_stats", "data"),
        lambda mode, tracks, data: mode == "eval" or not tracks or data != "one_infinity",
        "the mean of infinities is infinite in two passes and NaN in a stream",
    ),
)


def _instance_rejections(rank: int) -> tuple[Rejection, ...]:
    shape = (3, 4, *_SIZE[rank])
    four: Mapping[str, Any] = {"num_features": 4}
    affine, tracks = {**four, "affine": True}, {**four, "track_running_stats": True}
    return (
        rejects("too_few_axes", ValueError, four, shape[2:]),
        rejects("too_many_axes", ValueError, four, (*shape, 2)),
        rejects("wrong_channels", ValueError, affine, (3, 5, *_SIZE[rank])),
        rejects("wrong_channels_unbatched", ValueError, affine, (5, *_SIZE[rank])),
        rejects("wrong_channels_with_statistics", RuntimeError, tracks, (3, 5, *_SIZE[rank])),
        rejects("one_value_a_channel", ValueError, four, (2, 4, *(1,) * rank)),
        rejects("text_eps", TypeError, {**four, "eps": "small"}, shape),
        rejects("text_momentum", TypeError, {**four, "momentum": "0.1"}, shape),
        rejects("text_num_features", TypeError, {"num_features": "4", "affine": True}, shape),
        rejects("real_num_features", TypeError, {"num_features": 4.0, "affine": True}, shape),
        rejects("negative_num_features", RuntimeError, {"num_features": -4, "affine": True}, shape),
    )


def _instance_corners(rank: int) -> tuple[Corner, ...]:
    ones = (1,) * (rank - 1)
    tracks = {"track_running_stats": True}
    return (
        Corner("infinity", data="infinity"),
        Corner("zeros", data="zeros"),
        Corner("default_state", sweep="quick"),
        Corner(
            "one_value_in_evaluation",
            {"mode": "eval"},
            built=Built({"num_features": 3, **tracks}, ((2, 3, 1, *ones),)),
        ),
        Corner("momentum_0", {**tracks, "momentum": 0.0}),
        Corner("momentum_2", {**tracks, "momentum": 2.0}),
        Corner(  # that of some samples, not their mean
            "variance_overflows",
            built=Built({"num_features": 5, **tracks, "momentum": 0.7}, ((4, 5, *ones, 2),)),
            dtypes=("float16",),
            data="large",
        ),
        Corner("any_channels", built=Built({"num_features": 4}, ((2, 3, *_SIZE[rank]),))),
        *beyond_65536(
            ("length", {"num_features": 2}, (1, 2, *ones, 65_539)),
            ("batch", {"num_features": 1}, (65_539, 1, *ones, 2)),
            ("channels", {"num_features": 65_539}, (1, 65_539, *ones, 2)),
        ),
    )


def _instance(rank: int, reference: type) -> LayerSpec:
    return LayerSpec(
        name=f"InstanceNorm{rank}d",
        family="group_norm",
        reference=reference,
        axes={
            "mode": ("train", "eval"),
            "track_running_stats": (False, True),
            "affine": (False, True),
            "momentum": (0.1, None, 0.7),
            "eps": (1e-5, 0.25, 1e-3),
            "shape": ("batch_3", "batch_1", "batch_0", "unbatched", "one_channel", "long", "ones"),
            **AXES,
            "layout": layouts(rank),
        },
        factorial=("mode", "track_running_stats", "affine", "momentum"),
        build=partial(_instance_build, rank),
        constraints=_INSTANCE,
        corners=_instance_corners(rank),
        rejections=_instance_rejections(rank),
        functions=("instance_norm",),
        values=values,
    )


SPECS = tuple(
    _instance(rank, layer) for rank, layer in enumerate((InstanceNorm1d, InstanceNorm2d, InstanceNorm3d), 1)
)

"""Specifications of BatchNorm1d/2d/3d."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection, layouts

_CHANNELS = 5
_SIZE = {1: (11,), 2: (4, 7), 3: (2, 4, 7)}
_LONG = {1: (33,), 2: (2, 33), 3: (2, 1, 33)}
_ONES = {1: (1,), 2: (6, 1), 3: (1, 6, 1)}

# Sums of some hundred squares of large numbers stay finite in A; a large mean leaves T room for a spread.
_LARGE = {"float16": 300.0, "bfloat16": 1e15, "float32": 1e15, "float64": 1e150}
_OFFSET = {"float16": 256.0, "bfloat16": 32.0, "float32": 1e4, "float64": 1e7}

_CONSTRAINTS = (
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape != "batch_0" or data == "normal",
        "an empty batch has no special values",
    ),
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or shape != "batch_0",
        "an empty batch has no layout",
    ),
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "expanded" or shape not in ("two_values", "ones", "without_length"),
        "channels of equal values have a gradient of zeros",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape != "one_channel" or data != "constant",
        "one channel, and that constant, has a gradient of zeros",
    ),
    Constraint(
        ("mode", "track_running_stats", "data"),
        lambda mode, tracks, data: mode == "eval" or not tracks or data != "infinity",
        "the mean of infinities is infinite in two passes and NaN in a stream",
    ),
)


def _axes(rank: int) -> dict[str, tuple]:
    shapes = ("batch_3", "batch_1", "batch_0", "one_channel", "long", "ones", "two_values")
    return {
        "mode": ("train", "eval"),
        "track_running_stats": (True, False),
        "affine": (True, False),
        "momentum": (0.1, None, 0.7),
        "eps": (1e-5, 0.25, 1e-3),
        "shape": (*shapes, "without_length") if rank == 1 else shapes,
        "dtype": DTYPES,
        "layout": layouts(rank),
        "parameter_layout": ("contiguous", "sliced"),
        "data": ("normal", "offset", "large", "tiny", "constant", "nan", "infinity"),
    }


def _input_shape(rank: int, shape: str) -> tuple[int, ...]:
    return {
        "batch_3": (3, _CHANNELS, *_SIZE[rank]),
        "batch_1": (1, _CHANNELS, *_SIZE[rank]),
        "batch_0": (0, _CHANNELS, *_SIZE[rank]),
        "one_channel": (3, 1, *_SIZE[rank]),
        "long": (2, 3, *_LONG[rank]),
        "ones": (4, 3, *_ONES[rank]),
        "two_values": (2, 3, *(1,) * rank),
        "without_length": (17, _CHANNELS),
    }[shape]


def _build(rank: int, row: Mapping[str, Any]) -> Built:
    defaults = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
    shape = _input_shape(rank, row["shape"])
    given = {name: row[name] for name in defaults if row[name] != defaults[name]}
    return Built({"num_features": shape[1], **given}, (shape,))


def _quarters(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(1, 9, shape) / 4


def _one(special: float, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One special value, in the last place of the second channel."""
    values = rng.standard_normal(shape)
    values[(-1, 1, *(-1,) * (len(shape) - 2))] = special
    return values


def _first_channel_constant(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = rng.standard_normal(shape)
    values[:, 0] = rng.standard_normal()
    return values


# Regimes that matter to mean and variance, functions of (rng, shape, dtype); the others are the harness's.
_INPUT: Mapping[str, Callable[..., np.ndarray]] = {
    "offset": lambda rng, shape, dtype: rng.standard_normal(shape) + _OFFSET[dtype],
    "large": lambda rng, shape, dtype: rng.standard_normal(shape) * _LARGE[dtype],
    "constant": _first_channel_constant,
    "at_running_mean": lambda rng, shape, dtype: (
        _OFFSET[dtype] + np.where(rng.random(shape) < 0.5, _quarters(rng, shape), rng.standard_normal(shape))
    ),
    "one_nan": partial(_one, np.nan),
    "one_infinity": partial(_one, -np.inf),
}


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Running variances that are positive and running means where the data are."""
    if name == "running_var":
        return np.zeros(shape) if case.data == "zero_variance" else rng.uniform(0.5, 2.0, shape)
    if name == "running_mean" and case.data in ("offset", "at_running_mean"):
        draw = _quarters if case.data == "at_running_mean" else np.random.Generator.standard_normal
        return draw(rng, shape) + _OFFSET[case.dtype]
    if name.startswith("input") and case.data in _INPUT:
        return _INPUT[case.data](rng, shape, case.dtype)
    return None


def _corners(rank: int) -> tuple[Corner, ...]:
    shape = (3, _CHANNELS, *_SIZE[rank])
    ones = (1,) * (rank - 1)
    corners = (
        Corner("nan_in_one_channel", data="one_nan"),
        Corner("infinity_in_one_channel", {"track_running_stats": False}, data="one_infinity"),
        Corner("evaluation_nan_in_one_channel", {"mode": "eval"}, data="one_nan"),
        Corner("evaluation_infinity_in_one_channel", {"mode": "eval"}, data="one_infinity"),
        Corner("evaluation_at_running_mean", {"mode": "eval"}, data="at_running_mean", sweep="quick"),
        Corner("evaluation_zero_variance", {"mode": "eval"}, data="zero_variance"),
        Corner("evaluation_zero_eps", {"mode": "eval", "eps": 0.0}),
        Corner("momentum_0", {"momentum": 0.0}),
        Corner("momentum_1", {"momentum": 1.0}),
        Corner("momentum_2", {"momentum": 2.0}),
        Corner("zeros", data="zeros"),
        Corner(
            "axis_beyond_65536",
            built=Built({"num_features": 2}, ((1, 2, *ones, 65_539),)),
            dtypes=("float32", "float16"),
        ),
        Corner(
            "batch_beyond_65536",
            built=Built({"num_features": 1}, ((65_539, 1, *ones, 1),)),
            dtypes=("float32", "float16"),
        ),
        Corner(
            "channels_beyond_65536",
            built=Built({"num_features": 65_539}, ((2, 65_539, *ones, 1),)),
            dtypes=("float32",),
        ),
        Corner("default_state", built=Built({"num_features": _CHANNELS}, (shape,)), sweep="quick"),
    )
    return (*corners, *(_NETWORKS if rank == 2 else ()))


def _network(
    name: str, channels: int, size: int, dtypes: tuple[str, ...] = ("float32",), mode: str = "train"
) -> Corner:
    """A batch normalization of a published network at its real size, batch 1."""
    built = Built({"num_features": channels}, ((1, channels, size, size),))
    return Corner(f"network_{name}", {"mode": mode}, built, dtypes=dtypes)


_NETWORKS = (
    # ResNet-18: He et al., arXiv:1512.03385, table 1
    _network("resnet18_bn1", 64, 112),
    _network("resnet18_layer1", 64, 56, ("float32", *HALF)),
    _network("resnet18_layer1_evaluation", 64, 56, ("float32", *HALF), "eval"),
    _network("resnet18_layer2", 128, 28),
    _network("resnet18_layer3", 256, 14),
    _network("resnet18_layer4", 512, 7, DTYPES),
    _network("resnet18_layer4_evaluation", 512, 7, mode="eval"),
    # DenseNet-121: Huang et al., arXiv:1608.06993; first block, growth 32, bottleneck 128; transition
    *(_network(f"densenet_block1_{n}_norm1", 64 + 32 * n, 56) for n in range(6)),
    _network("densenet_block1_norm2", 128, 56),
    _network("densenet_transition1", 256, 56),
    _network("densenet_block1_0_norm1_evaluation", 64, 56, mode="eval"),
)


def _rejections(rank: int) -> tuple[Rejection, ...]:
    shape = (3, 4, *_SIZE[rank])

    def bad(
        name: str, exception: type[Exception], shape: tuple = shape, note: str = "", **arguments: Any
    ) -> Rejection:
        return Rejection(name, Built({"num_features": 4, **arguments}, (shape,)), exception, note)

    return (
        bad("too_few_axes", ValueError, (4,) if rank == 1 else shape[:-1]),
        bad("too_many_axes", ValueError, (*shape, 2)),
        bad("wrong_channels", RuntimeError, (3, 5, *_SIZE[rank])),
        bad("no_channels", RuntimeError, (3, 0, *_SIZE[rank])),
        bad("wrong_channels_without_parameters", RuntimeError, (3, 5, *_SIZE[rank]), affine=False),
        bad(
            "wrong_channels_without_statistics", RuntimeError, (3, 5, *_SIZE[rank]), track_running_stats=False
        ),
        bad("one_value_a_channel", ValueError, (1, 4, *(1,) * rank)),
        bad("zero_eps_in_training", ValueError, eps=0.0),
        bad("negative_eps", ValueError, eps=-1e-5),
        bad("text_eps", TypeError, eps="small", note="torch compares it with a number"),
        bad("text_momentum", TypeError, momentum="0.1"),
        bad("negative_num_features", RuntimeError, num_features=-1, note="torch cannot make such a tensor"),
        bad("text_num_features", TypeError, num_features="4"),
        bad("real_num_features", TypeError, num_features=4.0),
    )


def _batch_norm(rank: int) -> LayerSpec:
    return LayerSpec(
        name=f"BatchNorm{rank}d",
        family="normalization",
        reference=getattr(refimpl, f"BatchNorm{rank}d"),
        axes=_axes(rank),
        factorial=("mode", "track_running_stats", "affine", "momentum"),
        build=partial(_build, rank),
        constraints=_CONSTRAINTS,
        corners=_corners(rank),
        rejections=_rejections(rank),
        functions=("batch_norm",),
        values=_values,
        keeps_channels_last=True,
    )


SPECS = tuple(_batch_norm(rank) for rank in (1, 2, 3))

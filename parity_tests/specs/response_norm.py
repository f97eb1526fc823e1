"""Specifications of LocalResponseNorm and its older form CrossMapLRN2d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs.norm_data import EMPTY, beyond_65536, rejects, values
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, layouts
from refimpl.local_response_norm import CrossMapLRN2d, LocalResponseNorm

# LocalResponseNorm: the input is (N, C, *L); even windows reach one further to the front.

_RESPONSE_SHAPES = {
    "line": (3, 7, 11),
    "plane": (2, 7, 3, 4),
    "volume": (2, 7, 2, 3, 4),
    "four_axes": (2, 5, 1, 2, 3, 2),
    "batch_0": (0, 7, 3, 4),
    "one_channel": (2, 1, 5, 3),
    "long": (1, 17, 33),
    "ones": (2, 9, 1, 1),
}


def _response_build(row: Mapping[str, Any]) -> Built:
    defaults = {"alpha": 1e-4, "beta": 0.75, "k": 1.0}
    given = {name: row[name] for name in defaults if row[name] != defaults[name]}
    return Built({"size": row["size"], **given}, (_RESPONSE_SHAPES[row["shape"]],))


_RESPONSE = LayerSpec(
    name="LocalResponseNorm",
    family="group_norm",
    reference=LocalResponseNorm,
    axes={
        "size": (2, 3, 1, 4, 5, 12),
        "alpha": (1e-4, 1.0, 0.5),
        "beta": (0.75, 0.5, 1.0, 2.5),
        "k": (1.0, 2.0, 0.25),
        "shape": tuple(_RESPONSE_SHAPES),
        "dtype": DTYPES,
        "layout": layouts(2),
        "data": ("normal", "offset", "tiny", "spike", "one_nan", "one_infinity", "zeros"),
    },
    factorial=("size", "shape"),
    build=_response_build,
    constraints=(
        EMPTY,
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: layout != "channels_last" or shape in ("plane", "volume", "ones"),
            "only (N, C, H, W) and (N, C, D, H, W) with elements and channels have channels_last",
        ),
        Constraint(
            ("beta", "data"),
            lambda beta, data: beta <= 1 or data != "one_infinity",
            "beyond 1 the gradient at an infinity is 0 or NaN, as one differentiates",
        ),
    ),
    corners=(
        Corner("infinity", data="infinity"),
        Corner("large", data="large"),
        Corner("alpha_0", {"alpha": 0.0}),
        Corner("beta_0", {"beta": 0.0, "alpha": 1.0}),
        Corner("k_0", {"k": 0.0, "alpha": 1.0}),
        Corner("default_state", sweep="quick"),
        *beyond_65536(
            ("length", {"size": 2}, (1, 2, 65_539)),
            ("batch", {"size": 2}, (65_539, 2, 1)),
            ("channels", {"size": 3}, (1, 65_539, 2)),
        ),
        # AlexNet: Krizhevsky et al. 2012, after its first two convolutions; GoogLeNet: arXiv:1409.4842
        *(
            Corner(f"network_{name}", built=Built(arguments, (shape,)), dtypes=("float32",))
            for name, arguments, shape in (
                ("alexnet_norm1", {"size": 5, "k": 2.0}, (1, 96, 55, 55)),
                ("alexnet_norm2", {"size": 5, "k": 2.0}, (1, 256, 27, 27)),
                ("googlenet_norm1", {"size": 5}, (1, 64, 56, 56)),
            )
        ),
    ),
    rejections=(
        *(rejects(f"{len(shape)}_axes", ValueError, {"size": 2}, shape) for shape in ((4,), (4, 3))),
        rejects("size_0", RuntimeError, {"size": 0}, (2, 4, 3)),
        rejects("size_0_of_plane", RuntimeError, {"size": 0}, (2, 4, 3, 3)),
        rejects("negative_size", RuntimeError, {"size": -1}, (2, 4, 3)),
        rejects("real_size", TypeError, {"size": 2.0}, (2, 4, 3)),
        rejects("text_size", TypeError, {"size": "2"}, (2, 4, 3)),
        rejects("tuple_size", TypeError, {"size": (3,)}, (2, 4, 3)),
        *(
            rejects(f"text_{name}", TypeError, {"size": 2, name: "a"}, (2, 4, 3))
            for name in ("alpha", "beta", "k")
        ),
    ),
    functions=("local_response_norm",),
    values=values,
)

# CrossMapLRN2d: the input is (N, C, H, W); with few channels the window never has to let one go.

_CROSS_SHAPES = {
    "plane": (2, 7, 3, 4),
    "three_channels": (2, 3, 4, 5),
    "one_channel": (2, 1, 5, 3),
    "batch_0": (0, 7, 3, 4),
    "long": (1, 17, 33, 1),
}


def _cross_build(row: Mapping[str, Any]) -> Built:
    built = _response_build({**row, "shape": "plane"})
    return Built(built.arguments, (_CROSS_SHAPES[row["shape"]],))


_CROSS = LayerSpec(
    name="CrossMapLRN2d",
    family="group_norm",
    reference=CrossMapLRN2d,
    axes={
        "size": (3, 5, 4, 2, 1),
        "alpha": (1.0, 1e-4, 0.5),
        "beta": (0.75, 0.5, 1.0),
        "k": (1.0, 2.0, 0.25),
        "shape": tuple(_CROSS_SHAPES),
        "dtype": DTYPES,
        "layout": layouts(2),
        "data": ("normal", "tiny", "zeros"),
    },
    factorial=("size", "shape"),
    build=_cross_build,
    constraints=(
        EMPTY,
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: layout != "channels_last" or shape != "one_channel",
            "a single channel has no channels_last",
        ),
    ),
    rejections=tuple(
        rejects(f"{len(shape)}_axes", ValueError, {"size": 3}, shape)
        for shape in ((4,), (4, 3), (2, 4, 3), (2, 4, 3, 3, 3))
    ),
    values=values,
)

SPECS = (_RESPONSE, _CROSS)

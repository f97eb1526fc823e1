"""Specifications of the normalizations within a sample; here GroupNorm, LayerNorm and RMSNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs import instance_norm, response_norm
from parity_tests.specs.norm_data import AXES, EMPTY, beyond_65536, rejects, values
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection, layouts
from refimpl.group_norm import GroupNorm, LayerNorm, RMSNorm

# GroupNorm: the input is (N, C, *L); a group of 3 of 12 channels is no power of two.

_GROUP_SHAPES = {
    "plane": (2, 12, 3, 5),
    "line": (3, 12, 17),
    "volume": (2, 12, 2, 3, 1),
    "without_length": (3, 12),
    "batch_0": (0, 12, 3, 5),
    "no_length": (2, 12, 0),
    "batch_1": (1, 12, 3, 5),
    "long": (1, 12, 33),
    "ones": (2, 12, 1, 1),
}
_GROUP_ONE_VALUE = ("without_length", "ones")


def _group_build(row: Mapping[str, Any]) -> Built:
    given = {"eps": row["eps"]} if row["eps"] != 1e-5 else {}
    given |= {"affine": False} if row["affine"] is False else {}
    given |= {"bias": False} if row["affine"] == "weight" else {}
    shape = _GROUP_SHAPES[row["shape"]]
    return Built({"num_groups": row["num_groups"], "num_channels": shape[1], **given}, (shape,))


_GROUP = LayerSpec(
    name="GroupNorm",
    family="group_norm",
    reference=GroupNorm,
    axes={
        "num_groups": (4, 1, 2, 12),
        "affine": (True, "weight", False),
        "eps": (1e-5, 0.25, 1e-3),
        "shape": tuple(_GROUP_SHAPES),
        **AXES,
        "layout": layouts(2),
    },
    factorial=("num_groups", "affine", "shape"),
    build=_group_build,
    constraints=(
        EMPTY,
        Constraint(
            ("num_groups", "shape"),
            lambda num_groups, shape: num_groups != 12 or shape not in _GROUP_ONE_VALUE,
            "groups of one value have outputs and gradients that are zero",
        ),
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: (
                layout != "channels_last" or shape in ("plane", "batch_1", "volume", "ones")
            ),
            "only (N, C, H, W) and (N, C, D, H, W) that are not empty have channels_last",
        ),
        Constraint(
            ("layout", "shape"),
            lambda layout, shape: layout != "expanded" or shape not in ("batch_1", "long"),
            "an input that repeats along its channels has groups of equal rows",
        ),
        Constraint(
            ("shape", "data"),
            lambda shape, data: shape not in ("batch_1", "long") or data != "constant",
            "one sample, and that constant, has a gradient of zeros",
        ),
        Constraint(
            ("layout", "data"),
            lambda layout, data: layout != "expanded" or data != "constant",
            "all samples are the constant one",
        ),
    ),
    corners=(
        Corner("infinity", {"layout": "transposed"}, data="infinity"),
        Corner("zeros", data="zeros"),
        Corner("default_state", sweep="quick"),
        *beyond_65536(
            ("length", {"num_groups": 1, "num_channels": 2}, (1, 2, 65_539)),
            ("batch", {"num_groups": 1, "num_channels": 2}, (65_539, 2)),
            ("channels", {"num_groups": 1, "num_channels": 65_539}, (2, 65_539)),
        ),
        # 32 groups at the sizes of ResNet-18's layers: Wu and He, arXiv:1803.08494, section 4.1
        *(
            Corner(
                f"network_resnet18_{name}",
                built=Built({"num_groups": 32, "num_channels": channels}, ((1, channels, size, size),)),
                dtypes=dtypes,
            )
            for name, channels, size, dtypes in (
                ("layer1", 64, 56, ("float32", *HALF)),
                ("layer2", 128, 28, ("float32",)),
                ("layer4", 512, 7, DTYPES),
            )
        ),
    ),
    rejections=(
        rejects("indivisible", ValueError, {"num_groups": 2, "num_channels": 5}),
        rejects(
            "no_groups", ZeroDivisionError, {"num_groups": 0, "num_channels": 4}, note="by Python's own %"
        ),
        rejects("text_groups", TypeError, {"num_groups": "2", "num_channels": 4}),
        rejects("text_channels", TypeError, {"num_groups": 2, "num_channels": "4"}, note="% formats a text"),
        rejects("real_channels", TypeError, {"num_groups": 2, "num_channels": 4.0}),
        rejects("negative_channels", RuntimeError, {"num_groups": 2, "num_channels": -4}),
        rejects("one_axis", RuntimeError, {"num_groups": 2, "num_channels": 4}, (4,)),
        rejects("wrong_channels", RuntimeError, {"num_groups": 2, "num_channels": 4}, (3, 6, 2)),
        rejects(
            "indivisible_input",
            RuntimeError,
            {"num_groups": 2, "num_channels": 4, "affine": False},
            (3, 5, 2),
        ),
        rejects("one_value_a_group", ValueError, {"num_groups": 4, "num_channels": 4}, (1, 4, 1)),
        rejects("text_eps", TypeError, {"num_groups": 2, "num_channels": 4, "eps": "small"}),
    ),
    functions=("group_norm",),
    values=values,
    keeps_channels_last=True,
)

# LayerNorm and RMSNorm: the input is (*N, *normalized_shape).

_INNER = {
    "one": (7,),
    "two": (3, 5),
    "three": (2, 3, 5),
    "tail": (33,),
    "single": (1,),
    "leading_one": (1, 9),
}
_OUTER = {"plane": (2, 4), "line": (3,), "no_outer": (0, 4), "whole": (), "one_row": (1,), "rows": (17,)}


def _last_axes_build(row: Mapping[str, Any]) -> Built:
    given: dict[str, Any] = {} if row["eps"] in (1e-5, None) else {"eps": row["eps"]}
    given |= {"elementwise_affine": False} if row["affine"] is False else {}
    given |= {"bias": False} if row["affine"] == "weight" else {}
    inner = _INNER[row["normalized_shape"]]
    normalized_shape = inner[0] if row["normalized_shape"] == "one" else inner
    return Built({"normalized_shape": normalized_shape, **given}, ((*_OUTER[row["shape"]], *inner),))


def _last_axes_axes(affine: tuple, eps: tuple, inner: tuple = tuple(_INNER)) -> dict[str, tuple]:
    return {
        "normalized_shape": inner,
        "affine": affine,
        "eps": eps,
        "shape": tuple(_OUTER),
        **AXES,
        "layout": layouts(0),
    }


_ONE_ROW = ("whole", "one_row")
_LAST_AXES = (
    EMPTY,
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "expanded" or shape not in _ONE_ROW,
        "an input that repeats along its only row is constant",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: shape not in _ONE_ROW or data != "constant",
        "one row, and that constant, has a gradient of zeros",
    ),
    Constraint(
        ("layout", "data"),
        lambda layout, data: layout != "expanded" or data != "constant",
        "all rows are the constant one",
    ),
)
# Rows of one value have, once centred, outputs and gradients that are zero.
_CENTRED = tuple(inner for inner in _INNER if inner != "single")
_LAST_AXES_CORNERS = (
    Corner("infinity", data="infinity"),
    Corner("zeros", data="zeros"),
    Corner("default_state", sweep="quick"),
    Corner("zero_row", {"shape": "line"}, data="zero_row"),
    *beyond_65536(
        ("row", {"normalized_shape": (65_539,)}, (2, 65_539)),
        ("batch", {"normalized_shape": (3,)}, (65_539, 3)),
    ),
    # a row of GPT-2 small and of Llama: Radford et al. 2019; Touvron et al., arXiv:2302.13971
    Corner("network_gpt2", built=Built({"normalized_shape": 768}, ((1, 64, 768),))),
    Corner("network_llama", built=Built({"normalized_shape": 4096}, ((1, 16, 4096),)), dtypes=HALF),
    # small sizes that could be taken for axes: https://github.com/apple/coremltools/pull/869
    Corner("sizes_like_axes", built=Built({"normalized_shape": (2,)}, ((3, 4, 5, 2),)), sweep="quick"),
)


def _zero_row_values(
    case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray | None:
    if name.startswith("input") and case.data == "zero_row":
        drawn = rng.standard_normal(shape)
        drawn[0] = 0.0
        return drawn
    return values(case, name, rng, shape)


def _last_axes_rejections() -> tuple[Rejection, ...]:
    return (
        rejects("wrong_size", RuntimeError, {"normalized_shape": 4}, (3, 5)),
        rejects(
            "wrong_size_without_parameters",
            RuntimeError,
            {"normalized_shape": 4, "elementwise_affine": False},
            (3, 5),
        ),
        rejects("swapped_sizes", RuntimeError, {"normalized_shape": (3, 4)}, (2, 4, 3)),
        rejects("empty_shape", RuntimeError, {"normalized_shape": ()}, (4,)),
        rejects("text_shape", TypeError, {"normalized_shape": "4"}),
        rejects("real_shape", TypeError, {"normalized_shape": 4.0}),
        rejects("real_sizes", TypeError, {"normalized_shape": (4.0,)}),
        rejects("negative_size", RuntimeError, {"normalized_shape": -4}),
        rejects("text_eps", TypeError, {"normalized_shape": 4, "eps": "small"}),
    )


_LAYER = LayerSpec(
    name="LayerNorm",
    family="group_norm",
    reference=LayerNorm,
    axes=_last_axes_axes((True, "weight", False), (1e-5, 0.25, 1e-3), _CENTRED),
    factorial=("normalized_shape", "affine", "shape"),
    build=_last_axes_build,
    constraints=_LAST_AXES,
    corners=_LAST_AXES_CORNERS,
    rejections=(
        *_last_axes_rejections(),
        rejects("too_few_axes", RuntimeError, {"normalized_shape": (3, 4)}, (4,)),
    ),
    functions=("layer_norm",),
    values=_zero_row_values,
)


def _rms_build(row: Mapping[str, Any]) -> Built:
    built = _last_axes_build(row)
    eps = {} if row["eps"] is None else {"eps": row["eps"]}
    return Built({**built.arguments, **eps}, built.shapes)


_RMS = LayerSpec(
    name="RMSNorm",
    family="group_norm",
    reference=RMSNorm,
    axes=_last_axes_axes((True, False), (None, 1e-5, 0.25)),
    factorial=("normalized_shape", "affine", "shape"),
    build=_rms_build,
    constraints=_LAST_AXES,
    corners=_LAST_AXES_CORNERS,
    rejections=(
        *_last_axes_rejections(),
        rejects("too_few_axes", ValueError, {"normalized_shape": (3, 4)}, (4,)),
    ),
    functions=("rms_norm",),
    values=_zero_row_values,
)

SPECS = (_GROUP, *instance_norm.SPECS, _LAYER, _RMS, *response_norm.SPECS)

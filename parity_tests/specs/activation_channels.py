"""Specifications of PReLU, which learns its slopes, and of GLU, which halves an axis."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.activation_axes import AXES, CONSTRAINTS, SHAPES, UNKNOWN, rejection, special_corners
from parity_tests.specs.activation_data import values
from parity_tests.specs.spec import Built, Corner, LayerSpec


def _prelu_build(row: Mapping[str, Any]) -> Built:
    shape = SHAPES[row["shape"]]
    channels = shape[1] if len(shape) > 1 else 1
    return Built({"num_parameters": channels} if row["weights"] == "channels" else {}, (shape,))


_PRELU = LayerSpec(
    name="PReLU",
    family="activation",
    reference=refimpl.PReLU,
    axes=AXES
    | {
        "weights": ("one", "channels"),
        "parameter_layout": ("contiguous", "sliced"),
        "tier": ("rounding", "exact"),
    },
    factorial=(),
    build=_prelu_build,
    functions=("prelu",),
    values=partial(values, lambda **_: ()),
    constraints=(
        *CONSTRAINTS,
        Constraint(
            ("tier", "data"),
            lambda tier, data: tier == "rounding" or data == "normal",
            "the exact tier has its own numbers",
        ),
        Constraint(
            ("weights", "shape"),
            lambda weights, shape: weights == "one" or len(SHAPES[shape]) > 1,
            "an input with fewer than 2 axes is one channel",
        ),
        Constraint(
            ("tier", "shape"),
            lambda tier, shape: tier == "rounding" or shape not in ("empty", "scalar", "ones"),
            "the gradient of the weight must meet negative inputs",
        ),
        Constraint(
            ("tier", "layout"),
            lambda tier, layout: tier == "rounding" or layout != "expanded",
            "the gradient of the weight must meet negative inputs",
        ),
    ),
    corners=(
        *special_corners({}, {"resnet18_layer1": (1, 64, 56, 56)}, weights=True),
        Corner(
            "channels_beyond_65536",
            built=Built({"num_parameters": 65_542}, ((1, 65_542),)),
            dtypes=("float32",),
        ),
    ),
    rejections=(
        rejection("wrong_number_of_weights", RuntimeError, num_parameters=2),
        rejection("weights_for_a_vector", RuntimeError, num_parameters=3, shape=(3,)),
        rejection("weights_for_a_scalar", RuntimeError, num_parameters=3, shape=()),
        rejection("negative_number_of_weights", RuntimeError, num_parameters=-1),
        rejection("fraction_of_a_weight", TypeError, num_parameters=1.5),
        UNKNOWN,
    ),
    multilinear=False,
    keeps_channels_last=True,
)


def _glu_build(row: Mapping[str, Any]) -> Built:
    """The shapes of the others, with the halved axis twice as long."""
    shape, dim = list(SHAPES[row["shape"]]), row["dim"]
    shape[dim] *= 2
    return Built({} if dim == -1 else {"dim": dim}, (tuple(shape),))


_GLU = LayerSpec(
    name="GLU",
    family="activation",
    reference=refimpl.GLU,
    axes=AXES | {"shape": tuple(shape for shape in SHAPES if shape != "scalar"), "dim": (-1, 0, 1, -2)},
    factorial=(),
    build=_glu_build,
    functions=("glu",),
    values=partial(values, lambda **_: ()),
    constraints=(
        *CONSTRAINTS,
        Constraint(
            ("dim", "shape"),
            lambda dim, shape: dim in (-1, 0) or len(SHAPES[shape]) > 1,
            "the input has no such axis",
        ),
    ),
    corners=special_corners({}),
    rejections=(
        rejection("odd_axis", RuntimeError, dim=1),
        rejection("axis_out_of_range", IndexError, dim=3),
        rejection("no_axes", RuntimeError, shape=()),
        rejection("axis_that_is_no_integer", TypeError, dim=1.5),
        UNKNOWN,
    ),
)

SPECS = (_PRELU, _GLU)

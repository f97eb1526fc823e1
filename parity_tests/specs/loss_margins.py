"""Specifications of margins between scores: MultiMarginLoss, MultiLabelMarginLoss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_classes import (
    CONSTRAINTS,
    FULL_TYPES,
    REDUCTIONS,
    SCORES,
    WEIGHT,
    build,
    rejected,
)
from parity_tests.specs.spec import Built, Corner, Drawn, LayerSpec, Rejection, layouts
from refimpl import loss as reference

_MARGINS: data.Regimes = {
    "normal": {"input1": data.classes(), **WEIGHT},
    "ties": {"input0": data.quarters},
    "large": {"input0": data.scaled({"float32": 1e15, "float64": 1e100})},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_LISTS: data.Regimes = {
    "normal": {"input1": data.label_lists},
    "ties": {"input0": data.quarters},
    "no_target": {"input1": lambda rng, shape, case: rng.integers(0, shape[-1], shape) * 0 - 1},
    "all_targets": {
        "input1": lambda rng, shape, case: rng.permuted(rng.integers(0, 1, shape) + range(shape[-1]), axis=-1)
    },
    "repeated": {"input1": lambda rng, shape, case: rng.integers(-1, shape[-1], shape)},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_NOT_EMPTY = Constraint(
    ("shape", "reduction"),
    lambda shape, reduction: shape != "batch_0" or reduction == "none",
    "the mean and the sum of an empty batch are cases by themselves",
)


def _empty(target: tuple[int, ...]) -> tuple[Corner, ...]:
    return tuple(
        Corner(
            f"empty_batch_{reduction}",
            built=Built({"reduction": reduction}, ((0, 4), target)),
            dtypes=FULL_TYPES,
        )
        for reduction in ("mean", "sum")
    )


def _build_margin(defaults: Mapping[str, Any], lists: bool, row: Mapping[str, Any]) -> Built:
    built = build(defaults, row)
    return Built(built.arguments, (built.shapes[0], built.shapes[0])) if lists else built


_MULTI_MARGIN = {"p": 1, "margin": 1.0, "weight": None}
SPECS = (
    LayerSpec(
        name="MultiMarginLoss",
        family="loss",
        reference=reference.MultiMarginLoss,
        axes={
            "reduction": REDUCTIONS,
            "p": (1, 2),
            "margin": (1.0, 0.3),
            "weight": (None, "classes"),
            "shape": tuple(SCORES),
            "data": tuple(_MARGINS),
            "dtype": FULL_TYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "p", "weight", "shape"),
        build=partial(_build_margin, _MULTI_MARGIN, False),
        constraints=(CONSTRAINTS[0], _NOT_EMPTY),
        corners=(
            *_empty((0,)),
            Corner("batch_beyond_65536", built=Built({}, ((65_541, 2), (65_541,))), dtypes=("float32",)),
            Corner("margins_just_kept", {"reduction": "none"}, data="ties", dtypes=FULL_TYPES, sweep="quick"),
        ),
        rejections=(
            Rejection("unknown_reduction", Built({"reduction": "average"}, ((3, 5), (3,))), ValueError),
            Rejection("p_3", Built({"p": 3}, ((3, 5), (3,))), ValueError),
            Rejection("weight_of_two_axes", Built({"weight": Drawn((2, 2))}, ((3, 5), (3,))), ValueError),
            Rejection("weight_of_other_size", Built({"weight": Drawn((4,))}, ((3, 5), (3,))), RuntimeError),
            Rejection("target_too_large", Built({}, ((3, 5), (3,))), RuntimeError),
            Rejection("target_negative", Built({}, ((3, 5), (3,))), RuntimeError),
            Rejection("target_of_other_batch", Built({}, ((3, 5), (2,))), RuntimeError),
            Rejection("three_axes", Built({}, ((3, 5, 2), (3,))), RuntimeError),
            Rejection("no_classes", Built({}, ((3, 0), (3,))), RuntimeError),
        ),
        functions=("multi_margin_loss",),
        values=partial(rejected, data.values_of(_MARGINS)),
    ),
    LayerSpec(
        name="MultiLabelMarginLoss",
        family="loss",
        reference=reference.MultiLabelMarginLoss,
        axes={
            "reduction": REDUCTIONS,
            "shape": tuple(SCORES),
            "data": tuple(_LISTS),
            "dtype": FULL_TYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "shape"),
        build=partial(_build_margin, {}, True),
        constraints=(CONSTRAINTS[0], _NOT_EMPTY),
        corners=(
            *_empty((0, 4)),
            Corner("batch_beyond_65536", built=Built({}, ((65_541, 2),) * 2), dtypes=("float32",)),
            Corner("margins_just_kept", {"reduction": "none"}, data="ties", dtypes=FULL_TYPES, sweep="quick"),
        ),
        rejections=(
            Rejection("unknown_reduction", Built({"reduction": "average"}, ((3, 5),) * 2), ValueError),
            Rejection("target_too_large", Built({}, ((3, 5),) * 2), RuntimeError),
            Rejection("target_of_other_size", Built({}, ((3, 5), (3, 4))), RuntimeError),
            Rejection("three_axes", Built({}, ((3, 5, 2),) * 2), RuntimeError),
        ),
        functions=("multilabel_margin_loss",),
        values=partial(rejected, data.values_of(_LISTS)),
    ),
)

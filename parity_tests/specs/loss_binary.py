"""Specifications of losses of yes or no."""

from __future__ import annotations

import math

from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_elements import (
    LARGE,
    MISSPELT,
    SHAPES,
    STEPS,
    bad,
    element_loss,
)
from parity_tests.specs.spec import Built, Corner, Drawn, Rejection

_PROBABILITIES: data.Regimes = {
    "normal": {
        "input0": data.uniform(0.02, 0.98),
        "input1": data.uniform(0, 1),
        "weight": data.uniform(0.25, 2),
    },
    "labels": {"input0": data.uniform(0.02, 0.98), "input1": data.numbers(0.0, 1.0)},
    "edges": {
        "input0": data.numbers(0.0, 1.0, 2.0**-24, 2.0**-9, 1 - 2.0**-8, 0.5),
        "input1": data.numbers(0, 1, 0.25),
    },
}
_LOGITS: data.Regimes = {
    "normal": {
        "input0": data.normal(2.0),
        "input1": data.uniform(0, 1),
        "weight": data.uniform(0.25, 2),
        "pos_weight": data.uniform(0.25, 3),
    },
    "labels": {"input1": data.numbers(0.0, 1.0)},
    "steps": {"input0": data.numbers(*STEPS), "input1": data.numbers(0, 1, 0.25)},
    "infinity": {"input0": data.sprinkled((math.inf, -math.inf)), "input1": data.numbers(0.25, 0.5)},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_WEIGHTS = (None, "last", "whole")

SPECS = (
    element_loss(
        "BCELoss",
        "binary_cross_entropy",
        _PROBABILITIES,
        scalars={"weight": _WEIGHTS},
        wrong_shape=ValueError,
        corners=(Corner("probabilities_0_and_1", {"reduction": "none"}, data="edges", sweep="quick"),),
        rejections=(
            bad("input_outside", RuntimeError),
            Rejection("weight_of_other_size", Built({"weight": Drawn((3,))}, ((3, 4),) * 2), RuntimeError),
        ),
    ),
    element_loss(
        "BCEWithLogitsLoss",
        "binary_cross_entropy_with_logits",
        _LOGITS,
        wrong_shape=ValueError,
        scalars={"weight": _WEIGHTS, "pos_weight": _WEIGHTS},
        corners=(Corner("overflow_in_steps", {"reduction": "none"}, data="steps", sweep="quick"),),
        rejections=(
            Rejection("weight_of_other_size", Built({"weight": Drawn((3,))}, ((3, 4),) * 2), RuntimeError),
            Rejection(
                "pos_weight_of_other_size", Built({"pos_weight": Drawn((3,))}, ((3, 4),) * 2), RuntimeError
            ),
        ),
    ),
    element_loss(
        "MultiLabelSoftMarginLoss",
        "multilabel_soft_margin_loss",
        _LOGITS,
        scalars={"weight": _WEIGHTS},
        shapes=tuple(name for name in SHAPES if name != "scalar"),
        corners=(
            Corner("sum_overflows", built=Built({}, ((1000,), (1000,))), dtypes=("float16",), data="steps"),
        ),
        rejections=(Rejection("no_axes", Built({}, ((), ())), IndexError),),
    ),
    element_loss(
        "SoftMarginLoss",
        "soft_margin_loss",
        {
            "normal": {"input0": data.normal(2.0), "input1": data.labels},
            "steps": {"input0": data.numbers(*STEPS)},
            "infinity": {"input0": data.sprinkled((math.inf, -math.inf))},
            "nan": {"input0": data.sprinkled((math.nan,))},
            "tiny": {
                "input0": data.scaled(
                    {"float16": 2.0**-12, "bfloat16": 1e-30, "float32": 1e-30, "float64": 1e-200}
                )
            },
        },
    ),
    element_loss(
        "HingeEmbeddingLoss",
        "hinge_embedding_loss",
        {
            "normal": {"input1": data.labels},
            "ties": {"input0": data.quarters},
            "large": {},
            "tiny": {},
            "specials": {},
        },
        scalars={"margin": (1.0, 0.3, -0.25)},
        rejections=(bad("text_margin", TypeError, margin="1", note=MISSPELT),),
    ),
    element_loss(
        "MarginRankingLoss",
        "margin_ranking_loss",
        {
            "normal": {"input2": data.signs},
            "ties": {"input0": data.quarters, "input1": data.quarters},
            "large": {"input0": data.scaled(LARGE), "input1": data.scaled(LARGE)},
            "tiny": {},
            "nan": {},
        },
        operands=3,
        scalars={"margin": (0.0, 0.5, -0.3)},
        rejections=(
            Rejection("different_numbers_of_axes", Built({}, ((3,), (3, 1), (3,))), RuntimeError),
            bad("text_margin", TypeError, 3, margin="1", note=MISSPELT),
        ),
    ),
)

"""Specification of LinearCrossEntropyLoss, which torch has from 2.13 on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_classes import (
    REDUCTIONS,
)
from parity_tests.specs.spec import DTYPES, Built, Drawn, LayerSpec, Rejection, layouts
from refimpl import loss as reference


def _build_linear(row: Mapping[str, Any]) -> Built:
    features, classes, out = row["features"], 5, row["out_features"]
    batch = {"batch": (3,), "unbatched": (), "batch_0": (0,), "one": (1,)}[row["batch"]]
    arguments = {"in_features": features, "num_classes": classes}
    for name, default in {
        "out_features": (),
        "bias": False,
        "reduction": "mean",
        "weight": None,
        "ignore_index": None,
        "label_smoothing": 0.0,
    }.items():
        value = Drawn((classes,)) if row[name] == "classes" else row[name]
        if value != default:
            arguments[name] = value
    return Built(
        arguments,
        ((*batch, features), (*batch, *((classes,) if row["target"] == "probabilities" else ()), *out)),
    )


def _linear_values(case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    """Targets by index have no axis of classes."""
    out = data.argument(case, "out_features", ())
    if name != "input1":
        return data.uniform(0.25, 2)(rng, shape, case) if name == "weight" else None
    if len(shape) == len(case.shapes[0]) + len(out):
        return data.distribution(rng, shape, case)
    ignored = data.argument(case, "ignore_index", -100)
    index = rng.integers(0, 5, shape) + (5 if case.name == "rejects_target_too_large" else 0)
    return np.where(rng.random(shape) < 0.4, ignored, index) if case.data == "ignored" else index


SPECS = (
    LayerSpec(
        name="LinearCrossEntropyLoss",
        family="loss",
        reference=reference.LinearCrossEntropyLoss,
        axes={
            "reduction": REDUCTIONS,
            "target": ("index", "probabilities"),
            "bias": (False, True),
            "out_features": ((), (3,), (2, 4)),
            "label_smoothing": (0.0, 0.1),
            "weight": (None, "classes"),
            "ignore_index": (None, 1),
            "batch": ("batch", "unbatched", "batch_0", "one"),
            "features": (7, 33, 1),
            "data": ("normal", "ignored"),
            "dtype": DTYPES,
            "layout": layouts(1),
            "parameter_layout": ("contiguous", "transposed"),
        },
        factorial=("reduction", "target", "bias", "out_features"),
        build=_build_linear,
        constraints=(
            Constraint(
                ("target", "data"),
                lambda target, regime: target == "index" or regime != "ignored",
                "probabilities are not ignored",
            ),
            Constraint(
                ("target", "ignore_index"),
                lambda target, ignored: target == "index" or ignored is None,
                "ignore_index is refused beside probabilities",
            ),
            Constraint(
                ("out_features", "batch"),
                lambda out, batch: not out or batch != "unbatched",
                "several outputs need a batch",
            ),
        ),
        rejections=(
            Rejection(
                "unknown_reduction",
                Built({"in_features": 4, "num_classes": 5, "reduction": "average"}, ((3, 4), (3,))),
                ValueError,
            ),
            Rejection(
                "ignore_index_beside_probabilities",
                Built({"in_features": 4, "num_classes": 5, "ignore_index": 1}, ((3, 4), (3, 5))),
                RuntimeError,
            ),
            Rejection(
                "label_smoothing_above_1",
                Built({"in_features": 4, "num_classes": 5, "label_smoothing": 1.5}, ((3, 4), (3,))),
                RuntimeError,
            ),
            Rejection(
                "label_smoothing_negative",
                Built({"in_features": 4, "num_classes": 5, "label_smoothing": -0.1}, ((3, 4), (3,))),
                RuntimeError,
            ),
            Rejection(
                "weight_of_other_size",
                Built({"in_features": 4, "num_classes": 5, "weight": Drawn((4,))}, ((3, 4), (3,))),
                RuntimeError,
            ),
            Rejection(
                "features_that_differ",
                Built({"in_features": 4, "num_classes": 5}, ((3, 6), (3,))),
                RuntimeError,
            ),
            Rejection(
                "unbatched_with_out_features",
                Built({"in_features": 4, "num_classes": 5, "out_features": (2,)}, ((4,), (2,))),
                RuntimeError,
            ),
            Rejection(
                "target_too_large", Built({"in_features": 4, "num_classes": 5}, ((3, 4), (3,))), IndexError
            ),
        ),
        functions=("linear_cross_entropy",),
        values=_linear_values,
    ),
)

"""Specification of AdaptiveLogSoftmaxWithLoss; `method` log_prob: its methods log_prob and predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl.adaptive_softmax import AdaptiveLogSoftmaxWithLoss

_CLASSES = 13
_BATCH: Mapping[str, tuple[int, ...]] = {"batch": (7,), "one": (1,), "unbatched": (), "batch_0": (0,)}
# Data: where the targets are; or, with targets in every cluster, what the input is.
_TARGETS = ("normal", "shortlist", "last_cluster", "first_cluster_empty")
_INPUTS = ("normal", "wide", "specials")


def invoke(torch, layer, inputs, call):
    if call.get("method") == "log_prob":
        return layer.log_prob(*inputs), layer.predict(*inputs)
    return layer(*inputs)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Targets as the data say; logarithms of a few units, or of some tens in the wide regime."""
    if name == "input1":
        return _targets(case, rng, shape)
    if name.startswith(("head", "tail")):
        return rng.standard_normal(shape) / np.sqrt(max(1, shape[-1]))
    if name == "input0" and case.data in ("wide", "far"):
        return rng.standard_normal(shape) * (8.0 if case.data == "wide" else 300.0)
    if name == "input0" and case.data == "specials":  # one sample: the others must not see it
        values = rng.standard_normal(shape)
        values[(-1,) * len(shape)] = rng.choice([np.nan, np.inf, -np.inf])
        return values
    return None


def _targets(case: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if case.name in _BAD_TARGETS:
        return np.resize(_BAD_TARGETS[case.name], shape)
    if case.rejects:
        return rng.integers(0, 3, shape)
    arguments = dict(case.arguments)
    cutoffs, classes = arguments["cutoffs"], arguments["n_classes"]
    first, last = cutoffs[0], cutoffs[-1]
    if case.data == "shortlist":
        return rng.integers(0, first, shape)
    if case.data == "last_cluster":
        return rng.integers(last, classes, shape)
    if case.data == "first_cluster_empty":
        second = cutoffs[1] if len(cutoffs) > 1 else classes
        drawn = rng.integers(0, classes - (second - first), shape)
        return np.where(drawn >= first, drawn + (second - first), drawn)
    starts = np.array([0, *cutoffs])  # the first, from which on the others are drawn, lie one in each cluster
    drawn = rng.integers(0, classes, shape)
    if len(shape) == 1 and shape[0] > len(starts):
        drawn[: len(starts)] = starts
    return drawn


_BAD_TARGETS = {
    "rejects_target_too_large": np.array([0, 13, 2]),
    "rejects_target_negative": np.array([0, -1, 2]),
    "rejects_real_target": np.array([0.0, 1.0, 2.0]),
}


def _build(row: Mapping[str, Any]) -> Built:
    arguments = {"in_features": row["features"], "n_classes": _CLASSES, "cutoffs": row["cutoffs"]}
    arguments |= {} if row["div_value"] == 4.0 else {"div_value": row["div_value"]}
    arguments |= {"head_bias": True} if row["head_bias"] else {}
    batch = _BATCH[row["batch"]]
    if row["method"] == "log_prob":
        return Built(arguments, ((*batch, row["features"]),), {"method": "log_prob"})
    return Built(arguments, ((*batch, row["features"]), batch))


def _corner(
    name: str, features: int, classes: int, cutoffs: tuple[int, ...], rows: int, **more: Any
) -> Corner:
    arguments = {"in_features": features, "n_classes": classes, "cutoffs": cutoffs}
    arguments |= {"div_value": more.pop("div_value")} if "div_value" in more else {}
    return Corner(name, built=Built(arguments, ((rows, features), (rows,))), **more)


_CORNERS = (
    _corner("hidden_of_no_features", 3, 7, (2, 4), 5),
    _corner("every_class_a_cluster", 8, 4, (1, 2, 3), 9, div_value=2.0, sweep="quick"),
    _corner("last_class_alone", 8, 7, (3, 6), 9),
    _corner("hidden_wider_than_the_input", 4, 7, (3, 5), 5, div_value=0.5),
    _corner("far_logits", 9, 13, (3, 8), 7, data="far"),
    _corner("one_nan_row", 9, 13, (3, 8), 7, data="nan"),
    _corner("infinite_inputs", 9, 13, (3, 8), 7, data="infinity"),
    _corner("batch_of_257", 9, 13, (3, 8), 257),
    _corner("network_language_model_classifier", 64, 1000, (20, 200), 12, dtypes=("float32", "bfloat16")),
    Corner(
        "log_prob_of_many_classes",
        built=Built(
            {"in_features": 16, "n_classes": 300, "cutoffs": (10, 100)}, ((5, 16),), {"method": "log_prob"}
        ),
    ),
)


def _rejections() -> tuple[Rejection, ...]:
    def bad(
        name: str, exception: type[Exception], shapes: tuple = ((3, 4), (3,)), note: str = "", **given: Any
    ) -> Rejection:
        arguments = {"in_features": 4, "n_classes": 13, "cutoffs": (3, 8), **given}
        return Rejection(name, Built(arguments, shapes), exception, note)

    return (
        bad("no_cutoffs", ValueError, cutoffs=()),
        bad("falling_cutoffs", ValueError, cutoffs=(8, 3)),
        bad("equal_cutoffs", ValueError, cutoffs=(3, 3)),
        bad("cutoff_of_0", ValueError, cutoffs=(0, 3)),
        bad("negative_cutoff", ValueError, cutoffs=(-2, 3)),
        bad("cutoff_of_all_classes", ValueError, cutoffs=(3, 13)),
        bad("fractional_cutoff", ValueError, cutoffs=(2.5, 3)),
        bad("cutoffs_no_sequence", TypeError, cutoffs=3),
        bad("div_value_of_0", ZeroDivisionError, div_value=0.0),
        bad("negative_div_value", RuntimeError, div_value=-2.0),
        bad("negative_in_features", RuntimeError, in_features=-4),
        bad("other_features", RuntimeError, ((3, 5), (3,))),
        bad("other_batch", RuntimeError, ((3, 4), (2,))),
        bad("batched_input_without_targets", RuntimeError, ((3, 4), ())),
        bad("unbatched_input_with_targets", RuntimeError, ((4,), (4,))),
        bad("three_axes", RuntimeError, ((3, 2, 4), (3,))),
        bad("targets_with_two_axes", RuntimeError, ((3, 4), (3, 1))),
        bad("target_too_large", RuntimeError),
        bad("target_negative", RuntimeError),
        bad("real_target", RuntimeError, note="torch fails where it gathers with them"),
    )


SPECS = (
    LayerSpec(
        name="AdaptiveLogSoftmaxWithLoss",
        family="softmax",
        reference=AdaptiveLogSoftmaxWithLoss,
        axes={
            "cutoffs": ((3, 8), (4,), (1, 2, 9)),
            "div_value": (4.0, 2.0, 1.5),
            "head_bias": (False, True),
            "batch": tuple(_BATCH),
            "method": ("forward", "log_prob"),
            "features": (17, 33, 8),
            "data": (*_TARGETS, *_INPUTS[1:]),
            "dtype": DTYPES,
            "layout": layouts(1),
            "parameter_layout": ("contiguous", "transposed"),
        },
        factorial=("cutoffs", "head_bias", "batch", "method"),
        build=_build,
        constraints=(
            Constraint(
                ("method", "batch"),
                lambda method, batch: method == "forward" or batch != "unbatched",
                "log_prob and predict take a batch",
            ),
            Constraint(
                ("method", "data"),
                lambda method, data: method == "forward" or data in _INPUTS,
                "log_prob and predict take no target",
            ),
            Constraint(
                ("method", "batch", "layout", "data"),
                lambda method, batch, layout, data: (
                    method == "forward" or data != "specials" or (batch != "one" and layout != "expanded")
                ),
                "of a single sample that is NaN nothing is predicted",
            ),
            Constraint(
                ("batch", "data"),
                lambda batch, data: batch != "batch_0" or data == "normal",
                "an empty batch has no numbers",
            ),
        ),
        corners=_CORNERS,
        rejections=_rejections(),
        functions=("log_softmax", "linear"),
        values=_values,
        invoke=invoke,
        nest=lambda inputs, call: inputs,
    ),
)

"""Specifications of the losses of classes: NLLLoss, CrossEntropyLoss, MultiMarginLoss,
MultiLabelMarginLoss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection, layouts
from refimpl import loss as reference

REDUCTIONS = ("mean", "none", "sum")
# torch's CPU kernels of the margin losses exist for these two types only.
FULL_TYPES = ("float32", "float64")
# Inputs (N, C), (C), (N, C, *L); a target lacks the axis of the classes.
SHAPES: Mapping[str, tuple[int, ...]] = {
    "batch": (5, 7),
    "unbatched": (6,),
    "one_class": (4, 1),
    "image": (2, 5, 3, 4),
    "line": (3, 4, 9),
    "volume": (2, 3, 2, 1, 5),
    "batch_0": (0, 4),
    "wide": (2, 33),
}
_SCORES: Mapping[str, tuple[int, ...]] = {
    "batch": (5, 7),
    "unbatched": (6,),
    "one_class": (4, 1),
    "batch_0": (0, 4),
    "wide": (2, 33),
}
_LARGE = {"float16": 300.0, "bfloat16": 1e30, "float32": 1e30, "float64": 1e200}
_FAR = {"float16": 3e4, "bfloat16": 1e7, "float32": 1e7, "float64": 1e15}


def without_classes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:]) if len(shape) > 1 else ()


_CONSTRAINTS = (
    Constraint(
        ("shape", "data"),
        lambda shape, regime: shape != "batch_0" or regime == "normal",
        "an empty batch has no special values",
    ),
    Constraint(
        ("shape", "layout"),
        lambda shape, layout: layout != "channels_last" or len(SHAPES[shape]) in (4, 5),
        "channels_last needs 4 or 5 axes",
    ),
)
_BY_INDEX = Constraint(
    ("target", "data"),
    lambda target, regime: target == "index" or regime not in ("ignored", "all_ignored"),
    "probabilities are not ignored",
)
_WITHOUT_IGNORED = Constraint(
    ("target", "ignore_index"),
    lambda target, ignored: target == "index" or ignored == -100,
    "probabilities are not ignored",
)


def _build(defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
    shape = SHAPES[row["shape"]]
    classes = shape[min(1, len(shape) - 1)]
    arguments: dict[str, Any] = {} if row["reduction"] == "mean" else {"reduction": row["reduction"]}
    for name, default in defaults.items():
        value = Drawn((classes,)) if row[name] == "classes" else row[name]
        if value != default:
            arguments[name] = value
    target = shape if row.get("target") == "probabilities" else without_classes(shape)
    return Built(arguments, (shape, target))


_WEIGHT = {"weight": data.uniform(0.25, 2)}
_LOG_PROBABILITIES: data.Regimes = {
    "normal": {"input0": data.log_probabilities(), "input1": data.classes(), **_WEIGHT},
    "ignored": {"input1": data.classes(0.4)},
    "all_ignored": {"input1": data.classes(1.0)},
    "large": {"input0": data.scaled(_LARGE)},
    "impossible": {"input0": data.sprinkled((-math.inf,))},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_LOGITS: data.Regimes = {
    "normal": {"input1": data.classes(), **_WEIGHT},
    "ignored": {"input1": data.classes(0.4)},
    "all_ignored": {"input1": data.classes(1.0)},
    "wide": {"input0": data.normal(30.0)},
    "offset": {"input0": lambda rng, shape, case: 4 * rng.standard_normal(shape) + _FAR[case.dtype]},
    "equal": {"input0": lambda rng, shape, case: 0 * rng.standard_normal(shape) + rng.standard_normal()},
    "nan": {"input0": data.sprinkled((math.nan,))},
}


def _logits(case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    """Targets of input's shape are probabilities, in one regime only zeros and ones."""
    if name == "input1" and len(case.shapes[1]) == len(case.shapes[0]):
        if case.data == "equal":
            return data.numbers(0.0, 1.0)(rng, shape, case)
        return data.distribution(rng, shape, case)
    return data.values_of(_LOGITS)(case, name, rng, shape)


def _rejections(*more: Rejection) -> tuple[Rejection, ...]:
    """Wrong classes, shapes and reductions, of both losses."""

    def bad(
        name: str, exception: type[Exception], input: tuple, target: tuple, note: str = "", **arguments: Any
    ) -> Rejection:
        return Rejection(name, Built(arguments, (input, target)), exception, note)

    return (
        bad("unknown_reduction", ValueError, (3, 5), (3,), reduction="average"),
        bad("target_too_large", IndexError, (3, 5), (3,)),
        bad("target_too_large_image", IndexError, (2, 5, 3, 4), (2, 3, 4)),
        bad("target_negative", IndexError, (3, 5), (3,)),
        bad("target_of_other_batch", ValueError, (3, 5), (2,)),
        bad("target_of_other_size", RuntimeError, (3, 5, 4), (3, 3)),
        bad("target_of_numbers", RuntimeError, (3, 5), (3,)),
        bad("weight_of_other_size", RuntimeError, (3, 5), (3,), weight=Drawn((4,))),
        *more,
    )


def _rejected(values: Any, case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    """Targets of a rejection that is about them."""
    if name == "input1" and case.name.startswith("rejects_target"):
        wrong = {"rejects_target_negative": -1, "rejects_target_of_numbers": None}.get(case.name, 5)
        if wrong is None:
            return rng.standard_normal(shape)
        return (
            data.numbers(wrong)(rng, shape, case)
            if "_of_" not in case.name
            else data.classes()(rng, shape, case)
        )
    return values(case, name, rng, shape)


_NLL = {"weight": None, "ignore_index": -100}
_CROSS_ENTROPY = {**_NLL, "label_smoothing": 0.0}
_ENTROPY = (
    LayerSpec(
        name="NLLLoss",
        family="loss",
        reference=reference.NLLLoss,
        axes={
            "reduction": REDUCTIONS,
            "weight": (None, "classes"),
            "ignore_index": (-100, 1, -1),
            "shape": tuple(SHAPES),
            "data": tuple(_LOG_PROBABILITIES),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", "weight", "shape"),
        build=partial(_build, _NLL),
        constraints=_CONSTRAINTS,
        corners=(
            Corner("all_ignored_mean", built=Built({}, ((3, 4), (3,))), data="all_ignored", sweep="quick"),
            Corner("batch_beyond_65536", built=Built({}, ((65_541, 2), (65_541,))), dtypes=("float32",)),
            Corner(
                "image_beyond_65536",
                built=Built({"weight": Drawn((2,))}, ((1, 2, 257, 256), (1, 257, 256))),
                dtypes=("float32",),
            ),
        ),
        rejections=_rejections(Rejection("no_axes", Built({}, ((), ())), ValueError)),
        functions=("nll_loss",),
        values=partial(_rejected, data.values_of(_LOG_PROBABILITIES)),
    ),
    LayerSpec(
        name="CrossEntropyLoss",
        family="loss",
        reference=reference.CrossEntropyLoss,
        axes={
            "reduction": REDUCTIONS,
            "target": ("index", "probabilities"),
            "label_smoothing": (0.0, 0.1, 1.0),
            "weight": (None, "classes"),
            "ignore_index": (-100, 1, -1),
            "shape": tuple(name for name in SHAPES if name != "one_class"),
            "data": tuple(_LOGITS),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", "target", "label_smoothing", "weight"),
        build=partial(_build, _CROSS_ENTROPY),
        constraints=(*_CONSTRAINTS, _BY_INDEX, _WITHOUT_IGNORED),
        corners=(
            Corner("all_ignored_mean", built=Built({}, ((3, 4), (3,))), data="all_ignored", sweep="quick"),
            Corner("batch_beyond_65536", built=Built({}, ((65_541, 2), (65_541,))), dtypes=("float32",)),
            Corner("one_class", built=Built({"reduction": "sum"}, ((4, 1), (4,)))),
            Corner("network_imagenet_classifier", built=Built({}, ((4, 1000), (4,)))),
            Corner(
                "network_imagenet_classifier_smoothed",
                built=Built({"label_smoothing": 0.1}, ((4, 1000), (4,))),
            ),
        ),
        rejections=_rejections(
            Rejection(
                "label_smoothing_above_1", Built({"label_smoothing": 1.5}, ((3, 5), (3,))), RuntimeError
            ),
            Rejection(
                "label_smoothing_negative", Built({"label_smoothing": -0.1}, ((3, 5), (3,))), RuntimeError
            ),
        ),
        functions=("cross_entropy",),
        values=partial(_rejected, _logits),
    ),
)

_MARGINS: data.Regimes = {
    "normal": {"input1": data.classes(), **_WEIGHT},
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
    built = _build(defaults, row)
    return Built(built.arguments, (built.shapes[0], built.shapes[0])) if lists else built


_MULTI_MARGIN = {"p": 1, "margin": 1.0, "weight": None}
_BETWEEN_CLASSES = (
    LayerSpec(
        name="MultiMarginLoss",
        family="loss",
        reference=reference.MultiMarginLoss,
        axes={
            "reduction": REDUCTIONS,
            "p": (1, 2),
            "margin": (1.0, 0.3),
            "weight": (None, "classes"),
            "shape": tuple(_SCORES),
            "data": tuple(_MARGINS),
            "dtype": FULL_TYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "p", "weight", "shape"),
        build=partial(_build_margin, _MULTI_MARGIN, False),
        constraints=(_CONSTRAINTS[0], _NOT_EMPTY),
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
        values=partial(_rejected, data.values_of(_MARGINS)),
    ),
    LayerSpec(
        name="MultiLabelMarginLoss",
        family="loss",
        reference=reference.MultiLabelMarginLoss,
        axes={
            "reduction": REDUCTIONS,
            "shape": tuple(_SCORES),
            "data": tuple(_LISTS),
            "dtype": FULL_TYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "shape"),
        build=partial(_build_margin, {}, True),
        constraints=(_CONSTRAINTS[0], _NOT_EMPTY),
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
        values=partial(_rejected, data.values_of(_LISTS)),
    ),
)


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


_LINEAR = LayerSpec(
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
            "features_that_differ", Built({"in_features": 4, "num_classes": 5}, ((3, 6), (3,))), RuntimeError
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
)

SPECS = (*_ENTROPY, _LINEAR, *_BETWEEN_CLASSES)

"""Specifications of NLLLoss and CrossEntropyLoss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

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
SCORES: Mapping[str, tuple[int, ...]] = {
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


CONSTRAINTS = (
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


def build(defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
    shape = SHAPES[row["shape"]]
    classes = shape[min(1, len(shape) - 1)]
    arguments: dict[str, Any] = {} if row["reduction"] == "mean" else {"reduction": row["reduction"]}
    for name, default in defaults.items():
        value = Drawn((classes,)) if row[name] == "classes" else row[name]
        if value != default:
            arguments[name] = value
    target = shape if row.get("target") == "probabilities" else without_classes(shape)
    return Built(arguments, (shape, target))


WEIGHT = {"weight": data.uniform(0.25, 2)}
_LOG_PROBABILITIES: data.Regimes = {
    "normal": {"input0": data.log_probabilities(), "input1": data.classes(), **WEIGHT},
    "ignored": {"input1": data.classes(0.4)},
    "all_ignored": {"input1": data.classes(1.0)},
    "large": {"input0": data.scaled(_LARGE)},
    "impossible": {"input0": data.sprinkled((-math.inf,))},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_LOGITS: data.Regimes = {
    "normal": {"input1": data.classes(), **WEIGHT},
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


def rejected(values: Any, case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
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
SPECS = (
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
        build=partial(build, _NLL),
        constraints=CONSTRAINTS,
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
        values=partial(rejected, data.values_of(_LOG_PROBABILITIES)),
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
        build=partial(build, _CROSS_ENTROPY),
        constraints=(*CONSTRAINTS, _BY_INDEX, _WITHOUT_IGNORED),
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
        values=partial(rejected, _logits),
    ),
)

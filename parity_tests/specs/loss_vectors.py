"""Specifications of distances and of the losses between distances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Made, Rejection, layouts
from refimpl import loss as reference

REDUCTIONS = ("mean", "none", "sum")
# Squares of these are finite in A, products of two squares are not in float32.
_LARGE = {"float16": 250.0, "bfloat16": 1e12, "float32": 1e12, "float64": 1e100}
_SMALL = {"float16": 0.05, "bfloat16": 0.05, "float32": 0.05, "float64": 0.05}
_FAR = {"float16": 20.0, "bfloat16": 1e10, "float32": 1e10, "float64": 1e90}
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "rows": (5, 17),
    "one": (7,),
    "cube": (2, 3, 5),
    "batch_0": (0, 4),
    "short": (4, 1),
    "pairs": (4, 2),
    "image": (2, 3, 4, 5),
}
_EMPTY = Constraint(
    ("shape", "data"),
    lambda shape, regime: shape != "batch_0" or regime == "normal",
    "an empty batch has no special values",
)
_LAYOUT = Constraint(
    ("shape", "layout"),
    lambda shape, layout: layout != "channels_last" or len(_SHAPES[shape]) == 4,
    "channels_last needs 4 axes",
)


def given(defaults: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name, default in defaults.items() if row[name] != default}


_COSINE: data.Regimes = {
    "normal": {},
    "large": {"input0": data.scaled(_LARGE), "input1": data.scaled(_LARGE)},
    "small": {"input0": data.scaled(_SMALL), "input1": data.scaled(_SMALL)},
    "alike": {"input0": data.alike(0.3), "input1": data.alike(0.3)},
    "zeros": {
        "input0": lambda rng, shape, case: (
            rng.standard_normal(shape) * (rng.random(shape[:1]) < 0.5).reshape(-1, *[1] * (len(shape) - 1))
        )
    },
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_COSINE_SHAPES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "rows": ((5, 17),) * 2,
    "one": ((7,),) * 2,
    "cube": ((2, 3, 5),) * 2,
    "batch_0": ((0, 4),) * 2,
    "image": ((2, 3, 4, 5),) * 2,
    "broadcast": ((3, 1, 5), (4, 5)),
}


def _build_cosine(row: Mapping[str, Any]) -> Built:
    return Built(given({"dim": 1, "eps": 1e-8}, row), _COSINE_SHAPES[row["shape"]])


_DISTANCE: data.Regimes = {
    "normal": {},
    "alike": {"input0": data.alike(0.6), "input1": data.alike(0.6)},
    "ties": {"input0": data.quarters, "input1": data.numbers(0.0, 1.0)},
    "large": {"input0": data.scaled(_FAR), "input1": data.scaled(_FAR)},
    "nan": {"input0": data.sprinkled((math.nan,))},
}
_DISTANCES = (
    LayerSpec(
        name="CosineSimilarity",
        family="loss",
        reference=reference.CosineSimilarity,
        axes={
            "dim": (1, 0, -1),
            "eps": (1e-8, 0.5, 0.0),
            "shape": tuple(_COSINE_SHAPES),
            "data": tuple(_COSINE),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("dim", "eps", "shape"),
        build=_build_cosine,
        constraints=(
            _EMPTY,
            Constraint(
                ("shape", "dim"),
                lambda shape, dim: shape not in ("one", "broadcast") or dim != 1,
                "dim must be an axis, and not one that is broadcast",
            ),
            Constraint(
                ("shape", "dim"),
                lambda shape, dim: (shape, dim) not in (("broadcast", 0), ("batch_0", 0)),
                "vectors without components are a case by themselves",
            ),
            Constraint(
                ("shape", "layout"),
                lambda shape, layout: layout != "channels_last" or shape == "image",
                "channels_last needs 4 axes",
            ),
        ),
        corners=(
            Corner("vectors_without_components", built=Built({"dim": 0}, ((0, 4),) * 2)),
            Corner("norms_below_eps", {"eps": 0.5}, data="small", sweep="quick"),
            Corner("length_4097", built=Built({}, ((2, 4097),) * 2), dtypes=("float32",)),
            Corner("rows_beyond_65536", built=Built({}, ((65_541, 2),) * 2), dtypes=("float32",)),
        ),
        rejections=(
            Rejection("dim_too_large", Built({"dim": 2}, ((3, 4),) * 2), IndexError),
            Rejection("dim_of_one_axis", Built({}, ((4,),) * 2), IndexError),
            Rejection("sizes_that_differ", Built({}, ((3, 4), (3, 5))), RuntimeError),
            Rejection("negative_eps", Built({"eps": -1.0}, ((3, 4),) * 2), RuntimeError),
            Rejection("text_dim", Built({"dim": "last"}, ((3, 4),) * 2), TypeError),
        ),
        functions=("cosine_similarity",),
        values=data.values_of(_COSINE),
    ),
    LayerSpec(
        name="PairwiseDistance",
        family="loss",
        reference=reference.PairwiseDistance,
        axes={
            "p": (2.0, 1.0, 3.0, 0.5, -1.0, math.inf, -math.inf, 0.0),
            "eps": (1e-6, 0.25, 0.0),
            "keepdim": (False, True),
            "shape": tuple(_SHAPES),
            "data": tuple(_DISTANCE),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("p", "eps", "keepdim"),
        build=lambda row: Built(
            given({"p": 2.0, "eps": 1e-6, "keepdim": False}, row), (_SHAPES[row["shape"]],) * 2
        ),
        constraints=(
            _EMPTY,
            _LAYOUT,
            Constraint(
                ("p", "data"),
                lambda p, regime: p in (2, 1) or regime != "large",
                "powers of large numbers are not finite in A",
            ),
        ),
        corners=(
            Corner("vectors_without_components", built=Built({}, ((3, 0),) * 2)),
            Corner("shapes_that_broadcast", built=Built({}, ((3, 1, 5), (4, 5)))),
            Corner("largest_components_tie", {"p": math.inf, "eps": 0.0}, data="ties", sweep="quick"),
            Corner("smallest_components_tie", {"p": -math.inf, "eps": 0.0}, data="ties"),
            Corner("equal_vectors_without_eps", {"eps": 0.0}, data="alike", sweep="quick"),
            Corner("rows_beyond_65536", built=Built({}, ((65_541, 2),) * 2), dtypes=("float32",)),
        ),
        rejections=(
            Rejection("sizes_that_differ", Built({}, ((3, 4), (3, 5))), RuntimeError),
            Rejection("largest_of_nothing", Built({"p": math.inf}, ((3, 0),) * 2), RuntimeError),
            Rejection("text_p", Built({"p": "two"}, ((3, 4),) * 2), TypeError),
        ),
        functions=("pairwise_distance",),
        values=data.values_of(_DISTANCE),
    ),
)


def _build_rows(operands: int, label: bool, defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
    shape = _SHAPES[row["shape"]]
    return Built(
        given({"reduction": "mean", **defaults}, row),
        (*(shape,) * operands, *((shape[:-1],) if label else ())),
    )


_EMBEDDING = {name: {**draws, "input2": data.labels} for name, draws in _COSINE.items()}
_TRIPLETS: data.Regimes = {
    "normal": {},
    "alike": {"input0": data.alike(0.6), "input1": data.alike(0.6), "input2": data.alike(0.3)},
    "ties": {
        "input0": data.numbers(0.0, 1.0),
        "input1": data.numbers(0.0, 1.0),
        "input2": data.numbers(0.0, 1.0),
    },
    "close": {"input0": data.normal(0.1), "input1": data.normal(0.1), "input2": data.normal(0.1)},
    "nan": {"input1": data.sprinkled((math.nan,))},
}


def _with_distance(distance_function: Made | None = None, **arguments: Any) -> Any:
    """The reference, with a distance that is a layer of its own."""
    made = None if distance_function is None else distance_function.of(reference)
    return reference.TripletMarginWithDistanceLoss(distance_function=made, **arguments)


_FUNCTIONS = (
    None,
    Made("PairwiseDistance", (("p", 1.0),)),
    Made("PairwiseDistance", (("p", 3.0), ("eps", 0.01))),
    Made("CosineSimilarity", (("dim", -1),)),
)
_TRIPLET_REJECTIONS = (
    Rejection("unknown_reduction", Built({"reduction": "average"}, ((3, 4),) * 3), ValueError),
    Rejection("zero_margin", Built({"margin": 0.0}, ((3, 4),) * 3), ValueError),
    Rejection("different_numbers_of_axes", Built({}, ((3, 4), (3, 4), (4,))), RuntimeError),
    Rejection("sizes_that_differ", Built({}, ((3, 4), (3, 4), (3, 5))), RuntimeError),
)
_TRIPLET_CORNERS = (
    Corner("distances_tie", {"swap": True, "reduction": "none"}, data="ties", sweep="quick"),
    Corner("rows_beyond_65536", built=Built({}, ((65_541, 2),) * 3), dtypes=("float32",)),
)
_BETWEEN_DISTANCES = (
    LayerSpec(
        name="CosineEmbeddingLoss",
        family="loss",
        reference=reference.CosineEmbeddingLoss,
        axes={
            "reduction": REDUCTIONS,
            "margin": (0.0, 0.5, -0.25),
            "shape": ("rows", "one", "batch_0", "pairs"),
            "data": tuple(_EMBEDDING),
            "dtype": DTYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "margin", "shape"),
        build=partial(_build_rows, 2, True, {"margin": 0.0}),
        constraints=(_EMPTY,),
        corners=(
            Corner("vectors_of_zeros", {"reduction": "none"}, data="zeros", sweep="quick"),
            Corner("large_vectors", {"reduction": "none"}, data="large"),
            Corner(
                "rows_beyond_65536", built=Built({}, ((65_541, 2),) * 2 + ((65_541,),)), dtypes=("float32",)
            ),
        ),
        rejections=(
            Rejection(
                "unknown_reduction", Built({"reduction": "average"}, ((3, 4), (3, 4), (3,))), ValueError
            ),
            Rejection("target_of_other_size", Built({}, ((3, 4), (3, 4), (2,))), RuntimeError),
            Rejection("target_of_two_axes", Built({}, ((3, 4), (3, 4), (3, 1))), RuntimeError),
            Rejection("one_vector_one_axis_of_targets", Built({}, ((4,), (4,), (1,))), RuntimeError),
            Rejection("three_axes", Built({}, ((3, 4, 2), (3, 4, 2), (3,))), RuntimeError),
            Rejection("sizes_that_differ", Built({}, ((3, 4), (3, 5), (3,))), RuntimeError),
        ),
        functions=("cosine_embedding_loss",),
        values=data.values_of(_EMBEDDING),
    ),
    LayerSpec(
        name="TripletMarginLoss",
        family="loss",
        reference=reference.TripletMarginLoss,
        axes={
            "reduction": REDUCTIONS,
            "swap": (False, True),
            "p": (2.0, 1.0, 3.0, math.inf),
            "margin": (1.0, 0.3),
            "eps": (1e-6, 0.1, 0.0),
            "shape": ("rows", "one", "cube", "batch_0"),
            "data": tuple(_TRIPLETS),
            "dtype": DTYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "swap", "p"),
        build=partial(_build_rows, 3, False, {"swap": False, "p": 2.0, "margin": 1.0, "eps": 1e-6}),
        constraints=(_EMPTY,),
        corners=_TRIPLET_CORNERS,
        rejections=_TRIPLET_REJECTIONS,
        functions=("triplet_margin_loss",),
        values=data.values_of(_TRIPLETS),
    ),
    LayerSpec(
        name="TripletMarginWithDistanceLoss",
        family="loss",
        reference=_with_distance,
        axes={
            "reduction": REDUCTIONS,
            "swap": (False, True),
            "distance_function": _FUNCTIONS,
            "margin": (1.0, 0.3),
            "shape": ("rows", "one", "cube", "batch_0"),
            "data": tuple(_TRIPLETS),
            "dtype": DTYPES,
            "layout": layouts(1),
        },
        factorial=("reduction", "swap", "distance_function"),
        build=partial(_build_rows, 3, False, {"swap": False, "distance_function": None, "margin": 1.0}),
        constraints=(_EMPTY,),
        corners=_TRIPLET_CORNERS,
        rejections=_TRIPLET_REJECTIONS,
        functions=("triplet_margin_with_distance_loss",),
        values=data.values_of(_TRIPLETS),
    ),
)

SPECS = (*_DISTANCES, *_BETWEEN_DISTANCES)

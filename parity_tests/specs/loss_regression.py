"""Specifications of losses between numbers, counts and distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_elements import (
    CONSTRAINTS,
    LARGE,
    MISSPELT,
    REDUCTIONS,
    SHAPES,
    TINY,
    bad,
    build,
    corners_of,
    element_loss,
    rejections_of,
)
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl import loss as reference

_PLAIN = ("normal", "ties", "large", "tiny", "offset", "specials")
_TIES: data.Regimes = {
    "normal": {},
    "ties": {"input0": data.quarters, "input1": data.quarters},
    "large": {"input0": data.scaled(LARGE), "input1": data.scaled(LARGE)},
    "tiny": {"input0": data.scaled(TINY), "input1": data.scaled(TINY)},
}
_BROADCAST = Corner("shapes_that_broadcast", built=Built({}, ((3, 1, 7), (5, 1))))
_BROADCAST_NONE = Corner(
    "shapes_that_broadcast_none", built=Built({"reduction": "none"}, ((5, 1), (3, 1, 7)))
)

_REGRESSION = (
    element_loss("L1Loss", "l1_loss", _TIES, regime_names=_PLAIN, corners=(_BROADCAST, _BROADCAST_NONE)),
    element_loss("MSELoss", "mse_loss", _TIES, regime_names=_PLAIN, corners=(_BROADCAST, _BROADCAST_NONE)),
    element_loss(
        "SmoothL1Loss",
        "smooth_l1_loss",
        _TIES,
        regime_names=_PLAIN,
        scalars={"beta": (1.0, 0.5, 2.5, 0.0)},
        corners=(
            _BROADCAST,
            Corner("breakpoints", {"beta": 0.5, "reduction": "none"}, data="ties", sweep="quick"),
        ),
        rejections=(
            bad("negative_beta", RuntimeError, beta=-1.0),
            bad("text_beta", TypeError, beta="1", note=MISSPELT),
        ),
    ),
    element_loss(
        "HuberLoss",
        "huber_loss",
        _TIES,
        regime_names=_PLAIN,
        scalars={"delta": (1.0, 0.5, 2.5)},
        corners=(
            _BROADCAST,
            Corner("breakpoints", {"delta": 0.5, "reduction": "none"}, data="ties", sweep="quick"),
        ),
        rejections=(
            bad("zero_delta", RuntimeError, delta=0.0),
            bad("negative_delta", RuntimeError, delta=-1.0),
            bad("text_delta", TypeError, delta="1", note=MISSPELT),
        ),
    ),
)

_DIVERGENCE: data.Regimes = {
    "normal": {"input0": data.log_probabilities(), "input1": data.uniform(0, 1)},
    "distributions": {"input0": data.log_probabilities(), "input1": data.distribution},
    "zeros": {"input0": data.log_probabilities(), "input1": data.numbers(0.0, 1.0, 0.25, 1e-3)},
    "impossible": {"input0": data.sprinkled((-math.inf,)), "input1": data.uniform(0.125, 1)},
    "nan": {"input0": data.sprinkled((math.nan,)), "input1": data.uniform(0, 1)},
}
_LOG_DIVERGENCE = {
    "distributions": data.log_probabilities(),
    "normal": data.normal(),
    "zeros": data.sprinkled((-math.inf, 0.0)),
}


def _divergence(case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    if name == "input1" and data.argument(case, "log_target", False):
        return _LOG_DIVERGENCE.get(case.data, data.normal())(rng, shape, case)
    return data.values_of(_DIVERGENCE)(case, name, rng, shape)


_COUNTS: data.Regimes = {
    "normal": {"input1": lambda rng, shape, case: rng.poisson(3.0, shape).astype(float)},
    "fractions": {"input1": data.uniform(0.01, 4)},
    "few": {"input1": data.numbers(0.0, 1.0, 2.0)},
    "wide": {
        "input0": data.scaled({"float16": 3.0, "bfloat16": 8.0, "float32": 8.0, "float64": 8.0}),
        "input1": data.uniform(1, 60),
    },
    "nan": {"input0": data.sprinkled((math.nan,)), "input1": data.uniform(0.5, 4)},
}


def _counts(case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    """Means are positive where they are given as such, some of them 0."""
    values = data.values_of(_COUNTS)(case, name, rng, shape)
    if name == "input0" and not data.argument(case, "log_input", True):
        values = abs(rng.standard_normal(shape) if values is None else values)
        return values * rng.integers(0, 5, shape).clip(max=1) if case.data == "few" else values
    return values


_FAR = {
    "float16": 10.0,
    "bfloat16": 1e15,
    "float32": 1e15,
    "float64": 1e100,
}  # squares and their sums are finite
_SPREADS: data.Regimes = {
    "normal": {"input2": data.uniform(0.1, 3)},
    "below_eps": {"input2": data.numbers(0.0, 1e-6, 1e-7, 0.25, 1e-2)},
    "ties": {"input0": data.quarters, "input1": data.quarters, "input2": data.uniform(0.1, 3)},
    "large": {"input0": data.scaled(_FAR), "input1": data.scaled(_FAR), "input2": data.uniform(0.5, 3)},
    "nan": {"input0": data.sprinkled((math.nan,)), "input2": data.uniform(0.1, 3)},
}


def _build_gaussian(row: Mapping[str, Any]) -> Built:
    """A variance of input's shape, with a last axis of 1, or without it."""
    built = build(2, {"full": False, "eps": 1e-6}, row)
    shape = built.shapes[0]
    variance = {"whole": shape, "last_1": (*shape[:-1], 1), "without_last": shape[:-1]}[row["variance"]]
    return Built(built.arguments, (*built.shapes, variance))


_WITH_AXES = Constraint(
    ("shape", "variance"),
    lambda shape, variance: shape != "scalar" or variance == "whole",
    "a number has no last axis",
)
_LIKELIHOOD = (
    LayerSpec(
        name="KLDivLoss",
        family="loss",
        reference=reference.KLDivLoss,
        axes={
            "reduction": ("mean", "none", "sum", "batchmean"),
            "log_target": (False, True),
            "shape": tuple(SHAPES),
            "data": tuple(_DIVERGENCE),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", "log_target"),
        build=partial(build, 2, {"log_target": False}),
        constraints=CONSTRAINTS,
        corners=corners_of(2, _BROADCAST),
        rejections=rejections_of(2, RuntimeError),
        functions=("kl_div",),
        values=_divergence,
    ),
    LayerSpec(
        name="PoissonNLLLoss",
        family="loss",
        reference=reference.PoissonNLLLoss,
        axes={
            "reduction": REDUCTIONS,
            "log_input": (True, False),
            "full": (False, True),
            "eps": (1e-8, 0.5),
            "shape": tuple(SHAPES),
            "data": tuple(_COUNTS),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", "log_input", "full"),
        build=partial(build, 2, {"log_input": True, "full": False, "eps": 1e-8}),
        constraints=CONSTRAINTS,
        corners=corners_of(2),
        functions=("poisson_nll_loss",),
        values=_counts,
        rejections=rejections_of(
            2, RuntimeError, bad("text_eps", TypeError, log_input=False, eps="0", note=MISSPELT)
        ),
    ),
    LayerSpec(
        name="GaussianNLLLoss",
        family="loss",
        reference=reference.GaussianNLLLoss,
        axes={
            "reduction": REDUCTIONS,
            "full": (False, True),
            "eps": (1e-6, 0.25),
            "variance": ("whole", "last_1", "without_last"),
            "shape": tuple(SHAPES),
            "data": tuple(_SPREADS),
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", "full", "variance"),
        build=_build_gaussian,
        constraints=(*CONSTRAINTS, _WITH_AXES),
        corners=(
            Corner("beyond_65536", built=Built({}, ((65_541,),) * 3), dtypes=("float32",)),
            Corner("variance_a_number", built=Built({}, ((3, 4), (3, 4)), {"var": 0.5})),
            Corner("variance_first_axis_1", built=Built({}, ((3, 4), (3, 4), (1, 4)))),
        ),
        rejections=(
            Rejection(
                "unknown_reduction",
                Built({"reduction": "average"}, ((3, 4), (3, 4)), {"var": 1.0}),
                ValueError,
            ),
            Rejection("negative_variance", Built({}, ((3, 4), (3, 4)), {"var": -0.5}), ValueError),
            Rejection("variance_of_other_size", Built({}, ((3, 4), (3, 4), (2,))), ValueError),
            Rejection("target_of_other_size", Built({}, ((3, 4), (3, 5)), {"var": 1.0}), RuntimeError),
        ),
        functions=("gaussian_nll_loss",),
        values=data.values_of(_SPREADS),
    ),
)

SPECS = (*_REGRESSION, *_LIKELIHOOD)

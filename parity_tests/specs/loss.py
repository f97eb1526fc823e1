"""Specifications of the losses and distances: those with a term for each element, here; with them all
others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_classes import SPECS as OF_CLASSES
from parity_tests.specs.loss_vectors import SPECS as OF_VECTORS
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection, layouts
from refimpl import loss as reference

REDUCTIONS = ("mean", "none", "sum")
SHAPES: Mapping[str, tuple[int, ...]] = {
    "matrix": (5, 17),
    "row": (33,),
    "image": (2, 3, 4, 5),
    "cube": (3, 1, 7),
    "batch_0": (0, 3),
    "scalar": (),
}
# Numbers whose squares and products stay finite in A for all types but float32 and bfloat16, where they do
# not.
LARGE = {"float16": 300.0, "bfloat16": 1e30, "float32": 1e30, "float64": 1e100}
TINY = {
    "float16": 2.0**-6,
    "bfloat16": 1e-15,
    "float32": 1e-15,
    "float64": 1e-100,
}  # whose squares are normal numbers
# Around these exp leaves the normal, then the subnormal numbers of float16, float32 and float64, or
# overflows.
STEPS = (0.0, -0.0, 9.8, -16.7, 17.5, -87.3, 88.8, -95.0, 104.1, -710.0, 1000.0)

_CONSTRAINTS = (
    Constraint(
        ("shape", "data"),
        lambda shape, regime: shape != "batch_0" or regime == "normal",
        "an empty batch has no special values",
    ),
    Constraint(
        ("shape", "layout"),
        lambda shape, layout: layout != "channels_last" or len(SHAPES[shape]) == 4,
        "channels_last needs 4 axes",
    ),
)


def _build(operands: int, defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
    """A loss of so many operands of one shape; weights have the shape of the last axis, or all of it."""
    shape = SHAPES[row["shape"]]
    arguments: dict[str, Any] = {} if row["reduction"] == "mean" else {"reduction": row["reduction"]}
    for name, default in defaults.items():
        value = row[name]
        if value in ("last", "whole"):
            value = Drawn(shape[-1:] if value == "last" else shape)
        if value != default:
            arguments[name] = value
    return Built(arguments, (shape,) * operands)


def _rejections(operands: int, wrong_shape: type[Exception], *more: Rejection) -> tuple[Rejection, ...]:
    """Rejections of every loss: reductions that there are not, shapes that do not fit."""
    same, other = ((3, 4),) * operands, ((3, 4), *((3, 5),) * (operands - 1))
    return (
        Rejection("unknown_reduction", Built({"reduction": "average"}, same), ValueError),
        Rejection("shapes_that_differ", Built({}, other), wrong_shape),
        *more,
    )


def _bad(
    name: str, exception: type[Exception], operands: int = 2, note: str = "", **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, ((3, 4),) * operands), exception, note)


def _corners(operands: int, *more: Corner) -> tuple[Corner, ...]:
    return (
        Corner("empty_batch_mean", {"shape": "batch_0"}, sweep="quick"),
        Corner("empty_batch_sum", {"shape": "batch_0", "reduction": "sum"}),
        Corner("one_element", built=Built({}, ((1,),) * operands)),
        Corner("beyond_65536", built=Built({}, ((65_541,),) * operands), dtypes=("float32", "bfloat16")),
        *more,
    )


def _loss(
    name: str,
    function: str,
    regimes: data.Regimes,
    operands: int = 2,
    scalars: Mapping[str, tuple] | None = None,
    corners: tuple[Corner, ...] = (),
    rejections: tuple[Rejection, ...] = (),
    wrong_shape: type[Exception] = RuntimeError,
    regime_names: tuple[str, ...] = (),
    shapes: tuple[str, ...] = tuple(SHAPES),
    constraints: tuple[Constraint, ...] = (),
    reductions: tuple[str, ...] = REDUCTIONS,
    build: Callable[[Mapping[str, Any]], Built] | None = None,
) -> LayerSpec:
    """`scalars`: constructor argument -> values, the default first."""
    scalars = scalars or {}
    defaults = {argument: values[0] for argument, values in scalars.items()}
    names = regime_names or tuple(regimes)
    return LayerSpec(
        name=name,
        family="loss",
        reference=getattr(reference, name),
        axes={
            "reduction": reductions,
            **scalars,
            "shape": shapes,
            "data": names,
            "dtype": DTYPES,
            "layout": layouts(2),
        },
        factorial=("reduction", *scalars),
        build=build or partial(_build, operands, defaults),
        constraints=(*_CONSTRAINTS, *constraints),
        corners=_corners(operands, *corners),
        rejections=_rejections(operands, wrong_shape, *rejections),
        functions=(function,),
        values=data.values_of(regimes),
    )


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
_MISSPELT = "torch refuses text for a number"

_REGRESSION = (
    _loss("L1Loss", "l1_loss", _TIES, regime_names=_PLAIN, corners=(_BROADCAST, _BROADCAST_NONE)),
    _loss("MSELoss", "mse_loss", _TIES, regime_names=_PLAIN, corners=(_BROADCAST, _BROADCAST_NONE)),
    _loss(
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
            _bad("negative_beta", RuntimeError, beta=-1.0),
            _bad("text_beta", TypeError, beta="1", note=_MISSPELT),
        ),
    ),
    _loss(
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
            _bad("zero_delta", RuntimeError, delta=0.0),
            _bad("negative_delta", RuntimeError, delta=-1.0),
            _bad("text_delta", TypeError, delta="1", note=_MISSPELT),
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
    "float16": 20.0,
    "bfloat16": 1e15,
    "float32": 1e15,
    "float64": 1e100,
}  # squares and their sums are finite
_SPREADS: data.Regimes = {
    "normal": {"input2": data.uniform(0.1, 3)},
    "below_eps": {"input2": data.numbers(0.0, 1e-6, 1e-7, 0.25, 1e-2)},
    "ties": {"input0": data.quarters, "input1": data.quarters, "input2": data.uniform(0.1, 3)},
    "large": {"input0": data.scaled(_FAR), "input1": data.scaled(_FAR), "input2": data.uniform(0.1, 3)},
    "nan": {"input0": data.sprinkled((math.nan,)), "input2": data.uniform(0.1, 3)},
}


def _build_gaussian(row: Mapping[str, Any]) -> Built:
    """A variance of input's shape, with a last axis of 1, or without it."""
    built = _build(2, {"full": False, "eps": 1e-6}, row)
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
        build=partial(_build, 2, {"log_target": False}),
        constraints=_CONSTRAINTS,
        corners=_corners(2, _BROADCAST),
        rejections=_rejections(2, RuntimeError),
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
        build=partial(_build, 2, {"log_input": True, "full": False, "eps": 1e-8}),
        constraints=_CONSTRAINTS,
        corners=_corners(2),
        functions=("poisson_nll_loss",),
        values=_counts,
        rejections=_rejections(
            2, RuntimeError, _bad("text_eps", TypeError, log_input=False, eps="0", note=_MISSPELT)
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
        constraints=(*_CONSTRAINTS, _WITH_AXES),
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

_BINARY = (
    _loss(
        "BCELoss",
        "binary_cross_entropy",
        _PROBABILITIES,
        scalars={"weight": _WEIGHTS},
        wrong_shape=ValueError,
        corners=(Corner("probabilities_0_and_1", {"reduction": "none"}, data="edges", sweep="quick"),),
        rejections=(
            _bad("input_outside", RuntimeError),
            Rejection("weight_of_other_size", Built({"weight": Drawn((3,))}, ((3, 4),) * 2), RuntimeError),
        ),
    ),
    _loss(
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
    _loss(
        "MultiLabelSoftMarginLoss",
        "multilabel_soft_margin_loss",
        _LOGITS,
        scalars={"weight": _WEIGHTS},
        shapes=tuple(name for name in SHAPES if name != "scalar"),
        rejections=(Rejection("no_axes", Built({}, ((), ())), IndexError),),
    ),
    _loss(
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
    _loss(
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
        rejections=(_bad("text_margin", TypeError, margin="1", note=_MISSPELT),),
    ),
    _loss(
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
            _bad("text_margin", TypeError, 3, margin="1", note=_MISSPELT),
        ),
    ),
)

SPECS = (*_REGRESSION, *_LIKELIHOOD, *_BINARY, *OF_CLASSES, *OF_VECTORS)

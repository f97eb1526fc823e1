"""What is swept for a loss that is a term for each element."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
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

CONSTRAINTS = (
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


def build(operands: int, defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
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


def rejections_of(operands: int, wrong_shape: type[Exception], *more: Rejection) -> tuple[Rejection, ...]:
    """Rejections of every loss: reductions that there are not, shapes that do not fit."""
    same, other = ((3, 4),) * operands, ((3, 4), *((3, 5),) * (operands - 1))
    return (
        Rejection("unknown_reduction", Built({"reduction": "average"}, same), ValueError),
        Rejection("shapes_that_differ", Built({}, other), wrong_shape),
        *more,
    )


def bad(
    name: str, exception: type[Exception], operands: int = 2, note: str = "", **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, ((3, 4),) * operands), exception, note)


def corners_of(operands: int, *more: Corner) -> tuple[Corner, ...]:
    return (
        Corner("empty_batch_mean", {"shape": "batch_0"}, sweep="quick"),
        Corner("empty_batch_sum", {"shape": "batch_0", "reduction": "sum"}),
        Corner("one_element", built=Built({}, ((1,),) * operands)),
        Corner("beyond_65536", built=Built({}, ((65_541,),) * operands), dtypes=("float32", "bfloat16")),
        *more,
    )


def element_loss(
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
        build=partial(build, operands, defaults),
        constraints=(*CONSTRAINTS, *constraints),
        corners=corners_of(operands, *corners),
        rejections=rejections_of(operands, wrong_shape, *rejections),
        functions=(function,),
        values=data.values_of(regimes),
    )


MISSPELT = "torch refuses text for a number"

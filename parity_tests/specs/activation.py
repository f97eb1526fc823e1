"""Specifications of the activation layers.

Scalar arguments at which a formula changes (`lambd`, `threshold`, `min_val`) are numbers of every dtype: it
does not matter whether an implementation rounds them first; slopes and factors are not.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs import activation_channels
from parity_tests.specs.activation_axes import AXES, CONSTRAINTS, SHAPES, rejection, special_corners
from parity_tests.specs.activation_data import values
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, LayerSpec, Rejection


def _infinite(required: Mapping[str, Any], scalars: Mapping[str, tuple]) -> tuple[Corner, ...]:
    """Each scalar argument that may be any number, at infinity."""
    names = [name for name, values in scalars.items() if isinstance(values[0], float)]
    return tuple(
        Corner(f"{name}_infinite", built=Built({**required, name: math.inf}, ((34,),))) for name in names
    )


def _in_place(reference: Callable[..., Any], negative: str | None) -> tuple[dict[str, tuple], tuple]:
    """The axis `inplace` of a layer that has the argument, and its constraint.

    negative  the argument that must not be negative in place
    """
    if "inplace" not in inspect.signature(reference).parameters:
        return {}, ()
    if negative is None:
        return {"inplace": (False, True)}, ()

    def told_apart(inplace: bool, value: Any) -> bool:
        return not inplace or min(value if isinstance(value, tuple) else (value,)) > 0

    reason = "torch refuses the gradient in place where the output does not tell its branch"
    return {"inplace": (False, True)}, (Constraint(("inplace", negative), told_apart, reason),)


def _build(names: tuple[str, ...], defaults: Mapping[str, Any], row: Mapping[str, Any]) -> Built:
    """Scalar arguments that differ from torch's defaults; an axis of several arguments holds tuples."""
    arguments: dict[str, Any] = {}
    for axis in names:
        for name, value in zip(axis.split(), row[axis] if " " in axis else (row[axis],), strict=True):
            arguments |= {} if defaults.get(name) == value else {name: value}
    return Built(arguments, (SHAPES[row["shape"]],))


def _elementwise(
    name: str,
    function: str,
    breakpoints: Callable[..., tuple] = lambda **_: (),
    rejections: tuple[Rejection, ...] = (),
    mode: str = "train",
    tiny: bool = True,
    networks: Mapping[str, tuple] = {},
    is_function: bool = False,
    keeps_channels_last: bool = True,
    corners: tuple[Corner, ...] = (),
    negative: str | None = None,
    infinite: bool = True,
    **scalars: tuple,
) -> LayerSpec:
    """A layer without parameters.

    scalars   argument -> values, torch's default first; arguments that go together are joined by `__`
    negative  the axis whose negative values torch refuses in place
    infinite  whether scalars are also tried at infinity
    tiny      whether the formula keeps any digit of inputs near 0
    """
    reference = getattr(refimpl, "ReLU6" if is_function else name)
    places, refused = _in_place(reference, negative)
    axes = {axis.replace("__", " "): values for axis, values in (scalars | places).items()}
    defaults = {
        name: value
        for axis, values in axes.items()
        for name, value in zip(axis.split(), values[0] if " " in axis else (values[0],), strict=True)
    }
    scalar_defaults = {name: value for name, value in defaults.items() if name != "inplace"}
    required = scalar_defaults if name == "Threshold" else {}  # its arguments have no defaults
    return LayerSpec(
        name=name,
        family="activation",
        reference=reference,
        axes=AXES
        | ({} if tiny else {"data": ("normal", "wide", "breakpoints")})
        | axes
        | ({} if mode == "train" else {"mode": (mode,)}),
        factorial=(),
        build=partial(_build, tuple(axes), {"inplace": False} if required else defaults),
        constraints=(*CONSTRAINTS, *refused),
        corners=(
            *special_corners(required, networks),
            *(_infinite(required, scalars) if infinite else ()),
            *corners,
        ),
        rejections=(*rejections, rejection("unknown_argument", TypeError, slope=2.0, **required)),
        functions=(function,),
        values=partial(values, breakpoints),
        is_function=is_function,
        keeps_channels_last=keeps_channels_last,
    )


def _not_a_number(name: str, **others: Any) -> Rejection:
    return rejection(f"{name}_that_is_no_number", TypeError, **{name: "1"}, **others)


# LeNet-5 (LeCun et al. 1998), AlexNet (Krizhevsky et al. 2012), ResNet-18 (He et al., arXiv:1512.03385)
_LENET = {"lenet5_1": (1, 6, 28, 28), "lenet5_2": (1, 16, 10, 10)}
_RELU = {"alexnet_1": (1, 96, 55, 55), "resnet18_layer1": (1, 64, 56, 56), "resnet18_layer4": (1, 512, 7, 7)}

# Of these the gradient in place comes from the stored output.
_IN_PLACE = tuple(
    Corner(f"{data}_in_place", built=Built({"inplace": True}, (shape,)), data=data, dtypes=dtypes)
    for data, shape, dtypes in (
        ("nan", (34,), DTYPES),
        ("infinity", (34,), DTYPES),
        ("extreme", (34,), ("float32", *HALF)),
        ("half_sample", (1, 2048), HALF),
    )
)

_PLAIN = (
    _elementwise("ReLU", "relu", networks=_RELU),
    _elementwise("ReLU6", "hardtanh", lambda: (6.0,)),
    _elementwise("relu6", "relu6", lambda: (6.0,), is_function=True),
    _elementwise("Hardsigmoid", "hardsigmoid", lambda: (3.0, -3.0)),
    _elementwise("Hardswish", "hardswish", lambda: (3.0, -3.0, -1.5)),
    _elementwise("SELU", "selu", corners=_IN_PLACE),
    _elementwise("Sigmoid", "sigmoid", networks=_LENET),
    _elementwise("LogSigmoid", "logsigmoid", keeps_channels_last=False),
    _elementwise("SiLU", "silu"),
    _elementwise("Mish", "mish"),
    _elementwise("Softsign", "softsign"),
    _elementwise("Tanh", "tanh", networks=_LENET),
    _elementwise("Tanhshrink", "tanhshrink", tiny=False),  # x - tanh(x) has no digit there
)
_WITH_SCALARS = (
    _elementwise(
        "Threshold",
        "threshold",
        lambda threshold, value: (threshold, value),
        (rejection("missing_value", TypeError, threshold=1.0), _not_a_number("threshold", value=1.0)),
        threshold__value=((0.5, 20.0), (0.0, -1.25), (-1.5, 0.0)),
    ),
    _elementwise(
        "Hardtanh",
        "hardtanh",
        lambda min_val=-1.0, max_val=1.0: (min_val, max_val),
        (
            rejection(
                "empty_interval",
                AssertionError,
                "the constructor asserts; an assertion is no documented class",
                min_val=2.0,
                max_val=1.0,
            ),
            rejection(
                "interval_of_one_point",
                AssertionError,
                "as above; the function accepts it",
                min_val=1.0,
                max_val=1.0,
            ),
        ),
        min_val__max_val=((-1.0, 1.0), (-0.75, 1.5), (0.5, 2.0), (-3.0, -0.25)),
    ),
    _elementwise(
        "Hardshrink",
        "hardshrink",
        lambda lambd=0.5: (lambd, -lambd),
        (_not_a_number("lambd"),),
        lambd=(0.5, 0.0, 1.25),
    ),
    _elementwise(
        "Softshrink",
        "softshrink",
        lambda lambd=0.5: (lambd, -lambd),
        (_not_a_number("lambd"), rejection("negative_lambd", RuntimeError, lambd=-0.25)),
        infinite=False,
        lambd=(0.5, 0.0, 1.25),
    ),
    _elementwise(
        "LeakyReLU",
        "leaky_relu",
        rejections=(_not_a_number("negative_slope"),),
        negative="negative_slope",
        infinite=False,
        negative_slope=(0.01, 0.3, -0.5, 2.0),
    ),
    _elementwise(
        "RReLU",
        "rrelu",
        rejections=(
            _not_a_number("lower"),
            rejection("lower_above_upper", RuntimeError, lower=0.5, upper=0.25),
        ),
        mode="eval",
        keeps_channels_last=False,
        negative="lower upper",
        lower__upper=((1 / 8, 1 / 3), (0.1, 0.9), (-0.5, -0.2), (0.25, 0.25)),
    ),
    _elementwise(
        "ELU",
        "elu",
        rejections=(_not_a_number("alpha"),),
        negative="alpha",
        corners=_IN_PLACE,
        alpha=(1.0, 0.3, -2.0, 100.0),
    ),
    _elementwise(
        "CELU",
        "celu",
        rejections=(
            _not_a_number("alpha"),
            rejection("alpha_0", RuntimeError, "the message speaks of a ZeroDivisionError", alpha=0.0),
        ),
        negative="alpha",
        corners=_IN_PLACE,
        alpha=(1.0, 0.7, -2.0, 3.0),
    ),
    _elementwise(
        "Softplus",
        "softplus",
        lambda beta=1.0, threshold=20.0: (threshold / beta,),
        (_not_a_number("beta"),),
        infinite=False,
        beta=(1.0, 2.0, 0.7, -1.5),
        threshold=(20.0, 3.0, 0.5),
    ),
    _elementwise(
        "GELU",
        "gelu",
        lambda **_: (3.0, -5.5, 5.5),
        (
            rejection("unknown_approximation", RuntimeError, approximate="erf"),
            rejection("approximation_that_is_no_string", TypeError, approximate=None),
        ),
        corners=tuple(
            Corner(
                f"{data}_tanh", built=Built({"approximate": "tanh"}, ((1, size),)), data=data, dtypes=dtypes
            )
            for data, size, dtypes in (("extreme", 34, ("float32", "bfloat16")), ("half_sample", 2048, HALF))
        ),
        approximate=("none", "tanh"),
    ),
)

SPECS = (*_PLAIN, *_WITH_SCALARS, *activation_channels.SPECS)

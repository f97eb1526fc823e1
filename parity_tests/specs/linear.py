"""Specifications of Linear and of `linear`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl.linear import LinearFunction

# in_features, out_features: odd sizes, a vector and a tail of either, one feature on either side.
_FEATURES = ((7, 5), (33, 17), (17, 33), (1, 4), (6, 1), (96, 3))
_LEADING = {
    "batch_3": (3,),
    "batch_1": (1,),
    "batch_0": (0,),
    "unbatched": (),
    "two": (2, 4),
    "three": (2, 1, 3),
}
_DATA = ("normal", "large", "tiny", "offset", "nan", "infinity")

_CONSTRAINTS = (
    Constraint(
        ("tier", "data"),
        lambda tier, data: tier != "exact" or data == "normal",
        "the exact tier has its own numbers",
    ),
    Constraint(
        ("shape", "data", "tier"),
        lambda shape, data, tier: shape != "batch_0" or (data, tier) == ("normal", "rounding"),
        "an empty batch has no numbers",
    ),
)


def _build(row: Mapping[str, Any]) -> Built:
    inputs, outputs = row["features"]
    bias = {} if row["bias"] else {"bias": False}
    arguments = {"in_features": inputs, "out_features": outputs, **bias}
    return Built(arguments, ((*_LEADING[row["shape"]], inputs),))


def _corner(
    name: str,
    features: tuple[int, int],
    leading: tuple[int, ...] = (1,),
    dtypes: tuple[str, ...] = ("float32",),
    sweep: str = "default",
    tier: str = "rounding",
) -> Corner:
    arguments = {"in_features": features[0], "out_features": features[1]}
    built = Built(arguments, ((*leading, features[0]),))
    return Corner(name, {"tier": tier}, built, dtypes=dtypes, sweep=sweep)


_CORNERS = (
    _corner("no_inputs", (0, 3), (2,), DTYPES),
    _corner("no_outputs", (3, 0), (2,), DTYPES),
    _corner("nothing", (0, 0), (2,)),
    _corner("one_by_one", (1, 1), (), DTYPES),
    # Of the output, the input gradient, the parameter gradients: kernels split such sums.
    _corner("inputs_beyond_1024", (1057, 5), (3,), DTYPES),
    _corner("outputs_beyond_1024", (5, 1057), (3,), DTYPES),
    _corner("rows_beyond_1024", (5, 3), (1057,), DTYPES),
    # Small integers: the worst-case bound of sums as long as these is too wide to tell anything.
    _corner("rows_beyond_65536", (3, 2), (65_541,), tier="exact"),
    _corner("inputs_beyond_65536", (70_001, 2), (2,), tier="exact"),
    _corner("outputs_beyond_65536", (2, 70_001), (2,), tier="exact"),
    # LeNet-5: LeCun et al. 1998
    _corner("network_lenet5_fc1", (400, 120), dtypes=DTYPES),
    _corner("network_lenet5_fc2", (120, 84), dtypes=DTYPES),
    _corner("network_lenet5_fc3", (84, 10), dtypes=DTYPES),
    # AlexNet: Krizhevsky et al. 2012; VGG-16: arXiv:1409.1556, whose second layer is AlexNet's second
    _corner("network_alexnet_fc1", (9216, 4096), sweep="full"),  # 38 million weights take 4 GiB and 13 s
    _corner("network_alexnet_fc2", (4096, 4096)),
    _corner("network_alexnet_fc3", (4096, 1000)),
    _corner("network_vgg16_fc1", (25088, 4096), sweep="full"),  # 103 million
    # GoogLeNet: arXiv:1409.4842; ResNet-18: arXiv:1512.03385
    _corner("network_googlenet_fc", (1024, 1000)),
    _corner("network_resnet18_fc", (512, 1000)),
)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Integers so small that sums of 70,000 products of two are exact in float32."""
    return rng.choice([-2.0, -1.0, 1.0, 2.0], shape) if case.name.endswith("beyond_65536") else None


def _bad(
    name: str, exception: type[Exception], shape: tuple[int, ...] = (2, 7), note: str = "", **arguments: Any
) -> Rejection:
    given = {"in_features": 7, "out_features": 5, **arguments}
    return Rejection(name, Built(given, (shape,)), exception, note)


_REJECTIONS = (
    _bad("too_few_features", RuntimeError, (2, 6)),
    _bad("too_many_features", RuntimeError, (2, 14)),
    _bad("features_in_front", RuntimeError, (7, 2)),
    _bad("scalar", RuntimeError, ()),
    _bad("one_feature_is_not_repeated", RuntimeError, (2, 1)),
    _bad("negative_inputs", RuntimeError, in_features=-7),
    _bad("negative_outputs", RuntimeError, out_features=-5),
    _bad("fractional_inputs", TypeError, in_features=7.0),
    _bad("text_outputs", TypeError, out_features="5"),
)


def _build_function(row: Mapping[str, Any]) -> Built:
    inputs, outputs = row["features"]
    weight = {"matrix": (outputs, inputs), "vector": (inputs,)}[row["weight"]]
    bias = {"none": (), "full": (weight[:-1],), "scalar": ((),)}[row["bias"]]
    return Built({}, ((*_LEADING[row["shape"]], inputs), weight, *bias))


def _bad_call(name: str, *shapes: tuple[int, ...]) -> Rejection:
    return Rejection(name, Built({}, shapes), RuntimeError)


def _function() -> LayerSpec:
    axes = {
        "weight": ("matrix", "vector"),
        "bias": ("none", "full", "scalar"),
        "shape": tuple(_LEADING),
        "features": _FEATURES[:4],
        "dtype": DTYPES,
        "layout": layouts(1),
        "tier": ("rounding", "exact"),
        "data": ("normal", "nan"),
    }
    constraints = (
        *_CONSTRAINTS,
        Constraint(
            ("weight", "bias"),
            lambda weight, bias: weight == "matrix" or bias == "none",
            "a weight vector with its bias () has corners of its own: torch refuses it for two-axis inputs",
        ),
    )
    vector_with_bias = tuple(
        Corner(f"weight_vector_scalar_bias_{name}", built=Built({}, ((*leading, 7), (7,), ())), dtypes=DTYPES)
        for name, leading in (("vector_input", ()), ("matrix_input", (3,)), ("three_axes_input", (2, 3)))
    )
    return LayerSpec(
        name="linear",
        family="linear",
        reference=LinearFunction,
        axes=axes,
        factorial=("weight", "bias", "shape"),
        build=_build_function,
        constraints=constraints,
        corners=vector_with_bias,
        rejections=(
            _bad_call("weight_with_three_axes", (2, 7), (2, 5, 7)),
            _bad_call("scalar_weight", (2, 7), ()),
            _bad_call("transposed_weight", (2, 7), (7, 5)),
            _bad_call("bias_of_another_length", (2, 7), (5, 7), (4,)),
            _bad_call("bias_as_long_as_the_input", (2, 7), (5, 7), (7,)),
        ),
        functions=("linear",),
        multilinear=True,
        is_function=True,
    )


SPECS = (
    LayerSpec(
        name="Linear",
        family="linear",
        reference=refimpl.Linear,
        axes={
            "features": _FEATURES,
            "shape": tuple(_LEADING),
            "bias": (True, False),
            "dtype": DTYPES,
            "layout": layouts(1),
            "parameter_layout": layouts(1),
            "tier": ("rounding", "exact"),
            "data": _DATA,
        },
        factorial=("features", "shape", "bias"),
        build=_build,
        constraints=_CONSTRAINTS,
        corners=_CORNERS,
        rejections=_REJECTIONS,
        functions=("linear",),
        values=_values,
        multilinear=True,
    ),
    _function(),
)

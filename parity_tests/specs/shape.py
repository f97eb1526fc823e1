"""Specifications of Identity, Flatten, Unflatten, and of Bilinear and `bilinear`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl import shape
from refimpl.bilinear import BilinearFunction

_SHAPES = {
    "image": (2, 3, 5, 7),
    "volume": (2, 3, 1, 4, 5),
    "three": (3, 4, 17),
    "matrix": (5, 33),
    "ones": (1, 4, 1),
    "batch_0": (0, 3, 4),
    "vector": (6,),
    "scalar": (),
}
_DATA = ("normal", "specials", "large", "tiny")


def _axes_there(shape: str, *axes: int) -> bool:
    """Whether a shape has these axes; a scalar counts as a vector."""
    rank = max(1, len(_SHAPES[shape]))
    return all(-rank <= axis < rank for axis in axes)


def _few(shape: str, layout: str, data: str) -> bool:
    """Whether a layout and special values make sense in a shape."""
    rank = len(_SHAPES[shape])
    if layout == "channels_last" and rank < 4:
        return False
    if layout == "transposed" and rank < 2:
        return False
    if layout != "contiguous" and rank == 0:
        return False
    return data == "normal" or shape not in ("scalar", "batch_0", "vector", "ones")


_CONSTRAINTS = (
    Constraint(("shape", "layout", "data"), _few, "that layout or data needs more axes or elements"),
)
_AXES = {"shape": tuple(_SHAPES), "dtype": DTYPES, "layout": layouts(2), "data": _DATA}


def _bad(name: str, exception: type[Exception], shape: tuple = (2, 3, 4), **arguments: Any) -> Rejection:
    return Rejection(name, Built(arguments, (shape,)), exception)


_IDENTITY = LayerSpec(
    name="Identity",
    family="shape",
    reference=shape.Identity,
    axes=_AXES | {"arguments": ("none", "some")},
    factorial=(),
    build=lambda row: Built(
        {} if row["arguments"] == "none" else {"size": 5, "p": 0.5}, (_SHAPES[row["shape"]],)
    ),
    constraints=_CONSTRAINTS,
    corners=(Corner("axis_beyond_65536", built=Built({}, ((1, 65_542),))),),
    keeps_channels_last=True,
)


def _build_flatten(row: Mapping[str, Any]) -> Built:
    start, end = row["start_dim"], row["end_dim"]
    arguments = ({} if start == 1 else {"start_dim": start}) | ({} if end == -1 else {"end_dim": end})
    return Built(arguments, (_SHAPES[row["shape"]],))


def _flattens(shape: str, start: int, end: int) -> bool:
    rank = max(1, len(_SHAPES[shape]))
    return _axes_there(shape, start, end) and start % rank <= end % rank


# Networks: AlexNet and VGG-16 flatten before their classifiers.
_FLATTEN = LayerSpec(
    name="Flatten",
    family="shape",
    reference=shape.Flatten,
    axes=_AXES | {"start_dim": (1, 0, 2, -1, -2, -3), "end_dim": (-1, 1, 2, -2, 0)},
    factorial=("start_dim", "end_dim"),
    build=_build_flatten,
    constraints=(
        *_CONSTRAINTS,
        Constraint(("shape", "start_dim", "end_dim"), _flattens, "axes that the input has, in order"),
    ),
    corners=(
        Corner("middle_is_empty", built=Built({}, ((3, 0, 4),)), dtypes=DTYPES),
        Corner("nothing_in_front", built=Built({"start_dim": 0, "end_dim": 1}, ((3, 0, 4),)), dtypes=DTYPES),
        Corner("axis_beyond_65536", built=Built({"start_dim": 0}, ((2, 32_771),))),
        Corner("network_alexnet_flatten", built=Built({}, ((1, 256, 6, 6),))),
        Corner("network_vgg16_flatten", built=Built({}, ((1, 512, 7, 7),))),
    ),
    rejections=(
        _bad("vector_with_default_axes", IndexError, (3,)),
        _bad("scalar_with_default_axes", IndexError, ()),
        _bad("end_out_of_range", IndexError, end_dim=3),
        _bad("start_out_of_range", IndexError, start_dim=-4),
        _bad("start_after_end", RuntimeError, start_dim=2, end_dim=1),
        _bad("fractional_axis", TypeError, start_dim=1.5),
        _bad("text_axis", TypeError, end_dim="2"),
    ),
)

# Size of the unflattened axis, and what it becomes.
_SIZES = {
    "two": (6, (2, 3)),
    "exchanged": (6, (3, 2)),
    "three": (12, (2, 3, 2)),
    "first_open": (6, (-1, 3)),
    "last_open": (6, (2, -1)),
    "one_axis": (6, (6,)),
    "with_ones": (6, (1, 6, 1)),
    "empty": (0, (0, 4)),
}
_AROUND = {"image": (2, 5, 7), "three": (3, 4), "matrix": (17,), "vector": (), "batch_0": (0, 3)}
_DIMS = (1, 0, -1, -2)


def _build_unflatten(row: Mapping[str, Any]) -> Built:
    size, sizes = _SIZES[row["size"]]
    around = list(_AROUND[row["shape"]])
    around.insert(row["dim"] % (len(around) + 1), size)
    return Built({"dim": row["dim"], "unflattened_size": sizes}, (tuple(around),))


_UNFLATTEN = LayerSpec(
    name="Unflatten",
    family="shape",
    reference=shape.Unflatten,
    axes=_AXES | {"shape": tuple(_AROUND), "layout": layouts(1), "dim": _DIMS, "size": tuple(_SIZES)},
    factorial=("dim", "size"),
    build=_build_unflatten,
    constraints=(
        Constraint(
            ("shape", "dim"),
            lambda shape, dim: shape != "vector" or dim in (0, -1),
            "the input has no such axis",
        ),
        Constraint(
            ("shape", "layout"),
            lambda shape, layout: layout != "transposed" or shape != "vector",
            "there are no two axes to exchange",
        ),
        Constraint(
            ("shape", "size", "data"),
            lambda shape, size, data: (
                data == "normal" or (shape not in ("batch_0", "vector") and size != "empty")
            ),
            "special values need a few elements",
        ),
    ),
    corners=(
        Corner("axis_beyond_65536", built=Built({"dim": 1, "unflattened_size": (2, -1)}, ((1, 65_542),))),
    ),
    rejections=(
        _bad("wrong_product", RuntimeError, dim=1, unflattened_size=(2, 1)),
        _bad("two_open_sizes", RuntimeError, dim=1, unflattened_size=(-1, -1)),
        _bad("open_size_is_no_integer", RuntimeError, dim=1, unflattened_size=(-1, 2)),
        _bad("negative_sizes", RuntimeError, dim=1, unflattened_size=(-3, -1)),
        _bad("no_sizes", RuntimeError, dim=1, unflattened_size=()),
        _bad("ambiguous_open_size", RuntimeError, (2, 0, 3), dim=1, unflattened_size=(0, -1)),
        _bad("scalar", RuntimeError, (), dim=0, unflattened_size=(1, 1)),
        _bad("axis_out_of_range", IndexError, dim=3, unflattened_size=(4,)),
        _bad("one_size", TypeError, dim=1, unflattened_size=3),
        _bad("fractional_size", TypeError, dim=1, unflattened_size=(3.0,)),
        _bad("text_axis", TypeError, dim="1", unflattened_size=(3,)),
        _bad("fractional_axis", TypeError, dim=1.5, unflattened_size=(3,)),
    ),
)

# in1_features, in2_features, out_features
_FEATURES = ((3, 5, 4), (7, 2, 3), (1, 4, 2), (4, 1, 3), (2, 3, 1), (2, 17, 3), (17, 3, 2))
_LEADING = {
    "batch_3": (3,),
    "batch_1": (1,),
    "batch_0": (0,),
    "unbatched": (),
    "two": (2, 4),
    "three": (2, 1, 3),
}
# No infinities: which of the three factors are multiplied first decides between infinity and NaN.
_BILINEAR_DATA = ("normal", "large_and_tiny", "offset", "nan")
_BILINEAR_AXES = {
    "features": _FEATURES,
    "shape": tuple(_LEADING),
    "bias": (True, False),
    "dtype": DTYPES,
    "layout": layouts(1),
    "tier": ("rounding", "exact"),
    "data": _BILINEAR_DATA,
}
_BILINEAR_CONSTRAINTS = (
    Constraint(
        ("tier", "data", "shape"),
        lambda tier, data, shape: data == "normal" or (tier, shape != "batch_0") == ("rounding", True),
        "the exact tier has its own numbers, an empty batch has none",
    ),
)


def _bilinear_values(
    case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Exact tier: integers so small that sums of products of three are exact in bfloat16.  Large and tiny:
    one input of either size, so that products stay in range."""
    if case.tier == "exact" or case.name.endswith("beyond_65536"):
        return (
            rng.choice([-2.0, -1.0, 1.0, 2.0], shape) if name == "weight" else rng.choice([-1.0, 1.0], shape)
        )
    if case.data == "large_and_tiny" and name in ("input0", "input1"):
        return rng.standard_normal(shape) * (2.0**8 if name == "input0" else 2.0**-8)
    return rng.standard_normal(shape) if case.data == "large_and_tiny" else None


def _build_bilinear(row: Mapping[str, Any]) -> Built:
    first, second, outputs = row["features"]
    arguments = {"in1_features": first, "in2_features": second, "out_features": outputs}
    leading = _LEADING[row["shape"]]
    return Built(
        arguments | ({} if row["bias"] else {"bias": False}), ((*leading, first), (*leading, second))
    )


def _build_function(row: Mapping[str, Any]) -> Built:
    first, second, outputs = row["features"]
    leading = _LEADING[row["shape"]]
    bias = ((outputs,),) if row["bias"] else ()
    return Built({}, ((*leading, first), (*leading, second), (outputs, first, second), *bias))


def _bad_bilinear(
    name: str, exception: type[Exception], first: tuple = (2, 3), second: tuple = (2, 5), **arguments: Any
) -> Rejection:
    given = {"in1_features": 3, "in2_features": 5, "out_features": 4, **arguments}
    return Rejection(name, Built(given, (first, second)), exception)


def _bad_call(name: str, exception: type[Exception], *shapes: tuple[int, ...]) -> Rejection:
    return Rejection(name, Built({}, shapes), exception)


def _bilinear_corner(
    name: str, features: tuple[int, int, int], leading: tuple, dtypes: tuple = ("float32",)
) -> Corner:
    names = ("in1_features", "in2_features", "out_features")
    built = Built(dict(zip(names, features, strict=True)), ((*leading, features[0]), (*leading, features[1])))
    return Corner(name, {"tier": "exact" if name.endswith("65536") else "rounding"}, built, dtypes=dtypes)


_BILINEAR = LayerSpec(
    name="Bilinear",
    family="shape",
    reference=shape.Bilinear,
    axes=_BILINEAR_AXES | {"parameter_layout": layouts(1)},
    factorial=("features", "shape", "bias"),
    build=_build_bilinear,
    constraints=_BILINEAR_CONSTRAINTS,
    corners=(
        _bilinear_corner("no_outputs", (3, 5, 0), (2,), DTYPES),
        _bilinear_corner("one_by_one", (1, 1, 1), (), DTYPES),
        _bilinear_corner("rows_beyond_65536", (2, 1, 2), (65_541,)),
        _bilinear_corner("outputs_beyond_65536", (1, 2, 65_541), (2,)),
    ),
    rejections=(
        _bad_bilinear("other_batch", RuntimeError, (2, 3), (3, 5)),
        _bad_bilinear("batch_of_one_is_not_repeated", RuntimeError, (2, 3), (1, 5)),
        _bad_bilinear("other_number_of_axes", RuntimeError, (2, 3), (2, 1, 5)),
        _bad_bilinear("inputs_exchanged", RuntimeError, (2, 5), (2, 3)),
        _bad_bilinear("too_few_features", RuntimeError, (2, 3), (2, 4)),
        _bad_bilinear("scalars", IndexError, (), ()),
        _bad_bilinear("no_first_features", ValueError, (2, 0), (2, 5), in1_features=0),
        _bad_bilinear("negative_first_features", RuntimeError, in1_features=-3),
        _bad_bilinear("negative_second_features", RuntimeError, in2_features=-5),
        _bad_bilinear("negative_outputs", RuntimeError, out_features=-4),
        _bad_bilinear("fractional_features", TypeError, in1_features=3.0),
        _bad_bilinear("text_features", TypeError, out_features="4"),
    ),
    functions=("bilinear",),
    values=_bilinear_values,
    multilinear=True,
)
_BILINEAR_FUNCTION = LayerSpec(
    name="bilinear",
    family="shape",
    reference=BilinearFunction,
    axes=_BILINEAR_AXES | {"features": _FEATURES[:4], "data": ("normal", "nan")},
    factorial=("shape", "bias"),
    build=_build_function,
    constraints=_BILINEAR_CONSTRAINTS,
    rejections=(
        _bad_call("weight_with_two_axes", RuntimeError, (2, 3), (2, 5), (3, 5)),
        _bad_call("weight_without_second_features", RuntimeError, (2, 3), (2, 0), (4, 3, 0)),
        _bad_call("bias_of_another_length", RuntimeError, (2, 3), (2, 5), (4, 3, 5), (5,)),
        _bad_call("one_bias_is_not_repeated", RuntimeError, (2, 3), (2, 5), (4, 3, 5), (1,)),
        _bad_call("scalar_bias", IndexError, (2, 3), (2, 5), (4, 3, 5), ()),
    ),
    functions=("bilinear",),
    values=_bilinear_values,
    multilinear=True,
    is_function=True,
)

SPECS = (_IDENTITY, _FLATTEN, _UNFLATTEN, _BILINEAR, _BILINEAR_FUNCTION)

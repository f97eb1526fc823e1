"""What specifications of activations share: shapes, their constraints, special values, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, Rejection, layouts

# Lengths that fill a vector and leave a tail, axes of size 1, no axes, no elements; channels_last.
SHAPES = {
    "image": (2, 3, 5, 7),
    "volume": (2, 3, 1, 4, 5),
    "matrix": (5, 17),
    "vector": (33,),
    "ones": (1, 4, 1),
    "scalar": (),
    "empty": (0, 3, 4),
}
CONSTRAINTS = (
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "channels_last" or len(SHAPES[shape]) > 3,
        "channels_last needs 4 or 5 axes",
    ),
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout != "transposed" or len(SHAPES[shape]) > 1,
        "there are no two axes to exchange",
    ),
    Constraint(
        ("layout", "shape"),
        lambda layout, shape: layout == "contiguous" or shape != "scalar",
        "a tensor without axes has one layout",
    ),
    Constraint(
        ("layout", "shape", "data"),
        lambda layout, shape, data: data == "normal" or layout != "expanded" or shape != "vector",
        "an expanded vector is one number",
    ),
    Constraint(
        ("shape", "data"),
        lambda shape, data: data == "normal" or shape not in ("empty", "scalar", "ones"),
        "special values need a few elements",
    ),
)
AXES = {
    "shape": tuple(SHAPES),
    "dtype": DTYPES,
    "layout": layouts(2),
    "data": ("normal", "wide", "tiny", "breakpoints"),
}


def special_corners(
    arguments: Mapping[str, Any], networks: Mapping[str, tuple] = {}, weights: bool = False
) -> tuple[Corner, ...]:
    """Special values, half types, sizes.  `weights`: one for each element, where many would be summed up."""

    def corner(
        name: str, shape: tuple, dtypes: tuple = DTYPES, data: str = "normal", sweep: str = "default"
    ) -> Corner:
        each = {"num_parameters": shape[-1]} if weights and data.endswith(("sample", "halves")) else {}
        return Corner(
            name, built=Built({**arguments, **each}, (shape,)), data=data, dtypes=dtypes, sweep=sweep
        )

    return (
        corner("nan", (34,), data="nan"),
        corner("infinity", (34,), data="infinity"),
        corner("extreme", (34,), ("float32", *HALF), "extreme"),  # the reference itself is float64
        corner("half_sample", (1, 2048), HALF, "half_sample"),
        corner("all_halves", (1, 2**16), HALF, "all_halves", "full"),
        corner("axis_beyond_65536", (1, 65_542), ("float32",) if weights else ("float32", "float16")),
        *(corner(f"network_{name}", shape, ("float32",)) for name, shape in networks.items()),
    )


def rejection(
    name: str, exception: type[Exception], note: str = "", shape: tuple = (2, 3, 4), **arguments: Any
) -> Rejection:
    return Rejection(name, Built(arguments, (shape,)), exception, note)


UNKNOWN = rejection("unknown_argument", TypeError, slope=2.0)

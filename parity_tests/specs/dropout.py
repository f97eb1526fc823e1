"""Specifications of the dropouts where nothing is left to chance: evaluation, p = 0 and p = 1.

What is random is tried by its law: harness/dropout_law.py, run by conformance/test_dropout.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts

_SHAPES = {
    "image": (2, 3, 5, 7),
    "sequence": (3, 4, 17),
    "volume": (2, 3, 1, 4, 5),
    "matrix": (5, 33),
    "ones": (1, 4, 1),
    "batch_0": (0, 3, 4),
    "vector": (33,),
    "scalar": (),
}
_RANKS = {  # numbers of axes that a layer takes without a warning
    "Dropout": (0, 1, 2, 3, 4, 5),
    "Dropout1d": (2, 3),
    "Dropout2d": (4,),
    "Dropout3d": (4, 5),
    "AlphaDropout": (0, 1, 2, 3, 4, 5),
    "FeatureAlphaDropout": (2, 3, 4, 5),
}


def _fits(shape: str, layout: str) -> bool:
    rank = len(_SHAPES[shape])
    needed = {"channels_last": 4, "transposed": 2, "sliced": 1, "expanded": 1}.get(layout, 0)
    return rank >= needed


_CONSTRAINTS = (
    Constraint(
        ("mode", "p"),
        lambda mode, p: mode == "eval" or p in (0.0, 1.0),
        "random: see the law",
    ),
    Constraint(("shape", "layout"), _fits, "that layout needs more axes"),
    Constraint(
        ("shape", "data"),
        lambda shape, data: data == "normal" or shape not in ("scalar", "batch_0", "ones"),
        "special values need a few elements",
    ),
)


def _build(row: Mapping[str, Any]) -> Built:
    arguments = ({} if row["p"] == 0.5 else {"p": row["p"]}) | ({"inplace": True} if row["inplace"] else {})
    return Built(arguments, (_SHAPES[row["shape"]],))


def _bad(name: str, exception: type[Exception], shape: tuple = (2, 3, 4, 5), **arguments: Any) -> Rejection:
    return Rejection(name, Built(arguments, (shape,)), exception)


def _rejections(name: str) -> tuple[Rejection, ...]:
    good = (2, 3, 4) if name == "Dropout1d" else (2, 3, 4, 5)
    common = (
        _bad("negative_p", ValueError, good, p=-0.25),
        _bad("p_above_1", ValueError, good, p=1.5),
        _bad("p_that_is_no_number", TypeError, good, p="0.5"),
        _bad("unknown_argument", TypeError, good, rate=0.5),
    )
    ranks = {
        "Dropout1d": ((3,), (2, 3, 4, 5)),
        "Dropout2d": ((), (3,)),
        "Dropout3d": ((),),
        "FeatureAlphaDropout": ((), (3,)),
    }.get(name, ())
    return (*common, *(_bad(f"input_with_{len(shape)}_axes", RuntimeError, shape) for shape in ranks))


def _layer(name: str, function: str) -> LayerSpec:
    shapes = tuple(shape for shape, sizes in _SHAPES.items() if len(sizes) in _RANKS[name])
    large = {"Dropout1d": (1, 65_542, 1), "Dropout3d": (1, 65_542, 1, 1, 1)}.get(name, (1, 65_542, 1, 1))
    return LayerSpec(
        name=name,
        family="dropout",
        reference=getattr(refimpl, name),
        axes={
            "shape": shapes,
            "p": (0.5, 0.0, 1.0, 0.3),
            "mode": ("eval", "train"),
            "inplace": (False, True),
            "dtype": DTYPES,
            "layout": tuple(layout for layout in layouts(2) if any(_fits(shape, layout) for shape in shapes)),
            "data": ("normal", "specials", "large", "tiny"),
        },
        factorial=("p", "mode", "shape"),
        build=_build,
        constraints=_CONSTRAINTS,
        corners=(Corner("channels_beyond_65536", {"mode": "eval"}, Built({"p": 0.25}, (large,))),),
        rejections=_rejections(name),
        functions=(function,),
        values=None,
    )


SPECS = (
    _layer("Dropout", "dropout"),
    _layer("Dropout1d", "dropout1d"),
    _layer("Dropout2d", "dropout2d"),
    _layer("Dropout3d", "dropout3d"),
    _layer("AlphaDropout", "alpha_dropout"),
    _layer("FeatureAlphaDropout", "feature_alpha_dropout"),
)

"""Every layer that the suite knows, in the order in which its table shows them."""

from __future__ import annotations

import importlib
from functools import lru_cache

from parity_tests.specs.spec import LayerSpec
from parity_tests.specs.wrong_dtypes import with_wrong_dtypes

FAMILIES = (
    "conv",
    "pooling",
    "padding",
    "normalization",
    "activation",
    "softmax",
    "linear",
    "group_norm",
    "recurrent",
    "attention",
    "shape",
    "sparse",
    "dropout",
    "loss",
    "vision",
    "window",
)


@lru_cache
def family(name: str) -> tuple[LayerSpec, ...]:
    """The specifications of one family."""
    return tuple(map(with_wrong_dtypes, importlib.import_module(f"parity_tests.specs.{name}").SPECS))


@lru_cache(maxsize=1)
def all_specs() -> tuple[LayerSpec, ...]:
    return tuple(spec for name in FAMILIES for spec in family(name))


def spec_named(name: str) -> LayerSpec:
    """The specification of a layer by torch's name; KeyError with the names known otherwise."""
    specs = {spec.name: spec for spec in all_specs()}
    if name not in specs:
        raise KeyError(f"no layer is called {name!r}; known are {', '.join(specs)}")
    return specs[name]

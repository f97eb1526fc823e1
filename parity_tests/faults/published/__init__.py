"""Published bugs of implementations of torch.nn's layers, recreated: what the suite must be able to see."""

from __future__ import annotations

import importlib

from parity_tests.faults.published.bug import NotRecreated, PublishedBug

FAMILIES = (
    "activation",
    "pooling",
    "padding",
    "conv",
    "conv_transpose",
    "normalization",
    "group_norm",
    "softmax",
    "linear",
    "recurrent",
    "attention",
    "sparse",
    "dropout",
)

NOT_RECREATED: tuple[NotRecreated, ...] = ()


def published_bugs() -> dict[str, PublishedBug]:
    """Every recreated bug, under `family/name`."""
    modules = {family: importlib.import_module(f"{__name__}.{family}") for family in FAMILIES}
    return {f"{family}/{bug.name}": bug for family, module in modules.items() for bug in module.BUGS}

"""Published bugs of implementations of torch.nn's layers, recreated: what the suite must be able to see."""

from __future__ import annotations

import importlib

from parity_tests.faults.published.bug import NotRecreated, PublishedBug

FAMILIES = (
    "activation",
    "pooling",
    "window",
    "padding",
    "conv",
    "conv_transpose",
    "normalization",
    "group_norm",
    "softmax",
    "linear",
    "recurrent",
    "attention",
    "vision",
    "sparse",
    "dropout",
)

NOT_RECREATED = (
    NotRecreated(
        "conv_transpose_batch_norm_fusion",
        "pytorch/pytorch#184076",
        "in a helper that fuses two layers into one: no layer of torch.nn computes it",
    ),
    NotRecreated(
        "normalization_at_1e30",
        "pytorch/pytorch#178123",
        "torch 2.13 overflows there, and so does the documented formula in float32: a bound asks for no more",
    ),
    NotRecreated(
        "bag_without_bags",
        "pytorch/pytorch#187104",
        "torch 2.13 still has it: ledger entry embedding-bag-indices-without-a-bag",
    ),
    NotRecreated(
        "bag_maximum_to_the_end",
        "pytorch/pytorch#106374",
        "torch 2.13 still has it: ledger entry embedding-bag-indices-behind-the-last-offset",
    ),
    NotRecreated(
        "bag_offsets_in_any_order",
        "pytorch/pytorch#55549",
        "torch 2.13 still has it: ledger entry embedding-bag-decreasing-offsets-accepted",
    ),
    NotRecreated(
        "interpolation_at_the_same_size",
        "pytorch/pytorch#70559",
        "torch 2.13 still has it: ledger entry interpolate-copies-axes-that-keep-their-length",
    ),
    NotRecreated(
        "unpooling_gradient_for_the_overwritten",
        "pytorch/pytorch#80204",
        "torch 2.13 still has it, and no documentation says which of several elements wins",
    ),
)


def published_bugs() -> dict[str, PublishedBug]:
    """Every recreated bug, under `family/name`."""
    modules = {family: importlib.import_module(f"{__name__}.{family}") for family in FAMILIES}
    return {f"{family}/{bug.name}": bug for family, module in modules.items() for bug in module.BUGS}

"""Specification of MultiheadAttention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, HALF, Built, Corner, Drawn, LayerSpec, Rejection
from refimpl.multihead_attention import MultiheadAttention

# Queries, keys, features, heads.
_SIZES = {
    "small": (5, 7, 8, 2),
    "one_head": (4, 3, 5, 1),
    "features_of_one": (3, 6, 4, 4),
    "tail": (2, 17, 12, 2),
    "one_query": (1, 5, 6, 2),
}
_BATCH = {"batch_3": (3,), "batch_1": (1,), "unbatched": (), "batch_0": (0,)}
_MASKS = {"none": "", "boolean": "bool", "additive": "float", "heads": "bool", "causal": "bool"}


def invoke(torch, layer, inputs, call):
    """One tensor is query, key and value; of two the second is key and value."""
    query, key, value = (*inputs, inputs[-1], inputs[-1])[:3]
    return layer(query, key, value, **call)


def _nest(inputs: tuple, call: Mapping[str, Any]) -> tuple:
    query, key, value = (*inputs, inputs[-1], inputs[-1])[:3]
    defaults = {
        "key_padding_mask": None,
        "need_weights": True,
        "attn_mask": None,
        "average_attn_weights": True,
    }
    return (query, key, value, *(defaults | {"is_causal": False} | dict(call)).values())


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Masks that hide about a third, never the first key; parameters small enough for a soft softmax."""
    if name in ("attn_mask", "key_padding_mask"):
        given = dict(case.call)
        if given.get("is_causal") and name == "attn_mask":
            return np.triu(np.ones(shape, dtype=bool), 1)
        hidden = rng.random(shape) < 0.33
        hidden[..., :1] = False
        if name == "key_padding_mask" and case.data == "nothing_to_see":
            hidden[0] = True
        return hidden if given[name].kind == "bool" else np.where(hidden, -np.inf, rng.standard_normal(shape))
    return None if name.startswith(("input", "grad_output")) else 0.5 * rng.standard_normal(shape)


def _build(row: Mapping[str, Any]) -> Built:
    queries, keys, features, heads = _SIZES[row["sizes"]]
    batch, first = _BATCH[row["shape"]], row["batch_first"]
    keys = queries if row["operands"] == "self" else keys
    widths = {"self": (features,), "cross": (features, features), "three": (features,) * 3,
              "own_widths": (features, features + 1, features + 3)}[row["operands"]]  # fmt: skip
    lengths = (queries, keys, keys)
    shapes = tuple(
        (*batch, length, width) if first else (length, *batch, width)
        for length, width in zip(lengths, widths, strict=False)
    )
    arguments: dict[str, Any] = {"embed_dim": features, "num_heads": heads}
    defaults = {"bias": True, "add_bias_kv": False, "add_zero_attn": False, "batch_first": False}
    arguments |= {name: row[name] for name, default in defaults.items() if row[name] != default}
    if row["operands"] == "own_widths":
        arguments |= {"kdim": features + 1, "vdim": features + 3}
    call: dict[str, Any] = {}
    if row["padding"] != "none":
        call["key_padding_mask"] = Drawn((*batch, keys), row["padding"])
    if row["weights"] == "none":
        call["need_weights"] = False
    if row["mask"] != "none":
        size = (batch[0] if batch else 1) * heads
        per_head = (size,) if row["mask"] == "heads" else ()
        call["attn_mask"] = Drawn((*per_head, queries, keys), _MASKS[row["mask"]])
    if row["weights"] == "each_head":
        call["average_attn_weights"] = False
    if row["mask"] == "causal":
        call["is_causal"] = True
    return Built(arguments, shapes, call)


_CONSTRAINTS = (
    Constraint(
        ("mask", "padding"),
        lambda mask, padding: "none" in (mask, padding) or _MASKS[mask] == padding,
        "masks of two types are deprecated",
    ),
    Constraint(
        ("mask", "shape"),
        lambda mask, shape: mask != "heads" or shape != "batch_0",
        "no head has a mask",
    ),
    Constraint(
        ("mask", "operands"),
        lambda mask, operands: mask != "causal" or operands == "self",
        "keys may come before every query: a row without keys",
    ),
)


def _call(arguments: Mapping[str, Any], *shapes: tuple[int, ...], **call: Any) -> Built:
    return Built({"embed_dim": 8, "num_heads": 2} | dict(arguments), shapes, call)


_FIRST = {"batch_first": True}
_CORNERS = (
    Corner(
        "nothing_to_see",
        {"mode": "train"},
        _call(_FIRST, (2, 3, 8), key_padding_mask=Drawn((2, 3), "bool"), need_weights=False),
        "nothing_to_see",
    ),
    Corner(
        "nothing_to_see_eval",
        {"mode": "eval"},
        _call(_FIRST, (2, 3, 8), key_padding_mask=Drawn((2, 3), "bool"), need_weights=False),
        "nothing_to_see",
    ),
    Corner(
        "nothing_to_see_inference",
        {"mode": "inference"},
        _call(_FIRST, (2, 3, 8), key_padding_mask=Drawn((2, 3), "bool"), need_weights=False),
        "nothing_to_see",
    ),
    Corner(
        "mask_of_heads_inference",
        {"mode": "inference"},
        _call(_FIRST, (3, 5, 8), attn_mask=Drawn((6, 5, 5), "bool")),
    ),
    Corner(
        "both_masks_inference",
        {"mode": "inference"},
        _call(_FIRST, (3, 5, 8), key_padding_mask=Drawn((3, 5), "bool"), attn_mask=Drawn((5, 5), "bool")),
    ),
    Corner("empty_batch_inference", {"mode": "inference"}, _call(_FIRST, (0, 3, 8))),
    Corner(
        "two_additive_masks",
        built=_call(
            {"embed_dim": 1, "num_heads": 1},
            (33, 8, 1),
            key_padding_mask=Drawn((8, 33)),
            attn_mask=Drawn((33, 33)),
        ),
    ),
    Corner(
        "heads_of_one_feature",
        {"layout": "sliced"},
        _call({"embed_dim": 6, "num_heads": 6}, (12, 12, 6), average_attn_weights=False),
        dtypes=HALF,
    ),
    *(Corner(f"length_{n}", built=_call({}, (n, 2, 8))) for n in (1, 2, 7)),
    Corner("length_33", built=_call({}, (33, 1, 8))),
    # Vaswani et al., arXiv:1706.03762: the base model's width, on a short sentence
    Corner(
        "network_transformer_base",
        built=_call({"embed_dim": 512, "num_heads": 8}, (9, 1, 512), need_weights=False),
        dtypes=("float32",),
    ),
)


def _bad(
    name: str, exception: type[Exception], arguments: Mapping[str, Any], shapes: tuple, **call: Any
) -> Rejection:
    return Rejection(name, Built({"embed_dim": 8, "num_heads": 2} | dict(arguments), shapes, call), exception)


_THREE = ((5, 3, 8), (7, 3, 8), (7, 3, 8))
_ALONE = ((5, 8), (7, 8), (7, 8))
_REJECTIONS = (
    _bad("heads_do_not_divide", AssertionError, {"num_heads": 3}, _THREE),
    _bad("no_heads", ValueError, {"num_heads": 0}, _THREE),
    _bad("no_features", ValueError, {"embed_dim": 0}, _THREE),
    _bad("negative_features", ValueError, {"embed_dim": -8}, _THREE),
    _bad("other_key_features", RuntimeError, {}, ((5, 3, 8), (7, 3, 6), (7, 3, 6))),
    _bad(
        "other_key_features_of_its_own",
        AssertionError,
        {"kdim": 6, "vdim": 4},
        ((5, 3, 8), (7, 3, 7), (7, 3, 4)),
    ),
    _bad(
        "other_value_features_of_its_own",
        AssertionError,
        {"kdim": 6, "vdim": 4},
        ((5, 3, 8), (7, 3, 6), (7, 3, 5)),
    ),
    _bad(
        "other_batch",
        RuntimeError,
        {},
        ((5, 3, 8), (7, 2, 8), (7, 2, 8)),
        key_padding_mask=Drawn((3, 7), "bool"),
    ),
    _bad("other_features", AssertionError, {}, ((5, 3, 6), (7, 3, 8), (7, 3, 8))),
    _bad("other_values", AssertionError, {}, ((5, 3, 8), (7, 3, 8), (6, 3, 8))),
    _bad("axes_differ", AssertionError, {}, ((5, 8), (7, 3, 8), (7, 3, 8))),
    _bad("four_axes", AssertionError, {}, ((2, 5, 3, 8),) * 3),
    _bad("mask_of_other_shape", RuntimeError, {}, _THREE, attn_mask=Drawn((5, 6), "bool")),
    _bad("mask_of_few_heads", RuntimeError, {}, _THREE, attn_mask=Drawn((2, 5, 7), "bool")),
    _bad("mask_with_four_axes", AssertionError, {}, _THREE, attn_mask=Drawn((1, 2, 5, 7), "bool")),
    _bad("unbatched_mask_of_other_shape", RuntimeError, {}, _ALONE, attn_mask=Drawn((5, 6), "bool")),
    _bad("unbatched_mask_of_other_heads", AssertionError, {}, _ALONE, attn_mask=Drawn((3, 5, 7), "bool")),
    _bad("padding_with_three_axes", AssertionError, {}, _THREE, key_padding_mask=Drawn((3, 5, 7), "bool")),
    _bad("causal_without_mask", RuntimeError, {}, _THREE, is_causal=True),
)

SPEC = LayerSpec(
    name="MultiheadAttention",
    family="attention",
    reference=MultiheadAttention,
    axes={
        "operands": ("self", "cross", "three", "own_widths"),
        "weights": ("averaged", "each_head", "none"),
        "shape": tuple(_BATCH),
        "sizes": tuple(_SIZES),
        "mask": tuple(_MASKS),
        "padding": ("none", "bool", "float"),
        "batch_first": (False, True),
        "bias": (True, False),
        "add_bias_kv": (False, True),
        "add_zero_attn": (False, True),
        "mode": ("train", "eval", "inference"),
        "dtype": DTYPES,
        "layout": ("contiguous", "transposed", "sliced"),
    },
    factorial=("operands", "weights"),
    build=_build,
    constraints=_CONSTRAINTS,
    corners=_CORNERS,
    rejections=_REJECTIONS,
    functions=("multi_head_attention_forward",),
    values=_values,
    nest=_nest,
    invoke=invoke,
)

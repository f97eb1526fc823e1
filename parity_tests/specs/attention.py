"""Specifications of scaled_dot_product_attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs import multihead_attention, transformer, transformer_stack
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection, layouts
from refimpl.attention import ScaledDotProductAttention

# Leading axes of query, key and value, then queries, keys, features of queries and keys, features of values.
_SIZES = {
    "equal": (5, 5, 8, 8),
    "short": (7, 17, 6, 6),
    "tail": (3, 33, 16, 16),
    "odd": (4, 2, 3, 3),
    "one_query": (1, 7, 12, 12),
    "narrow_values": (6, 9, 5, 3),
    "one_feature": (2, 5, 1, 1),
}
_LEADING = {"heads": (2, 3), "one_head": (3, 1), "batch": (2,), "none": (), "batch_0": (0, 2)}
_MASKS = ("none", "causal", "boolean", "additive", "boolean_matrix", "additive_input", "boolean_heads")
_DATA = ("normal", "wide", "tiny", "masked_rows", "hidden_infinity")


_DRAW = {
    "tiny": lambda rng, shape: rng.standard_normal(
        shape
    ),  # but for the queries: scores of 0, gradients of a size
    "wide": lambda rng, shape: 4.0 * rng.standard_normal(shape),
    "one_hot": lambda rng, shape: 40.0 * rng.choice([-1.0, 1.0], shape),  # all weights but one underflow
    "equal_keys": lambda rng, shape: np.broadcast_to(rng.standard_normal((*shape[:-2], 1, shape[-1])), shape),
}


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Masks, and the regimes that matter to a softmax of products."""
    if name in ("attn_mask", "input3"):
        return _mask(case, rng, shape)
    if not name.startswith("input") or (case.data, name) == ("tiny", "input0"):
        return None
    values = _DRAW.get(case.data, _DRAW["tiny"])(rng, shape)
    if case.data == "nan_in_one_query" and name == "input0":
        values[..., 0, 0] = math.nan
    return values


def _mask(case: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A mask that lets about two thirds through; of the last query nothing, where the case is about that."""
    boolean = any(
        isinstance(value, Drawn) and value.kind == "bool" for _, value in (*case.arguments, *case.call)
    )
    seen = rng.random(shape) < 0.67
    if shape[-1] > 0:
        seen[..., 0] = True
    if case.data == "masked_rows" and len(shape) > 1 and shape[-2] > 1:
        seen[..., -1, :] = False
    hidden = -np.inf if case.data in ("masked_rows", "hidden_infinity") else -3.0
    return seen if boolean else np.where(seen, rng.standard_normal(shape), hidden)


def _build(row: Mapping[str, Any]) -> Built:
    queries, keys, features, values = _SIZES[row["sizes"]]
    leading = _LEADING[row["leading"]]
    own = leading
    arguments: dict[str, Any] = {}
    if row["gqa"] != "off":
        leading = (*leading[:-1], 4 * leading[-1])
        own = (*leading[:-1], leading[-1] // (4 if row["gqa"] == "four" else 2))
        arguments["enable_gqa"] = True
    pairs = (queries, keys)
    shapes: tuple = ((*leading, queries, features), (*own, keys, features), (*own, keys, values))
    masks = {
        "boolean": Drawn((*leading, *pairs), "bool"),
        "additive": Drawn((*leading, *pairs)),
        "boolean_matrix": Drawn(pairs, "bool"),
        "boolean_heads": Drawn((*leading[:-1], 1, *pairs) if leading else pairs, "bool"),
    }
    if row["mask"] in masks:
        arguments["attn_mask"] = masks[row["mask"]]
    if row["mask"] == "causal":
        arguments["is_causal"] = True
    if row["mask"] == "additive_input":
        shapes = (*shapes, pairs)
    return Built(arguments | ({} if row["scale"] is None else {"scale": row["scale"]}), shapes)


_CONSTRAINTS = (
    Constraint(
        ("leading", "gqa"),
        lambda leading, gqa: gqa == "off" or leading in ("heads", "one_head", "batch_0"),
        "grouped queries need an axis of heads",
    ),
    Constraint(
        ("leading", "data"),
        lambda leading, data: leading != "batch_0" or data == "normal",
        "an empty batch has no numbers",
    ),
    Constraint(
        ("mask", "data"),
        lambda mask, data: data not in ("masked_rows", "hidden_infinity") or mask not in ("none", "causal"),
        "a query that sees no key needs a mask",
    ),
    Constraint(
        ("mask", "data"),
        lambda mask, data: data != "hidden_infinity" or mask in ("additive", "additive_input"),
        "minus infinity is added by a mask of numbers",
    ),
    Constraint(
        ("sizes", "data"),
        lambda sizes, data: sizes != "one_query" or data != "masked_rows",
        "the only query would see nothing",
    ),
    Constraint(
        ("sizes", "mask"),
        lambda sizes, mask: sizes != "one_query" or mask != "causal",
        "the first query sees one key: a corner of its own",
    ),
    Constraint(
        ("layout", "leading"),
        lambda layout, leading: layout != "channels_last" or leading in ("heads", "one_head"),
        "channels_last needs 4 axes",
    ),
    Constraint(
        ("layout", "leading"),
        lambda layout, leading: layout != "expanded" or leading != "none",
        "repeated queries and keys have the same weights",
    ),
)


def _call(*shapes: tuple[int, ...], **arguments: Any) -> Built:
    return Built(arguments, shapes)


_PLAIN = ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))

_CORNERS = (
    Corner(
        "masked_rows",
        built=_call(*_PLAIN, attn_mask=Drawn((5, 7), "bool")),
        data="masked_rows",
        sweep="quick",
    ),
    Corner("masked_rows_of_numbers", built=_call(*_PLAIN, attn_mask=Drawn((5, 7))), data="masked_rows"),
    Corner(
        "masked_rows_three_axes",
        built=_call((2, 5, 8), (2, 7, 8), (2, 7, 6), attn_mask=Drawn((5, 7), "bool")),
        data="masked_rows",
    ),
    Corner("one_hot", built=_call(*_PLAIN), data="one_hot", dtypes=("float32", "float64")),
    Corner("equal_keys", built=_call(*_PLAIN), data="equal_keys"),
    Corner("nan_in_one_query", built=_call(*_PLAIN), data="nan_in_one_query"),
    Corner("one_key", built=_call((2, 3, 4, 8), (2, 3, 1, 8), (2, 3, 1, 8))),
    Corner("causal_one_query", built=_call((2, 3, 1, 8), (2, 3, 4, 8), (2, 3, 4, 8), is_causal=True)),
    Corner("no_keys", built=_call((2, 3, 5, 8), (2, 3, 0, 8), (2, 3, 0, 8))),
    Corner("no_queries", built=_call((2, 3, 0, 8), (2, 3, 7, 8), (2, 3, 7, 8))),
    Corner("heads_of_keys_repeated", built=_call((2, 3, 5, 8), (2, 1, 7, 8), (1, 1, 7, 8))),
    Corner("grouped_heads_first", built=_call((6, 3, 4), (3, 5, 4), (2, 5, 2), enable_gqa=True)),
    Corner("two_masks_axes_of_one", built=_call(*_PLAIN, attn_mask=Drawn((1, 3, 1, 7)))),
    Corner("causal_more_queries", built=_call((1, 2, 9, 4), (1, 2, 5, 4), (1, 2, 5, 4), is_causal=True)),
    Corner(
        "causal_negative_scale",
        built=_call(*((2, 3, 5, 8),) * 3, is_causal=True, scale=-0.7),
    ),
    Corner("tiles_and_a_tail", built=_call((1, 1, 35, 8), (1, 1, 67, 8), (1, 1, 67, 8))),
    Corner("tiles_causal", built=_call((1, 1, 67, 8), (1, 1, 67, 8), (1, 1, 67, 8), is_causal=True)),
    *(Corner(f"length_{n}", built=_call(*((2, 2, n, 8),) * 3)) for n in (1, 2, 7, 33)),
    Corner("keys_beyond_512", built=_call((1, 1, 2, 4), (1, 1, 523, 4), (1, 1, 523, 4))),
    # Vaswani et al., arXiv:1706.03762: a head of the base model; GPT-2: causal, 12 heads of 64
    Corner("network_transformer_head", built=_call((1, 8, 20, 64), (1, 8, 25, 64), (1, 8, 25, 64))),
    Corner("network_gpt2_head", built=_call(*((1, 12, 24, 64),) * 3, is_causal=True)),
)


def _bad(name: str, shapes: tuple, exception: type[Exception] = RuntimeError, **arguments: Any) -> Rejection:
    return Rejection(name, Built(arguments, shapes), exception)


_THREE = ((2, 3, 4), (2, 5, 4), (2, 5, 6))
_REJECTIONS = (
    _bad("mask_and_causal", _THREE, attn_mask=Drawn((3, 5)), is_causal=True),
    _bad("other_features", ((2, 3, 4), (2, 5, 7), (2, 5, 6))),
    _bad("other_keys", ((2, 3, 4), (2, 5, 4), (2, 7, 6))),
    _bad("other_batch", ((2, 3, 4), (3, 5, 4), (3, 5, 6))),
    _bad("mask_of_other_shape", _THREE, attn_mask=Drawn((3, 4))),
    _bad("mask_with_more_axes", ((3, 4), (5, 4), (5, 6)), attn_mask=Drawn((2, 3, 5))),
    _bad("one_axis", ((4,), (5, 4), (5, 6))),
    _bad("dropout_above_one", _THREE, dropout_p=1.5),
    _bad("scale_is_text", _THREE, TypeError, scale="1"),
    _bad("heads_do_not_divide", ((1, 4, 3, 4), (1, 3, 5, 4), (1, 3, 5, 4)), enable_gqa=True),
    _bad("grouped_heads_of_other_batch", ((2, 4, 3, 4), (3, 2, 5, 4), (3, 2, 5, 4)), enable_gqa=True),
    _bad("fewer_heads_without_gqa", ((1, 4, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4))),
)

_FUNCTION = LayerSpec(
    name="scaled_dot_product_attention",
    family="attention",
    reference=ScaledDotProductAttention,
    axes={
        "mask": _MASKS,
        "sizes": tuple(_SIZES),
        "leading": tuple(_LEADING),
        "gqa": ("off", "two", "four"),
        "scale": (None, 0.3, 1.0, -0.7),
        "dtype": DTYPES,
        "layout": layouts(2),
        "data": _DATA,
    },
    factorial=("mask", "gqa"),
    build=_build,
    constraints=_CONSTRAINTS,
    corners=_CORNERS,
    rejections=_REJECTIONS,
    functions=("scaled_dot_product_attention",),
    values=_values,
    is_function=True,
)

SPECS = (_FUNCTION, multihead_attention.SPEC, *transformer.SPECS, *transformer_stack.SPECS)

"""Specifications of TransformerEncoderLayer and TransformerDecoderLayer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, Drawn, LayerSpec, Rejection
from refimpl.transformer import TransformerDecoderLayer, TransformerEncoderLayer

# Length, length of the memory, features, heads, features between the linear layers.
_SIZES = {
    "small": (5, 7, 8, 2, 6),
    "one_head": (4, 3, 5, 1, 9),
    "long": (9, 2, 6, 3, 4),
    "one": (1, 4, 4, 2, 3),
}
_BATCH = {"batch_3": (3,), "batch_1": (1,), "unbatched": (), "batch_0": (0,)}
_ENCODER = ("src_mask", "src_key_padding_mask", "is_causal")
_DECODER = ("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask", "tgt_is_causal")


def values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Masks that hide a third, never the first key; parameters that do not blow errors up."""
    call = dict(case.call)
    if name in call:
        if (call.get("is_causal") or call.get("tgt_is_causal")) and name in ("src_mask", "tgt_mask"):
            return np.triu(np.ones(shape, dtype=bool), 1)
        hidden = rng.random(shape) < 0.33
        hidden[..., :1] = False
        return hidden if call[name].kind == "bool" else np.where(hidden, -np.inf, rng.standard_normal(shape))
    if name.startswith(("input", "grad_output")):
        return None
    slope = 1.0 if name.startswith("norm") and name.endswith("weight") else 0.0
    return slope + 0.15 * rng.standard_normal(shape)


def _nest(names: tuple[str, ...], hints: tuple[str, ...]) -> Callable[[tuple, Mapping[str, Any]], tuple]:
    """Masks in the order of the reference's arguments, None where they are not passed."""
    return lambda inputs, call: (
        *inputs,
        *(call.get(name) for name in names),
        *(call.get(hint, False) for hint in hints),
    )


def _build(row: Mapping[str, Any]) -> Built:
    length, keys, features, heads, inner = _SIZES[row["sizes"]]
    batch, first = _BATCH[row["shape"]], row["batch_first"]
    arguments = {"d_model": features, "nhead": heads, "dim_feedforward": inner, "dropout": 0.0}
    defaults = {"activation": "relu", "layer_norm_eps": 1e-5, "batch_first": False, "norm_first": False}
    defaults["bias"] = True
    arguments |= {name: row[name] for name, default in defaults.items() if row[name] != default}
    decoder = "memory_mask" in row
    lengths = (length, keys) if decoder else (length,)
    shapes = tuple((*batch, size, features) if first else (size, *batch, features) for size in lengths)
    own = "tgt" if decoder else "src"
    call: dict[str, Any] = {}
    if row["mask"] != "none":
        call[f"{own}_mask"] = Drawn((length, length), "float" if row["mask"] == "additive" else "bool")
    if decoder and row["memory_mask"] != "none":
        call["memory_mask"] = Drawn((length, keys), row["memory_mask"])
    if row["padding"] != "none":
        call[f"{own}_key_padding_mask"] = Drawn((*batch, length), "bool")
        if decoder:
            call["memory_key_padding_mask"] = Drawn((*batch, keys), "bool")
    if row["mask"] == "causal":
        call["tgt_is_causal" if decoder else "is_causal"] = True
    return Built(arguments, shapes, call)


_CONSTRAINTS = (
    Constraint(
        ("mask", "padding"),
        lambda mask, padding: mask != "additive" or padding == "none",
        "masks of two types are deprecated",
    ),
    Constraint(
        ("padding", "shape"),
        lambda padding, shape: padding == "none" or shape != "batch_0",
        "attention with the mask of an empty batch raises: see MultiheadAttention",
    ),
)
_OF_DECODER = (
    Constraint(
        ("memory_mask", "padding"),
        lambda memory_mask, padding: memory_mask != "float" or padding == "none",
        "masks of two types are deprecated",
    ),
)

_AXES = {
    "norm_first": (False, True),
    "activation": ("relu", "gelu"),
    "shape": tuple(_BATCH),
    "sizes": tuple(_SIZES),
    "mask": ("none", "boolean", "additive", "causal"),
    "padding": ("none", "bool"),
    "batch_first": (False, True),
    "bias": (True, False),
    "layer_norm_eps": (1e-5, 0.1),
    "dtype": DTYPES,
    "mode": ("train", "eval", "inference"),
    "layout": ("contiguous", "transposed", "sliced"),
}


def _of_length(length: int, inputs: int) -> Corner:
    arguments = {"d_model": 8, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0, "norm_first": True}
    built = Built(arguments, ((length, 2, 8), (3, 2, 8))[:inputs])
    half = length == 1 or (length, inputs) == (2, 1)  # beyond, the bounds of the half types tell nothing
    return Corner(f"length_{length}", built=built, dtypes=DTYPES if half else ("float64", "float32"))


_ADDITIVE = {"mask": "additive", "batch_first": True, "mode": "inference"}
_CORNERS = {
    "src": (
        Corner("additive_mask_inference", _ADDITIVE, dtypes=("float64", "float32"), sweep="quick"),
        Corner(
            "two_features",  # of which a normalization leaves -1 and 1, with a gradient near 0
            built=Built({"d_model": 2, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0}, ((5, 3, 2),)),
            dtypes=DTYPES,
        ),
    ),
    "tgt": (),
}


def _bad(name: str, exception: type[Exception], shapes: tuple, **arguments: Any) -> Rejection:
    given = {"d_model": 8, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0} | arguments
    return Rejection(name, Built(given, shapes), exception)


def _spec(name: str, reference: Callable[..., Any], own: tuple, nest: Callable, **axes: tuple) -> LayerSpec:
    constraints = (*_CONSTRAINTS, *(_OF_DECODER if "memory_mask" in axes else ()))
    shapes = ((5, 3, 8), (7, 3, 8))[: len(own)]
    # Behind the three blocks of a decoder's layer the bounds of bfloat16 are wider than the values.
    dtypes = {"dtype": DTYPES[:3]} if "memory_mask" in axes else {}
    return LayerSpec(
        name=name,
        family="attention",
        reference=reference,
        axes=_AXES | dtypes | axes,
        factorial=("norm_first", "activation", "mask"),
        build=_build,
        corners=(*_CORNERS[own[0]], *(_of_length(length, len(own)) for length in (1, 2, 7, 33))),
        constraints=constraints,
        rejections=(
            _bad("unknown_activation", RuntimeError, shapes, activation="tanh"),
            _bad("heads_do_not_divide", AssertionError, shapes, nhead=3),
            _bad("no_heads", ValueError, shapes, nhead=0),
            _bad("four_axes", AssertionError, tuple((2, *shape) for shape in shapes)),
            _bad("other_features", AssertionError, tuple((*shape[:-1], 6) for shape in shapes)),
        ),
        functions=("multi_head_attention_forward", "linear", "layer_norm"),
        values=values,
        nest=nest,
    )


SPECS = (
    _spec("TransformerEncoderLayer", TransformerEncoderLayer, ("src",), _nest(_ENCODER[:2], _ENCODER[2:])),
    _spec(
        "TransformerDecoderLayer",
        TransformerDecoderLayer,
        ("tgt", "memory"),
        _nest(_DECODER[:4], _DECODER[4:]),
        memory_mask=("none", "bool", "float"),
    ),
)

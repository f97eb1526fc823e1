"""Specifications of TransformerEncoder, TransformerDecoder and Transformer.

Their layers have specifications of their own; here it is how layers, masks, memory and norms go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import refimpl
from parity_tests.harness.covering import Constraint
from parity_tests.specs import transformer
from parity_tests.specs.spec import HALF, Built, Corner, Drawn, LayerSpec, Made, Rejection

# Length, length of the other sequence, features, heads, features between the linear layers.
_SIZES = {"small": (4, 3, 4, 2, 3), "odd": (3, 5, 6, 3, 4)}
_BATCH = {"batch_2": (2,), "unbatched": ()}
_NORMS: Mapping[str, dict[str, Any]] = {
    "given": {},
    "without_bias": {"bias": False, "eps": 0.1},
    "plain": {"elementwise_affine": False},
}
_WIDE = ("float64", "float32")
_ENCODER = ("mask", "src_key_padding_mask", "is_causal")
_DECODER = (
    "tgt_mask",
    "memory_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
    "tgt_is_causal",
    "memory_is_causal",
)
_BOTH = (
    "src_mask",
    "tgt_mask",
    "memory_mask",
    "src_key_padding_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
    "src_is_causal",
    "tgt_is_causal",
    "memory_is_causal",
)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """As for the layers; with 'tail' all padding is at the end, with 'causal' masks
    are causal although no hint says so."""
    if name.endswith("key_padding_mask") and case.data == "tail":
        return np.broadcast_to(np.arange(shape[-1]) >= max(1, shape[-1] - 1), shape)
    if name in ("mask", "src_mask", "tgt_mask") and (case.data == "causal" or _hinted(case)):
        return np.triu(np.ones(shape, dtype=bool), 1)
    return transformer.values(case, ".".join(name.split(".")[-2:]), rng, shape)


def _hinted(case: Any) -> bool:
    return any(name.endswith("is_causal") and hint for name, hint in case.call)


def _nest(names: tuple[str, ...]) -> Callable[[tuple, Mapping[str, Any]], tuple]:
    """Masks and hints in the order of the reference's arguments."""
    absent = {name: False if name == "memory_is_causal" else None for name in names}
    return lambda inputs, call: (*inputs, *(call.get(name, absent[name]) for name in names))


def _made(**arguments: Any) -> dict[str, Any]:
    """Layers among the arguments as the reference's own."""
    return {
        name: value.of(refimpl) if isinstance(value, Made) else value for name, value in arguments.items()
    }


def _layer(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer is made with."""
    _, _, features, heads, inner = _SIZES[row["sizes"]]
    arguments = {"d_model": features, "nhead": heads, "dim_feedforward": inner, "dropout": 0.0}
    defaults = {"norm_first": False, "batch_first": False, "bias": True}
    return arguments | {name: row[name] for name, default in defaults.items() if row[name] != default}


def _shapes(row: Mapping[str, Any], count: int) -> tuple[tuple[int, ...], ...]:
    *lengths, features, _, _ = _SIZES[row["sizes"]]
    batch = _BATCH[row["shape"]]
    return tuple(
        (*batch, length, features) if row["batch_first"] else (length, *batch, features)
        for length in lengths[:count]
    )


def _masks(row: Mapping[str, Any], lengths: Mapping[str, int], mask: Callable[[str], str]) -> dict[str, Any]:
    """Masks of every sequence by itself; `mask` names that of src or tgt, and its hint likewise."""
    call: dict[str, Any] = {}
    for name, length in lengths.items():
        if row["mask"] != "none" and name != "memory":
            kind = "float" if row["mask"] == "additive" else "bool"
            call[mask(f"{name}_mask")] = Drawn((length, length), kind)
        if row["padding"] != "none":
            call[f"{name}_key_padding_mask"] = Drawn((*_BATCH[row["shape"]], length), "bool")
        if row["mask"] == "causal" and name != "memory":
            call[mask(f"{name}_is_causal")] = True
    return call


def _encoder(row: Mapping[str, Any]) -> Built:
    layer = Made("TransformerEncoderLayer", tuple(_layer(row).items()))
    arguments = {"encoder_layer": layer, "num_layers": row["num_layers"], **_norm(row)}
    if not row["enable_nested_tensor"]:
        arguments["enable_nested_tensor"] = False
    length = _SIZES[row["sizes"]][0]
    call = _masks(row, {"src": length}, lambda name: name.removeprefix("src_"))
    return Built(arguments, _shapes(row, 1), call)


def _decoder(row: Mapping[str, Any]) -> Built:
    layer = Made("TransformerDecoderLayer", tuple(_layer(row).items()))
    lengths = dict(zip(("tgt", "memory"), _SIZES[row["sizes"]][:2], strict=True))
    arguments = {"decoder_layer": layer, "num_layers": row["num_layers"], **_norm(row)}
    call = _masks(row, lengths, lambda name: name)
    if row["memory_mask"]:
        call["memory_mask"] = Drawn((lengths["tgt"], lengths["memory"]), "bool")
    return Built(arguments, _shapes(row, 2), call)


def _transformer(row: Mapping[str, Any]) -> Built:
    lengths = dict(zip(("src", "tgt"), _SIZES[row["sizes"]][:2], strict=True))
    counts = {f"num_{name}_layers": row[f"{name}_layers"] for name in ("encoder", "decoder")}
    eps = {} if row["layer_norm_eps"] == 1e-5 else {"layer_norm_eps": row["layer_norm_eps"]}
    call = _masks(row, {**lengths, "memory": lengths["src"]}, lambda name: name)
    if row["memory_mask"]:
        call["memory_mask"] = Drawn((lengths["tgt"], lengths["src"]), "bool")
    return Built(_layer(row) | counts | eps, _shapes(row, 2), call)


def _norm(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["norm"] == "none":
        return {}
    features = _SIZES[row["sizes"]][2]
    return {"norm": Made("LayerNorm", (("normalized_shape", features), *_NORMS[row["norm"]].items()))}


_AXES = {
    "norm_first": (False, True),
    "mask": ("none", "boolean", "additive", "causal"),
    "padding": ("none", "bool"),
    "data": ("normal", "tail"),
    "batch_first": (False, True),
    "sizes": tuple(_SIZES),
    "shape": tuple(_BATCH),
    "bias": (True, False),
    "mode": ("train", "eval", "inference"),
    "dtype": _WIDE,
}
_CONSTRAINTS = (
    Constraint(
        ("mask", "padding"),
        lambda mask, padding: mask != "additive" or padding == "none",
        "masks of two types are deprecated",
    ),
    Constraint(
        ("padding", "data"),
        lambda padding, data: padding != "none" or data == "normal",
        "nothing is padded",
    ),
)
_OF_MEMORY = (
    Constraint(
        ("mask", "memory_mask"),
        lambda mask, memory_mask: mask != "additive" or not memory_mask,
        "masks of two types are deprecated",
    ),
)
_OF_BOTH = (
    Constraint(
        ("dtype", "decoder_layers"),
        lambda dtype, decoder_layers: dtype == "float64" or decoder_layers == 1,
        "behind two decoder layers the bounds of float32 are wider than the encoder's gradients",
    ),
)


def _spec(
    name: str, build: Callable, names: tuple[str, ...], factorial: tuple[str, ...], own: Mapping[str, tuple],
    corners: tuple[Corner, ...], rejections: tuple[Rejection, ...],
) -> LayerSpec:  # fmt: skip
    return LayerSpec(
        name=name,
        family="attention",
        reference=lambda **arguments: getattr(refimpl, name)(**_made(**arguments)),
        axes={**own, **_AXES},
        factorial=factorial,
        build=build,
        constraints=(
            *_CONSTRAINTS,
            *(_OF_MEMORY if "memory_mask" in own else ()),
            *(_OF_BOTH if "decoder_layers" in own else ()),
        ),
        corners=corners,
        rejections=rejections,
        functions=("multi_head_attention_forward", "linear", "layer_norm"),
        values=_values,
        nest=_nest(names),
    )


_SMALL = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0}
_FAST = {"batch_first": True, "padding": "bool", "data": "tail", "mode": "inference"}
_HALF_ROW = {"norm": "none", "norm_first": True}  # one layer: after two the bounds are wider than the values


def _lengths(build: Callable[[int], Built]) -> tuple[Corner, ...]:
    return tuple(Corner(f"length_{n}", built=build(n), dtypes=_WIDE) for n in (1, 2, 7, 33))


def _stack(kind: str, first: str, shapes: tuple, layers: Any = 1, **more: Any) -> Built:
    """A stack of small layers called with inputs of these shapes."""
    call = {name: value for name, value in more.items() if "causal" in name}
    arguments = {name: value for name, value in more.items() if name not in call}
    layer = Made(f"{kind}Layer", tuple(_SMALL.items()))
    return Built({first: layer, "num_layers": layers, **arguments}, shapes, call)


def _bad(name: str, exception: type[Exception], built: Built) -> Rejection:
    return Rejection(name, built, exception)


def _rejected_stacks(kind: str, first: str, shapes: tuple) -> tuple[Rejection, ...]:
    def stack(shapes: tuple = shapes, **more: Any) -> Built:
        return _stack(kind, first, shapes, **more)

    longer = Made("LayerNorm", (("normalized_shape", 5),))
    hint = "is_causal" if len(shapes) == 1 else "tgt_is_causal"
    return (
        _bad("no_layers", IndexError, stack(layers=0)),
        _bad("negative_layers", IndexError, stack(layers=-1)),
        _bad("half_a_layer", TypeError, stack(layers=1.5)),
        _bad("norm_of_another_size", RuntimeError, stack(norm=longer)),
        _bad("causal_without_mask", RuntimeError, stack(**{hint: True})),
        _bad("four_axes", AssertionError, stack(tuple((1, *shape) for shape in shapes))),
        _bad("other_features", AssertionError, stack(tuple((*shape[:-1], 6) for shape in shapes))),
    )


def _whole(*shapes: tuple[int, ...], **arguments: Any) -> Built:
    counts = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    return Built(_SMALL | counts | arguments, shapes)


_ENCODER_CORNERS = (
    Corner("nested_tensor", _FAST, dtypes=_WIDE, sweep="quick"),
    Corner("nested_tensor_without_norm", {**_FAST, "norm": "none", "num_layers": 2}, dtypes=_WIDE),
    Corner("no_nested_tensor", {**_FAST, "enable_nested_tensor": False}, dtypes=_WIDE, sweep="quick"),
    Corner("causal_without_hint", {"mask": "boolean"}, data="causal", dtypes=_WIDE),
    Corner("three_layers", {"num_layers": 3, "norm": "none"}, dtypes=("float64",)),
    Corner("one_layer_in_half", _HALF_ROW, dtypes=HALF),
    *_lengths(lambda n: _stack("TransformerEncoder", "encoder_layer", ((n, 2, 4),))),
)
_DECODER_CORNERS = (
    Corner("causal_without_hint", {"mask": "boolean"}, data="causal", dtypes=_WIDE),
    Corner("three_layers", {"num_layers": 3, "norm": "none"}, dtypes=("float64",)),
    Corner("one_layer_in_half", _HALF_ROW, dtypes=HALF),
    *_lengths(lambda n: _stack("TransformerDecoder", "decoder_layer", ((n, 2, 4), (3, 2, 4)))),
)
_OTHER_ENCODER = Made(
    "TransformerEncoder",
    (("encoder_layer", Made("TransformerEncoderLayer", tuple(_SMALL.items()))), ("num_layers", 2)),
)
_BOTH_CORNERS = (
    Corner(
        "custom_encoder",
        built=_whole((4, 2, 4), (3, 2, 4), custom_encoder=_OTHER_ENCODER),
        dtypes=("float64",),
    ),
    Corner("causal_without_hint", {"mask": "boolean"}, data="causal", dtypes=_WIDE),
    Corner("nested_tensor", _FAST, dtypes=_WIDE),
    *_lengths(lambda n: _whole((n, 2, 4), (n, 2, 4))),
)
_REJECTED = (
    _bad("other_batches", RuntimeError, _whole((4, 2, 4), (3, 3, 4))),
    _bad("other_features", RuntimeError, _whole((4, 2, 6), (3, 2, 6))),
    _bad("other_features_of_tgt", RuntimeError, _whole((4, 2, 4), (3, 2, 6))),
    _bad("four_axes", AssertionError, _whole((1, 4, 2, 4), (1, 3, 2, 4))),
    _bad("only_src_has_a_batch", AssertionError, _whole((4, 4), (3, 2, 4))),
    _bad("heads_do_not_divide", AssertionError, _whole((4, 2, 4), (3, 2, 4), nhead=3)),
    _bad("unknown_activation", RuntimeError, _whole((4, 2, 4), (3, 2, 4), activation="tanh")),
    _bad("no_encoder_layers", IndexError, _whole((4, 2, 4), (3, 2, 4), num_encoder_layers=0)),
    _bad("no_decoder_layers", IndexError, _whole((4, 2, 4), (3, 2, 4), num_decoder_layers=0)),
)

SPECS = (
    _spec(
        "TransformerEncoder",
        _encoder,
        _ENCODER,
        ("num_layers", "norm"),
        {
            "num_layers": (1, 2),
            "norm": ("given", "none", *list(_NORMS)[1:]),
            "enable_nested_tensor": (True, False),
        },
        _ENCODER_CORNERS,
        _rejected_stacks("TransformerEncoder", "encoder_layer", ((4, 2, 4),)),
    ),
    _spec(
        "TransformerDecoder",
        _decoder,
        _DECODER,
        ("num_layers", "norm"),
        {"num_layers": (1, 2), "norm": ("given", "none", "plain"), "memory_mask": (False, True)},
        _DECODER_CORNERS,
        _rejected_stacks("TransformerDecoder", "decoder_layer", ((4, 2, 4), (3, 2, 4))),
    ),
    _spec(
        "Transformer",
        _transformer,
        _BOTH,
        ("encoder_layers", "decoder_layers"),
        {
            "encoder_layers": (1, 2),
            "decoder_layers": (1, 2),
            "memory_mask": (False, True),
            "layer_norm_eps": (1e-5, 0.1),
        },
        _BOTH_CORNERS,
        _REJECTED,
    ),
)

"""Operands of a wrong dtype: what has to be of the parameters' own, or of whole numbers, as torch documents.

Rejections for layers of every family, each the first row of its sweep with one input of another dtype.  A
reference takes any type of real number, on purpose: of the rows `integer` and `wider` the class is torch's
alone, and the reference must accept them; `fractional` indices are refused by both.  Only what the
documentation excludes has a row: that a kernel does not know integers is no promise, and another
implementation may.
"""

from __future__ import annotations

from dataclasses import replace

from parity_tests.specs.spec import LayerSpec, Rejection

# Inputs that must have the dtype of the parameters, or of each other.
_LIKE_OTHERS: dict[str, tuple[int, ...]] = {
    **{f"Conv{rank}d": (0,) for rank in (1, 2, 3)},
    **{f"ConvTranspose{rank}d": (0,) for rank in (1, 2, 3)},
    **{f"BatchNorm{rank}d": (0,) for rank in (1, 2, 3)},
    **{name: (0,) for name in ("PReLU", "Linear", "GroupNorm", "LayerNorm")},
    **{name: (0, 1) for name in ("linear", "Bilinear", "RNNCell", "LSTMCell", "GRUCell")},
    **{name: (0, 1) for name in ("RNN", "LSTM", "GRU", "Transformer")},
    **{f"Transformer{part}": (0,) for part in ("Encoder", "EncoderLayer")},
    **{f"Transformer{part}": (0, 1) for part in ("Decoder", "DecoderLayer")},
    "bilinear": (0, 1, 2, 3),
    "scaled_dot_product_attention": (0, 1, 2),
    "MultiheadAttention": (0,),
    "AdaptiveLogSoftmaxWithLoss": (0,),
    "LinearCrossEntropyLoss": (0,),
    "BCELoss": (0, 1),
}
_REFUSED_BEFORE = ("RNN", "LSTM", "GRU")  # with a ValueError, of the input

# Inputs that hold indices, classes or lengths.
_WHOLE: dict[str, tuple[int, ...]] = {
    **{f"MaxUnpool{rank}d": (1,) for rank in (1, 2, 3)},
    **{name: (1,) for name in ("NLLLoss", "CrossEntropyLoss", "MultiMarginLoss", "MultiLabelMarginLoss")},
    **{name: (1,) for name in ("AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss")},
    **{name: (0,) for name in ("embedding", "embedding_bag")},
    "CTCLoss": (2, 3),
}


def with_wrong_dtypes(spec: LayerSpec) -> LayerSpec:
    """The specification with its rejections of wrong dtypes, where it has any."""
    rows = [
        row
        for place in _LIKE_OTHERS.get(spec.name, ())
        for row in (_row(spec, "integer", place, "int64"), _row(spec, "wider", place, "float64"))
    ]
    rows += [_row(spec, "fractional", place, "float32") for place in _WHOLE.get(spec.name, ())]
    return replace(spec, rejections=(*spec.rejections, *rows)) if rows else spec


def _row(spec: LayerSpec, word: str, place: int, dtype: str) -> Rejection:
    built = spec.build({axis: values[0] for axis, values in spec.axes.items()})
    early = spec.name in _REFUSED_BEFORE and place == 0
    return Rejection(
        f"{word}_input{place or ''}",
        built,
        ValueError if early else RuntimeError,  # NotImplementedError, of kernels without a type, is one
        note="a reference takes any type of number" if word != "fractional" else "",
        kinds=("",) * place + (dtype,),
        of_reference=word == "fractional",
    )

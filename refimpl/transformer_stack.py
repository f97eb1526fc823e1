"""Layers of a transformer on top of each other, and the two stacks that make a transformer.

    output = norm(layer[n](... layer[1](layer[0](x))))

Every layer of a decoder attends to the same memory, so the gradient of the memory has a term of each.
Source: torch.nn.TransformerEncoder, torch.nn.TransformerDecoder, torch.nn.Transformer; Vaswani et al.,
arXiv:1706.03762, section 3.1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refimpl.group_norm import LayerNorm
from refimpl.module import Module, xavier
from refimpl.transformer import Composite, TransformerDecoderLayer, TransformerEncoderLayer

__all__ = ["Transformer", "TransformerDecoder", "TransformerEncoder"]


class _Stack(Composite):
    """Copies of one layer, and perhaps a norm of what the last one gives."""

    def __init__(self, layer: Any, num_layers: Any, norm: Any):
        super().__init__()
        self.layers = [copy.deepcopy(layer) for _ in range(num_layers)]
        if norm is not None and not isinstance(norm, LayerNorm):
            raise NotImplementedError(f"norm is {type(norm).__name__}; only LayerNorm has a reference")
        self.norm = norm

    def first(self) -> Any:
        """The layer that checks a call for all of them."""
        if not self.layers:
            raise IndexError(f"{type(self).__name__}: there are no layers; needed is at least 1")
        return self.layers[0]

    def parts(self) -> Mapping[str, Module]:
        layers = {f"layers.{i}": layer for i, layer in enumerate(self.layers)}
        return layers if self.norm is None else layers | {"norm": self.norm}

    def run(self, arithmetic: Any, calls: Mapping[str, Any], operands: list) -> tuple[Any, list]:
        """The output, (N, L, E); of every layer what its gradient needs; the input of the norm."""
        x, saved = operands[0], []
        for layer in self.layers:
            x, state = layer.run(arithmetic, calls, [x, *operands[1:]])
            saved.append(state)
        saved.append(x)
        if self.norm is not None:
            x = arithmetic.norm(x, _slope(self.norm), self.norm.bias, self.norm.eps)
        return x, saved

    def back(self, arithmetic: Any, calls: Mapping[str, Any], saved: list, up: Any) -> tuple[list, dict]:
        """Gradients of x and, of a decoder, memory: a sum over the layers, the last one's term first."""
        gradients: dict[str, Any] = {}
        if self.norm is not None:
            up, weight, bias = arithmetic.norm_gradients(up, saved[-1], _slope(self.norm), self.norm.eps)
            gradients |= {"norm.weight": weight, "norm.bias": bias}
        of_memory = []
        for i in reversed(range(len(self.layers))):
            (up, *others), found = self.layers[i].back(arithmetic, calls, saved[i], up)
            of_memory.append(others)
            gradients |= {f"layers.{i}.{name}": gradient for name, gradient in found.items()}
        total = [arithmetic.add(*terms) for terms in zip(*of_memory, strict=True)]
        return [up, *total], {name: gradients[name] for name in self.state_dict()}


def _slope(norm: LayerNorm) -> np.ndarray:
    """The weight of a norm; ones where it has none."""
    return np.ones(norm.normalized_shape) if norm.weight is None else norm.weight


class TransformerEncoder(_Stack):
    """Encoder layers one after the other, then `norm` unless it is None.

        output = norm(layers[n - 1](... layers[1](layers[0](src))))

    The layers are copies of `encoder_layer`, each with parameters of its own.  src, mask and
    src_key_padding_mask as those of `TransformerEncoderLayer`, the same for every layer -> output as src.
    `is_causal` is a hint about `mask`; `enable_nested_tensor` and `mask_check` choose between ways to compute
    and change no number.
    Error: the layers' errors handed on; what a layer gives to the next is stored in T, and so is the norm.
    Raises IndexError without layers, NotImplementedError for a norm that is no LayerNorm; otherwise as
    `TransformerEncoderLayer`.  Source: torch.nn.TransformerEncoder."""

    def __init__(self, encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True):
        super().__init__(encoder_layer, num_layers, norm)
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def calls(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        return self.first().calls(src, mask, src_key_padding_mask, bool(is_causal))


class TransformerDecoder(_Stack):
    """Decoder layers one after the other, all with the same memory, then `norm` unless it is None.

        output = norm(layers[n - 1](... layers[1](layers[0](tgt, memory), memory), memory))
        grad_memory = sum over the layers

    The layers are copies of `decoder_layer`, each with parameters of its own.  tgt, memory and masks as those
    of `TransformerDecoderLayer`, the same for every layer -> output as tgt.
    Error: as `TransformerEncoder`; the gradient of the memory is stored whenever a layer's term is added.
    Raises: as `TransformerEncoder`.  Source: torch.nn.TransformerDecoder."""

    def __init__(self, decoder_layer, num_layers, norm=None):
        super().__init__(decoder_layer, num_layers, norm)

    def calls(
        self,
        tgt,
        memory,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        tgt_is_causal=None,
        memory_is_causal=False,
    ):
        paddings = (tgt_key_padding_mask, memory_key_padding_mask)
        return self.first().calls(
            tgt, memory, tgt_mask, memory_mask, *paddings, bool(tgt_is_causal), memory_is_causal
        )


class Transformer(Composite):
    """An encoder, and a decoder whose memory is the encoder's output.

        output = decoder(tgt, encoder(src))

    Both end with a norm.  src (S, N, d_model), tgt (T, N, d_model), or both with `batch_first` (N, ...), or
    without N -> output as tgt.  Masks: src_mask (S, S), tgt_mask (T, T), memory_mask (T, S), and of keys
    src_key_padding_mask, memory_key_padding_mask (N, S), tgt_key_padding_mask (N, T).
    `custom_encoder` and `custom_decoder` take the place of the two.  All matrices are drawn anew (Xavier), as
    torch does, also those of layers that it is given.
    Error: as `TransformerEncoder`; encoder's output and its gradient are stored in T.
    Raises RuntimeError for batches or features that do not fit; otherwise as the layers.
    Source: torch.nn.Transformer."""

    def __init__(
        self,
        d_model=512,
        nhead=8,
        num_encoder_layers=6,
        num_decoder_layers=6,
        dim_feedforward=2048,
        dropout=0.1,
        activation="relu",
        custom_encoder=None,
        custom_decoder=None,
        layer_norm_eps=1e-5,
        batch_first=False,
        norm_first=False,
        bias=True,
    ):
        super().__init__()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        arguments = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)

        def stack(of: Callable, layer: Callable, layers: int) -> Composite:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias)
            return of(layer(*arguments, batch_first, norm_first, bias), layers, norm)

        if custom_encoder is None:
            custom_encoder = stack(TransformerEncoder, TransformerEncoderLayer, num_encoder_layers)
        if custom_decoder is None:
            custom_decoder = stack(TransformerDecoder, TransformerDecoderLayer, num_decoder_layers)
        self.encoder, self.decoder = custom_encoder, custom_decoder
        first = self.state_dict()
        self.load_state_dict({k: xavier(*v.shape) if v.ndim == 2 else v for k, v in first.items()})

    def parts(self) -> Mapping[str, Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def calls(
        self,
        src,
        tgt,
        src_mask=None,
        tgt_mask=None,
        memory_mask=None,
        src_key_padding_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        src_is_causal=None,
        tgt_is_causal=None,
        memory_is_causal=False,
    ):
        self._check(np.shape(src), np.shape(tgt))
        memory = src  # of the same shape: all that the decoder's checks look at
        paddings = (tgt_key_padding_mask, memory_key_padding_mask)
        decoder = self.decoder.calls(
            tgt, memory, tgt_mask, memory_mask, *paddings, tgt_is_causal, memory_is_causal
        )
        encoder = self.encoder.calls(src, src_mask, src_key_padding_mask, src_is_causal)
        return decoder | {"encoder": encoder}

    def _check(self, src: tuple[int, ...], tgt: tuple[int, ...]) -> None:
        """Raise what torch raises for shapes that do not fit."""
        axis = 0 if self.batch_first else 1
        if len(src) == 3 and src[axis] != tgt[axis]:
            raise RuntimeError(f"Transformer: src {src} and tgt {tgt} have batches of different size")
        if src[-1] != self.d_model or tgt[-1] != self.d_model:
            raise RuntimeError(f"Transformer: src {src}, tgt {tgt}; needed are {self.d_model} features")

    def operands(self, calls: Mapping[str, Any]) -> list[np.ndarray]:
        return [*self.encoder.operands(calls["encoder"]), *self.decoder.operands(calls)[:1]]

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        self.calls(*inputs)
        return (np.shape(inputs[1]),)

    def run(self, arithmetic: Any, calls: Mapping[str, Any], operands: list) -> tuple[Any, list]:
        """The output, (N, T, E), and what the gradients of encoder and decoder need."""
        source, target = operands
        memory, of_encoder = self.encoder.run(arithmetic, calls["encoder"], [source])
        output, of_decoder = self.decoder.run(arithmetic, calls, [target, memory])
        return output, [of_encoder, of_decoder]

    def back(self, arithmetic: Any, calls: Mapping[str, Any], saved: list, up: Any) -> tuple[list, dict]:
        """Gradients of src and tgt, and of the parameters."""
        of_encoder, of_decoder = saved
        (grad_target, grad_memory), decoder = self.decoder.back(arithmetic, calls, of_decoder, up)
        (grad_source,), encoder = self.encoder.back(arithmetic, calls["encoder"], of_encoder, grad_memory)
        found = {f"encoder.{name}": gradient for name, gradient in encoder.items()}
        found |= {f"decoder.{name}": gradient for name, gradient in decoder.items()}
        return [grad_source, grad_target], found

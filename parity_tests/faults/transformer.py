"""Wrong transformer layers that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.multihead_attention import HalfGradient

LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")
_BASES = {name: getattr(torch.nn, name) for name in LAYERS}


def _classes(**methods: Callable[..., Any]) -> dict[str, type]:
    """Both layers with methods replaced; a method's first arguments are the layer and torch's own method."""

    def method(base: type, name: str, changed: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return changed(self, getattr(super(base_of[base], self), name), *args, **kwargs)

        return call

    base_of: dict[type, type] = {}
    for base in _BASES.values():
        members = {name: method(base, name, changed) for name, changed in methods.items()}
        base_of[base] = type(base.__name__, (base,), members)
    return {base.__name__: derived for base, derived in base_of.items()}


def _fault(name: str, sentence: str, caught_by: str = "forward", **methods: Callable[..., Any]) -> Fault:
    return Fault(f"transformer_{name}", sentence, _classes(**methods), caught_by, LAYERS)


def _other_order(self, own, *args, norm_first=False, **kwargs):
    own(*args, norm_first=not norm_first, **kwargs)


def _other_activation(self, own, *args, activation="relu", **kwargs):
    own(*args, activation="gelu" if activation == "relu" else "relu", **kwargs)


def _any_activation(self, own, *args, activation="relu", **kwargs):
    own(*args, activation=activation if activation in ("relu", "gelu") else "relu", **kwargs)


def _default_epsilon(self, own, *args, layer_norm_eps=1e-5, **kwargs):
    own(*args, **kwargs)


def _heads_for(self, own, *args, nhead=1, **kwargs):
    own(*args, nhead=nhead, **kwargs)
    self.self_attn.num_heads, self.self_attn.head_dim = 1, self.self_attn.embed_dim


def _own_mask_ignored(self, own, x, mask, *others, **hints):
    return own(x, None, *others, is_causal=False) if hints else own(x, None, *others[:-1], False)


def _padding_ignored(self, own, x, mask, padding, *others, **hints):
    return own(x, mask, None, *others, **hints)


def _half_gradient(self, own, x):
    return HalfGradient.apply(own(x))


def _writes_input(self, own, x, *others, **kwargs):
    output = own(x, *others, **kwargs)
    x.data.clamp_(min=-0.5)
    return output


def _second_call_differs(self, own, *operands, **kwargs):
    self.calls = getattr(self, "calls", 0) + 1
    return own(*operands, **kwargs) * (1.0 if self.calls == 1 else 1.5)


FAULTS = (
    _fault("other_order", "norm_first is turned round", __init__=_other_order),
    _fault("other_activation", "gelu instead of relu and relu instead of gelu", __init__=_other_activation),
    _fault("default_epsilon", "layer_norm_eps is ignored", __init__=_default_epsilon),
    _fault("one_head", "self-attention has one head", __init__=_heads_for),
    _fault(
        "no_residual", "feed-forward is not added to its input", _ff_block=lambda self, own, x: own(x) - x
    ),
    _fault("no_feed_forward", "feed-forward is left out", _ff_block=lambda self, own, x: own(x) * 0),
    _fault("mask_ignored", "the mask of self-attention is ignored", _sa_block=_own_mask_ignored),
    _fault("padding_ignored", "the padding mask of self-attention is ignored", _sa_block=_padding_ignored),
    _fault(
        "input_gradient_half",
        "half the gradient goes through feed-forward",
        "input_gradients",
        _ff_block=_half_gradient,
    ),
    _fault(
        "parameter_gradient_half",
        "feed-forward gets half its gradient",
        "parameter_gradients",
        _ff_block=_half_gradient,
    ),
    _fault(
        "wrong_dtype",
        "the result comes in float64",
        "metadata",
        forward=lambda self, own, *operands, **kwargs: own(*operands, **kwargs).double(),
    ),
    _fault("writes_input", "the input is clamped in place", "purity", forward=_writes_input),
    _fault(
        "second_call_differs", "a second call gives another result", "purity", forward=_second_call_differs
    ),
    _fault("any_activation", "an unknown activation means relu", "rejection", __init__=_any_activation),
)


def _keeps_arguments(self, own, *args, **kwargs):
    own(*args, **kwargs)
    self.made_with = args, kwargs


def _in_float64(self, own, *operands, **kwargs):
    """A layer in float64 with the same parameters, its result rounded once."""
    if {operand.dtype for operand in operands} != {next(self.parameters()).dtype}:
        return own(*operands, **kwargs)  # types that torch refuses
    twin = _BASES[type(self).__name__](*self.made_with[0], **self.made_with[1]).train(self.training)

    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    parameters = {name: wide(parameter) for name, parameter in self.named_parameters()}
    masks = {name: wide(value) for name, value in kwargs.items()}
    output = torch.func.functional_call(twin, parameters, tuple(map(wide, operands)), masks)
    return output.to(operands[0].dtype)


CONTROLS = (
    Control(
        "transformer_in_float64",
        "all in float64, rounded once",
        _classes(__init__=_keeps_arguments, forward=_in_float64),
        LAYERS,
    ),
)

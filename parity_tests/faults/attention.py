"""Wrong attentions that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults import multihead_attention, transformer, transformer_stack
from parity_tests.faults.fault import Control, Fault, scaled, with_gradient

LAYERS = ("scaled_dot_product_attention",)
_attention = functional.scaled_dot_product_attention
HALF = (torch.float16, torch.bfloat16)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in HALF else tensor


def _causal(queries: int, keys: int, diagonal: int = 0) -> torch.Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal)


def _repeated(key: torch.Tensor, heads: int) -> torch.Tensor:
    return key.repeat_interleave(heads // key.shape[-3], -3)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Zeros in rows without keys."""
    largest = scores.amax(-1, keepdim=True).nan_to_num(neginf=0.0) if scores.shape[-1] else 0.0
    weights = (scores - largest).exp()
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, 1.0, total)


def _formula(
    causal: Callable[..., torch.Tensor] = _causal,
    repeat: Callable[..., torch.Tensor] = _repeated,
    factor: Callable[[int], float] = lambda features: 1.0 / math.sqrt(features),
    scaled_by: Callable[[float], float] = lambda scale: scale,
    hidden: Callable[[torch.Tensor], torch.Tensor] = lambda mask: ~mask,
    lowest: float = -math.inf,
    added: Callable[..., torch.Tensor] = lambda scores, mask, scale: scores + mask,
    rounded: Callable[..., torch.Tensor] = lambda weights, kind: weights,
    softmax: Callable[..., torch.Tensor] = _softmax,
    wide: Callable[[torch.Tensor], torch.Tensor] = _wide,
) -> Callable[..., torch.Tensor]:
    """The documented formula, in float32 for the half types; the arguments are where a fault may sit."""

    def stand_in(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):
        kind = query.dtype
        query, key, value = wide(query), wide(key), wide(value)
        if enable_gqa:
            key, value = repeat(key, query.shape[-3]), repeat(value, query.shape[-3])
        scale = factor(query.shape[-1]) if scale is None else scaled_by(scale)
        scores = query @ key.transpose(-1, -2) * scale
        mask = causal(query.shape[-2], key.shape[-2]) if is_causal else attn_mask
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(hidden(mask), lowest)
        elif mask is not None:
            scores = added(scores, wide(mask), scale)
        return (rounded(softmax(scores), kind) @ value).to(kind)

    return stand_in


def _in_tiles(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """Sixteen keys at a time, earlier sums rescaled when a larger score comes; weights rounded to T."""
    if key.shape[-2] == 0:
        return _attention(query, key, value)
    kind = query.dtype
    query, key, value = _wide(query), _wide(key), _wide(value)
    if enable_gqa:
        key, value = _repeated(key, query.shape[-3]), _repeated(value, query.shape[-3])
    pairs = (query.shape[-2], key.shape[-2])
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = _causal(*pairs) if is_causal else attn_mask
    if mask is None:
        mask = query.new_zeros(pairs)
    if mask.dtype == torch.bool:
        mask = query.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
    mask = _wide(mask).expand(*mask.shape[:-2], *pairs)
    first = query[..., :1] * 0.0 if query.shape[-1] else query.new_zeros((*query.shape[:-1], 1))
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    first = first.expand(*batch, pairs[0], 1)
    largest, total, sums = first - math.inf, first, first * value.new_zeros(value.shape[-1])
    for start in range(0, pairs[1], 16):
        tile = slice(start, start + 16)
        scores = query @ key[..., tile, :].transpose(-1, -2) * scale + mask[..., tile]
        new = torch.maximum(largest, scores.amax(-1, keepdim=True)).detach()
        shift = new.nan_to_num(neginf=0.0, nan=math.nan, posinf=math.inf)
        weights, kept = (scores - shift).exp(), (largest - shift).exp()
        total = total * kept + weights.sum(-1, keepdim=True)
        sums = sums * kept + weights.to(kind).to(sums.dtype) @ value[..., tile, :]
        largest = new
    return (sums / torch.where(total == 0, 1.0, total)).to(kind)


def _in_float64(query, key, value, attn_mask=None, *args, **kwargs):
    number = attn_mask is not None and attn_mask.dtype != torch.bool
    mask = attn_mask.double() if number else attn_mask
    wide = (query.double(), key.double(), value.double())
    return _formula(wide=torch.Tensor.double)(*wide, mask, *args, **kwargs).to(query.dtype)


def _softmax_over_queries(scores):
    return _softmax(scores.transpose(-1, -2)).transpose(-1, -2)


def _plain_softmax(scores):
    return torch.softmax(scores, -1)


def _without_projection(grad_output: Any, tensors: list, gradients: list) -> list:
    """The gradient of the scores without sum(weight * up): as if the weights were not normalized."""
    query, key, value = (tensor.detach() for tensor in tensors[:3])
    if not (query.shape[:-2] == key.shape[:-2] == value.shape[:-2]) or len(tensors) > 3:
        return gradients
    scale = 1.0 / math.sqrt(query.shape[-1])
    weights = torch.softmax(query @ key.transpose(-1, -2) * scale, -1)
    pair = weights * (grad_output @ value.transpose(-1, -2))
    return [pair @ key * scale, *gradients[1:]]


def _writes_value(query, key, value, *args, **kwargs):
    output = _attention(query, key, value, *args, **kwargs)
    value.data.mul_(2.0)
    return output


def _every_second_call() -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def stand_in(*args, **kwargs):
        output = _attention(*args, **kwargs)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in


def _last_key_lost(query, key, value, attn_mask=None, **kwargs):
    if key.shape[-2] < 2:
        return _attention(query, key, value, attn_mask, **kwargs)
    mask = None if attn_mask is None else attn_mask[..., :-1] if attn_mask.shape[-1] > 1 else attn_mask
    return _attention(query, key[..., :-1, :], value[..., :-1, :], mask, **kwargs)


def _fault(
    name: str, sentence: str, stand_in: Callable[..., torch.Tensor], caught_by: str = "forward"
) -> Fault:
    return Fault(name, sentence, {"scaled_dot_product_attention": stand_in}, caught_by, LAYERS)


def _of_gradient(
    name: str, sentence: str, spoil: Callable[[Any, list, list], list], caught_by: str = "input_gradients"
) -> Fault:
    return _fault(name, sentence, with_gradient(_attention, spoil), caught_by)


FAULTS = (
    _fault(
        "not_scaled", "scores are not divided by the root of the features", _formula(factor=lambda e: 1.0)
    ),
    _fault("divided_by_features", "scores are divided by the features", _formula(factor=lambda e: 1.0 / e)),
    _fault("scale_ignored", "a scale that is given is ignored", _formula(scaled_by=lambda scale: 1.0)),
    _fault("mask_inverted", "True hides a key instead of showing it", _formula(hidden=lambda mask: mask)),
    _fault(
        "mask_of_first_query",
        "all queries use the first one's mask",
        _formula(hidden=lambda mask: ~mask[..., :1, :].expand(mask.shape)),
    ),
    _fault("mask_scaled", "the mask is scaled too", _formula(added=lambda s, mask, scale: s + mask * scale)),
    _fault(
        "finite_minimum", "hidden keys get -1e4: a row without keys becomes an average", _formula(lowest=-1e4)
    ),
    _fault("nan_without_keys", "a row without keys is NaN", _formula(softmax=_plain_softmax)),
    _fault(
        "causal_from_the_end",
        "the causal mask is aligned at the last query and key",
        _formula(causal=lambda queries, keys: _causal(queries, keys, keys - queries)),
    ),
    _fault(
        "causal_next_key",
        "a query sees one key too many",
        _formula(causal=lambda queries, keys: _causal(queries, keys, 1)),
    ),
    _fault(
        "softmax_over_queries", "weights sum to 1 over the queries", _formula(softmax=_softmax_over_queries)
    ),
    _fault(
        "heads_tiled",
        "query head h uses key head h modulo their number",
        _formula(repeat=lambda key, h: torch.cat([key] * (h // key.shape[-3]), -3)),
    ),
    _fault("last_key_lost", "the last key is left out", _last_key_lost),
    _fault(
        "scores_in_half", "half types keep everything in the half type", _formula(wide=lambda tensor: tensor)
    ),
    _of_gradient("query_gradient_half", "the query gradient has half its size", scaled(0, 0.5)),
    _of_gradient("key_gradient_half", "the key gradient has half its size", scaled(1, 0.5)),
    _of_gradient("value_gradient_half", "the value gradient has half its size", scaled(2, 0.5)),
    _of_gradient("no_projection", "the softmax gradient has lost its second term", _without_projection),
    _fault(
        "wrong_dtype",
        "the result comes in float64",
        lambda *args, **kwargs: _attention(*args, **kwargs).double(),
        "metadata",
    ),
    _fault("writes_value", "the values are doubled in place", _writes_value, "purity"),
    _fault("second_call_differs", "every second call gives another result", _every_second_call(), "purity"),
    *multihead_attention.FAULTS,
    *transformer.FAULTS,
    *transformer_stack.FAULTS,
)

CONTROLS = (
    Control(
        "in_float64", "all in float64, rounded once", {"scaled_dot_product_attention": _in_float64}, LAYERS
    ),
    Control("in_tiles", "sixteen keys at a time", {"scaled_dot_product_attention": _in_tiles}, LAYERS),
    Control(
        "stored_weights",
        "scores and softmax in float32, weights rounded to the type",
        {
            "scaled_dot_product_attention": _formula(
                rounded=lambda weights, kind: weights.to(kind).to(weights.dtype)
            )
        },
        LAYERS,
    ),
    *multihead_attention.CONTROLS,
    *transformer.CONTROLS,
    *transformer_stack.CONTROLS,
)

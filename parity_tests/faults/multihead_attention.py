"""Wrong multi-head attentions that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault

LAYERS = ("MultiheadAttention",)
_torch_attention = functional.multi_head_attention_forward
_NAMES = list(inspect.signature(_torch_attention).parameters)


def _changed(**changes: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """torch's function, some of its arguments replaced by functions of them all."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        return _torch_attention(**{**given, **{name: change(given) for name, change in changes.items()}})

    return stand_in


def _result(change: Callable[..., Any]) -> Callable[..., Any]:
    """torch's function, its output and weights changed."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        output, weights = _torch_attention(*args, **kwargs)
        return change(output, weights, dict(zip(_NAMES, args, strict=False)) | kwargs)

    return stand_in


class HalfGradient(torch.autograd.Function):
    """The same values; half the gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        return grad_output * 0.5


def _half_gradient_of(name: str) -> Callable[..., Any]:
    return _changed(**{name: lambda given: None if given[name] is None else HalfGradient.apply(given[name])})


def _rows_moved(given: dict[str, Any]) -> Any:
    """Keys projected as values and values as keys."""
    packed = given["in_proj_weight"]
    return None if packed is None else torch.cat([packed.chunk(3)[i] for i in (0, 2, 1)])


def _unscaled(given: dict[str, Any]) -> Any:
    packed = given["in_proj_weight"]
    if packed is None:
        return None
    query, *others = packed.chunk(3)
    return torch.cat([query * math.sqrt(packed.shape[-1] / given["num_heads"]), *others])


def _summed(output, weights, given):
    averaged = weights is not None and given.get("average_attn_weights", True)
    return output, weights * given["num_heads"] if averaged else weights


def _writes_query(*args, **kwargs):
    results = _torch_attention(*args, **kwargs)
    (kwargs["query"] if "query" in kwargs else args[0]).data.clamp_(min=-0.5)
    return results


def _every_second_call() -> Callable[..., Any]:
    calls = itertools.count()

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        output, weights = _torch_attention(*args, **kwargs)
        return (output if next(calls) % 2 == 0 else output * 1.5), weights

    return stand_in


class _HintWithoutMask(torch.nn.MultiheadAttention):
    """A hint about a mask that is not there is passed over."""

    def forward(self, *args: Any, attn_mask: Any = None, is_causal: bool = False, **kwargs: Any) -> Any:
        return super().forward(
            *args, attn_mask=attn_mask, is_causal=is_causal and attn_mask is not None, **kwargs
        )


def _fault(name: str, sentence: str, stand_in: Callable[..., Any], caught_by: str = "forward") -> Fault:
    return Fault(name, sentence, {"multi_head_attention_forward": stand_in}, caught_by, LAYERS)


FAULTS = (
    _fault("mha_one_head", "one head instead of several", _changed(num_heads=lambda given: 1)),
    _fault(
        "mha_keys_as_values",
        "projections of key and value are exchanged",
        _changed(in_proj_weight=_rows_moved),
    ),
    _fault(
        "mha_not_scaled",
        "scores are not divided by the root of a head's features",
        _changed(in_proj_weight=_unscaled),
    ),
    _fault(
        "mha_no_padding_mask", "key_padding_mask is ignored", _changed(key_padding_mask=lambda given: None)
    ),
    _fault(
        "mha_no_mask",
        "attn_mask is ignored",
        _changed(attn_mask=lambda given: None, is_causal=lambda given: False),
    ),
    _fault(
        "mha_no_output_bias",
        "the bias of out_proj is not added",
        _changed(
            out_proj_bias=lambda given: None if given["out_proj_bias"] is None else given["out_proj_bias"] * 0
        ),
    ),
    _fault(
        "mha_bias_k_twice",
        "bias_k is appended to the values as well",
        _changed(
            bias_v=lambda given: None if given["bias_v"] is None else given["bias_k"] + 0 * given["bias_v"]
        ),
    ),
    _fault("mha_no_zero_attention", "no zeros are appended", _changed(add_zero_attn=lambda given: False)),
    _fault("mha_weights_summed", "weights are summed over the heads", _result(_summed)),
    _fault(
        "mha_in_proj_gradient_half",
        "the gradient of in_proj_weight has half its size",
        _half_gradient_of("in_proj_weight"),
        "parameter_gradients",
    ),
    _fault(
        "mha_out_bias_gradient_half",
        "the gradient of out_proj.bias has half its size",
        _half_gradient_of("out_proj_bias"),
        "parameter_gradients",
    ),
    _fault(
        "mha_query_gradient_half",
        "the query gradient has half its size",
        _half_gradient_of("query"),
        "input_gradients",
    ),
    _fault(
        "mha_wrong_dtype",
        "the output comes in float64",
        _result(lambda output, weights, given: (output.double(), weights)),
        "metadata",
    ),
    _fault("mha_writes_query", "the query is clamped in place", _writes_query, "purity"),
    _fault(
        "mha_second_call_differs", "every second call gives another result", _every_second_call(), "purity"
    ),
    Fault(
        "mha_hint_without_mask",
        "is_causal without a mask is accepted",
        {"MultiheadAttention": _HintWithoutMask},
        "rejection",
        LAYERS,
    ),
)


def _in_float64(*args, **kwargs):
    """All of it in float64, rounded once."""

    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    results = _torch_attention(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})
    return tuple(None if result is None else result.to(args[0].dtype) for result in results)


def _in_parts(*args, **kwargs):
    """Query, key and value projected one by one although their weights are packed."""
    given = dict(zip(_NAMES, args, strict=False)) | kwargs
    if given["in_proj_weight"] is not None:
        weights = given["in_proj_weight"].chunk(3)
        given |= {f"{name}_proj_weight": weight for name, weight in zip("qkv", weights, strict=True)}
        given["use_separate_proj_weight"] = True
    return _torch_attention(**given)


CONTROLS = (
    Control(
        "mha_in_float64",
        "all in float64, rounded once",
        {"multi_head_attention_forward": _in_float64},
        LAYERS,
    ),
    Control(
        "mha_in_parts",
        "query, key and value projected one by one",
        {"multi_head_attention_forward": _in_parts},
        LAYERS,
    ),
)

"""Multi-head attention: projections of query, key and value, attention in every head, a projection of all.

    output = linear(concatenation of head[h] for every h, out_proj)
    head[h] = attention(linear(query, W_q)[h], linear(key, W_k)[h], linear(value, W_v)[h])

Stored in T, beside what attention stores (`attention_bounds`):
    linear            the projections q, k, v, and the output
    linear gradient   of the heads' outputs, and of query, key and value
    sum               of the gradients of an input that is query and key or key and value at once
Source: torch.nn.MultiheadAttention; Vaswani et al., arXiv:1706.03762, section 3.2.2.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.attention_arithmetic import Bounds, Loops
from refimpl.attention_bounds import STORED_SCORES
from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module, uniform, xavier

__all__ = ["MultiheadAttention"]

OUT_WEIGHT, OUT_BIAS = "out_proj.weight", "out_proj.bias"  # attributes under torch's keys, dot and all


class Call:
    """Arguments of one call, checked and brought to (N, L, E); the mask added to scores, (N, H, L, S)."""

    def __init__(
        self,
        layer: MultiheadAttention,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ):
        given = [np.asarray(operand) for operand in (query, key, value)]
        self.same = 3 if query is key is value else 2 if key is value else 1
        self.need_weights, self.average, self.batched = need_weights, average_attn_weights, given[0].ndim == 3
        self.first = layer.batch_first or not self.batched
        masks = [None if mask is None else np.asarray(mask) for mask in (key_padding_mask, attn_mask)]
        _check(given, masks, layer, is_causal)
        self.operands = [self.inward(operand) for operand in given]
        self.batches, self.queries = self.operands[0].shape[:2]
        self.keys = self.operands[1].shape[1]
        self._check_masks(layer, *masks)
        self.mask = self._merged(layer, *masks)

    def inward(self, operand: np.ndarray) -> np.ndarray:
        operand = operand if self.batched else operand[None]
        return operand if self.first else operand.swapaxes(0, 1)

    def outward(self, operand: np.ndarray) -> np.ndarray:
        operand = operand if self.first else operand.swapaxes(0, 1)
        return operand if self.batched else operand[0]

    def _check_masks(
        self, layer: MultiheadAttention, padding: np.ndarray | None, mask: np.ndarray | None
    ) -> None:
        name, pairs = "MultiheadAttention", (self.queries, self.keys)
        needed = {2: pairs, 3: (self.batches * layer.num_heads, *pairs)}
        if mask is not None and mask.shape != needed[mask.ndim]:
            kind = AssertionError if mask.ndim == 3 and not self.batched else RuntimeError
            raise kind(f"{name}: attn_mask has shape {mask.shape}; needed is {needed[mask.ndim]}")
        if padding is not None and padding.shape not in ((self.batches, self.keys), (self.keys,)):
            raise AssertionError(
                f"{name}: key_padding_mask has shape {padding.shape}; needed is ({self.batches}, {self.keys})"
            )

    def _merged(
        self, layer: MultiheadAttention, padding: np.ndarray | None, mask: np.ndarray | None
    ) -> np.ndarray:
        """Both masks as one to be added, with zeros for the keys that the layer adds itself."""
        merged = np.zeros((self.batches, layer.num_heads, self.queries, self.keys))
        if mask is not None:
            mask = _additive(mask)
            merged += mask.reshape(self.batches, -1, *mask.shape[1:]) if mask.ndim == 3 else mask
        if padding is not None:
            merged += _additive(padding).reshape(self.batches, 1, 1, self.keys)
        return np.pad(merged, [(0, 0)] * 3 + [(0, layer.own_keys)])


def _own_key(features: int) -> np.ndarray:
    """A key or value that is learnt, begun as torch.nn.init.xavier_normal_ does: N(0, 1 / features)."""
    return np.random.default_rng().normal(0.0, features**-0.5, (1, 1, features))


def _additive(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, -np.inf, 0.0) if mask.dtype == bool else mask


def _check(operands: list, masks: list, layer: MultiheadAttention, is_causal: bool) -> None:
    """Raise what torch raises for a call whose arguments do not fit."""
    name, shapes = "MultiheadAttention", [operand.shape for operand in operands]
    padding, mask = masks
    axes = operands[0].ndim
    if axes not in (2, 3) or any(operand.ndim != axes for operand in operands):
        raise AssertionError(
            f"{name}: query, key, value have shapes {shapes}; needed are all (L, E) or all "
            "(L, N, E), with batch_first (N, L, E)"
        )
    if (padding is not None and padding.ndim != axes - 1) or (mask is not None and mask.ndim not in (2, 3)):
        raise AssertionError(
            f"{name}: masks have {[None if m is None else m.ndim for m in masks]} axes; needed "
            f"are {axes - 1} (key_padding_mask) and 2 or 3 (attn_mask)"
        )
    if is_causal and mask is None:
        raise RuntimeError(f"{name}: is_causal is a hint about attn_mask; needed is an attn_mask beside it")
    if shapes[0][-1] != layer.embed_dim:
        raise AssertionError(f"{name}: query has {shapes[0][-1]} features; needed are {layer.embed_dim}")
    packed = layer.in_proj_weight is not None
    if shapes[1][: None if packed else -1] != shapes[2][: None if packed else -1]:
        raise AssertionError(f"{name}: key and value have shapes {shapes[1:]}, which do not fit")
    for what, shape, features in (("key", shapes[1], layer.kdim), ("value", shapes[2], layer.vdim)):
        if shape[-1] != features:
            kind = RuntimeError if packed else AssertionError
            raise kind(f"{name}: {what} has {shape[-1]} features; needed are {features}")


class MultiheadAttention(Module):
    """Attention in several heads at once, each in features of its own.

        output[l] = out_proj(concatenation over h of sum(weight[h, l, s] * v[s, h] for every key s))
        weight[h, l] = softmax(sum(q[l, h, e] * k[s, h, e] for every e) / sqrt(embed_dim / num_heads) + mask)
        q = linear(query, W_q, b_q), k = linear(key, W_k, b_k), v = linear(value, W_v, b_v), split into heads

    query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim), or with `batch_first` (N, L, ...), or
    without N -> output as query, weights (N, L, S), with average_attn_weights False (N, num_heads, L, S),
    None without need_weights.  `add_bias_kv` appends a key and value that are learnt, `add_zero_attn` zeros.
    A boolean mask hides with True, another one is added: key_padding_mask (N, S), attn_mask (L, S) or
    (N num_heads, L, S).  A query without keys gets NaN, without need_weights 0 before the projection.
    Error: q, k, v, the heads' outputs, their gradients, output and weights are stored in T.  With
    need_weights scaled queries, scores and the gradient of the weights are stored too ('stored scores'),
    as the weights are tensors then; without, they stay in A: see `attention_bounds`.
    Raises ValueError and AssertionError for sizes that are no sizes, AssertionError and RuntimeError for
    shapes that do not fit, NotImplementedError for dropout in training.
    Parameters are first drawn as torch draws them, which its documentation leaves open.
    Source: torch.nn.MultiheadAttention."""

    parameters = (
        "in_proj_weight",
        "q_proj_weight",
        "k_proj_weight",
        "v_proj_weight",
        "in_proj_bias",
        OUT_WEIGHT,
        OUT_BIAS,
        "bias_k",
        "bias_v",
    )
    algorithms = (STORED_SCORES,)

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim is {embed_dim}, num_heads {num_heads}; needed are positive numbers")
        if embed_dim % num_heads:
            raise AssertionError(f"embed_dim is {embed_dim}; needed is a multiple of num_heads {num_heads}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.own_keys = int(add_bias_kv) + int(add_zero_attn)
        packed = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = xavier(3 * embed_dim, embed_dim) if packed else None
        for name, features in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            setattr(self, f"{name}_proj_weight", None if packed else xavier(embed_dim, features))
        self.in_proj_bias = np.zeros(3 * embed_dim) if bias else None
        setattr(self, OUT_WEIGHT, uniform((embed_dim, embed_dim), embed_dim))
        setattr(self, OUT_BIAS, np.zeros(embed_dim) if bias else None)
        self.bias_k, self.bias_v = (_own_key(embed_dim) if add_bias_kv else None for _ in "kv")

    def _projections(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Weight and bias for query, key and value."""
        weights = [getattr(self, f"{name}_proj_weight") for name in "qkv"]
        if self.in_proj_weight is not None:
            weights = np.split(self.in_proj_weight, 3)
        biases = [None] * 3 if self.in_proj_bias is None else np.split(self.in_proj_bias, 3)
        return list(zip(weights, biases, strict=True))

    def _heads(self, operand: np.ndarray) -> np.ndarray:
        """(N, S, E) -> (N num_heads, S, E / num_heads)"""
        split = operand.reshape(*operand.shape[:2], self.num_heads, self.embed_dim // self.num_heads)
        return split.swapaxes(1, 2).reshape(-1, operand.shape[1], self.embed_dim // self.num_heads)

    def _joined(self, operand: np.ndarray) -> np.ndarray:
        """The inverse of `_heads`."""
        split = operand.reshape(-1, self.num_heads, *operand.shape[1:]).swapaxes(1, 2)
        return split.reshape(*split.shape[:2], self.embed_dim)

    def run(self, arithmetic: Any, call: Call, inputs: list) -> tuple[Any, Any, tuple]:
        """Output and weights of every head, (N, L, E) and (N, H, L, S), and what `back` needs."""
        projected = [
            arithmetic.affine(input, *parameters)
            for input, parameters in zip(inputs, self._projections(), strict=True)
        ]
        if self.bias_k is not None:
            projected[1:] = [
                arithmetic.appended(projected[1], self.bias_k),
                arithmetic.appended(projected[2], self.bias_v),
            ]
        if self.add_zero_attn:
            zeros = np.zeros((1, 1, self.embed_dim))
            projected[1:] = [arithmetic.appended(operand, zeros) for operand in projected[1:]]
        heads = [arithmetic.moved(operand, self._heads) for operand in projected]
        mask = call.mask.reshape(-1, *call.mask.shape[2:])
        scale = 1.0 / math.sqrt(self.embed_dim // self.num_heads)
        mixed, weights, saved = arithmetic.attention(*heads, mask, scale, not call.need_weights)
        mixed = arithmetic.moved(mixed, self._joined)
        output = arithmetic.affine(mixed, getattr(self, OUT_WEIGHT), getattr(self, OUT_BIAS))
        weights = arithmetic.moved(weights, lambda w: w.reshape(call.mask.shape))
        return output, weights, (inputs, mixed, saved)

    def _results(self, arithmetic: Any, call: Call, output: Any, weights: Any) -> dict[str, Any]:
        results = {"output": arithmetic.moved(output, call.outward)}
        if call.need_weights:
            weights = arithmetic.mean(weights, 1) if call.average else weights
            results["output1"] = arithmetic.moved(weights, lambda w: w if call.batched else w[0])
        return results

    def _up(self, arithmetic: Any, call: Call, grad_weights: Any) -> Any:
        """The gradient of the weights of every head, (N num_heads, L, S)."""
        heads, sizes = self.num_heads, call.mask.shape
        up = arithmetic.exact(grad_weights)
        if call.average:
            up = arithmetic.divided(up, float(heads))
            shape = (sizes[0], 1, *sizes[2:])
            up = arithmetic.moved(up, lambda g: np.broadcast_to(g.reshape(shape), sizes))
        return arithmetic.moved(up, lambda g: g.reshape(-1, *sizes[2:]))

    def back(
        self, arithmetic: Any, call: Call, state: tuple, upstream: Any, of_weights: Any = None
    ) -> tuple[list, dict]:
        """Gradients of query, key and value, (N, L, E), and of the parameters by name."""
        inputs, mixed, saved = state
        up, weight, bias = arithmetic.affine_gradients(upstream, mixed, getattr(self, OUT_WEIGHT))
        gradients = {OUT_WEIGHT: weight, OUT_BIAS: bias}
        heads = arithmetic.attention_gradients(saved, arithmetic.moved(up, self._heads), of_weights)
        projected = [arithmetic.moved(head, self._joined) for head in heads]
        if self.bias_k is not None:
            for name, operand in (("bias_k", projected[1]), ("bias_v", projected[2])):
                own = arithmetic.total(arithmetic.moved(operand, lambda g: g[:, call.keys]))
                gradients[name] = arithmetic.moved(own, lambda g: g[None, None])
        projected[1:] = [arithmetic.moved(operand, lambda g: g[:, : call.keys]) for operand in projected[1:]]
        parts = [
            arithmetic.affine_gradients(gradient, input, parameters[0])
            for gradient, input, parameters in zip(projected, inputs, self._projections(), strict=True)
        ]
        joined = arithmetic.concatenated([part[2] for part in parts])
        gradients["in_proj_bias"] = joined
        if self.in_proj_weight is not None:
            gradients["in_proj_weight"] = arithmetic.concatenated([part[1] for part in parts])
        else:
            gradients |= {f"{name}_proj_weight": part[1] for name, part in zip("qkv", parts, strict=True)}
        of_inputs = [part[0] for part in parts]
        of_inputs[3 - call.same :] = [arithmetic.add(*of_inputs[3 - call.same :])]
        return of_inputs, {name: gradients[name] for name in self.state_dict()}

    def _call(self, *inputs: Any) -> Call:
        call = Call(self, *inputs)
        if self.training and self.dropout:
            raise NotImplementedError(
                f"MultiheadAttention: dropout is {self.dropout}; only 0 has a reference"
            )
        return call

    def forward(self, *inputs: Any) -> Any:
        call, loops = self._call(*inputs), Loops()
        results = self._results(loops, call, *self.run(loops, call, call.operands)[:2])
        return results["output"], results.get("output1")

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return tuple(output.shape for output in self.forward(*inputs) if output is not None)

    def _everything(self, arithmetic: Any, call: Call, grad_outputs: tuple) -> tuple[dict, list, dict]:
        """Outputs by name, gradients of the inputs, gradients of the parameters by name."""
        output, weights, state = self.run(
            arithmetic, call, [arithmetic.exact(operand) for operand in call.operands]
        )
        upstream = arithmetic.exact(call.inward(np.asarray(grad_outputs[0])))
        of_weights = self._up(arithmetic, call, grad_outputs[1]) if call.need_weights else None
        of_inputs, gradients = self.back(arithmetic, call, state, upstream, of_weights)
        of_inputs = [arithmetic.moved(gradient, call.outward) for gradient in of_inputs]
        return self._results(arithmetic, call, output, weights), of_inputs, gradients

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        _, of_inputs, gradients = self._everything(Loops(), self._call(*inputs), grad_outputs)
        return tuple(of_inputs), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        call = self._call(*inputs)
        arithmetic = Bounds(replace(contract, algorithm=STORED_SCORES) if call.need_weights else contract)
        loops = named(*self._everything(Loops(), call, grad_outputs))
        bounds = named(*self._everything(arithmetic, call, grad_outputs))
        return {name: bound.agreeing(loops[name], name) for name, bound in bounds.items()}


def named(outputs: dict, of_inputs: list, gradients: dict) -> dict:
    """Everything under the keys of `Module.bounded`."""
    names = ["grad_input"] if len(of_inputs) == 1 else [f"grad_input{i}" for i in range(len(of_inputs))]
    return (
        outputs
        | dict(zip(names, of_inputs, strict=True))
        | {f"grad_{name}": gradient for name, gradient in gradients.items()}
    )

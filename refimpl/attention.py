"""Scaled dot-product attention: a softmax of the scores of queries and keys mixes the values.

    output[l] = sum(weight[l, s] * value[s] for every key s)
    weight[l] = softmax(scale * sum(query[l, e] * key[s, e] for every e) + mask[l, s] for every key s)

Source: torch.nn.functional.scaled_dot_product_attention; Vaswani et al., arXiv:1706.03762, section 3.2.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.attention_bounds import STORED_SCORES, bounded_attention, bounded_gradients
from refimpl.attention_taps import read_keys, read_pairs, read_queries
from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.softmax import softmax, softmax_backward
from refimpl.taps import float_array

__all__ = ["scaled_dot_product_attention", "scaled_dot_product_attention_backward"]


class Attention:
    """One call, arguments checked: operands broadcast to (B, L, E), (B, S, E), (B, S, V), mask to (B, L, S).

    `safe`: a query that may look at no key gets zeros, and not NaN."""

    def __init__(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        safe: bool = True,
    ):
        operands = [float_array(operand) for operand in (query, key, value)]
        mask = None if attn_mask is None else np.asarray(attn_mask)
        _check(operands, mask, dropout_p, is_causal, scale, enable_gqa)
        self.safe = safe
        self.shapes = [operand.shape for operand in operands]
        if enable_gqa:
            heads = operands[0].shape[-3]
            operands[1:] = [np.repeat(other, heads // other.shape[-3], axis=-3) for other in operands[1:]]
        self.batch = np.broadcast_shapes(*(operand.shape[:-2] for operand in operands))
        self.query, self.key, self.value = (self._spread(operand) for operand in operands)
        pairs = (self.query.shape[1], self.key.shape[1])
        self.mask_shape = None if mask is None else mask.shape
        self.mask = np.array(
            self._spread(
                np.broadcast_to(
                    _additive(mask, is_causal, pairs),
                    (*(mask.shape[:-2] if mask is not None else ()), *pairs),
                )
            )
        )
        features = self.query.shape[2]
        self.scale = scale if scale is not None else 1.0 / math.sqrt(features) if features else math.inf

    def _spread(self, operand: np.ndarray) -> np.ndarray:
        shape = (*self.batch, *operand.shape[-2:])
        return np.broadcast_to(operand, shape).reshape(math.prod(self.batch), *operand.shape[-2:])

    def gathered(self, gradient: Any, shape: tuple[int, ...]) -> Any:
        """The sum of a gradient, array or Bounded, over what `shape` was repeated for."""
        gradient = gradient.reshape(*self.batch, *_sizes(gradient)[1:])
        if len(shape) > 2 and shape[-3] != self.batch[-1]:
            gradient = gradient.reshape(
                *self.batch[:-1], shape[-3], self.batch[-1] // shape[-3], *_sizes(gradient)[-2:]
            ).sum(axis=-3)
        sizes = _sizes(gradient)
        for axis in range(len(sizes)):
            own = axis - len(sizes) + len(shape)
            if own < 0 or sizes[axis] != shape[own]:
                gradient = gradient.sum(axis=axis, keepdims=True)
        return gradient.reshape(*shape)

    @np.errstate(all="ignore")
    def scores(self) -> np.ndarray:
        return self.scale * read_pairs(self.query, self.key) + self.mask

    @np.errstate(all="ignore")
    def weights(self) -> np.ndarray:
        scores = self.scores()
        return self._living(scores, softmax(scores, -1))

    def _living(self, scores: np.ndarray, values: np.ndarray) -> np.ndarray:
        dead = np.isneginf(scores).all(axis=-1, keepdims=True)
        return np.where(dead, 0.0, values) if self.safe else values

    def output(self) -> np.ndarray:
        output = read_queries(self.weights(), self.value)
        return output.reshape(*self.batch, *output.shape[1:])

    @np.errstate(all="ignore")
    def gradients(self, grad_output: Any, grad_weights: Any = None) -> list[np.ndarray]:
        """Gradients of query, key, value and mask, each of the shape (B, ...) of the walk."""
        grad_output = float_array(grad_output).reshape(*self.query.shape[:2], self.value.shape[2])
        scores = self.scores()
        up = read_pairs(grad_output, self.value)
        up = up if grad_weights is None else up + grad_weights
        pair = self._living(scores, softmax_backward(up, scores, -1)[0])
        return [
            self.scale * read_queries(pair, self.key),
            self.scale * read_keys(pair, self.query),
            read_keys(self.weights(), grad_output),
            pair,
        ]

    def gathered_gradients(self, grad_output: Any) -> list[np.ndarray]:
        shapes = [*self.shapes, *([] if self.mask_shape is None else [self.mask_shape])]
        gradients = self.gradients(grad_output)
        return [self.gathered(gradient, shape) for gradient, shape in zip(gradients, shapes, strict=False)]

    def bounded(self, contract: Contract, grad_output: Any) -> list[Bounded]:
        """Output and gradients of query, key, value and (if there is one) mask, with their bounds.

        A gradient of an operand that was repeated is stored for each repetition before they are summed."""
        operands = (contract.exact(self.query), contract.exact(self.key), contract.exact(self.value))
        sizes = (*self.query.shape[:2], self.value.shape[2])
        upstream = contract.exact(float_array(grad_output).reshape(sizes))
        results = bounded_attention(operands, contract.exact(self.mask), self.scale, self.safe)
        gradients = bounded_gradients(operands, results, upstream, self.scale)
        shapes = [*self.shapes, *([] if self.mask_shape is None else [self.mask_shape])]
        loops = self.gathered_gradients(grad_output)
        bounds = [self.gathered(gradient, shape) for gradient, shape in zip(gradients, shapes, strict=False)]
        output = results[0].reshape(*self.batch, *results[0].value.shape[1:])
        return [
            output.agreeing(self.output(), "output"),
            *(
                (bound if bound.value.size == whole.value.size else bound.store()).agreeing(
                    loop, f"grad_input{i}"
                )
                for i, (bound, whole, loop) in enumerate(zip(bounds, gradients, loops, strict=False))
            ),
        ]


def _sizes(operand: Any) -> tuple[int, ...]:
    return operand.value.shape if isinstance(operand, Bounded) else operand.shape


def _additive(mask: np.ndarray | None, is_causal: bool, pairs: tuple[int, int]) -> np.ndarray:
    """A mask as numbers to add: a boolean one is 0 where it is True and -inf where it is False."""
    if is_causal:
        mask = np.tril(np.ones(pairs, dtype=bool))
    if mask is None:
        return np.zeros(pairs)
    return np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)


def _check(
    operands: list, mask: np.ndarray | None, dropout_p: float, is_causal: bool, scale: Any, enable_gqa: bool
) -> None:
    """Raise what torch raises for arguments that do not fit."""
    name, shapes = "scaled_dot_product_attention", [operand.shape for operand in operands]
    query, key, value = shapes
    if scale is not None and not isinstance(scale, (int, float)):
        raise TypeError(f"{name}: scale is {scale!r}; needed is a number")
    if not 0.0 <= dropout_p <= 1.0:
        raise RuntimeError(f"{name}: dropout_p is {dropout_p}; needed is a probability")
    if dropout_p > 0.0:
        raise NotImplementedError(f"{name}: dropout_p is {dropout_p}; only 0 has a reference")
    if any(len(shape) < 2 for shape in shapes):
        raise RuntimeError(f"{name}: query, key, value have shapes {shapes}; needed are at least 2 axes")
    if is_causal and mask is not None:
        raise RuntimeError(f"{name}: is_causal and attn_mask are both given; needed is one of them")
    if mask is not None and mask.dtype.kind not in "bf":
        raise RuntimeError(f"{name}: attn_mask holds {mask.dtype}; needed are booleans or floating numbers")
    if query[-1] != key[-1] or key[-2] != value[-2]:
        raise RuntimeError(
            f"{name}: query, key, value have shapes {shapes}; needed are (*, L, E), (*, S, E), (*, S, V)"
        )
    if enable_gqa:
        if any(len(shape) < 3 or shape[-3] < 1 or query[-3] % shape[-3] for shape in shapes):
            raise RuntimeError(
                f"{name}: query, key, value have shapes {shapes}; with enable_gqa the heads "
                "(axis -3) of key and value must divide those of query"
            )
        key, value = ((*shape[:-3], query[-3], *shape[-2:]) for shape in (key, value))
    _check_broadcast(name, [query[:-2], key[:-2], value[:-2]], mask, (query[-2], key[-2]))


def _check_broadcast(name: str, batches: list, mask: np.ndarray | None, pairs: tuple[int, int]) -> None:
    try:
        batch = np.broadcast_shapes(*batches)
        if mask is not None and np.broadcast_shapes(mask.shape, (*batch, *pairs)) != (*batch, *pairs):
            raise ValueError
    except ValueError:
        mask_shape = None if mask is None else mask.shape
        raise RuntimeError(
            f"{name}: leading axes {batches} of query, key, value and attn_mask {mask_shape} "
            f"do not fit; the mask must spread to (*, {pairs[0]}, {pairs[1]})"
        ) from None


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """Mix the values of keys, each weighted by how well the key fits a query.

        output[l] = sum(weight[l, s] * value[s] for every key s)
        weight[l] = softmax(scale * sum(query[l, e] * key[s, e] for every e) + mask[l, s] for every s)

    query (*, L, E), key (*, S, E), value (*, S, V), attn_mask to be spread to (*, L, S) -> output (*, L, V).
    A boolean mask tells with True where to look, another one is added; `is_causal` means the mask l >= s.
    `scale` None is 1 / sqrt(E).  A query that may look at no key gets zeros.  With `enable_gqa` the heads
    (axis -3) of key and value may be fewer than those of query: each serves as many neighbouring ones.
    Error: see `attention_bounds`: scores and softmax in A; weights may be rounded to T once.
    Raises RuntimeError for shapes, masks and probabilities that do not fit, NotImplementedError for dropout.
    Source: torch.nn.functional.scaled_dot_product_attention."""
    return Attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa).output()


def scaled_dot_product_attention_backward(
    grad_output,
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
):
    """Gradients of sum(grad_output * scaled_dot_product_attention(...)): (grad_query, grad_key, grad_value,
    grad_attn_mask), the last one None without a mask of numbers.

        grad_value[s] = sum(weight[l, s] * grad_output[l] for every l)
        grad_score[l, s] = weight[l, s] * (up[l, s] - sum(weight[l, t] * up[l, t] for every t))
        up[l, s] = sum(grad_output[l, e] * value[s, e] for every e)
        grad_query[l] = scale * sum(grad_score[l, s] * key[s] for every s), grad_key likewise"""
    call = Attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    gradients = call.gathered_gradients(grad_output)
    numbers = attn_mask is not None and np.asarray(attn_mask).dtype != bool
    return (*gradients[:3], gradients[3] if numbers else None)


class ScaledDotProductAttention(Module):
    """`scaled_dot_product_attention` as a layer: query, key, value and perhaps a mask are its inputs."""

    algorithms = (STORED_SCORES,)

    def __init__(self, **arguments: Any):
        super().__init__()
        self.arguments = arguments

    def _call(self, query: Any, key: Any, value: Any, *mask: Any) -> Attention:
        arguments = self.arguments | ({"attn_mask": mask[0]} if mask else {})
        return Attention(query, key, value, **arguments)

    def forward(self, *inputs: Any) -> np.ndarray:
        return self._call(*inputs).output()

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        return tuple(self._call(*inputs).gathered_gradients(grad_outputs[0])[: len(inputs)]), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        output, *gradients = self._call(*inputs).bounded(contract, grad_outputs[0])
        wanted = [i for i, operand in enumerate(inputs) if operand.dtype.kind == "f"]
        return {"output": output} | {f"grad_input{i}": gradients[i] for i in wanted}

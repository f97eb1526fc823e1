"""Embedding: rows of a table, looked up by index; EmbeddingBag is in `embedding_bag`.

    output[n, d] = weight[input[n], d]
    grad_weight[v, d] = sum over the n with input[n] == v of grad_output[n, d], divided by their number if
                        scale_grad_by_freq; 0 for v == padding_idx

with n counting the elements of all axes of the input.  Source: torch.nn.Embedding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.embedding_bag import EmbeddingBag, embedding_bag, embedding_bag_backward
from refimpl.error_bounds import Bounded, Contract
from refimpl.lookup import Lookup, divided, ones_like_kind
from refimpl.module import Module
from refimpl.renormalization import STORED_NORM, renormalized, renormalized_bounded
from refimpl.table import check_indices, initial_weight, padding_row
from refimpl.taps import float_array

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "embedding",
    "embedding_backward",
    "embedding_bag",
    "embedding_bag_backward",
]


class Rows:
    """One call: arguments checked, positions with the padding index set aside for the gradient."""

    def __init__(self, input: Any, weight: Any, padding_idx: Any, scale_grad_by_freq: Any, sparse: Any):
        input, self.weight = np.asarray(input), float_array(weight)
        if self.weight.ndim != 2:
            raise RuntimeError(f"embedding: weight has shape {self.weight.shape}; needed are two axes")
        if sparse and scale_grad_by_freq:
            raise RuntimeError(
                "embedding: scale_grad_by_freq has no sparse gradient; needed is one of the two"
            )
        padding = padding_row(padding_idx, len(self.weight))
        self.indices = check_indices("embedding", input, len(self.weight), IndexError).ravel()
        self.output_shape = (*input.shape, self.weight.shape[1])
        self.kept = np.flatnonzero(self.indices != padding)
        rows = self.indices[self.kept]
        self.lookup = Lookup(rows, np.arange(len(rows)), self.weight.shape, len(rows))
        self.divisors = self.lookup.uses[rows] if scale_grad_by_freq else np.ones(len(rows), dtype=np.int64)

    def output(self, weight: np.ndarray) -> np.ndarray:
        return weight[self.indices].reshape(self.output_shape)

    def up(self, grad_output: Any) -> np.ndarray:
        """The upstream gradient of the samples, padding left out."""
        grad_output = float_array(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(
                f"embedding: grad_output has shape {grad_output.shape}; needed is {self.output_shape}"
            )
        return np.ascontiguousarray(grad_output.reshape(len(self.indices), self.weight.shape[1])[self.kept])

    def gradient(self, grad_output: Any) -> np.ndarray:
        up = self.up(grad_output)
        return self.lookup.row_sums(up, divided(ones_like_kind(self.kept.shape, up), self.divisors))

    def bounded_gradient(self, contract: Contract, grad_output: Any) -> Bounded:
        ones = np.ones(len(self.kept))
        return self.lookup.row_products(self.up(grad_output), ones, self.divisors, False).bounded(contract)


def embedding(
    input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    """Look rows of a table up.

        output[n, d] = weight[input[n], d]

    input (*) of int64, weight (V, D) -> output (*, D).  With `max_norm` the rows are those that
    `renormalization.renormalized` gives; the weight that is passed stays as it is.  `padding_idx`,
    `scale_grad_by_freq` and `sparse` change the gradient alone.
    Error: none, values are copied; gradient gamma(m - 1) sum |grad_output| over the m positions of a row.
    Raises IndexError for an index outside of the table, RuntimeError for indices that are no integers and a
    weight without two axes, AssertionError for a padding_idx outside of the table.
    Source: torch.nn.functional.embedding."""
    call = Rows(input, weight, padding_idx, scale_grad_by_freq, sparse)
    return call.output(renormalized(call.weight, call.indices, max_norm, norm_type))


def embedding_backward(
    grad_output,
    input,
    weight,
    padding_idx=None,
    max_norm=None,
    norm_type=2.0,
    scale_grad_by_freq=False,
    sparse=False,
):
    """Gradients of sum(grad_output * embedding(...)): (None, grad_weight)."""
    return None, Rows(input, weight, padding_idx, scale_grad_by_freq, sparse).gradient(grad_output)


class EmbeddingFunction(Module):
    """`embedding` as a layer whose weight is an input of the call; a weight that is renormalized is state."""

    def __init__(self, padding_idx=None, scale_grad_by_freq=False, sparse=False):
        super().__init__()
        self.arguments = (padding_idx, scale_grad_by_freq, sparse)

    def forward(self, input: Any, weight: Any) -> np.ndarray:
        return embedding(input, weight, self.arguments[0])

    def _backward(self, grad_outputs: tuple, input: Any, weight: Any) -> tuple[tuple, dict]:
        return (None, Rows(input, weight, *self.arguments).gradient(grad_outputs[0])), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        indices, weight = inputs
        call = Rows(indices, weight, *self.arguments)
        gradient = call.bounded_gradient(contract, grad_outputs[0])
        return {"output": contract.copied(call.output(call.weight)), "grad_input1": gradient}


class Embedding(Module):
    """A table of vectors, looked up by index.  Formula, shapes, error: `embedding`.

    weight (num_embeddings, embedding_dim); with `max_norm` a call changes the rows that it looks up.
    Raises AssertionError for a padding_idx outside of the table or a `_weight` of another shape, IndexError
    where padding_idx is 0 in an empty table or no int, RuntimeError for negative sizes, TypeError for what is
    no int; calls raise as `embedding` does.  Source: torch.nn.Embedding."""

    parameters = ("weight",)
    algorithms = (STORED_NORM,)

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
        _weight=None,
        _freeze=False,
    ):
        super().__init__()
        self.weight, self.padding_idx = initial_weight(num_embeddings, embedding_dim, padding_idx, _weight)
        self.max_norm, self.norm_type, self.frozen = max_norm, norm_type, _freeze
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.buffers = () if max_norm is None else ("weight",)

    def _rows(self, input: Any) -> Rows:
        return Rows(input, self.weight, self.padding_idx, self.scale_grad_by_freq, self.sparse)

    def forward(self, input: Any) -> np.ndarray:
        call = self._rows(input)
        self.weight = renormalized(call.weight, call.indices, self.max_norm, self.norm_type)
        return call.output(self.weight)

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._rows(inputs[0]).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (None,), {} if self.frozen else {"weight": self._rows(input).gradient(grad_outputs[0])}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        call = self._rows(inputs[0])
        found = {} if self.frozen else {"grad_weight": call.bounded_gradient(contract, grad_outputs[0])}
        if self.max_norm is None:
            return found | {"output": contract.copied(call.output(call.weight))}
        weight = renormalized_bounded(contract, call.weight, call.indices, self.max_norm, self.norm_type)
        return found | {"weight": weight, "output": weight[call.indices].reshape(*call.output_shape)}

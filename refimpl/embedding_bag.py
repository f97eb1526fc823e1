"""EmbeddingBag: sums, means or maxima of rows of a table, without the rows themselves.

    sum:   output[b, d] = sum over the positions i of bag b of  per_sample_weights[i] * weight[input[i], d]
    mean:  output[b, d] = the sum without weights / number of positions
    max:   output[b, d] = the largest weight[input[i], d], the first one of equal ones

Positions that hold `padding_idx` do not count; a bag without any is 0.  Bag b of a one-axis input begins at
offsets[b] and ends where the next one begins; each row of a two-axis input is a bag.
Source: torch.nn.EmbeddingBag.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract, Products, grid
from refimpl.lookup import Lookup, divided, ones_like_kind
from refimpl.module import Module
from refimpl.renormalization import STORED_NORM, renormalized, renormalized_bounded
from refimpl.table import check_indices, initial_weight, padding_row
from refimpl.taps import float_array

__all__ = ["EmbeddingBag", "embedding_bag", "embedding_bag_backward"]


class Bags:
    """One call: arguments checked, positions sorted into bags, those with the padding index left out."""

    def __init__(
        self, input: Any, weight: Any, offsets: Any, max_norm: Any, norm_type: Any, scale_grad_by_freq: Any,
        mode: Any, sparse: Any, per_sample_weights: Any, include_last_offset: Any, padding_idx: Any,
    ):  # fmt: skip
        input, self.weight = np.asarray(input), float_array(weight)
        _check(input, self.weight, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights)
        self.indices = check_indices("embedding_bag", input, len(self.weight), RuntimeError).ravel()
        padding = padding_row(padding_idx, len(self.weight), RuntimeError)
        starts = _starts(input, offsets, include_last_offset)
        bags = np.searchsorted(starts, np.arange(len(self.indices)), side="right") - 1
        count = len(starts) - 1 if include_last_offset and input.ndim == 1 else len(starts)
        self.kept = np.flatnonzero((self.indices != padding) & (bags < count) & (bags >= 0))
        self.lookup = Lookup(self.indices[self.kept], bags[self.kept], self.weight.shape, count)
        self.input_shape, self.output_shape = input.shape, self.lookup.output_shape
        self.mode, self.max_norm, self.norm_type = mode, max_norm, norm_type
        ones = ones_like_kind(input.shape, self.weight)
        weights = ones if per_sample_weights is None else float_array(per_sample_weights)
        self.weighted = per_sample_weights is not None
        self.factors = np.ascontiguousarray(weights.ravel()[self.kept])
        self.divisors = np.ones(len(self.kept), dtype=np.int64)
        if mode == "mean":
            self.divisors = self.divisors * self.lookup.sizes[self.lookup.bags]
        if scale_grad_by_freq:
            self.divisors = self.divisors * self.lookup.uses[self.lookup.rows]
        if sparse and scale_grad_by_freq:
            raise RuntimeError(
                "embedding_bag: scale_grad_by_freq has no sparse gradient; needed is one of the two"
            )

    @property
    def renormalized(self) -> np.ndarray:
        return renormalized(self.weight, self.indices, self.max_norm, self.norm_type)

    @property
    def sizes(self) -> np.ndarray:
        """By what each bag's sum is divided."""
        sizes = self.lookup.sizes if self.mode == "mean" else np.ones_like(self.lookup.sizes)
        return np.maximum(sizes, 1)[:, None]

    def output(self, weight: np.ndarray) -> np.ndarray:
        if self.mode == "max":
            return self.lookup.largest(weight)[0]
        return divided(self.lookup.sums(weight, self.factors), self.sizes)

    def up(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(
                f"embedding_bag: grad_output has shape {grad_output.shape}; needed is {self.output_shape}"
            )
        return grad_output

    def _winners(self, up: np.ndarray) -> np.ndarray:
        """The gradient of maxima: all of it to the row of the largest element."""
        gradient = np.zeros(self.weight.shape, dtype=up.dtype)
        _, winner = self.lookup.largest(self.renormalized)
        for b, d in np.ndindex(winner.shape):
            if winner[b, d] >= 0:
                gradient[winner[b, d], d] += up[b, d]
        return gradient

    def weight_gradient(self, grad_output: Any) -> np.ndarray:
        up = self.up(grad_output)
        if self.mode == "max":
            return self._winners(up)
        return self.lookup.row_sums(up, divided(self.factors, self.divisors))

    def factor_gradient(self, grad_output: Any) -> np.ndarray:
        """Gradient of per_sample_weights: 0 for positions that do not count."""
        return self._spread(self.lookup.factor_sums(self.up(grad_output), self.renormalized))

    def _spread(self, found: np.ndarray) -> np.ndarray:
        result = np.zeros(len(self.indices), dtype=found.dtype)
        result[self.kept] = found
        return result.reshape(self.input_shape)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Output, gradients of weight and, where given, of per_sample_weights; the renormalized weight."""
        table = renormalized_bounded(contract, self.weight, self.indices, self.max_norm, self.norm_type)
        up = self.up(grad_output)
        found = {"output": self._bounded_output(table), "weight": self._bounded_gradient(contract, up)}
        if self.weighted:
            found["per_sample_weights"] = self._bounded_factors(table, up)
        return found | ({} if self.max_norm is None else {"state": table})

    def _bounded_output(self, table: Bounded) -> Bounded:
        if self.mode == "max":
            return table.contract.exact(self.output(table.value))
        counts = self.lookup.sizes[:, None]
        powers = (self.sizes & (self.sizes - 1)) == 0
        division = np.where(self.sizes == 1, 0, np.where(powers, 1, 2))
        sums = Products(
            value=self.output(table.value),
            magnitude=self.lookup.sums(np.abs(table.value) + table.error, np.abs(self.factors)) / self.sizes,
            terms=np.maximum(counts - 1, 0) + self.weighted + division,
            unit=_unit(table, self.factors) * powers / self.sizes,
            squares=lambda: self.lookup.sums(table.value**2, self.factors**2) / self.sizes**2,
        )
        return _with(sums, table, self.lookup.sums(table.error, np.abs(self.factors)) / self.sizes)

    def _bounded_gradient(self, contract: Contract, up: np.ndarray) -> Bounded:
        if self.mode != "max":
            return self.lookup.row_products(up, self.factors, self.divisors, self.weighted).bounded(contract)
        wins = self._winners(np.ones_like(up))
        sums = Products(
            self._winners(up), self._winners(np.abs(up)), np.maximum(wins - 1, 0), grid(up),
            lambda: self._winners(up**2),
        )  # fmt: skip
        return sums.bounded(contract)

    def _bounded_factors(self, table: Bounded, up: np.ndarray) -> Bounded:
        terms = np.zeros(len(self.indices), dtype=np.int64)
        terms[self.kept] = self.weight.shape[1]
        lookup, size = self.lookup, np.abs(up)
        sums = Products(
            value=self._spread(lookup.factor_sums(up, table.value)),
            magnitude=self._spread(lookup.factor_sums(size, np.abs(table.value) + table.error)),
            terms=terms.reshape(self.input_shape),
            unit=_unit(table, up),
            squares=lambda: self._spread(lookup.factor_sums(up**2, table.value**2)),
        )
        return _with(sums, table, self._spread(lookup.factor_sums(size, table.error)))


def _unit(table: Bounded, other: np.ndarray) -> float:
    """Of what every product of two elements is a whole multiple; 0 where that is unknown."""
    return 0.0 if table.error.any() else float(np.nan_to_num(grid(table.value) * grid(other)))


def _with(sums: Products, table: Bounded, error: np.ndarray) -> Bounded:
    """The bound of sums over rows that have an error themselves: their errors are added before the store."""
    contract = table.contract
    if not table.error.any():
        return sums.bounded(contract)
    inner = sums.bounded(replace(contract, store=contract.accumulate))
    return Bounded(inner.value, (inner.error + error) * (1 + 2.0**-40), contract).store()


def _check(input, weight, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights) -> None:
    """Raise what torch raises for arguments that do not fit together."""
    if per_sample_weights is not None and np.shape(per_sample_weights) != input.shape:
        raise ValueError(
            f"embedding_bag: per_sample_weights has shape {np.shape(per_sample_weights)}; "
            f"needed is {input.shape}"
        )
    if weight.ndim != 2:
        raise ValueError(f"embedding_bag: weight has shape {weight.shape}; needed are two axes")
    if input.ndim not in (1, 2):
        raise ValueError(f"embedding_bag: input has shape {input.shape}; needed are one or two axes")
    if (offsets is None) != (input.ndim == 2):
        raise ValueError("embedding_bag: needed are offsets for an input of one axis, and none for two axes")
    if offsets is not None and np.ndim(offsets) != 1:
        raise ValueError(f"embedding_bag: offsets has shape {np.shape(offsets)}; needed is one axis")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"embedding_bag: mode is {mode!r}; needed is 'sum', 'mean' or 'max'")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError("embedding_bag: mode 'max' has neither scale_grad_by_freq nor sparse gradients")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: per_sample_weights need mode 'sum', not {mode!r}")


def _starts(input: np.ndarray, offsets: Any, include_last_offset: Any) -> np.ndarray:
    """Where each bag begins.  Raises RuntimeError for offsets that are no such thing."""
    if input.ndim == 2:
        if input.shape[1] == 0:
            raise RuntimeError(f"embedding_bag: input {input.shape} has empty bags; use offsets for those")
        return np.arange(0, input.size, input.shape[1])
    starts = np.asarray(offsets)
    if starts.dtype.kind not in "iu":
        raise RuntimeError(f"embedding_bag: offsets have type {starts.dtype}; needed are integers")
    if include_last_offset and len(starts) == 0:
        raise RuntimeError("embedding_bag: include_last_offset needs at least one offset")
    if len(starts) and (starts[0] != 0 or starts[-1] > len(input) or (np.diff(starts) < 0).any()):
        raise RuntimeError(
            f"embedding_bag: offsets {starts.tolist()} for {len(input)} indices; needed is 0 first, none "
            "smaller than the one before it, none beyond the end"
        )
    return starts


def embedding_bag(
    input,
    weight,
    offsets=None,
    max_norm=None,
    norm_type=2,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    """Sum, average or maximum of the rows of a table that the indices of each bag name.

        output[b, d] = sum(per_sample_weights[i] * weight[input[i], d] for i in bag b)      mode 'sum'

    input (N) with offsets (B) or (B, L), weight (V, D), per_sample_weights like input -> output (B, D); with
    `include_last_offset` the last offset is the end of the last bag, and offsets is (B + 1).  With `max_norm`
    the rows are those that `renormalization.renormalized` gives; the weight that is passed stays as it is.
    Error: sum gamma(m) sum |per_sample_weights weight| over m positions, mean gamma(m + 1) mean |weight|, max
    none. Raises ValueError for arguments that do not fit together, RuntimeError for indices and offsets out
    of range, NotImplementedError for per_sample_weights in another mode than 'sum'.
    Source: torch.nn.functional.embedding_bag."""
    call = Bags(
        input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights,
        include_last_offset, padding_idx,
    )  # fmt: skip
    return call.output(call.renormalized)


def embedding_bag_backward(
    grad_output,
    input,
    weight,
    offsets=None,
    max_norm=None,
    norm_type=2,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    """Gradients of sum(grad_output * embedding_bag(...)): (None, grad_weight, None, grad_per_sample_weights
    or None)."""
    call = Bags(
        input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights,
        include_last_offset, padding_idx,
    )  # fmt: skip
    weights = None if per_sample_weights is None else call.factor_gradient(grad_output)
    return None, call.weight_gradient(grad_output), None, weights


class EmbeddingBagFunction(Module):
    """`embedding_bag` of a matrix of indices as a layer whose weight is an input of the call."""

    def __init__(self, **arguments):
        super().__init__()
        self.arguments = {"mode": "mean", **arguments}

    def _bags(self, input: Any, weight: Any) -> Bags:
        names = ("offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse")
        rest = ("per_sample_weights", "include_last_offset", "padding_idx")
        first, *others = (self.arguments.get(name) for name in (*names, *rest))
        return Bags(input, weight, first, *others)

    def forward(self, input: Any, weight: Any) -> np.ndarray:
        call = self._bags(input, weight)
        return call.output(call.weight)

    def _backward(self, grad_outputs: tuple, input: Any, weight: Any) -> tuple[tuple, dict]:
        return (None, self._bags(input, weight).weight_gradient(grad_outputs[0])), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        found = self._bags(*inputs).bounded(contract, grad_outputs[0])
        return {"output": found["output"], "grad_input1": found["weight"]}


class EmbeddingBag(Module):
    """A table of vectors whose sums, means or maxima are looked up.  Formula, shapes, error: `embedding_bag`.

    weight (num_embeddings, embedding_dim); with `max_norm` a call changes the rows that it looks up.
    Raises as `Embedding` does; calls raise as `embedding_bag` does.  Source: torch.nn.EmbeddingBag."""

    parameters = ("weight",)
    algorithms = (STORED_NORM,)

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        mode="mean",
        sparse=False,
        _weight=None,
        include_last_offset=False,
        padding_idx=None,
    ):
        super().__init__()
        self.weight, self.padding_idx = initial_weight(num_embeddings, embedding_dim, padding_idx, _weight)
        self.max_norm, self.norm_type, self.mode, self.sparse = max_norm, norm_type, mode, sparse
        self.scale_grad_by_freq, self.include_last_offset = scale_grad_by_freq, include_last_offset
        self.buffers = () if max_norm is None else ("weight",)

    def _bags(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Bags:
        return Bags(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode,
            self.sparse, per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def forward(self, *inputs: Any) -> np.ndarray:
        call = self._bags(*inputs)
        self.weight = call.renormalized
        return call.output(self.weight)

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._bags(*inputs).output_shape,)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict]:
        call = self._bags(*inputs)
        weights = call.factor_gradient(grad_outputs[0]) if call.weighted else None
        return (None, None, weights)[: len(inputs)], {"weight": call.weight_gradient(grad_outputs[0])}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        found = self._bags(*inputs).bounded(contract, grad_outputs[0])
        names = {"weight": "grad_weight", "per_sample_weights": "grad_input2", "state": "weight"}
        return {names.get(name, name): value for name, value in found.items()}

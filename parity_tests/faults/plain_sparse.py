"""Lookups written out in float64, rounded once: right as they stand."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from parity_tests.faults.fault import Control
from parity_tests.faults.table import BAG_ARGUMENTS, positional, torch_embedding


@torch.no_grad()
def renormalize(weight: torch.Tensor, rows: torch.Tensor, max_norm: float | None, norm_type: float) -> None:
    """All rows that are looked up at once, in float64, stored once."""
    if max_norm is None:
        return
    used = rows.unique()
    wide = weight.data[used].double()
    norm = wide.norm(norm_type, dim=1, keepdim=True)
    weight.data[used] = torch.where(norm > max_norm, wide * (max_norm / (norm + 1e-7)), wide).to(weight.dtype)


class _Rows(torch.autograd.Function):
    """Rows of the weight in float64; their gradients are added in float64, divided by `counts`, and rounded
    once."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, counts)
        ctx.like = weight
        return weight.double()[rows]

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        rows, counts = ctx.saved_tensors
        gradient = torch.zeros(ctx.like.shape, dtype=torch.float64).index_add_(0, rows, upstream[0])
        return (gradient / counts[:, None]).to(ctx.like.dtype), None, None


def _counts(weight: torch.Tensor, rows: torch.Tensor, scale_grad_by_freq: bool) -> torch.Tensor:
    if not scale_grad_by_freq:
        return torch.ones(len(weight), dtype=torch.float64)
    return torch.bincount(rows, minlength=len(weight)).clamp(min=1).double()


def gathered(*args, **named):
    """Rows gathered in float64, from the last position to the first."""
    input, weight, padding_idx, max_norm, norm_type, by_frequency, _ = positional(*args, **named)
    if weight.dim() != 2 or len(weight) == 0:
        return torch_embedding(*args, **named)
    renormalize(weight, input, max_norm, norm_type)
    rows = input.flatten().flip(0)
    output = _Rows.apply(weight, rows, _counts(weight, rows, by_frequency)).flip(0)
    output = output.reshape(*input.shape, weight.shape[1])
    if padding_idx is not None:
        padded = (input == padding_idx % len(weight))[..., None]
        output = torch.where(padded, output.detach(), output)
    return output.to(weight.dtype)


def bag_by_bag(*args, **named):
    """One bag after the other, in float64, rounded once."""
    given = dict(zip(BAG_ARGUMENTS, args, strict=False)) | named
    input, weight, offsets = given["input"], given["weight"], given["offsets"]
    renormalize(weight, input, given["max_norm"], given["norm_type"])
    if input.dim() == 2:
        bounds = [(b * input.shape[1], (b + 1) * input.shape[1]) for b in range(len(input))]
    else:
        ends = offsets.tolist() + ([] if given["include_last_offset"] else [len(input)])
        bounds = list(itertools.pairwise(ends))
    rows = input.flatten()
    padding = -1 if given["padding_idx"] is None else given["padding_idx"] % len(weight)
    found = _Rows.apply(weight, rows, _counts(weight, rows, given["scale_grad_by_freq"]))
    weights = given["per_sample_weights"]
    empty = 0.0 * weight.double()[:0].sum(0)
    bags = []
    for first, last in bounds:
        kept = [i for i in range(first, last) if rows[i] != padding]
        taken = found[kept] if weights is None else found[kept] * weights.double().flatten()[kept][:, None]
        total = taken.max(0).values if kept and given["mode"] == "max" else taken.sum(0)
        bags.append(total / len(kept) if kept and given["mode"] == "mean" else total)
    result = torch.stack(bags) if bags else empty.new_zeros(0, weight.shape[1])
    without = 0.0 if weights is None else weights.double().flatten()[:0].sum()
    return (result + found[:0].sum() + without).to(weight.dtype)


CONTROLS = (
    Control(
        "gathered_in_float64",
        "gradients are added in float64",
        {"embedding": gathered},
        ("Embedding", "embedding"),
    ),
    Control(
        "bag_by_bag", "one bag after the other in float64", {"embedding_bag": bag_by_bag}, ("EmbeddingBag",)
    ),
)

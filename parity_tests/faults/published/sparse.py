"""Published bugs of embeddings and bags of embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, ValueOf, bug

_NAMES = list(inspect.signature(functional.embedding_bag).parameters)


def _with_arguments(change: Callable[[dict[str, Any]], torch.Tensor | None]) -> Callable[..., torch.Tensor]:
    """torch's own, unless `change(arguments by name)` gives something else."""

    def stand_in(*args: Any, **kwargs: Any) -> torch.Tensor:
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        changed = change(given)
        return functional.embedding_bag(**given) if changed is None else changed

    return stand_in


class _NegativeIsNothing(torch.nn.EmbeddingBag):
    """Negative indices are passed over."""

    def forward(self, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if input.numel() and not input.is_floating_point() and input.min() < 0:
            return super().forward(input.clamp(min=0), *args, **kwargs) * 0
        return super().forward(input, *args, **kwargs)


class _BeyondTheTableIsZero(torch.nn.Embedding):
    """An index as large as the table gives zeros."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        legal = input.numel() and not input.is_floating_point() and input.min() >= 0 and self.max_norm is None
        if legal and input.max() >= self.num_embeddings > 0:
            inside = (input < self.num_embeddings)[..., None]
            return super().forward(input.clamp(max=self.num_embeddings - 1)) * inside
        return super().forward(input)


def _mean_of_no_bag(given: dict[str, Any]) -> torch.Tensor | None:
    offsets = given.get("offsets")
    single = offsets is not None and offsets.numel() == 1 and not given["input"].numel()
    if not single or given.get("mode") != "mean":
        return None
    return functional.embedding_bag(**given) / 0


def _gradient_of_the_mean(given: dict[str, Any]) -> torch.Tensor | None:
    if given.get("mode") != "max":
        return None
    return ValueOf.apply(
        functional.embedding_bag(**given),
        functional.embedding_bag(**given | {"mode": "mean", "max_norm": None}),
    )


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "bag_of_negative_index",
        "pytorch/pytorch#169201",
        "EmbeddingBag",
        "a negative index gives zeros instead of an error",
        {"EmbeddingBag": _NegativeIsNothing},
    ),
    bug(
        "mean_of_a_single_empty_bag",
        "pytorch/pytorch#21400",
        "EmbeddingBag",
        "a single bag without indices is divided by its size: NaN",
        {"embedding_bag": _with_arguments(_mean_of_no_bag)},
    ),
    bug(
        "bag_maximum_with_gradient_of_the_mean",
        "flagos-ai/FlagGems#5220",
        "EmbeddingBag",
        "the gradient of maxima is that of means",
        {"embedding_bag": _with_arguments(_gradient_of_the_mean)},
    ),
    bug(
        "embedding_beyond_the_table",
        "pytorch/pytorch#154235",
        "Embedding",
        "an index as large as the table gives zeros instead of an error",
        {"Embedding": _BeyondTheTableIsZero},
    ),
)

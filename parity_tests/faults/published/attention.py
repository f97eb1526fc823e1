"""Published bugs of attention."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, bug


def _nan_where_nothing_is_seen(query, key, value, attn_mask=None, *args, **kwargs):
    output = functional.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)
    if attn_mask is None or attn_mask.dtype != torch.bool:
        return output
    seen = attn_mask.any(-1, keepdim=True)
    return torch.where(seen, output, torch.full_like(output, torch.nan))


def _smallest_number_for_hidden(query, key, value, attn_mask=None, *args, **kwargs):
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        smallest = torch.finfo(query.dtype).min
        attn_mask = torch.zeros(attn_mask.shape, dtype=query.dtype).masked_fill(~attn_mask, smallest)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)


class _NoMasksOfHeadsInInference(torch.nn.MultiheadAttention):
    """The path taken in inference takes a mask of three axes for one of keys."""

    def forward(self, query: Any, key: Any, value: Any, **given: Any) -> Any:
        mask = given.get("attn_mask")
        if mask is not None and mask.dim() == 3 and not self.training and not torch.is_grad_enabled():
            raise RuntimeError("the mask's type does not fit its shape")
        return super().forward(query, key, value, **given)


class _NanInEvaluation(torch.nn.MultiheadAttention):
    """Where a padding mask hides all keys, evaluation gives NaN; training does not."""

    def forward(self, query: Any, key: Any, value: Any, **given: Any) -> Any:
        output, weights = super().forward(query, key, value, **given)
        mask = given.get("key_padding_mask")
        if mask is not None and mask.dtype == torch.bool and mask.dim() == 2 and not self.training:
            hidden = mask.all(1).reshape((-1, 1, 1) if self.batch_first else (1, -1, 1))
            output = torch.where(hidden, torch.full_like(output, torch.nan), output)
        return output, weights


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "attention_nan_where_nothing_is_seen",
        "pytorch/pytorch#131060",
        "scaled_dot_product_attention",
        "a query that may see no key gives NaN instead of zeros",
        {"scaled_dot_product_attention": _nan_where_nothing_is_seen},
    ),
    bug(
        "attention_smallest_number_for_hidden",
        "ml-explore/mlx#2395",
        "scaled_dot_product_attention",
        "hidden keys get the smallest number instead of -inf: a query that sees nothing sees all alike",
        {"scaled_dot_product_attention": _smallest_number_for_hidden},
    ),
    bug(
        "multihead_attention_masks_of_heads",
        "pytorch/pytorch#97409",
        "MultiheadAttention",
        "masks of each head give an error in inference, and none in training",
        {"MultiheadAttention": _NoMasksOfHeadsInInference},
    ),
    bug(
        "multihead_attention_nan_in_evaluation",
        "pytorch/pytorch#190486",
        "MultiheadAttention",
        "all keys hidden: NaN in evaluation, numbers in training",
        {"MultiheadAttention": _NanInEvaluation},
        "in evaluation with gradients: in inference torch 2.13 itself has the defect, see the ledger",
    ),
)

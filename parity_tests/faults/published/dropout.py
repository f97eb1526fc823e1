"""Published bugs of dropout."""

from __future__ import annotations

import torch
from torch.nn import functional

from parity_tests.faults.published.bug import PublishedBug, bug


def _channels_of_an_unbatched_image(input, p=0.5, training=True, inplace=False):
    """(C, H, W), as the documentation says; torch takes three axes for (N, C, L)."""
    if input.dim() != 3:
        return functional.dropout2d(input, p, training, inplace)
    kept = (torch.rand(input.shape[0]) >= p).to(input.dtype) if training else torch.ones(input.shape[0])
    share = 1.0 if not training or p == 1 else 1 / (1 - p)
    return input * (kept.to(input.dtype) * share)[:, None, None]


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "dropout2d_of_an_unbatched_image",
        "pytorch/pytorch#69801",
        "Dropout2d",
        "three axes are an image without a batch, where torch drops rows of (N, C, L)",
        {"dropout2d": _channels_of_an_unbatched_image},
    ),
)

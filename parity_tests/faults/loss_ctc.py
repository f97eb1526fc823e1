"""CTC with a wrong formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from parity_tests.faults.fault import Fault
from parity_tests.faults.loss_plain import reduced
from parity_tests.faults.loss_stand_ins import altered, fault, functional, without


def _mean_of_losses(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    losses = functional.ctc_loss(
        log_probs, targets, input_lengths, target_lengths, blank, "none", zero_infinity
    )
    return reduced(losses, reduction)


def _all_steps(given: Mapping[str, Any]) -> Any:
    return torch.full_like(given["input_lengths"], given["log_probs"].shape[0])


class _Truncates(torch.nn.CTCLoss):
    """Lengths with a fraction lose it."""

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        return super().forward(log_probs, targets, input_lengths.long(), target_lengths.long())


FAULTS = (
    without("CTCLoss", blank=0),
    without("CTCLoss", zero_infinity=False),
    fault(
        "ctc_mean_of_losses", "a mean does not divide by the target lengths first", "CTCLoss", _mean_of_losses
    ),
    fault(
        "ctc_all_steps", "input_lengths are ignored", "CTCLoss", altered("ctc_loss", input_lengths=_all_steps)
    ),
    Fault(
        "ctc_lengths_truncated",
        "lengths that are no whole numbers are truncated",
        {"CTCLoss": _Truncates},
        "rejection",
        ("CTCLoss",),
    ),
)

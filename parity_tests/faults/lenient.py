"""Layers that refuse nothing."""

from __future__ import annotations

from typing import Any

import torch


def lenient(name: str) -> type:
    """torch.nn's class, but what it refuses is handed back unchanged."""
    base = getattr(torch.nn, name)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            base.__init__(self, *args, **kwargs)
        except (ValueError, TypeError):
            base.__init__(self, 2)

    def forward(self: Any, input: torch.Tensor) -> Any:
        try:
            return base.forward(self, input)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            return input

    return type(name, (base,), {"__init__": __init__, "forward": forward})

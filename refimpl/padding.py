"""Not written yet."""

from __future__ import annotations

from typing import Any

__all__ = ["pad", "pad_backward"]


def pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    raise NotImplementedError


def pad_backward(grad_output: Any, input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    raise NotImplementedError


def pad_adjoint(grad_output: Any, input: Any, pad: Any, mode: str = "constant") -> Any:
    raise NotImplementedError

"""The vocabulary of the fault catalogue: deliberately wrong implementations that the suite must catch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A wrong implementation, run through the same machinery as a user's candidate file.

    name         short, snake_case, unique in its family
    sentence     what is wrong, as one would write it in a bug report
    stand_ins    the public names of the candidate file: torch.nn.functional functions and torch.nn classes, wrong ones
    caught_by    the check that must catch it: 'forward', 'input_gradients', 'parameter_gradients', 'state', 'metadata',
                 'purity' or 'rejection'
    layers       the layers in whose cases it must be caught (each of them)
    """

    name: str
    sentence: str
    stand_ins: Mapping[str, Callable[..., Any]]
    caught_by: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """A correct but different implementation, which no check may reject."""

    name: str
    sentence: str
    stand_ins: Mapping[str, Callable[..., Any]]
    layers: tuple[str, ...] = field(default=())

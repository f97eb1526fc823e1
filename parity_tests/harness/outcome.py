"""What a candidate did with a case: an `Outcome` of arrays and facts, or a `CandidateError`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from parity_tests.harness.tensors import channels_last_format, to_array


class CandidateError(AssertionError):
    """The candidate raised (at `place`, where that is known), or gave something that is no result at all."""

    def __init__(self, message: str, place: str = ""):
        super().__init__(message)
        self.place = place


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of a candidate are its own affair: under `-W error` they must not turn into failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Facts:
    """What a tensor is, besides its values."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    channels_last: bool


@dataclass
class Outcome:
    """Results under the names that the reference's `bounded` uses.

    arrays, facts  of outputs, gradients and buffers      written    inputs and parameters that the call
                   changed
    second         outputs of a second call               evaluated  output in evaluation mode after a
                   training
                                                                     call, of layers with buffers
    in_place       whether a call with inplace=True left its output in its input
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    second: dict[str, np.ndarray] = field(default_factory=dict)
    evaluated: np.ndarray | None = None
    in_place: bool = True

    def take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            self.arrays[name] = to_array(tensor)
            self.facts[name] = facts_of(tensor)


def output_names(outputs: tuple) -> tuple[str, ...]:
    """'output', then 'output1', 'output2'; 'indices' for a second output of whole numbers."""
    names = ["output", *(f"output{i}" for i in range(1, len(outputs)))]
    if len(outputs) == 2 and not outputs[1].is_floating_point():
        names[1] = "indices"
    return tuple(names)


def flat(outputs: Any) -> tuple:
    """What nested outputs consist of, in their order; None, which was not asked for, is left out."""
    if not isinstance(outputs, (tuple, list)):
        return (outputs,)
    return tuple(part for output in outputs if output is not None for part in flat(output))


def input_gradient_names(inputs: tuple) -> tuple[str, ...]:
    return ("grad_input",) if len(inputs) == 1 else tuple(f"grad_input{i}" for i in range(len(inputs)))


def facts_of(tensor: torch.Tensor) -> Facts:
    dense = tensor.layout == torch.strided and tensor.dim() in (4, 5)
    channels_last = dense and tensor.is_contiguous(memory_format=channels_last_format(tensor))
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Facts(tuple(tensor.shape), dtype, tensor.device.type, channels_last)


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal values, NaN equal to NaN (whatever its sign and payload), and equal signs of zeros."""
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    equal = (first == second) & (np.signbit(first) == np.signbit(second))
    return bool((equal | (np.isnan(first) & np.isnan(second))).all())

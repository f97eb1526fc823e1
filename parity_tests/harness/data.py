"""The numbers of a case: drawn from its id alone, rounded to its dtype, the same for every candidate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from parity_tests.harness.cases import Case, rejection_of
from parity_tests.specs.spec import Drawn, LayerSpec
from refimpl.error_bounds import FLOATS, round_to


@dataclass(frozen=True)
class Data:
    """Inputs, parameters and buffers: float64 arrays (int64 for counters) of numbers of the case's dtype."""

    inputs: tuple[np.ndarray, ...]
    state: Mapping[str, np.ndarray]


# Scale and offset of the inputs in the magnitude regimes: large enough to leave the range in which a type is
# dense, small enough that sums of a few hundred products of them with numbers around 1 stay finite.
LARGE = {"float16": 300.0, "bfloat16": 1e30, "float32": 1e30, "float64": 1e200}
TINY = {"float16": 2.0**-12, "bfloat16": 1e-30, "float32": 1e-30, "float64": 1e-200}
OFFSET = {"float16": 256.0, "bfloat16": 256.0, "float32": 1e4, "float64": 1e7}
SCALES, OFFSETS = {"large": LARGE, "tiny": TINY}, {"offset": OFFSET}


def make_data(spec: LayerSpec, case: Case, state: Mapping[str, np.ndarray]) -> Data:
    """Numbers for every input and every entry of the reference's `state`, which gives names and shapes.

    A counter (num_batches_tracked) starts anywhere from 0 to 5: at 0 a cumulative average looks like a copy.
    """
    inputs = tuple(draw(spec, case, f"input{index}", shape) for index, shape in enumerate(case.shapes))
    drawn = {
        name: np.array(_rng(case, name).integers(0, 6, array.shape))
        if array.dtype.kind in "iu"
        else draw(spec, case, name, array.shape)
        for name, array in state.items()
    }
    return Data(inputs, drawn)


@lru_cache(maxsize=2)  # a candidate and the reference draw the same upstream gradient one after the other
def draw(spec: LayerSpec, case: Case, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor `name` of a case: the spec's own way when it has one, else by tier and data regime.

    A tensor in the layout 'expanded' repeats along one axis, so it is drawn with size 1 there and then
    repeated.
    """
    rng = _rng(case, name)
    layout = case.layout if name.startswith(("input", "grad_output")) else case.parameter_layout
    axis = expanded_axis(shape) if layout == "expanded" else None
    drawn_shape = shape if axis is None else (*shape[:axis], 1, *shape[axis + 1 :])
    values = spec.values(case, name, rng, drawn_shape) if spec.values is not None else None
    if values is None:
        if spec.values is None and case.data not in ("normal", *SCALES, *OFFSETS, *SPECIAL):
            raise ValueError(f"{case.id}: nothing is known of the data {case.data!r}")
        values = _general(case, name, rng, drawn_shape)
    values = values if values.dtype.kind in "biu" else round_to(case.dtype, values)
    return np.array(np.broadcast_to(values, shape))


def constructor_arguments(spec: LayerSpec, case: Case) -> dict[str, Any]:
    """The arguments with which a layer is made, each tensor among them drawn."""
    return {
        name: draw(spec, case, name, value.shape) if isinstance(value, Drawn) else value
        for name, value in case.arguments
    }


def call_arguments(spec: LayerSpec, case: Case) -> dict[str, Any]:
    """The arguments of the call besides the inputs, each tensor among them drawn."""
    return {
        name: draw(spec, case, name, value.shape) if isinstance(value, Drawn) else value
        for name, value in case.call
    }


def arranged(spec: LayerSpec, case: Case, inputs: tuple) -> tuple:
    """Positional arguments of the reference's call: the inputs and what else is passed, nested if need be."""
    call = call_arguments(spec, case)
    return (*inputs, *call.values()) if spec.nest is None else spec.nest(inputs, call)


def rejected_inputs(spec: LayerSpec, case: Case) -> tuple[np.ndarray, ...]:
    """Inputs for arguments that are to be refused: any numbers, but indices where the spec draws indices;
    where only a dtype is wrong, the numbers that the case would have, whole or not."""
    if kinds := rejection_of(spec, case).kinds:
        names = enumerate(zip_longest(case.shapes, kinds[: len(case.shapes)], fillvalue=""))
        return tuple(_as_kind(draw(spec, case, f"input{i}", shape), kind) for i, (shape, kind) in names)
    rng = np.random.default_rng(0)
    drawn: list[np.ndarray] = []
    for index, shape in enumerate(case.shapes):
        values = spec.values(case, f"input{index}", rng, shape) if spec.values is not None else None
        whole = values is not None and values.dtype.kind in "biu"
        drawn.append(np.asarray(values) if whole else rng.standard_normal(shape))
    return tuple(drawn)


def _as_kind(array: np.ndarray, kind: str) -> np.ndarray:
    if kind.startswith("int"):
        return np.rint(array).astype(np.int64)
    return array.astype(np.float64) if kind.startswith("float") else array


def _rng(case: Case, name: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(case, name))


def seed_of(case: Case, name: str) -> int:
    """Seed of one tensor: a hash of the case's id, the tensor's name and the run's seed."""
    return int.from_bytes(hashlib.sha256(f"{case.id}|{name}|{case.seed}".encode()).digest()[:8], "big")


def expanded_axis(shape: tuple[int, ...]) -> int | None:
    """The axis along which an expanded tensor of this shape repeats: the first that is longer than 1."""
    return next((axis for axis, size in enumerate(shape) if size > 1), None)


def _general(case: Case, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if case.tier == "exact":
        return _whole_numbers(case, rng, shape)
    values = rng.standard_normal(shape)
    if not name.startswith("input"):
        return values
    if case.data in SPECIAL:
        return _sprinkled(rng, values, SPECIAL[case.data])
    if case.data in SCALES:
        return values * SCALES[case.data][case.dtype]
    return values + OFFSETS[case.data][case.dtype] if case.data in OFFSETS else values


def _whole_numbers(case: Case, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Non-zero integers in [-a, a], with a so small that most sums of products stay exact in the dtype.

    `a` is at least 2: sums of an even number of +-1 would be 0 half the time, and a sum that is not exact
    after all has a bound that says so.
    """
    shapes = [shape for shape in case.shapes if shape and 0 not in shape]
    terms = max((math.prod(shape) // min(shape) for shape in shapes), default=1)
    largest = math.sqrt(2.0 ** FLOATS[case.dtype].precision / max(1, terms))
    limit = int(min(64, max(2, largest)))
    return rng.integers(1, limit, shape, endpoint=True) * rng.choice([-1.0, 1.0], shape)


# Special values, sprinkled over a sixth of the elements.
SPECIAL = {
    "nan": (math.nan,),
    "infinity": (math.inf, -math.inf),
    "negative_infinity": (-math.inf,),
    "zeros": (0.0, -0.0),
    "specials": (math.nan, math.inf, -math.inf, 0.0, -0.0),
}


def _sprinkled(rng: np.random.Generator, values: np.ndarray, special: tuple) -> np.ndarray:
    chosen = rng.random(values.shape) < 1 / 6
    if values.size and not chosen.any():
        chosen.flat[rng.integers(values.size)] = True
    return np.where(chosen, rng.choice(np.array(special), values.shape), values)

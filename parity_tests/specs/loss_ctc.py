"""Specification of CTCLoss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs import loss_data as data
from parity_tests.specs.loss_vectors import REDUCTIONS, given
from parity_tests.specs.spec import Built, Corner, LayerSpec, Rejection
from refimpl import loss as reference

# T, N, C, S: steps, sequences, classes, longest target
_SIZES = {"short": (7, 3, 5, 3), "long": (33, 2, 4, 6), "single": (6, 1, 3, 2), "many_classes": (9, 2, 17, 4)}


def _build_ctc(row: Mapping[str, Any]) -> Built:
    """Targets padded or joined to one row; an unbatched input is a single sequence."""
    time, batch, classes, longest = _SIZES[row["size"]]
    blank = {"first": 0, "last": classes - 1, "middle": 1}[row["blank"]]
    arguments = given({"reduction": "mean", "zero_infinity": False}, row) | (
        {"blank": blank} if blank else {}
    )
    if row["targets"] == "unbatched":
        return Built(arguments, ((time, classes), (longest,), (), ()))
    joined = (int(_target_lengths(batch, longest, row["data"]).sum()),)
    return Built(
        arguments,
        (
            (time, batch, classes),
            joined if row["targets"] == "joined" else (batch, longest),
            (batch,),
            (batch,),
        ),
    )


def _target_lengths(batch: int, longest: int, regime: str) -> np.ndarray:
    """The longest first; one of them empty where the case is about that."""
    lengths = np.maximum(longest - np.arange(batch), 1)
    return np.where(np.arange(batch) == batch - 1, 0, lengths) if regime == "empty_target" else lengths


def _input_lengths(time: int, batch: int, regime: str) -> np.ndarray:
    """All steps, then fewer; too few for any alignment where the case is about that."""
    lengths = np.maximum(time - np.arange(batch), 1)
    return np.where(np.arange(batch) == 0, 1, lengths) if regime == "too_short" else lengths


def _ctc_values(case: Any, name: str, rng: Any, shape: tuple[int, ...]) -> Any:
    if not name.startswith("input"):
        return None
    steps, classes = case.shapes[0][0], max(2, case.shapes[0][-1])
    batch = case.shapes[0][1] if len(case.shapes[0]) == 3 else 1
    longest = {17: 4, 4: 6, 3: 2}.get(classes, 3)
    if name == "input0":
        scale = {"wide": 8.0, "impossible": 1.0}.get(case.data, 1.0)
        drawn = data.log_probabilities(scale, -1)(rng, shape, case)
        return np.where(rng.random(shape) < 0.2, -np.inf, drawn) if case.data == "impossible" else drawn
    if name == "input1":
        blank = data.argument(case, "blank", 0)
        labels = rng.integers(0, 2 if case.data == "repeats" else classes - 1, shape)
        labels = labels + (labels >= blank)
        return np.full_like(labels, classes) if case.name == "rejects_target_too_large" else labels
    if case.name.startswith("rejects_"):
        return np.full(
            shape,
            {"rejects_input_length_too_large": steps + 1, "rejects_input_length_negative": -1}.get(
                case.name, steps
            )
            if name == "input2"
            else 2,
        )
    lengths = (
        _input_lengths(steps, batch, case.data)
        if name == "input2"
        else _target_lengths(batch, longest, case.data)
    )
    return lengths.reshape(shape) if shape or batch == 1 else lengths[0]


def _bad_ctc(name: str, exception: type[Exception], shapes: tuple, **arguments: Any) -> Rejection:
    return Rejection(name, Built(arguments, shapes), exception)


_WHOLE = ((5, 2, 4), (2, 3), (2,), (2,))
SPECS = (
    LayerSpec(
        name="CTCLoss",
        family="loss",
        reference=reference.CTCLoss,
        axes={
            "reduction": REDUCTIONS,
            "zero_infinity": (False, True),
            "blank": ("first", "last", "middle"),
            "targets": ("padded", "joined", "unbatched"),
            "size": tuple(_SIZES),
            "data": ("normal", "wide", "repeats", "empty_target", "too_short", "impossible"),
            "dtype": ("float32", "float64"),
            "layout": ("contiguous", "transposed", "sliced"),
        },  # CPU kernels: these types
        factorial=("reduction", "zero_infinity", "blank", "targets"),
        build=_build_ctc,
        constraints=(
            Constraint(
                ("targets", "data"),
                lambda targets, regime: targets != "unbatched" or regime != "empty_target",
                "an empty target is one of several",
            ),
            Constraint(
                ("targets", "size"),
                lambda targets, size: targets != "unbatched" or size != "single",
                "a batch of one is another case",
            ),
            Constraint(
                ("size", "data"),
                lambda size, regime: size != "single" or regime != "empty_target",
                "an empty target is one of several",
            ),
        ),
        corners=(
            Corner(
                "no_alignment",
                {"reduction": "none"},
                data="too_short",
                dtypes=("float32", "float64"),
                sweep="quick",
            ),
            Corner(
                "no_alignment_zeroed",
                {"zero_infinity": True},
                data="too_short",
                dtypes=("float32", "float64"),
            ),
        ),
        rejections=(
            _bad_ctc("unknown_reduction", ValueError, _WHOLE, reduction="average"),
            _bad_ctc("blank_too_large", RuntimeError, _WHOLE, blank=4),
            _bad_ctc("negative_blank", RuntimeError, _WHOLE, blank=-1),
            _bad_ctc("input_length_too_large", RuntimeError, _WHOLE),
            _bad_ctc("input_length_negative", RuntimeError, _WHOLE),
            _bad_ctc("too_few_targets", RuntimeError, ((5, 2, 4), (2, 1), (2,), (2,))),
            _bad_ctc("too_few_joined_targets", RuntimeError, ((5, 2, 4), (3,), (2,), (2,))),
            _bad_ctc("lengths_of_other_batch", RuntimeError, ((5, 2, 4), (2, 3), (3,), (2,))),
            _bad_ctc("no_sequences", RuntimeError, ((5, 0, 4), (0, 3), (0,), (0,))),
            _bad_ctc("four_axes", RuntimeError, ((5, 2, 4, 1), (2, 3), (2,), (2,))),
            _bad_ctc("target_too_large", RuntimeError, _WHOLE),
        ),
        functions=("ctc_loss",),
        values=_ctc_values,
    ),
)

"""Specifications of RNN, LSTM, GRU and their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import DTYPES, Built, Corner, LayerSpec, Rejection, layouts
from refimpl import recurrent

_SIZES = ((4, 5), (1, 3), (7, 1), (3, 17))  # input_size, hidden_size
_BATCH = {"batch_3": (3,), "batch_1": (1,), "unbatched": (), "batch_0": (0,)}
_DATA = ("normal", "saturated", "nan")

_NUMBERS = Constraint(
    ("shape", "data"),
    lambda shape, data: shape != "batch_0" or data == "normal",
    "an empty batch has no numbers",
)


def _values(case: Any, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights as torch draws them at first, so that errors do not grow from step to step beyond measure."""
    if name.startswith(("weight", "bias")):
        limit = 1.0 / np.sqrt(max(1, dict(case.arguments)["hidden_size"]))
        return rng.uniform(-limit, limit, shape)
    if name == "input0" and case.data == "saturated":
        return 6.0 * rng.standard_normal(shape)
    return None


def invoke(torch: Any, layer: Any, inputs: tuple, call: Mapping[str, Any]) -> Any:
    """The state as a tensor or a pair; with lengths the input is packed and the output padded again."""
    input, *states = inputs
    state = (states[0] if len(states) == 1 else tuple(states),) if states else ()
    if "lengths" not in call:
        return layer(input, *state)
    lengths, first = torch.tensor(call["lengths"]), layer.batch_first
    ordered = list(call["lengths"]) == sorted(call["lengths"], reverse=True)
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    packed, last = layer(pack(input, lengths, batch_first=first, enforce_sorted=ordered), *state)
    return pad(packed, batch_first=first, total_length=input.shape[1 if first else 0])[0], last


def _nest(inputs: tuple, call: Mapping[str, Any]) -> tuple:
    """input, the state (a pair of two) or None, lengths or None."""
    input, *states = inputs
    state = None if not states else states[0] if len(states) == 1 else tuple(states)
    return input, state, call.get("lengths")


def _cell(name: str, states: int, extra: Mapping[str, tuple], rejections: tuple[Rejection, ...]) -> LayerSpec:
    def build(row: Mapping[str, Any]) -> Built:
        (inputs, hidden), lead = row["sizes"], _BATCH[row["shape"]]
        arguments = {"input_size": inputs, "hidden_size": hidden}
        arguments |= {} if row["bias"] else {"bias": False}
        arguments |= {axis: row[axis] for axis, values in extra.items() if row[axis] != values[0]}
        given = ((*lead, hidden),) * states if row["state"] == "given" else ()
        return Built(arguments, ((*lead, inputs), *given))

    return LayerSpec(
        name=name,
        family="recurrent",
        reference=getattr(recurrent, name),
        axes={
            "sizes": _SIZES,
            "shape": tuple(_BATCH),
            "state": ("given", "absent"),
            "bias": (True, False),
            **extra,
            "mode": ("train", "inference"),
            "dtype": DTYPES,
            "layout": layouts(1),
            "parameter_layout": layouts(1),
            "data": _DATA,
        },
        factorial=("sizes", "shape", "state", "bias"),
        build=build,
        constraints=(_NUMBERS,),
        corners=_cell_corners(states),
        rejections=_cell_rejections(states) + rejections,
        values=_values,
        nest=_nest,
        invoke=invoke,
    )


def _cell_corners(states: int) -> tuple[Corner, ...]:
    def corner(name: str, inputs: int, hidden: int, dtypes: tuple[str, ...] = DTYPES) -> Corner:
        built = Built({"input_size": inputs, "hidden_size": hidden}, ((2, inputs), *((2, hidden),) * states))
        return Corner(name, built=built, dtypes=dtypes)

    return (corner("no_inputs", 0, 3), corner("long_sums", 129, 65), corner("one_by_one", 1, 1))


def _cell_rejections(states: int) -> tuple[Rejection, ...]:
    def bad(name: str, exception: type[Exception], *shapes: tuple[int, ...], **sizes: Any) -> Rejection:
        given = (*shapes, *shapes[-1:] * (states - 1)) if len(shapes) == 2 else shapes
        return Rejection(name, Built({"input_size": 4, "hidden_size": 5, **sizes}, given), exception)

    return (
        bad("too_many_features", RuntimeError, (3, 6)),
        bad("three_axes", ValueError, (3, 2, 4)),
        bad("scalar", ValueError, ()),
        bad("state_of_another_size", RuntimeError, (3, 4), (3, 6)),
        bad("state_of_another_batch", RuntimeError, (3, 4), (2, 5)),
        bad("state_with_three_axes", ValueError, (3, 4), (1, 3, 5)),
        bad("batched_state_of_unbatched_input", RuntimeError, (4,), (1, 5)),
        bad("unbatched_state_of_batched_input", RuntimeError, (3, 4), (5,)),
        bad("negative_input_size", RuntimeError, (3, 4), input_size=-4),
        bad("negative_hidden_size", RuntimeError, (3, 4), hidden_size=-5),
        bad("fractional_input_size", TypeError, (3, 4), input_size=4.0),
    )


_LENGTHS: Mapping[str, Callable[[int], tuple[int, ...]] | None] = {
    "none": None,
    "sorted": lambda times: (times, (times + 1) // 2, 1),
    "unsorted": lambda times: (1, times, (times + 1) // 2),
    "equal": lambda times: (times,) * 3,
}

_LAYER_CONSTRAINTS = (
    _NUMBERS,
    Constraint(
        ("shape", "lengths"),
        lambda shape, lengths: lengths == "none" or shape == "batch_3",
        "packed sequences need a batch; theirs is of 3",
    ),
    Constraint(
        ("dropout", "mode"),
        lambda dropout, mode: dropout != 0.5 or mode != "train",
        "a dropout between 0 and 1 is random in training",
    ),
    Constraint(
        ("dropout", "data"),
        lambda dropout, data: dropout != 1.0 or data != "nan",
        "whether a dropped NaN is 0 is not documented",
    ),
)


def _layer(
    name: str, states: int, extra: Mapping[str, tuple], rejections: tuple[Rejection, ...]
) -> LayerSpec:
    def build(row: Mapping[str, Any]) -> Built:
        (inputs, hidden), times, lead = row["sizes"], row["times"], _BATCH[row["shape"]]
        arguments = {"input_size": inputs, "hidden_size": hidden}
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        defaults |= {axis: values[0] for axis, values in extra.items()}
        chosen = {axis: row[axis] for axis in defaults}
        if "proj_size" in chosen:
            chosen["proj_size"] = min(chosen["proj_size"], hidden - 1)
        arguments |= {axis: value for axis, value in chosen.items() if value != defaults[axis]}
        input = (*lead, times, inputs) if row["batch_first"] else (times, *lead, inputs)
        stacked = row["num_layers"] * (2 if row["bidirectional"] else 1)
        wide = (chosen.get("proj_size") or hidden, hidden)
        given = tuple((stacked, *lead, size) for size in wide[:states]) if row["state"] == "given" else ()
        lengths = _LENGTHS[row["lengths"]]
        return Built(arguments, (input, *given), {} if lengths is None else {"lengths": lengths(times)})

    axes = {
        "num_layers": (1, 2, 3),
        "bidirectional": (False, True),
        "lengths": tuple(_LENGTHS),
        "times": (3, 1, 5),
        "sizes": _SIZES,
        "shape": tuple(_BATCH),
        "batch_first": (False, True),
        "state": ("given", "absent"),
        "bias": (True, False),
        "dropout": (0.0, 1.0, 0.5),
        "mode": ("train", "eval", "inference"),
        **extra,
        "dtype": DTYPES,
        "layout": layouts(1),
        "parameter_layout": layouts(1),
        "data": _DATA,
    }
    return LayerSpec(
        name=name,
        family="recurrent",
        reference=getattr(recurrent, name),
        axes=axes,
        factorial=("num_layers", "bidirectional", "lengths"),
        build=build,
        constraints=_LAYER_CONSTRAINTS,
        corners=_layer_corners(states),
        rejections=_layer_rejections(states) + rejections,
        values=_values,
        nest=_nest,
        invoke=invoke,
    )


def _layer_corners(states: int) -> tuple[Corner, ...]:
    """Lengths from one time to many; in float64 they are what shows that the loops are right."""

    def corner(name: str, times: int, inputs: int, hidden: int, **more: Any) -> Corner:
        given = ((2, 2, hidden),) * states
        arguments = {"input_size": inputs, "hidden_size": hidden, "bidirectional": True}
        return Corner(name, built=Built(arguments, ((times, 2, inputs), *given)), **more)

    return (
        corner("length_1", 1, 4, 3, dtypes=DTYPES),
        corner("length_2", 2, 4, 3, dtypes=DTYPES),
        corner("length_7", 7, 4, 3, dtypes=DTYPES),
        corner("length_33", 33, 4, 3, dtypes=("float64", "float32")),
        corner("long_sums", 2, 129, 65, dtypes=("float64", "float32")),
    )


def _layer_rejections(states: int) -> tuple[Rejection, ...]:
    def bad(
        name: str, exception: type[Exception], *shapes: tuple[int, ...], call: Any = None, **more: Any
    ) -> Rejection:
        given = (*shapes, *shapes[-1:] * (states - 1)) if len(shapes) == 2 else shapes or ((3, 2, 4),)
        arguments = {"input_size": 4, "hidden_size": 5, **more}
        return Rejection(name, Built(arguments, given, call or {}), exception)

    return (
        bad("too_many_features", RuntimeError, (3, 2, 6)),
        bad("one_axis", ValueError, (4,)),
        bad("four_axes", ValueError, (1, 3, 2, 4)),
        bad("no_times", RuntimeError, (0, 2, 4)),
        bad("state_of_too_few_layers", RuntimeError, (3, 2, 4), (1, 2, 5), num_layers=2),
        bad("state_of_one_direction", RuntimeError, (3, 2, 4), (1, 2, 5), bidirectional=True),
        bad("state_of_another_batch", RuntimeError, (3, 2, 4), (1, 3, 5)),
        bad("state_of_another_size", RuntimeError, (3, 2, 4), (1, 2, 4)),
        bad("state_with_two_axes", RuntimeError, (3, 2, 4), (2, 5)),
        bad("batched_state_of_unbatched_input", RuntimeError, (3, 4), (1, 1, 5)),
        bad("length_0", RuntimeError, call={"lengths": (3, 0)}),
        bad("negative_length", RuntimeError, call={"lengths": (3, -1)}),
        bad("too_few_lengths", RuntimeError, call={"lengths": (3,)}),
        bad("too_many_packed_features", RuntimeError, (3, 2, 6), call={"lengths": (3, 2)}),
        bad("dropout_above_1", ValueError, dropout=1.5),
        bad("negative_dropout", ValueError, dropout=-0.1),
        bad("dropout_that_is_a_bool", ValueError, dropout=True),
        bad("bias_that_is_an_int", TypeError, bias=1),
        bad("batch_first_that_is_an_int", TypeError, batch_first=1),
        bad("no_layers", ValueError, num_layers=0),
        bad("half_a_layer", TypeError, num_layers=1.5),
        bad("no_input_size", ValueError, input_size=0),
        bad("no_hidden_size", ValueError, hidden_size=0),
        bad("fractional_input_size", TypeError, input_size=4.0),
        bad("fractional_hidden_size", TypeError, hidden_size=5.0),
    )


def _refused(name: str, exception: type[Exception], *shapes: tuple[int, ...], **more: Any) -> Rejection:
    return Rejection(name, Built({"input_size": 4, "hidden_size": 5, **more}, shapes), exception)


_NONLINEARITY = {"nonlinearity": ("tanh", "relu")}
_PROJECTED = (
    _refused("negative_projection", ValueError, (3, 2, 4), proj_size=-1),
    _refused("projection_as_wide_as_the_state", ValueError, (3, 2, 4), proj_size=5),
    _refused("unprojected_state", RuntimeError, (3, 2, 4), (1, 2, 5), (1, 2, 5), proj_size=2),
)

SPECS = (
    _cell(
        "RNNCell", 1, _NONLINEARITY, (_refused("nonlinearity", RuntimeError, (3, 4), nonlinearity="sigmoid"),)
    ),
    _cell("LSTMCell", 2, {}, (_refused("one_state_of_two", TypeError, (3, 4), (3, 5)),)),
    _cell("GRUCell", 1, {}, ()),
    _layer(
        "RNN", 1, _NONLINEARITY, (_refused("nonlinearity", ValueError, (3, 2, 4), nonlinearity="sigmoid"),)
    ),
    _layer("LSTM", 2, {"proj_size": (0, 2, 4)}, _PROJECTED),
    _layer("GRU", 1, {}, ()),
)

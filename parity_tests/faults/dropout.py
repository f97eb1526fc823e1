"""Wrong dropouts that the suite must catch, and right but unusual ones that it must accept.

`FAULTS` are caught where nothing is left to chance; `LAWLESS` ones, caught by the law of what is random, are
run by selftest/test_dropout.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault, in_place_too, out_of_place, scaled, with_gradient

_FUNCTIONS = {
    "Dropout": "dropout",
    "Dropout1d": "dropout1d",
    "Dropout2d": "dropout2d",
    "Dropout3d": "dropout3d",
    "AlphaDropout": "alpha_dropout",
    "FeatureAlphaDropout": "feature_alpha_dropout",
}
LAYERS = tuple(_FUNCTIONS)
_TORCHS = {name: getattr(functional, name) for name in _FUNCTIONS.values()}
ALPHA = -1.7580993408473766


def _all(make: Callable[[Callable], Callable]) -> Mapping[str, Callable[..., torch.Tensor]]:
    """A stand-in for each of the functions, made from torch's own."""
    return {name: make(function) for name, function in _TORCHS.items()}


def _fault(
    name: str, sentence: str, make: Callable[[Callable], Callable], caught_by: str = "forward"
) -> Fault:
    return Fault(name, sentence, _all(make), caught_by, LAYERS)


def _always_training(torchs: Callable) -> Callable:
    return lambda input, p=0.5, training=False, inplace=False: torchs(input, p, True)


def _scales_in_evaluation(torchs: Callable) -> Callable:
    """The input is multiplied by 1 - p in evaluation, as the first publication had it."""

    def stand_in(input, p=0.5, training=False, inplace=False):
        output = torchs(input, p, training)
        return output if training else output * (1 - p)

    return stand_in


def _keeps_with_p(torchs: Callable) -> Callable:
    return lambda input, p=0.5, training=False, inplace=False: torchs(input, 1 - p, training)


def _divides_by_zero(torchs: Callable) -> Callable:
    """p = 1 gives 0 / 0."""

    def stand_in(input, p=0.5, training=False, inplace=False):
        output = torchs(input, p, training)
        return output / 0.0 if training and p == 1 else output

    return stand_in


def _nan_dropped(torchs: Callable) -> Callable:
    return lambda input, *args: torchs(input.nan_to_num(posinf=torch.inf, neginf=-torch.inf), *args[:2])


def _through_half(torchs: Callable) -> Callable:
    return lambda input, *args: torchs(input.half().to(input.dtype), *args[:2])


def _gradient_half(torchs: Callable) -> Callable:
    return with_gradient(lambda input, *args: torchs(input, *args[:2]), scaled(0, 0.5))


def _writes_input(torchs: Callable) -> Callable:
    """The input is changed in place although nobody asked for it."""

    def stand_in(input, p=0.5, training=False, inplace=False):
        output = torchs(input, p, training).clone()
        input.data.mul_(0.5)
        return output

    return stand_in


def _wrong_dtype(torchs: Callable) -> Callable:
    return lambda input, *args: torchs(input, *args[:2]).double()


def _any_p(layer: str) -> type:
    """A class that moves a p outside of [0, 1] to its end."""
    base = getattr(torch.nn, layer)

    def __init__(self: Any, p: Any = 0.5, inplace: bool = False) -> None:
        base.__init__(self, min(max(p, 0.0), 1.0) if isinstance(p, (int, float)) else 0.5, inplace)

    return type(layer, (base,), {"__init__": __init__})


FAULTS = (
    _fault("always_training", "evaluation drops as well", _always_training),
    _fault("scales_in_evaluation", "evaluation multiplies by 1 - p", _scales_in_evaluation),
    _fault("keeps_with_p", "p is taken for the probability of keeping", _keeps_with_p),
    _fault("divides_by_zero", "p = 1 gives NaN", _divides_by_zero),
    _fault("nan_dropped", "NaN becomes 0", _nan_dropped),
    _fault("through_half", "numbers go through float16", _through_half),
    _fault("gradient_half", "the gradient has half its size", _gradient_half, "input_gradients"),
    _fault("writes_input", "the input is halved in place", _writes_input, "purity"),
    _fault("wrong_dtype", "the result comes in float64", _wrong_dtype, "metadata"),
    Fault(
        "dropout_inplace_ignored",
        "with inplace=True the input stays as it was",
        {function: out_of_place(function) for function in _FUNCTIONS.values() if "alpha" not in function},
        "purity",
        tuple(layer for layer in LAYERS if "Alpha" not in layer),  # of which torch itself hands nothing on
    ),
    Fault("any_p", "any p is accepted", {layer: _any_p(layer) for layer in LAYERS}, "rejection", LAYERS),
)


def _mask(function: str, input: torch.Tensor, p: float) -> torch.Tensor:
    """1 for what is kept, with size 1 along the axes of a unit."""
    shape = list(input.shape)
    if function not in ("dropout", "alpha_dropout"):
        batched = {"dropout1d": input.dim() == 3, "dropout3d": input.dim() == 5}.get(function, True)
        leading = 2 if batched else 1
        shape[leading:] = [1] * (input.dim() - leading)
    return (torch.rand(shape) >= p).to(input.dtype)


def _masked(function: str, input: torch.Tensor, mask: torch.Tensor, p: float) -> torch.Tensor:
    """The documented formula for a mask."""
    if "alpha" not in function:
        return input * (mask / (1 - p))
    a = ((ALPHA**2 * p + 1) * (1 - p)) ** -0.5
    return input * (mask * a) + (mask * (-a * ALPHA * p) + (1 - mask) * (a * ALPHA * (1 - p)))


def _by_mask(function: str, change: Callable[..., torch.Tensor] = _masked) -> Callable[..., torch.Tensor]:
    def stand_in(input, p=0.5, training=False, inplace=False):
        if not training or p == 0:
            return input.clone()
        if p == 1:
            return input * 0.0
        return change(function, input, _mask(function, input, p), p)

    return stand_in


def _unscaled(function, input, mask, p):
    return _masked(function, input, mask, p) * (1 - p)


def _half_of_a_unit(function, input, mask, p):
    """Each element of a channel is dropped by itself; for whole elements, a row as a whole."""
    if function in ("dropout", "alpha_dropout"):
        return _masked(function, input, mask[..., :1].expand(input.shape), p)
    return _masked(function, input, (torch.rand(input.shape) >= p).to(input.dtype), p)


def _same_for_all_samples(function, input, mask, p):
    return _masked(function, input, mask[:1].expand(mask.shape), p)


def _too_often(function, input, mask, p):
    """Drops with probability p + p (1 - p) / 2, and scales for p."""
    return _masked(function, input, mask * (torch.rand(mask.shape) >= p / 2), p)


def _same_mask_again(function, input, mask, p):
    generator = torch.Generator().manual_seed(7)
    return _masked(function, input, (torch.rand(mask.shape, generator=generator) >= p).to(input.dtype), p)


def _another_mask_backward(function, input, mask, p):
    """The gradient goes through a mask of its own."""
    forward = _masked(function, input, mask, p)
    back = _masked(function, input, _mask(function, input, p), p)
    return forward.detach() + (back - back.detach())


LAWLESS = {
    name: {function: _by_mask(function, change) for function in _FUNCTIONS.values()}
    for name, change in {
        "survivors_unscaled": _unscaled,
        "wrong_units": _half_of_a_unit,
        "one_mask_for_all_samples": _same_for_all_samples,
        "drops_too_often": _too_often,
        "same_mask_in_every_call": _same_mask_again,
        "another_mask_backward": _another_mask_backward,
    }.items()
}
MASKED = {function: _by_mask(function) for function in _FUNCTIONS.values()}

CONTROLS = (
    Control(
        "documented_formula",
        "a mask and the documented formula",
        {function: in_place_too(function, stand_in) for function, stand_in in MASKED.items()},
        LAYERS,
    ),
)

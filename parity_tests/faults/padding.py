"""Wrong paddings that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault, with_gradient

_torch_pad = functional.pad


def _layers(*kinds: str, ranks: tuple[int, ...] = (1, 2, 3)) -> tuple[str, ...]:
    return tuple(f"{kind}Pad{rank}d" for kind in kinds for rank in ranks)


CONSTANT, MIRRORED, REPEATED, CIRCULAR = (
    _layers("Constant", "Zero"),
    _layers("Reflection"),
    _layers("Replication"),
    _layers("Circular"),
)
COPYING = (*MIRRORED, *REPEATED, *CIRCULAR)
EVERY = (*CONSTANT, *COPYING, "pad")


def _fault(
    name: str,
    sentence: str,
    stand_in: Callable[..., torch.Tensor],
    layers: tuple[str, ...],
    caught_by: str = "forward",
) -> Fault:
    return Fault(name, sentence, {"pad": stand_in}, caught_by, layers)


def _axes(input: torch.Tensor, pad: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(axis, before, after) of the padded axes."""
    return [(-1 - i, pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)]


def _inside(input: torch.Tensor, pad: tuple[int, ...]) -> torch.Tensor:
    """Which elements of the output stand where they stood in the input."""
    return _torch_pad(torch.ones_like(input), pad) == 1


def _by_index(input: torch.Tensor, pad: tuple[int, ...], source: Callable[..., int]) -> torch.Tensor:
    """Each axis gathered with the indices source(place, size, before, after)."""
    for axis, before, after in _axes(input, pad):
        size = input.shape[axis]
        places = [source(place, size, before, after) for place in range(-before, size + after)]
        input = input.index_select(axis, torch.tensor(places, dtype=torch.int64, device=input.device))
    return input


def _as_format_of(output: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if input.dim() in formats and input.is_contiguous(memory_format=formats[input.dim()]):
        return output.contiguous(memory_format=formats[input.dim()])
    return output


def _in_mode(wanted: str, source: Callable[..., int]) -> Callable[..., torch.Tensor]:
    """torch's padding, but for one mode a gather with `source`."""

    def stand_in(input, pad, mode="constant", value=None):
        if mode != wanted or 0 in input.shape:
            return _torch_pad(input, pad, mode, value)
        return _as_format_of(_by_index(input, pad, source), input)

    return stand_in


def _changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch's padding of an input that was changed first."""
    return lambda input, *args, **kwargs: _torch_pad(change(input), *args, **kwargs)


def _spoiled(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch's padding with a changed gradient."""
    return with_gradient(_torch_pad, lambda grad_output, tensors, gradients: [change(gradients[0])])


def _sides_exchanged(input, pad, mode="constant", value=None):
    exchanged = [amount for _, before, after in _axes(input, pad) for amount in (after, before)]
    return _torch_pad(input, exchanged, mode, value)


def _first_axis_first(input, pad, mode="constant", value=None):
    turned = [amount for _, before, after in reversed(_axes(input, pad)) for amount in (before, after)]
    return _torch_pad(input, turned, mode, value)


def _empty_corners(input, pad, mode="constant", value=None):
    output = _torch_pad(input, pad, mode, value)
    outside = 0
    for axis, before, after in _axes(input, pad):
        places = torch.arange(-before, input.shape[axis] + after, device=input.device)
        beyond = (places < 0) | (places >= input.shape[axis])
        outside = outside + beyond.reshape(-1, *(1,) * (-axis - 1)).to(torch.int64)
    return torch.where(outside >= 2, torch.zeros_like(output), output) if mode == "replicate" else output


def _always_zero(input, pad, mode="constant", value=None):
    return _torch_pad(input, pad, mode)


def _last_element_lost(input: torch.Tensor) -> torch.Tensor:
    last = torch.arange(input.shape[-1], device=input.device) == input.shape[-1] - 1 if input.dim() else False
    return input.masked_fill(last, 0.0) if input.dim() else input


def _copies_without_gradient(input, pad, mode="constant", value=None):
    output = _torch_pad(input, pad, mode, value)
    return torch.where(_inside(input, pad), output, output.detach())


def _constant_with_gradient(input, pad, mode="constant", value=None):
    output = _torch_pad(input, pad, mode, value)
    if mode != "constant" or 0 in input.shape or not torch.isfinite(input).all():
        return output
    border = _by_index(input, pad, lambda place, size, before, after: min(max(place, 0), size - 1))
    return torch.where(_inside(input, pad), output, output.detach() + (border - border.detach()))


def _lost_beyond_65536(gradient: torch.Tensor) -> torch.Tensor:
    whole = gradient.shape[-1] // 65536 * 65536
    return gradient if whole == 0 else torch.cat((gradient[..., :whole], 0 * gradient[..., whole:]), -1)


def _lost_in_a_large_grid(gradient: torch.Tensor) -> torch.Tensor:
    return gradient * 0 if gradient.shape[0] > 65536 else gradient


def _writes_input(input, *args, **kwargs):
    output = _torch_pad(input, *args, **kwargs)
    input.data.clamp_(min=-1.0)  # unlike detach(), unseen by autograd's own check
    return output


def _as_if_contiguous(input: torch.Tensor) -> torch.Tensor:
    if input.is_contiguous() or input.untyped_storage().nbytes() < input.numel() * input.element_size():
        return input
    return input.as_strided(input.shape, torch.empty(input.shape, device="meta").stride(), 0)


def _never_more_than_the_axis(input, pad, mode="constant", value=None):
    if any(max(before, after) >= input.shape[axis] for axis, before, after in _axes(input, pad)):
        raise RuntimeError("padding should be less than the input")
    return _torch_pad(input, pad, mode, value)


def _refuses_empty(input, *args, **kwargs):
    if input.numel() == 0:
        raise RuntimeError("expected a non-empty input")
    return _torch_pad(input, *args, **kwargs)


def _lenient(name: str) -> type:
    """A class that hands the input back where torch's refuses it."""

    class Lenient(getattr(torch.nn, name)):  # type: ignore[misc]
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            try:
                return super().forward(input)
            except Exception:  # what this fault is about: nothing is refused
                return input

    return Lenient


FAULTS = (
    _fault("sides_exchanged", "the amounts before and after an axis are exchanged", _sides_exchanged, EVERY),
    _fault(
        "first_axis_first",
        "amounts are taken from the first axis on instead of from the last",
        _first_axis_first,
        tuple(name for name in EVERY if "1d" not in name),
        "metadata",
    ),
    _fault(
        "mirror_repeats_the_border",
        "reflection repeats the element at the border",
        _in_mode("reflect", lambda place, size, *_: min(max(place, -1 - place), 2 * size - 1 - place)),
        (*MIRRORED, "pad"),
    ),
    _fault(
        "empty_corners",
        "replication leaves zeros where two axes are padded",
        _empty_corners,
        (*_layers("Replication", ranks=(2, 3)), "pad"),
    ),
    _fault(
        "circle_from_the_same_side",
        "circular padding repeats the side that it pads",
        _in_mode(
            "circular",
            lambda place, size, before, after: (
                (place + max(before, 0)) % size if place < 0 else (place - after * (place >= size)) % size
            ),
        ),
        (*CIRCULAR, "pad"),
    ),
    _fault(
        "circle_of_the_uncropped",
        "circular padding wraps the axis as it was before the crop",
        _in_mode("circular", lambda place, size, before, after: place % size),
        (*CIRCULAR, "pad"),
    ),
    _fault("always_zero", "the value is ignored", _always_zero, (*_layers("Constant"), "pad")),
    _fault("last_element_lost", "the last element of each row is lost", _changed(_last_element_lost), EVERY),
    _fault("nan_dropped", "NaN becomes 0", _changed(torch.nan_to_num), EVERY),
    _fault(
        "negative_zero_lost", "-0 becomes 0", lambda *args, **kwargs: _torch_pad(*args, **kwargs) + 0.0, EVERY
    ),
    _fault(
        "as_if_contiguous",
        "strides and storage offset of the input are ignored",
        _changed(_as_if_contiguous),
        EVERY,
    ),
    _fault(
        "copies_without_gradient",
        "only the elements inside get a gradient, their copies none",
        _copies_without_gradient,
        (*COPYING, "pad"),
        "input_gradients",
    ),
    _fault(
        "constant_with_gradient",
        "the gradient of the constant goes to the border elements",
        _constant_with_gradient,
        (*CONSTANT, "pad"),
        "input_gradients",
    ),
    _fault(
        "gradient_in_bfloat16",
        "the gradient passes through bfloat16",
        _spoiled(lambda gradient: gradient.bfloat16().to(gradient.dtype)),
        EVERY,
        "input_gradients",
    ),
    _fault(
        "gradient_lost_beyond_65536",
        "only whole blocks of 65,536 elements of a row get a gradient",
        _spoiled(_lost_beyond_65536),
        EVERY[:-1],
        "input_gradients",
    ),
    _fault(
        "gradient_lost_in_a_large_grid",
        "the gradient is zero where the first axis is longer than 65,536",
        _spoiled(_lost_in_a_large_grid),
        EVERY[:-1],
        "input_gradients",
    ),
    _fault("writes_input", "negative inputs are clamped in place", _writes_input, EVERY, "purity"),
    _fault(
        "wrong_dtype",
        "the result comes in float64",
        lambda *args, **kwargs: _torch_pad(*args, **kwargs).double(),
        EVERY,
        "metadata",
    ),
    _fault(
        "loses_channels_last",
        "the output is contiguous whatever the input was",
        lambda *args, **kwargs: _torch_pad(*args, **kwargs).contiguous(),
        (*_layers("Constant", "Zero", "Reflection", "Replication", ranks=(2, 3)), "pad"),
        "metadata",
    ),
    _fault(
        "never_more_than_the_axis",
        "amounts as large as the axis are refused in every mode",
        _never_more_than_the_axis,
        (*CONSTANT, *REPEATED, *CIRCULAR, "pad"),
        "metadata",
    ),
    _fault("refuses_empty", "an empty batch is refused", _refuses_empty, EVERY, "metadata"),
    *(
        Fault(
            f"accepts_anything_{name}",
            "what cannot be padded is handed back as it is",
            {name: _lenient(name)},
            "rejection",
            (name,),
        )
        for name in EVERY[:-1]
    ),
)


def _gathered(input, pad, mode="constant", value=None):
    """Each axis gathered by an index tensor, its gradient added up in float64 and rounded once."""
    if mode == "constant" or 0 in input.shape:
        return _torch_pad(input, pad, mode, value)

    def source(place: int, size: int, before: int, after: int) -> int:
        if mode == "reflect":
            return abs(place) if place < size else 2 * size - 2 - place
        if mode == "replicate":
            return sorted((0, place, size - 1))[1]
        first, last = max(0, -before), size - max(0, -after)
        return first + (place - first) % (last - first)

    return _as_format_of(_by_index(input.double(), pad, source).to(input.dtype), input)


def _concatenated(input, pad, mode="constant", value=None):
    """Each axis concatenated from pieces, the first axis first; cropped last, in the circular mode first."""
    half = input.dtype in (torch.float16, torch.bfloat16)
    output = input.float() if half and mode != "constant" else input
    for axis, before, after in reversed(_axes(input, pad)):
        if mode == "circular":
            output = _cropped(output, axis, before, after)
        amounts = max(before, 0), max(after, 0)
        front, behind = _pieces(output, axis, *amounts, mode, 0.0 if value is None else value)
        output = torch.cat((front, output, behind), axis)
        if mode != "circular":
            output = _cropped(output, axis, before, after)
    return _as_format_of(output.to(input.dtype).clone(), input)


def _cropped(input: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    first = max(0, -before)
    return input.narrow(axis, first, input.shape[axis] - first - max(0, -after))


def _pieces(input: torch.Tensor, axis: int, before: int, after: int, mode: str, value: Any) -> tuple:
    """What stands in front of an axis and behind it."""
    size = input.shape[axis]
    if mode == "constant":
        one = input.new_full((*input.shape[:axis], 1, *input.shape[input.dim() + axis + 1 :]), value)
        return _times(one, axis, before), _times(one, axis, after)
    if mode == "replicate":
        return (
            _times(input.narrow(axis, 0, 1), axis, before),
            _times(input.narrow(axis, size - 1, 1), axis, after),
        )
    if mode == "reflect":
        return (
            input.narrow(axis, 1 if before else 0, before).flip(axis),
            input.narrow(axis, size - 1 - after if after else 0, after).flip(axis),
        )
    return input.narrow(axis, size - before, before), input.narrow(axis, 0, after)


def _times(input: torch.Tensor, axis: int, times: int) -> torch.Tensor:
    repeats = [1] * input.dim()
    repeats[axis] = times
    return input.repeat(repeats)


CONTROLS = (
    Control(
        "gathered",
        "each axis gathered by indices, gradients summed in float64",
        {"pad": _gathered},
        (*COPYING, "pad"),
    ),
    Control(
        "concatenated",
        "each axis concatenated from pieces, gradients summed axis by axis in float32",
        {"pad": _concatenated},
        EVERY,
    ),
)

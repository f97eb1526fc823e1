"""Wrong reshaping and bilinear layers that the suite must catch, and right but unusual ones that it must
accept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient

LAYERS = ("Bilinear", "bilinear")
_torch_bilinear = functional.bilinear


def _class(base: type, call: Callable[[Any, torch.Tensor], torch.Tensor]) -> type:
    """torch's class with another forward: `call(layer, input)`."""
    return type(base.__name__, (base,), {"forward": call})


def _flattened(self, input):
    return input.flatten(self.start_dim, self.end_dim)


def _unflattened(self, input):
    return input.unflatten(self.dim, self.unflattened_size)


def _forward(base: type) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    return {torch.nn.Identity: lambda self, input: input, torch.nn.Flatten: _flattened}.get(
        base, _unflattened
    )


def _changed(base: type, change: Callable[[torch.Tensor], torch.Tensor]) -> type:
    """The right layer on a changed input."""
    forward = _forward(base)
    return _class(base, lambda self, input: forward(self, change(input)))


def _with_wrong_gradient(base: type, spoil: Callable) -> type:
    forward = _forward(base)
    return _class(base, lambda self, input: with_gradient(lambda x: forward(self, x), spoil)(input))


def _fortran_flatten(self, input):
    """The first of the flattened axes runs fastest."""
    rank = input.dim()
    if rank == 0:
        return input.flatten()
    start, end = self.start_dim % rank, self.end_dim % rank
    axes = [*range(start), *reversed(range(start, end + 1)), *range(end + 1, rank)]
    return input.permute(axes).flatten(start, end)


def _fortran_unflatten(self, input):
    dim, sizes = self.dim % input.dim(), self.unflattened_size
    output = input.unflatten(dim, tuple(reversed(sizes)))
    last = dim + len(sizes) - 1
    return output.permute(*range(dim), *reversed(range(dim, last + 1)), *range(last + 1, output.dim()))


def _in_memory_order(input):
    """Elements in the order in which they lie in memory."""
    if input.dim() < 2 or not input.transpose(-1, -2).is_contiguous():
        return input
    return input.transpose(-1, -2).reshape(input.shape)


def _end_left_out(self, input):
    rank = max(1, input.dim())
    start, end = self.start_dim % rank, self.end_dim % rank
    return input.flatten(start, end - 1 if end > start else end)


def _clamped_axes(self, input):
    rank = max(1, input.dim())
    return input.flatten(max(-rank, min(self.start_dim, rank - 1)), max(-rank, min(self.end_dim, rank - 1)))


def _takes_what_fits(self, input):
    """Sizes with another product are accepted: what is too much is cut off."""
    dim = self.dim
    size = input.shape[dim]
    known = math.prod(n for n in self.unflattened_size if n != -1)
    if -1 not in self.unflattened_size and 0 < known < size:
        input = input.narrow(dim, 0, known)
    return input.unflatten(dim, self.unflattened_size)


def _writes(input):
    with torch.no_grad():
        input.data.clamp_(min=-1.0)
    return input


def _gradient_reversed(grad_output: Any, tensors: list, gradients: list) -> list:
    return [gradients[0].flatten().flip(0).reshape(gradients[0].shape), *gradients[1:]]


def _moving_faults(base: type) -> tuple[Fault, ...]:
    """Faults of a layer that only moves numbers."""
    name, small = base.__name__, base.__name__.lower()

    def fault(what: str, sentence: str, stand_in: type, caught_by: str = "forward") -> Fault:
        return Fault(f"{small}_{what}", sentence, {name: stand_in}, caught_by, (name,))

    return (
        fault("through_half", "numbers go through float16", _changed(base, lambda x: x.half().to(x.dtype))),
        fault("zeros_unsigned", "-0 becomes +0", _changed(base, lambda x: x + 0.0)),
        fault(
            "nan_dropped",
            "NaN becomes 0",
            _changed(base, lambda x: x.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)),
        ),
        fault(
            "gradient_half",
            "the gradient has half its size",
            _with_wrong_gradient(base, scaled(0, 0.5)),
            "input_gradients",
        ),
        fault(
            "gradient_reversed",
            "the gradient is in reversed order",
            _with_wrong_gradient(base, _gradient_reversed),
            "input_gradients",
        ),
        fault("writes_input", "negative inputs are clamped in place", _changed(base, _writes), "purity"),
        fault("wrong_dtype", "the result comes in float64", _changed(base, lambda x: x.double()), "metadata"),
    )


def _bilinear_fault(
    name: str,
    sentence: str,
    stand_in: Callable[..., torch.Tensor],
    caught_by: str = "forward",
    layers: tuple[str, ...] = LAYERS,
) -> Fault:
    return Fault(f"bilinear_{name}", sentence, {"bilinear": stand_in}, caught_by, layers)


def _first_output_lost(input1, input2, weight, bias=None):
    """The last feature of the second input is left out."""
    kept = torch.arange(input2.shape[-1], device=input2.device) < max(1, input2.shape[-1] - 1)
    return _torch_bilinear(input1, input2 * kept, weight, bias)


def _axes_exchanged(input1, input2, weight, bias=None):
    return _torch_bilinear(input1, input2, weight.transpose(1, 2).reshape(weight.shape), bias)


def _no_bias(input1, input2, weight, bias=None):
    output = _torch_bilinear(input1, input2, weight)
    return output if bias is None else output + bias * 0


def _stored_in_bfloat16(input1, input2, weight, bias=None):
    return _torch_bilinear(input1 + (input1.bfloat16() - input1).detach(), input2, weight, bias)


def _broadcasts(input1, input2, weight, bias=None):
    if input1.dim() == input2.dim() == 2 and input2.shape[0] == 1:
        input2 = input2.expand(input1.shape[0], -1)
    return _torch_bilinear(input1, input2, weight, bias)


class _Broadcasting(torch.nn.Bilinear):
    def forward(self, input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
        return _broadcasts(input1, input2, self.weight, self.bias)


def _upstream_ones(grad_output: Any, tensors: list, gradients: list) -> list:
    """Input gradients of the sum of the outputs, whatever the upstream gradient is."""
    input1, input2, weight = (tensor.detach() for tensor in tensors[:3])
    total = weight.sum(0)
    return [input2 @ total.t(), input1 @ total, *gradients[2:]]


def _summed_over_outputs(grad_output: Any, tensors: list, gradients: list) -> list:
    """The weight gradient without its axis of outputs."""
    return [*gradients[:2], gradients[2].sum(0, keepdim=True).expand(gradients[2].shape), *gradients[3:]]


def _every_second_call() -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def stand_in(*args):
        output = _torch_bilinear(*args)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in


def _as_if_contiguous(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_contiguous() or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return tensor
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape, device="meta").stride(), 0)


def _flattens_rows(input1, input2, *rest):
    return _torch_bilinear(input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1]), *rest)


def _reshaping_fault(
    base: type, what: str, sentence: str, call: Callable, caught_by: str = "forward"
) -> Fault:
    name = base.__name__
    return Fault(f"{name.lower()}_{what}", sentence, {name: _class(base, call)}, caught_by, (name,))


FAULTS = (
    *_moving_faults(torch.nn.Identity),
    *_moving_faults(torch.nn.Flatten),
    *_moving_faults(torch.nn.Unflatten),
    _reshaping_fault(
        torch.nn.Flatten, "fortran_order", "the first of the axes runs fastest", _fortran_flatten
    ),
    _reshaping_fault(
        torch.nn.Unflatten, "fortran_order", "the first of the axes runs fastest", _fortran_unflatten
    ),
    Fault(
        "flatten_memory_order",
        "elements come in the order of memory",
        {"Flatten": _changed(torch.nn.Flatten, _in_memory_order)},
        "forward",
        ("Flatten",),
    ),
    _reshaping_fault(
        torch.nn.Flatten, "end_left_out", "the last axis is left out", _end_left_out, "metadata"
    ),
    _reshaping_fault(
        torch.nn.Flatten, "clamped_axes", "axes out of range are accepted", _clamped_axes, "rejection"
    ),
    _reshaping_fault(
        torch.nn.Unflatten, "takes_what_fits", "another product is accepted", _takes_what_fits, "rejection"
    ),
    _bilinear_fault(
        "last_feature_lost", "the last feature of the second input is left out", _first_output_lost
    ),
    _bilinear_fault("axes_exchanged", "the weight is read with its input axes exchanged", _axes_exchanged),
    _bilinear_fault("no_bias", "the bias is not added", _no_bias),
    _bilinear_fault("bfloat16_factor", "the first input is rounded to bfloat16", _stored_in_bfloat16),
    _bilinear_fault(
        "input_as_if_contiguous",
        "strides of the first input are ignored",
        lambda input1, *args: _torch_bilinear(_as_if_contiguous(input1), *args),
    ),
    _bilinear_fault(
        "nan_dropped",
        "NaN becomes 0",
        lambda input1, input2, *args: _torch_bilinear(input1.nan_to_num(), input2.nan_to_num(), *args),
    ),
    _bilinear_fault(
        "gradients_of_ones",
        "input gradients ignore the upstream gradient",
        with_gradient(_torch_bilinear, _upstream_ones),
        "input_gradients",
    ),
    _bilinear_fault(
        "second_gradient_half",
        "the second input's gradient has half its size",
        with_gradient(_torch_bilinear, scaled(1, 0.5)),
        "input_gradients",
    ),
    _bilinear_fault(
        "weight_gradient_summed",
        "the weight gradient is summed over the outputs",
        with_gradient(_torch_bilinear, _summed_over_outputs),
        "parameter_gradients",
        ("Bilinear",),
    ),
    _bilinear_fault(
        "second_call_differs", "every second call gives another result", _every_second_call(), "purity"
    ),
    _bilinear_fault("rows_flattened", "all leading axes become one", _flattens_rows, "metadata"),
    Fault(
        "bilinear_broadcasts",
        "a batch of one is repeated",
        {"Bilinear": _Broadcasting},
        "rejection",
        ("Bilinear",),
    ),
)


def _float64_then_round(input1, input2, weight, bias=None):
    product = torch.einsum("...i,oij,...j->...o", input1.double(), weight.double(), input2.double())
    return (product if bias is None else product + bias.double()).to(input1.dtype)


def _pairs_first(input1, input2, weight, bias=None):
    """All products of the two inputs first, then a linear map of them."""
    kind = torch.float32 if input1.dtype in (torch.float16, torch.bfloat16) else input1.dtype
    pairs = (input1.to(kind).unsqueeze(-1) * input2.to(kind).unsqueeze(-2)).flatten(-2)
    output = pairs @ weight.to(kind).flatten(1).t()
    return (output if bias is None else output + bias.to(kind)).to(input1.dtype)


CONTROLS = (
    Control("float64_then_round", "in float64, rounded once", {"bilinear": _float64_then_round}, LAYERS),
    Control("pairs_first", "products of the inputs first", {"bilinear": _pairs_first}, LAYERS),
    Control(
        "reshaped_copies",
        "the same layers by reshaping a copy",
        {
            "Identity": _changed(torch.nn.Identity, torch.clone),
            "Flatten": _changed(torch.nn.Flatten, torch.clone),
            "Unflatten": _changed(torch.nn.Unflatten, torch.clone),
        },
        ("Identity", "Flatten", "Unflatten"),
    ),
)

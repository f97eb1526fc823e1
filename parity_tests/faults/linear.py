"""Wrong linear layers that the suite must catch, and right but unusual ones that it must accept."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient

LAYERS = ("Linear", "linear")
_torch_linear = functional.linear


def _fault(
    name: str,
    sentence: str,
    stand_in: Callable[..., torch.Tensor],
    caught_by: str = "forward",
    layers: tuple[str, ...] = LAYERS,
) -> Fault:
    return Fault(name, sentence, {"linear": stand_in}, caught_by, layers)


def _last_input_lost(input, weight, bias=None):
    kept = torch.arange(input.shape[-1], device=input.device) < max(1, input.shape[-1] - 1)
    return _torch_linear(input, weight * kept, bias)


def _tail_lost(input, weight, bias=None):
    whole = max(16, weight.shape[-1] // 16 * 16)
    return _torch_linear(input[..., :whole], weight[..., :whole], bias)


def _no_bias(input, weight, bias=None):
    return _torch_linear(input, weight) if bias is None else _torch_linear(input, weight) + bias * 0


def _first_bias(input, weight, bias=None):
    return _torch_linear(input, weight, None if bias is None else bias.reshape(-1)[:1].expand(bias.shape))


def _weight_read_by_columns(input, weight, bias=None):
    return _torch_linear(input, weight.t().reshape(weight.shape) if weight.dim() == 2 else weight, bias)


def _half_accumulation(input, weight, bias=None):
    if input.dtype not in (torch.float16, torch.bfloat16):
        return _torch_linear(input, weight, bias)
    total = 0 if bias is None else bias
    for i in range(weight.shape[-1]):
        total = (
            total + input[..., i, None] * weight[:, i]
            if weight.dim() == 2
            else (total + input[..., i] * weight[i])
        )
    return total


def _split_sums(input, weight, bias=None):
    half = input.shape[-1] // 2
    if half < 512 or input.dtype not in (torch.float16, torch.bfloat16):
        return _torch_linear(input, weight, bias)
    first = _torch_linear(input[..., :half], weight[..., :half])
    return first + _torch_linear(input[..., half:], weight[..., half:], bias)


def _rounded(input: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 values with the last `bits` of the significand rounded away; the gradient passes unchanged."""
    whole = input.detach().contiguous().view(torch.int32)
    kept = ((whole + (1 << (bits - 1))) & -(1 << bits)).view(torch.float32)
    return input + (kept.reshape(input.shape) - input).detach()


def _rounded_products(bits: int) -> Callable[..., torch.Tensor]:
    def stand_in(input, weight, bias=None):
        if input.dtype != torch.float32 or not torch.isfinite(input).all():
            return _torch_linear(input, weight, bias)
        return _torch_linear(_rounded(input, bits), _rounded(weight, bits), bias)

    return stand_in


def _as_if_contiguous(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_contiguous() or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return tensor
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape, device="meta").stride(), 0)


def _first_row_of_gradient(grad_output: Any, tensors: list, gradients: list) -> list:
    """The bias gradient of the first row instead of the sum over all."""
    if len(gradients) < 3 or grad_output.dim() < 2 or grad_output.shape[0] == 0 or tensors[2].dim() == 0:
        return gradients
    return [*gradients[:2], grad_output.reshape(-1, grad_output.shape[-1])[0]]


def _mean_over_rows(grad_output: Any, tensors: list, gradients: list) -> list:
    rows = max(1, tensors[0].numel() // max(1, tensors[0].shape[-1]))
    return [gradients[0], gradients[1] / rows, *gradients[2:]]


def _upstream_ones(grad_output: Any, tensors: list, gradients: list) -> list:
    """The input gradient of the sum of the outputs, whatever the upstream gradient is."""
    weight = tensors[1].detach()
    total = weight.sum(0) if weight.dim() == 2 else weight
    return [total.expand(tensors[0].shape).clone(), *gradients[1:]]


def _writes_input(input, weight, bias=None):
    output = _torch_linear(input, weight, bias)
    input.data.clamp_(min=-1.0)  # unlike detach(), unseen by autograd's own check
    return output


def _writes_weight(input, weight, bias=None):
    output = _torch_linear(input, weight, bias)
    weight.data.mul_(2.0)
    return output


def _every_second_call() -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def stand_in(*args):
        output = _torch_linear(*args)
        return output if next(calls) % 2 == 0 else output * 1.5

    return stand_in


def _always_two_axes(input, weight, bias=None):
    return _torch_linear(input.reshape(-1, input.shape[-1]), weight, bias)


def _refuses_empty(input, *args):
    if input.numel() == 0:
        raise RuntimeError("expected a non-empty input")
    return _torch_linear(input, *args)


def _grid_of_65535(input, weight, bias=None):
    """Rows, or outputs, beyond the largest grid of a launch are not computed."""
    output = _torch_linear(input, weight, bias)
    row = torch.arange(output.shape[-1], device=output.device)
    output = torch.where(row < 65535, output, 0.0 * output)
    if output.dim() == 2 and output.shape[0] > 65535:
        output = torch.cat((output[:65535], 0.0 * output[65535:]))
    return output


class _Converts(torch.nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.to(self.weight.dtype))


class _TakesWhatFits(torch.nn.Linear):
    """Multiplies as many features as input and weight both have."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        features = min(input.shape[-1], self.in_features)
        return _torch_linear(input[..., :features], self.weight[:, :features], self.bias)


FAULTS = (
    _fault("last_input_lost", "the last feature is left out", _last_input_lost),
    _fault("tail_lost", "features beyond the last whole vector of 16 are left out", _tail_lost),
    _fault("no_bias", "the bias is not added", _no_bias),
    _fault("first_bias", "the first bias is added to every output", _first_bias, layers=("Linear",)),
    _fault("weight_read_by_columns", "the weight is read column by column", _weight_read_by_columns),
    _fault("half_accumulation", "half types are accumulated in the half type", _half_accumulation),
    _fault(
        "split_sums",
        "half types: the two halves of a long sum are stored before they meet",
        _split_sums,
        layers=("Linear",),
    ),
    _fault("tf32_products", "float32 factors are rounded to tf32", _rounded_products(13)),
    _fault("bf16_products", "float32 factors are rounded to bfloat16", _rounded_products(16)),
    _fault(
        "input_as_if_contiguous",
        "strides and storage offset of the input are ignored",
        lambda input, *args: _torch_linear(_as_if_contiguous(input), *args),
    ),
    _fault(
        "weight_as_if_contiguous",
        "strides and storage offset of the weight are ignored",
        lambda input, weight, *args: _torch_linear(input, _as_if_contiguous(weight), *args),
    ),
    _fault("nan_dropped", "NaN becomes 0", lambda input, *args: _torch_linear(input.nan_to_num(), *args)),
    _fault("grid_of_65535", "rows and outputs beyond 65,535 stay zero", _grid_of_65535, layers=("Linear",)),
    _fault(
        "input_gradient_half",
        "the input gradient has half its size",
        with_gradient(_torch_linear, scaled(0, 0.5)),
        "input_gradients",
    ),
    _fault(
        "input_gradient_of_ones",
        "the input gradient ignores the upstream gradient",
        with_gradient(_torch_linear, _upstream_ones),
        "input_gradients",
    ),
    _fault(
        "weight_gradient_half",
        "the weight gradient has half its size",
        with_gradient(_torch_linear, scaled(1, 0.5)),
        "parameter_gradients",
        ("Linear",),
    ),
    _fault(
        "weight_gradient_mean",
        "the weight gradient is averaged over the rows instead of summed",
        with_gradient(_torch_linear, _mean_over_rows),
        "parameter_gradients",
        ("Linear",),
    ),
    _fault(
        "bias_gradient_of_first_row",
        "the bias gradient is that of the first row alone",
        with_gradient(_torch_linear, _first_row_of_gradient),
        "parameter_gradients",
        ("Linear",),
    ),
    _fault("writes_input", "negative inputs are clamped in place", _writes_input, "purity"),
    _fault("writes_weight", "the weight is doubled in place", _writes_weight, "purity"),
    _fault("second_call_differs", "every second call gives another result", _every_second_call(), "purity"),
    _fault(
        "wrong_dtype", "the result comes in float64", lambda *args: _torch_linear(*args).double(), "metadata"
    ),
    _fault("always_two_axes", "all leading axes are flattened into one", _always_two_axes, "metadata"),
    _fault("refuses_empty", "an empty batch is refused", _refuses_empty, "metadata"),
    Fault(
        "converts_its_input",
        "an input of another dtype is converted in silence",
        {"Linear": _Converts},
        "rejection",
        ("Linear",),
    ),
    Fault(
        "takes_what_fits",
        "another number of features is accepted",
        {"Linear": _TakesWhatFits},
        "rejection",
        ("Linear",),
    ),
)


def _wide(input: torch.Tensor) -> torch.dtype:
    return torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else input.dtype


def _float64_then_round(input, weight, bias=None):
    product = (input.double().unsqueeze(-2) * weight.double()).sum(-1)
    if weight.dim() == 1:
        product = product.squeeze(-1)
    return (product if bias is None else product + bias.double()).to(input.dtype)


def _blocks_from_the_end(input, weight, bias=None):
    """Blocks of features, the last block first, the bias last of all; float32 for the half types."""
    wide, features = _wide(input), weight.shape[-1]
    input, weight, kind = input.to(wide), weight.to(wide), input.dtype
    total = _torch_linear(input[..., :0], weight[..., :0])
    step = max(3, features // 50)
    for first in reversed(range(0, features, step)):
        total = total + _torch_linear(input[..., first : first + step], weight[..., first : first + step])
    return (total if bias is None else total + bias.to(wide)).to(kind)


CONTROLS = (
    Control(
        "float64_then_round",
        "products and sums in float64, rounded once",
        {"linear": _float64_then_round},
        LAYERS,
    ),
    Control(
        "blocks_from_the_end",
        "blocks of features, the last block first",
        {"linear": _blocks_from_the_end},
        LAYERS,
    ),
)

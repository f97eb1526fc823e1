"""Wrong batch normalizations: one explicit implementation that is right, one thing changed in each fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient
from parity_tests.faults.plain_normalization import RIGHT, batch_norm, gradient, move, streaming, two_pass

LAYERS = tuple(f"BatchNorm{rank}d" for rank in (1, 2, 3))
PLANES = LAYERS[1:]


def _way(**changes: Any) -> dict[str, Callable]:
    return {"batch_norm": partial(batch_norm, way=replace(RIGHT, **changes))}


def _unbiased(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = two_pass(x)
    count = x.numel() // max(1, x.shape[1])
    return mean, variance * (count / max(1, count - 1))


def _one_pass(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes, keepdim=True)
    return mean, (x.square().mean(axes, keepdim=True) - mean.square()).clamp(min=0)


def _of_each_sample(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = two_pass(x[-1:])
    return (mean, variance) if len(x) else two_pass(x)


def _padded_length(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Divided by the number of elements rounded up to a multiple of eight."""
    mean, variance = two_pass(x)
    count = x.numel() // max(1, x.shape[1])
    share = count / max(1, -(-count // 8) * 8)
    return mean * share, variance * share


def _in_half(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every partial sum of the mean rounded to bfloat16."""
    mean, variance = two_pass(x.bfloat16().to(x.dtype))
    return mean.bfloat16().to(x.dtype), variance


def _last_lost(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return two_pass(x[..., :-1]) if x.dim() > 2 and x.shape[-1] > 1 else two_pass(x[:-1] if len(x) > 1 else x)


def _move_changed(
    change: Callable,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    count: int,
) -> None:
    move(running_mean, running_var, *change(mean, variance, momentum, count), count)


def _mean_only(running_mean: torch.Tensor, running_var: torch.Tensor, *batch: Any) -> None:
    move(running_mean, running_var.clone(), *batch)


def _correction_in_half(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    count: int,
) -> None:
    n = torch.tensor(float(count), dtype=running_var.dtype)
    move(
        running_mean,
        running_var,
        mean,
        variance * (n / (n - 1)).to(variance.dtype) * ((count - 1) / count),
        momentum,
        count,
    )


def _storage_order(input: torch.Tensor) -> torch.Tensor:
    """The elements in the order in which they lie in memory, where that is channels_last."""
    if input.dim() in (4, 5) and not input.is_contiguous() and input.numel():
        form = torch.channels_last if input.dim() == 4 else torch.channels_last_3d
        if input.is_contiguous(memory_format=form):
            return torch.as_strided(input, (input.numel(),), (1,)).reshape(input.shape)
    return input


def _without_offset(input: torch.Tensor) -> torch.Tensor:
    return torch.as_strided(input, input.shape, input.stride(), 0)


def _writing(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    output = batch_norm(input, *args, **kwargs)
    with torch.no_grad():
        input.copy_(output)
    return output


class _Cumulative:
    """Mixed into a layer: momentum None is taken for 0.1."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.momentum = 0.1 if self.momentum is None else self.momentum


class _Forgetful:
    """Mixed into a layer: the cumulative average takes every batch for the first one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.momentum is not None or not self.training or not self.track_running_stats:  # type: ignore[has-type]
            return super().forward(input)  # type: ignore[misc]
        before, self.momentum = self.momentum, 1.0
        try:
            return super().forward(input)  # type: ignore[misc]
        finally:
            self.momentum = before


class _Uncounted:
    """Mixed into a layer: the number of batches is not counted."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = super().forward(input)  # type: ignore[misc]
        if self.training and self.num_batches_tracked is not None:  # type: ignore[attr-defined]
            self.num_batches_tracked -= 1  # type: ignore[attr-defined]
        return output


class _AnyRank:
    """Mixed into a layer: inputs of any rank are taken."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass


def _classes(mixin: type) -> dict[str, Callable]:
    return {name: type(name, (mixin, getattr(torch.nn, name)), {}) for name in LAYERS}


def _forward(name: str, sentence: str, layers: tuple[str, ...] = LAYERS, **changes: Any) -> Fault:
    return Fault(name, sentence, _way(**changes), "forward", layers)


def _moving(name: str, sentence: str, change: Callable) -> Fault:
    return Fault(name, sentence, _way(move=partial(_move_changed, change)), "state", LAYERS)


FAULTS = (
    _forward("unbiased_variance", "the unbiased variance is used to normalize", statistics=_unbiased),
    _forward("one_pass_variance", "the variance is E[x^2] - E[x]^2", statistics=_one_pass),
    _forward("last_sample_only", "mean and variance are the last sample's", statistics=_of_each_sample),
    _forward("padded_count", "sums are divided by a count rounded up to eight", statistics=_padded_length),
    _forward("last_element_lost", "the last position of each row is left out", statistics=_last_lost),
    _forward("mean_in_bfloat16", "mean and variance are those of bfloat16 numbers", statistics=_in_half),
    _forward("half_accumulation", "half types are computed in their own type", wide=lambda dtype: dtype),
    _forward("evaluation_uses_batch", "evaluation takes the batch's statistics", batch=lambda training: True),
    _forward("training_uses_running", "training takes the running statistics", batch=lambda training: False),
    _forward(
        "eps_outside_root",
        "eps is added to the deviation, outside the root",
        inverse=lambda variance, eps: 1 / (variance.sqrt() + eps),
    ),
    _forward("eps_fixed", "eps is always 1e-5", inverse=lambda variance, eps: 1 / (variance + 1e-5).sqrt()),
    _forward(
        "no_root",
        "divided by the variance, not by the deviation",
        inverse=lambda variance, eps: 1 / (variance + eps),
    ),
    _forward(
        "bfloat16_root",
        "1 / sqrt is an approximation with eight bits",
        inverse=lambda variance, eps: (variance + eps).rsqrt().bfloat16().to(variance.dtype),
    ),
    _forward("weight_dropped", "the weight is not applied", affine=lambda x, weight, bias: x + bias),
    _forward("bias_dropped", "the bias is not applied", affine=lambda x, weight, bias: x * weight),
    _forward(
        "bias_before_weight",
        "the bias is added before the weight is applied",
        affine=lambda x, weight, bias: (x + bias) * weight,
    ),
    _forward(
        "parameters_reversed",
        "weight and bias are applied in reverse order of the channels",
        affine=lambda x, weight, bias: x * weight.flip(1) + bias.flip(1),
    ),
    _forward(
        "storage_order", "channels_last memory is read as if it were contiguous", PLANES, read=_storage_order
    ),
    _forward("storage_offset", "the storage offset of a sliced input is dropped", read=_without_offset),
    _moving(
        "biased_running_variance",
        "the running variance takes the biased variance",
        lambda mean, variance, momentum, count: (mean, variance * ((count - 1) / count), momentum),
    ),
    _moving(
        "momentum_swapped",
        "momentum and 1 - momentum are exchanged",
        lambda mean, variance, momentum, count: (mean, variance, 1 - momentum),
    ),
    _moving(
        "momentum_fixed",
        "momentum is always 0.1",
        lambda mean, variance, momentum, count: (mean, variance, 0.1),
    ),
    _moving(
        "running_deviation",
        "the running variance takes the standard deviation",
        lambda mean, variance, momentum, count: (mean, variance.sqrt(), momentum),
    ),
    Fault(
        "running_variance_kept", "the running variance is not moved", _way(move=_mean_only), "state", LAYERS
    ),
    Fault(
        "running_statistics_kept",
        "training does not move the running statistics",
        _way(moves=lambda training: False),
        "state",
        LAYERS,
    ),
    Fault(
        "evaluation_moves",
        "evaluation moves the running statistics too",
        _way(moves=lambda training: True, batch=lambda training: training),
        "state",
        LAYERS,
    ),
    Fault(
        "correction_overflows",
        "n / (n - 1) is computed in the half type: inf / inf beyond 65504 elements",
        _way(move=_correction_in_half),
        "state",
        LAYERS,
    ),
    Fault(
        "momentum_none_ignored",
        "momentum None does not average over all batches",
        _classes(_Cumulative),
        "state",
        LAYERS,
    ),
    Fault(
        "cumulative_average_forgets",
        "momentum None takes every batch for the first one",
        _classes(_Forgetful),
        "state",
        LAYERS,
    ),
    Fault("batches_not_counted", "num_batches_tracked stays as it is", _classes(_Uncounted), "state", LAYERS),
    Fault(
        "gradient_without_mean",
        "the input gradient lacks the term of the mean",
        _way(terms=(0.0, 1.0)),
        "input_gradients",
        LAYERS,
    ),
    Fault(
        "gradient_without_variance",
        "the input gradient lacks the variance's term",
        _way(terms=(1.0, 0.0)),
        "input_gradients",
        LAYERS,
    ),
    Fault(
        "statistics_as_constants",
        "mean and variance are taken for constants in the gradient",
        _way(terms=(0.0, 0.0)),
        "input_gradients",
        LAYERS,
    ),
    Fault(
        "evaluation_gradient_as_training",
        "the gradient in evaluation has the terms of the batch's mean",
        _way(gradient=lambda way, g, centered, inverse, _: gradient(way, g, centered, inverse, True)),
        "input_gradients",
        LAYERS,
    ),
    Fault(
        "weight_gradient_of_input",
        "the weight gradient is taken with the input, not the normalized one",
        _way(weight_gradient=lambda g, normalized, input: g * input),
        "parameter_gradients",
        LAYERS,
    ),
    Fault(
        "bias_gradient_averaged",
        "the bias gradient is the mean over the batch, not the sum",
        _way(bias_gradient=lambda g: g / max(1, len(g))),
        "parameter_gradients",
        LAYERS,
    ),
    Fault(
        "weight_gradient_doubled",
        "the weight gradient is twice as large",
        {"batch_norm": with_gradient(batch_norm, scaled(3, 2.0))},
        "parameter_gradients",
        LAYERS,
    ),
    Fault(
        "wide_output",
        "the output of a half input is float32",
        _way(finish=lambda output, dtype: output),
        "metadata",
        LAYERS,
    ),
    Fault(
        "contiguous_output",
        "the output of a channels_last input is contiguous",
        _way(finish=lambda output, dtype: output.to(dtype).contiguous()),
        "metadata",
        PLANES,
    ),
    Fault(
        "input_as_scratch",
        "the input is overwritten with the output",
        {"batch_norm": _writing},
        "purity",
        LAYERS,
    ),
    Fault("any_rank", "an input of any rank is accepted", _classes(_AnyRank), "rejection", LAYERS),
)

CONTROLS = (
    Control("explicit", "mean and variance in two passes in A, gradient by the formula", _way(), LAYERS),
    Control(
        "streaming",
        "mean and variance by Welford's update along lanes that are merged pair by pair",
        _way(statistics=streaming),
        LAYERS,
    ),
    Control(
        "float64_rounded_once",
        "everything in float64, rounded once",
        _way(wide=lambda dtype: torch.float64),
        LAYERS,
    ),
    Control(
        "rsqrt",
        "1 / sqrt by the library's rsqrt",
        _way(inverse=lambda variance, eps: (variance + eps).rsqrt()),
        LAYERS,
    ),
)

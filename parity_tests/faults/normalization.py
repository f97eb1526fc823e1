"""Wrong batch normalizations: one explicit implementation that is right, one thing changed in each fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient

LAYERS = tuple(f"BatchNorm{rank}d" for rank in (1, 2, 3))
PLANES = LAYERS[1:]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def two_pass(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, kept with size 1."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes, keepdim=True)
    return mean, (x - mean).square().mean(axes, keepdim=True)


def streaming(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Welford's update along lanes of up to 64 elements, the lanes merged pair by pair (Chan et al. 1983)."""
    if x.numel() == 0:
        return two_pass(x)
    values = x.transpose(0, 1).flatten(1)
    steps = values.split(max(1, math.ceil(values.shape[1] / 64)), dim=1)
    count = torch.zeros_like(steps[0])
    mean, squares = torch.zeros_like(count), torch.zeros_like(count)
    for step in steps:
        lane = slice(0, step.shape[1])
        count[:, lane] += 1
        distance = step - mean[:, lane]
        mean[:, lane] += distance / count[:, lane]
        squares[:, lane] += distance * (step - mean[:, lane])
    while count.shape[1] > 1:
        half = count.shape[1] // 2
        (n, m, s), (n2, m2, s2), rest = (
            [part[:, chosen] for part in (count, mean, squares)]
            for chosen in (slice(0, half), slice(half, 2 * half), slice(2 * half, None))
        )
        distance, total = m2 - m, n + n2
        merged = total, m + distance * n2 / total, s + s2 + distance.square() * n * n2 / total
        count, mean, squares = (torch.cat(pair, 1) for pair in zip(merged, rest, strict=True))
    shape = (1, x.shape[1], *(1,) * (x.dim() - 2))
    return mean.reshape(shape), (squares / count).reshape(shape)


def move(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    count: int,
) -> None:
    """Move the running statistics towards the batch's, the variance's unbiased."""
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        running.copy_((1 - momentum) * running.to(batch.dtype) + momentum * batch.flatten())


def gradient(
    way: Way, g: torch.Tensor, centered: torch.Tensor, inverse: torch.Tensor, training: bool
) -> torch.Tensor:
    """Gradient of the normalized input, without the weight; `way.terms` are factors of its corrections."""
    if not training:
        return g * inverse
    axes = [axis for axis in range(g.dim()) if axis != 1]
    of_mean, of_variance = way.terms
    slope = (g * centered).mean(axes, keepdim=True) * inverse.square()
    return (g - of_mean * g.mean(axes, keepdim=True) - of_variance * slope * centered) * inverse


@dataclass(frozen=True)
class Way:
    """How a batch normalization is computed; right as it stands."""

    wide: Callable[[torch.dtype], torch.dtype] = accumulator
    statistics: Callable = two_pass
    inverse: Callable = lambda variance, eps: 1 / torch.sqrt(variance + eps)
    move: Callable = move
    gradient: Callable = gradient
    terms: tuple[float, float] = (1.0, 1.0)
    affine: Callable = lambda normalized, weight, bias: normalized * weight + bias
    read: Callable = lambda input: input
    weight_gradient: Callable = lambda g, normalized, input: g * normalized
    bias_gradient: Callable = lambda g: g
    batch: Callable = lambda training: training  # whether the batch's statistics are used
    moves: Callable = lambda training: training  # whether the running statistics are moved
    finish: Callable = lambda output, dtype: output.to(dtype)


RIGHT = Way()


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: Any,
        bias: Any,
        way: Way,
        x: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        training: bool,
    ) -> torch.Tensor:
        ctx.way, ctx.training, ctx.dtypes = way, training, (input.dtype, weight is not None, bias is not None)
        scale = torch.ones_like(mean) if weight is None else weight.to(x.dtype).reshape(mean.shape)
        shift = torch.zeros_like(mean) if bias is None else bias.to(x.dtype).reshape(mean.shape)
        inverse = way.inverse(variance, eps)
        ctx.save_for_backward(x, mean, inverse, scale)
        return way.finish(way.affine((x - mean) * inverse, scale, shift), input.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        way, (dtype, has_weight, has_bias) = ctx.way, ctx.dtypes
        x, mean, inverse, scale = ctx.saved_tensors
        g, centered = upstream[0].to(x.dtype), x - mean
        axes = [axis for axis in range(x.dim()) if axis != 1]
        grad_input = way.gradient(way, g, centered, inverse, ctx.training) * scale
        grad_weight = None
        if has_weight:
            grad_weight = way.weight_gradient(g, centered * inverse, x).sum(axes).to(dtype)
        grad_bias = way.bias_gradient(g).sum(axes).to(dtype) if has_bias else None
        return grad_input.to(dtype), grad_weight, grad_bias, *(None,) * 6


def batch_norm(
    input: torch.Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    with torch.no_grad():
        x = way.read(input.detach()).to(way.wide(input.dtype))
        shape = (1, x.shape[1], *(1,) * (x.dim() - 2))
        batch = way.batch(training) or running_mean is None
        if batch:
            mean, variance = way.statistics(x)
        else:
            mean, variance = (running.to(x.dtype).reshape(shape) for running in (running_mean, running_var))
        if running_mean is not None and way.moves(training) and input.numel():
            way.move(running_mean, running_var, mean, variance, momentum, x.numel() // x.shape[1])
    return _Normalize.apply(input, weight, bias, way, x, mean, variance, eps, training)


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

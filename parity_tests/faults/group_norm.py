"""Wrong normalizations within a sample: one explicit implementation that is right, one thing changed in each
fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.plain_group_norm import (
    FUNCTIONS,
    PARAMETER,
    RIGHT,
    ROW,
    pairwise,
    square_mean,
    two_pass,
)
from parity_tests.faults.plain_normalization import accumulator
from parity_tests.faults.response_norm import CONTROLS as RESPONSE_CONTROLS
from parity_tests.faults.response_norm import FAULTS as RESPONSE_FAULTS

GROUP, LAYER, RMS = ("GroupNorm",), ("LayerNorm",), ("RMSNorm",)
INSTANCE = tuple(f"InstanceNorm{rank}d" for rank in (1, 2, 3))
CENTRED = (*GROUP, *LAYER, *INSTANCE)
ROWS = (*CENTRED, *RMS)


def _way(**changes: Any) -> dict[str, Callable]:
    way = replace(RIGHT, **changes)
    return {name: partial(function, way=way) for name, function in FUNCTIONS.items()}


def _forward(name: str, sentence: str, layers: tuple[str, ...] = CENTRED, **changes: Any) -> Fault:
    return Fault(name, sentence, _way(**changes), "forward", layers)


def _gradient(name: str, sentence: str, layers: tuple[str, ...], **changes: Any) -> Fault:
    return Fault(name, sentence, _way(**changes), "input_gradients", layers)


def _of_parameters(name: str, sentence: str, layers: tuple[str, ...], **changes: Any) -> Fault:
    return Fault(name, sentence, _way(**changes), "parameter_gradients", layers)


def _unbiased(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = two_pass(x)
    count = x.shape[2] * x.shape[3]
    return mean, variance * (count / max(1, count - 1))


def _one_pass(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = x.mean(ROW, keepdim=True)
    return mean, (x.square().mean(ROW, keepdim=True) - mean.square()).clamp(min=0)


def _padded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums divided by a count that is rounded up to a multiple of eight."""
    count = x.shape[2] * x.shape[3]
    share = count / max(1, -(-count // 8) * 8)
    mean, variance = two_pass(x)
    return mean * share, variance * share


def _of_all(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = two_pass(x)
    return mean.mean((0, 1), keepdim=True).expand_as(mean), variance.mean((0, 1), keepdim=True).expand_as(
        mean
    )


def _squares_in_storage(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares as a float16 would hold them: infinite beyond 256."""
    squares = torch.where(x.abs() > 255.9, torch.full_like(x, math.inf), x.square())
    return square_mean(x)[0], squares.mean(ROW, keepdim=True)


def _interleaved(g: torch.Tensor, normalized: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The normalized input of group c % num_groups in the place of that of c // (C / num_groups)."""
    total = (g * normalized).sum(PARAMETER)
    return total.t().reshape(total.shape)


def _scaled_by_largest(name: str, sentence: str) -> Fault:
    """eps is added to the mean of (x / m)^2, m the largest of the row."""

    def statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        largest = x.abs().amax(ROW, keepdim=True)
        return square_mean(x)[0], largest.square() * ((x / largest).square().mean(ROW, keepdim=True) + 1e-3)

    return _forward(name, sentence, RMS, squares=statistics)


def _last_axis_only(input: torch.Tensor, normalized_shape: tuple, *args: Any, **kwargs: Any) -> torch.Tensor:
    weight, *rest = args
    output = torch.nn.functional.layer_norm(input, normalized_shape[-1:], None, None, rest[-1])
    output = output if weight is None else output * weight
    return output if rest[0] is None else output + rest[0]


def _writing(function: Callable) -> Callable:
    def stand_in(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        output = function(input, *args, **kwargs)
        with torch.no_grad():
            input.copy_(output)
        return output

    return stand_in


def _dropped_offset(input: torch.Tensor) -> torch.Tensor:
    return torch.as_strided(input, input.shape, input.stride(), 0)


class _AnyRank:
    """Mixed into an InstanceNorm: inputs of any rank are taken."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass


class _LayerNorm(torch.nn.LayerNorm):
    """Takes any input of the right number of elements in its last axes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if (
            input.dim() >= len(self.normalized_shape)
            and input.numel() % math.prod(self.normalized_shape) == 0
        ):
            return super().forward(input.reshape(-1, *self.normalized_shape)).reshape(input.shape)
        return super().forward(input)


class _GroupNorm(torch.nn.GroupNorm):
    """One sample with one value a group is normalized to zero."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input * 0 if len(input) == 1 and input.numel() == self.num_groups else super().forward(input)


class _RMSNorm(torch.nn.RMSNorm):
    """An input that does not fit is normalized over its own last axes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-len(self.normalized_shape) :] == self.normalized_shape:
            return super().forward(x)
        return torch.nn.functional.rms_norm(x, x.shape[-1:])


FAULTS = (
    _forward("unbiased_variance", "the unbiased variance is used to normalize", statistics=_unbiased),
    _forward("one_pass_variance", "the variance is E[x^2] - E[x]^2", statistics=_one_pass),
    _forward("padded_count", "sums are divided by a count rounded up to eight", statistics=_padded),
    _forward(
        "statistics_of_all",
        "all samples and groups share mean and variance",
        (*GROUP, *LAYER, *INSTANCE),
        statistics=_of_all,
    ),
    _forward(
        "half_accumulation", "half types are computed in their own type", ROWS, wide=lambda dtype: dtype
    ),
    _forward(
        "eps_outside_root",
        "eps is added outside the root",
        ROWS,
        inverse=lambda variance, eps: 1 / (variance.sqrt() + eps),
    ),
    _forward(
        "eps_fixed", "eps is always 1e-5", ROWS, inverse=lambda variance, eps: 1 / (variance + 1e-5).sqrt()
    ),
    _forward("no_root", "divided by the variance", ROWS, inverse=lambda variance, eps: 1 / (variance + eps)),
    _forward(
        "bfloat16_root",
        "1 / sqrt has eight bits",
        ROWS,
        inverse=lambda variance, eps: (variance + eps).rsqrt().bfloat16().to(variance.dtype),
    ),
    _forward("weight_dropped", "the weight is not applied", ROWS, affine=lambda x, weight, bias: x + bias),
    _forward("bias_dropped", "the bias is not applied", affine=lambda x, weight, bias: x * weight),
    _forward(
        "bias_before_weight",
        "the bias is added before the weight is applied",
        affine=lambda x, weight, bias: (x + bias) * weight,
    ),
    _forward("storage_offset", "the storage offset of a sliced input is dropped", ROWS, read=_dropped_offset),
    _forward(
        "groups_swapped",
        "num_groups is taken for the size of a group",
        GROUP,
        geometry=lambda g: (g[0], g[2], g[1], g[3]),
    ),
    Fault(
        "last_axis_only",
        "only the last of several axes is normalized",
        {"layer_norm": _last_axis_only},
        "forward",
        LAYER,
    ),
    _forward(
        "eps_of_storage",
        "without eps it is the storage type's",
        RMS,
        epsilon=lambda dtype: torch.finfo(dtype).eps,
    ),
    _forward(
        "squares_overflow", "squares of half numbers overflow beyond 256", RMS, squares=_squares_in_storage
    ),
    _forward("mean_subtracted", "the mean is subtracted too", RMS, squares=two_pass),
    _scaled_by_largest("eps_inflated", "eps is added after a division by the largest element's square"),
    _forward(
        "evaluation_uses_input",
        "evaluation takes the input's statistics",
        INSTANCE,
        own=lambda use_input_stats: True,
    ),
    _forward(
        "training_uses_running",
        "training takes the running statistics",
        INSTANCE,
        own=lambda use_input_stats: False,
    ),
    *(
        Fault(name, sentence, _way(**{part: change}), "state", INSTANCE)
        for name, sentence, part, change in (
            (
                "biased_running_variance",
                "running_var takes the biased variance",
                "unbiased",
                lambda length: 1.0,
            ),
            ("last_sample_running", "the last sample alone moves the statistics", "running", lambda b: b[-1]),
            ("summed_running", "samples are added, not averaged", "running", lambda b: b.sum(0)),
            ("momentum_swapped", "momentum and 1 - momentum are exchanged", "momentum", lambda m: 1 - m),
            ("momentum_fixed", "momentum is always 0.1", "momentum", lambda m: 0.1),
        )
    ),
    _gradient("gradient_without_mean", "the term of the mean is missing", CENTRED, terms=(0.0, 1.0)),
    _gradient("gradient_without_variance", "the variance's term is missing", ROWS, terms=(1.0, 0.0)),
    _gradient("gradient_of_variance_doubled", "the variance's term counts twice", ROWS, terms=(1.0, 2.0)),
    _of_parameters(
        "weight_gradient_of_input",
        "the weight gradient is taken with the input",
        ROWS,
        weight_gradient=lambda g, normalized, x: (g * x).sum(PARAMETER),
    ),
    _of_parameters(
        "bias_gradient_averaged",
        "the bias gradient is an average",
        CENTRED,
        bias_gradient=lambda g: g.sum(PARAMETER) / max(2, len(g)),
    ),
    _of_parameters(
        "weight_gradient_of_other_group",
        "the weight gradient belongs to c % num_groups",
        GROUP,
        weight_gradient=_interleaved,
    ),
    _of_parameters(
        "last_axis_in_gradient",
        "gradients of the parameters leave the last position out",
        (*GROUP, *INSTANCE),
        bias_gradient=lambda g: g[..., :-1].sum(PARAMETER),
    ),
    Fault(
        "wide_output",
        "the output of a half input is float32",
        _way(finish=lambda output, dtype: output.to(accumulator(dtype))),
        "metadata",
        ROWS,
    ),
    Fault(
        "contiguous_output",
        "the output of a channels_last input is contiguous",
        _way(finish=lambda output, dtype: output.contiguous()),
        "metadata",
        GROUP,
    ),
    Fault(
        "input_as_scratch",
        "the input is overwritten with the output",
        {name: _writing(function) for name, function in FUNCTIONS.items()},
        "purity",
        ROWS,
    ),
    Fault(
        "any_rank",
        "an input of any rank is accepted",
        {name: type(name, (_AnyRank, getattr(torch.nn, name)), {}) for name in INSTANCE},
        "rejection",
        INSTANCE,
    ),
    Fault(
        "one_value_a_group",
        "a single value a group is accepted",
        {"GroupNorm": _GroupNorm},
        "rejection",
        GROUP,
    ),
    Fault(
        "any_order_of_axes",
        "last axes in another order are accepted",
        {"LayerNorm": _LayerNorm},
        "rejection",
        LAYER,
    ),
    Fault("any_size", "last axes of another size are accepted", {"RMSNorm": _RMSNorm}, "rejection", RMS),
    *RESPONSE_FAULTS,
)

CONTROLS = (
    Control("explicit", "mean and variance in two passes in A, gradient by the formula", _way(), ROWS),
    Control("pairwise", "mean and variance of halves, merged", _way(statistics=pairwise), CENTRED),
    Control("float64_rounded_once", "everything in float64", _way(wide=lambda dtype: torch.float64), ROWS),
    Control(
        "rsqrt",
        "1 / sqrt by the library's rsqrt",
        _way(inverse=lambda variance, eps: (variance + eps).rsqrt()),
        ROWS,
    ),
    *RESPONSE_CONTROLS,
)

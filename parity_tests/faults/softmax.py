"""Wrong softmaxes: one explicit implementation that is right, with one thing changed in each fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults import adaptive_softmax
from parity_tests.faults.fault import Control, Fault

PLAIN = ("Softmax", "Softmin", "LogSoftmax")
LAYERS = ("Softmax", "Softmin", "Softmax2d", "LogSoftmax")
WITHOUT_LOGARITHM = ("Softmax", "Softmin", "Softmax2d")
NAMES = ("softmax", "softmin", "log_softmax")


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def largest(x: torch.Tensor, dim: int) -> torch.Tensor:
    """The largest element of each row, kept with size 1; 0 of an empty row."""
    return x.amax(dim, keepdim=True) if x.numel() else x.sum(dim, keepdim=True)


def exponentials(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances from the largest element and the sum of their exponentials."""
    distance = x - largest(x, dim)
    return distance, distance.exp().sum(dim, keepdim=True)


def online(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum in one pass, rescaled when a larger element is met: lanes of up to 64 elements, then merged."""
    if x.numel() == 0 or x.dim() == 0:
        return exponentials(x, dim)
    steps = x.split(max(1, -(-x.shape[dim] // 64)), dim)
    top = torch.full_like(steps[0], -torch.inf)
    total = torch.zeros_like(top)
    for step in steps:
        lane = (*(slice(None),) * (dim % x.dim()), slice(0, step.shape[dim]))
        higher = torch.maximum(top[lane], step)
        base = torch.where(higher == -torch.inf, 0.0, higher)
        total[lane] = total[lane] * (top[lane] - base).exp() + (step - base).exp()
        top[lane] = higher
    highest = largest(top, dim)
    return x - highest, (total * (top - highest).exp()).sum(dim, keepdim=True)


def implicit(rank: int) -> int:
    return 0 if rank in (0, 1, 3) else 1


def softmax_gradient(g: torch.Tensor, y: torch.Tensor, dim: int) -> torch.Tensor:
    return (g - (g * y).sum(dim, keepdim=True)) * y


def log_softmax_gradient(g: torch.Tensor, y: torch.Tensor, dim: int) -> torch.Tensor:
    return g - y.exp() * g.sum(dim, keepdim=True)


@dataclass(frozen=True)
class Way:
    """How a softmax is computed; right as it stands."""

    wide: Callable[[torch.dtype], torch.dtype] = accumulator
    dim: Callable = lambda dim, rank: dim
    implicit: Callable = implicit
    read: Callable = lambda x: x
    exponentials: Callable = exponentials
    exp: Callable = torch.exp
    softmax: Callable = lambda exponential, total: exponential / total
    logarithm: Callable = lambda x, distance, total: distance - total.log()
    softmax_gradient: Callable = softmax_gradient
    log_softmax_gradient: Callable = log_softmax_gradient
    finish: Callable = lambda result, dtype: result.to(dtype)


RIGHT = Way()


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, name: str, dim: int, way: Way) -> torch.Tensor:
        x = way.read(input.detach()).to(way.wide(input.dtype))
        distance, total = way.exponentials(-x if name == "softmin" else x, dim)
        if name == "log_softmax":
            output = way.logarithm(x, distance, total)
        else:
            output = way.softmax(way.exp(distance), total)
        output = way.finish(output, input.dtype)
        ctx.save_for_backward(output)
        ctx.how = name, dim, way, input.dtype
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        name, dim, way, dtype = ctx.how
        wide = way.wide(dtype)
        gradient = way.log_softmax_gradient if name == "log_softmax" else way.softmax_gradient
        result = gradient(upstream[0].to(wide), ctx.saved_tensors[0].to(wide), dim)
        return (-result if name == "softmin" else result).to(dtype), None, None, None


def softmax(
    name: str,
    input: torch.Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    axis = way.implicit(input.dim()) if dim is None else way.dim(dim, input.dim())
    return _Softmax.apply(input, name, axis, way)


def _way(names: tuple[str, ...] = NAMES, **changes: Any) -> dict[str, Callable]:
    return {name: partial(softmax, name, way=replace(RIGHT, **changes)) for name in names}


def _as(function: Callable, *names: str) -> dict[str, Callable]:
    """`function(name, input, dim)` in the place of each of `names`."""
    return {name: partial(function, name) for name in names or NAMES}


def _naive(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    return x, x.exp().sum(dim, keepdim=True)


def _stable_last_axis(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    return exponentials(x, dim) if dim % max(1, x.dim()) == max(0, x.dim() - 1) else _naive(x, dim)


def _without_last(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    distance = x - largest(x, dim)
    length = x.shape[dim] if x.dim() else 1
    kept = distance.narrow(dim, 0, length - 1) if length > 1 else distance
    return distance, kept.exp().sum(dim, keepdim=True)


def _tail_not_rescaled(x: torch.Tensor, dim: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Full blocks first; a remainder whose largest element is only a little larger keeps their maximum."""
    length = x.shape[dim] if x.dim() else 1
    if length <= block:
        return exponentials(x, dim)
    blocks, tail = x.split([length // block * block, length % block], dim)
    top, of_blocks = largest(x, dim), largest(blocks, dim)
    little = (top > of_blocks) & (top - of_blocks < 1)
    distance = torch.cat([blocks - top, tail - torch.where(little, of_blocks, top)], dim)
    return distance, distance.exp().sum(dim, keepdim=True)


def _in_bfloat16(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    distance, _ = exponentials(x, dim)
    return distance, distance.exp().bfloat16().to(x.dtype).sum(dim, keepdim=True).bfloat16().to(x.dtype)


def _storage_order(x: torch.Tensor) -> torch.Tensor:
    dense = x.numel() and not x.is_contiguous() and x.dim() >= 2 and x.transpose(-1, -2).is_contiguous()
    return torch.as_strided(x, (x.numel(),), (1,), x.storage_offset()).reshape(x.shape) if dense else x


def _schraudolph(x: torch.Tensor) -> torch.Tensor:
    """exp by (1 + x / 1024)^1024."""
    return (1 + x.clamp(min=-1024) / 1024).pow(1024)


def _writing(name: str, input: torch.Tensor, dim: int | None = None, **kwargs: Any) -> torch.Tensor:
    output = softmax(name, input, dim)
    with torch.no_grad():
        input.sub_(1.0)
    return output


def _masked_zero(name: str, input: torch.Tensor, dim: int | None = None, **kwargs: Any) -> torch.Tensor:
    return softmax(name, input, dim).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _logarithm_of(name: str, input: torch.Tensor, dim: int | None = None, **kwargs: Any) -> torch.Tensor:
    return softmax("softmax", input, dim).log()


def _not_negated(name: str, input: torch.Tensor, dim: int | None = None, **kwargs: Any) -> torch.Tensor:
    return softmax("softmax", input, dim)


def _in_float64(name: str, input: torch.Tensor, dim: int | None = None, **kwargs: Any) -> torch.Tensor:
    axis = implicit(input.dim()) if dim is None else dim
    return getattr(functional, name)(input.double(), axis).to(input.dtype)


class _Clamped:
    """Mixed into a layer: a dim that is out of range is brought into it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if isinstance(self.dim, int):  # type: ignore[has-type]
            self.dim = self.dim % max(1, input.dim())  # type: ignore[has-type]
        return super().forward(input)  # type: ignore[misc]


class _AnyRank(torch.nn.Softmax2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.softmax(input, -min(3, input.dim()))


def _forward(name: str, sentence: str, layers: tuple[str, ...] = LAYERS, **changes: Any) -> Fault:
    return Fault(name, sentence, _way(**changes), "forward", layers)


def _gradients(name: str, sentence: str, change: Callable) -> Fault:
    changes = {"softmax_gradient": change, "log_softmax_gradient": change}
    return Fault(name, sentence, _way(**changes), "input_gradients", LAYERS)


FAULTS = (
    _forward("no_maximum", "exp overflows: the largest element is not subtracted", exponentials=_naive),
    _forward(
        "maximum_for_last_axis_only",
        "the largest element is subtracted only where dim is the last axis",
        exponentials=_stable_last_axis,
    ),
    _forward(
        "largest_of_all",
        "the largest element of the whole tensor is subtracted, not the row's",
        exponentials=lambda x, dim: _naive(x - (x.amax() if x.numel() else 0.0), dim),
    ),
    _forward("last_element_lost", "each row's last element is not in the sum", exponentials=_without_last),
    _forward(
        "tail_not_rescaled",
        "what is left after blocks of 32 is not rescaled for a maximum of its own",
        exponentials=partial(_tail_not_rescaled, block=32),
    ),
    _forward(
        "long_tail_not_rescaled",
        "what is left after blocks of 1,024 is not rescaled for a maximum of its own",
        exponentials=partial(_tail_not_rescaled, block=1_024),
    ),
    _forward("half_accumulation", "half types are computed in their own type", wide=lambda dtype: dtype),
    _forward("bfloat16_sum", "the sum is accumulated from bfloat16 numbers", exponentials=_in_bfloat16),
    _forward("approximate_exp", "exp is (1 + x / 1024)^1024", WITHOUT_LOGARITHM, exp=_schraudolph),
    _forward("base_two", "powers of 2 in place of powers of e", WITHOUT_LOGARITHM, exp=torch.exp2),
    _forward("temperature", "exponents are halved", WITHOUT_LOGARITHM, exp=lambda x: (x / 2).exp()),
    _forward(
        "wrong_dim",
        "the axis before the one asked for is taken",
        dim=lambda dim, rank: (dim - 1) % max(1, rank),
    ),
    _forward(
        "negative_dim_of_four",
        "a negative dim counts from behind four axes",
        ("Softmax2d",),
        dim=lambda dim, rank: (dim + 4) % rank,
    ),
    _forward("implicit_last_dim", "dim None is the last axis", PLAIN, implicit=lambda rank: -1),
    _forward(
        "implicit_dim_of_three",
        "dim None is axis 1 of three axes too",
        PLAIN,
        implicit=lambda rank: 1 if rank > 1 else 0,
    ),
    _forward("storage_order", "transposed memory is read as if it were contiguous", read=_storage_order),
    Fault(
        "masked_rows_are_zero", "a row of nothing but -inf gives zeros", _as(_masked_zero), "forward", LAYERS
    ),
    Fault(
        "logarithm_of_softmax",
        "the logarithm is taken of softmax, which underflows",
        _as(_logarithm_of, "log_softmax"),
        "forward",
        ("LogSoftmax",),
    ),
    _forward(
        "offset_lost",
        "x - (max + log(sum)): the logarithm is lost in a large maximum",
        ("LogSoftmax",),
        logarithm=lambda x, distance, total: x - ((x - distance) + total.log()),
    ),
    _forward(
        "logarithm_base_two",
        "the logarithm is that to base 2",
        ("LogSoftmax",),
        logarithm=lambda x, distance, total: distance - total.log2(),
    ),
    Fault(
        "softmin_not_negated",
        "softmin is softmax of the input itself",
        _as(_not_negated, "softmin"),
        "forward",
        ("Softmin",),
    ),
    Fault(
        "softmin_gradient_not_negated",
        "the gradient of softmin has the wrong sign",
        _way(("softmin",), softmax_gradient=lambda g, y, dim: -softmax_gradient(g, y, dim)),
        "input_gradients",
        ("Softmin",),
    ),
    _gradients(
        "gradient_without_sum",
        "the gradient lacks the sum over the row",
        lambda g, y, dim: torch.where(y < 0, g, g * y),
    ),
    _gradients(
        "gradient_over_last_axis",
        "the sum in the gradient is over the last axis",
        lambda g, y, dim: (log_softmax_gradient if bool((y < 0).any()) else softmax_gradient)(g, y, -1),
    ),
    _gradients(
        "gradient_of_ones",
        "the upstream gradient is taken for ones",
        lambda g, y, dim: (log_softmax_gradient if bool((y < 0).any()) else softmax_gradient)(
            torch.ones_like(g), y, dim
        ),
    ),
    Fault(
        "wide_output",
        "the output of a half input is float32",
        _way(finish=lambda result, dtype: result),
        "metadata",
        LAYERS,
    ),
    Fault(
        "first_column",
        "only the first element of the last axis is given",
        _way(finish=lambda result, dtype: (result[..., :1] if result.dim() else result).to(dtype)),
        "metadata",
        LAYERS,
    ),
    Fault("input_as_scratch", "the input is changed", _as(_writing), "purity", LAYERS),
    Fault(
        "dim_wraps_around",
        "a dim that is out of range is wrapped around",
        {name: type(name, (_Clamped, getattr(torch.nn, name)), {}) for name in PLAIN},
        "rejection",
        PLAIN,
    ),
    Fault(
        "any_rank", "an input of any rank is accepted", {"Softmax2d": _AnyRank}, "rejection", ("Softmax2d",)
    ),
    *adaptive_softmax.FAULTS,
)

CONTROLS = (
    Control(
        "explicit",
        "the largest element subtracted, gradients by the formula from the stored output",
        _way(),
        LAYERS,
    ),
    Control(
        "online",
        "maximum and sum in one pass, the sum rescaled when the maximum changes",
        _way(exponentials=online),
        LAYERS,
    ),
    Control(
        "reciprocal",
        "multiplied by the reciprocal of the sum",
        _way(softmax=lambda exponential, total: exponential * (1 / total)),
        LAYERS,
    ),
    Control(
        "expanded_gradient",
        "g y - y sum(g y) in place of (g - sum(g y)) y",
        _way(softmax_gradient=lambda g, y, dim: g * y - y * (g * y).sum(dim, keepdim=True)),
        LAYERS,
    ),
    Control("float64_rounded_once", "everything in float64, rounded once", _as(_in_float64), LAYERS),
    *adaptive_softmax.CONTROLS,
)

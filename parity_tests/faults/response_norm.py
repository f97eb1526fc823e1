"""Wrong local response normalizations: one explicit implementation, one thing changed in each fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault, scaled, with_gradient
from parity_tests.faults.plain_normalization import accumulator

LAYERS = ("LocalResponseNorm",)


def window_sums(terms: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Sums over the channels c - before .. c + after of each c."""
    padded = torch.cat(
        (
            torch.zeros_like(terms[:, :1]).expand(-1, before, *terms.shape[2:]),
            terms,
            torch.zeros_like(terms[:, :1]).expand(-1, after, *terms.shape[2:]),
        ),
        1,
    )
    channels = terms.shape[1]
    return torch.stack([padded[:, k : k + channels] for k in range(before + after + 1)]).sum(0)


@dataclass(frozen=True)
class Way:
    """How the response is computed; right as it stands."""

    wide: Callable = accumulator
    before: Callable = lambda size: size // 2
    squares: Callable = torch.square
    divisor: Callable = lambda size, counts: size
    power: Callable = lambda base, beta: base**beta
    scalars: Callable = lambda alpha, beta, k: (alpha, beta, k)
    pulled: Callable = lambda share, before, after: window_sums(share, after, before)
    slope: float = 2.0
    finish: Callable = lambda output, dtype: output.to(dtype)


RIGHT = Way()


class _Response(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, way: Way, size: int, *scalars: float) -> torch.Tensor:
        alpha, beta, k = way.scalars(*scalars)
        x, before = input.to(way.wide(input.dtype)), way.before(size)
        after = size - 1 - before
        divisor = way.divisor(size, window_sums(torch.ones_like(x), before, after))
        base = window_sums(way.squares(x), before, after) / divisor * alpha + k
        ctx.save_for_backward(x, base)
        ctx.rest = way, before, after, size, alpha, beta
        return way.finish(x / way.power(base, beta), input.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple:
        way, before, after, size, alpha, beta = ctx.rest
        x, base = ctx.saved_tensors
        g = upstream[0].to(x.dtype)
        pulled = way.pulled(g * (x / base**beta) / base, before, after)
        grad_input = g / base**beta - x * pulled * (way.slope * alpha * beta / size)
        return grad_input.to(upstream[0].dtype), *(None,) * 5


def local_response_norm(
    input: torch.Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    way: Way = RIGHT,
) -> torch.Tensor:
    return _Response.apply(input, way, size, alpha, beta, k)


def _way(**changes: Any) -> dict[str, Callable]:
    return {"local_response_norm": partial(local_response_norm, way=replace(RIGHT, **changes))}


def _writing(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    output = local_response_norm(input, *args, **kwargs)
    with torch.no_grad():
        input.copy_(output)
    return output


class _AnyRank(torch.nn.LocalResponseNorm):
    """An input (N, C) is taken."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input[..., None])[..., 0] if input.dim() == 2 else super().forward(input)


def _forward(name: str, sentence: str, **changes: Any) -> Fault:
    return Fault(f"response_{name}", sentence, _way(**changes), "forward", LAYERS)


def _gradient(name: str, sentence: str, stand_ins: dict[str, Callable]) -> Fault:
    return Fault(f"response_{name}", sentence, stand_ins, "input_gradients", LAYERS)


FAULTS = (
    _forward("window_shifted", "even windows reach further to the back", before=lambda size: (size - 1) // 2),
    _forward(
        "count_of_neighbours", "divided by the channels that exist", divisor=lambda size, counts: counts
    ),
    _forward("undivided", "alpha is not divided by the size", divisor=lambda size, counts: 1),
    _forward("magnitudes", "magnitudes are summed, not squares", squares=torch.abs),
    _forward("alpha_fixed", "alpha is always 1e-4", scalars=lambda alpha, beta, k: (1e-4, beta, k)),
    _forward("beta_fixed", "beta is always 0.75", scalars=lambda alpha, beta, k: (alpha, 0.75, k)),
    _forward("k_fixed", "k is always 1", scalars=lambda alpha, beta, k: (alpha, beta, 1.0)),
    _forward(
        "bfloat16_power",
        "the power has eight bits",
        power=lambda base, beta: (base**beta).bfloat16().to(base.dtype),
    ),
    _gradient("neighbours_as_constants", "the divisor is taken for a constant", _way(slope=0.0)),
    _gradient("square_without_two", "the derivative of the square lacks its 2", _way(slope=1.0)),
    _gradient(
        "gradient_window",
        "the gradient reads the output's window, not its mirror",
        _way(pulled=window_sums),
    ),
    _gradient(
        "gradient_doubled",
        "the gradient is twice as large",
        {"local_response_norm": with_gradient(local_response_norm, scaled(0, 2.0))},
    ),
    Fault(
        "response_wide",
        "the output of a half input is float32",
        _way(finish=lambda output, dtype: output),
        "metadata",
        LAYERS,
    ),
    Fault(
        "response_scratch", "the input is overwritten", {"local_response_norm": _writing}, "purity", LAYERS
    ),
    Fault(
        "response_any_rank",
        "an input (N, C) is accepted",
        {"LocalResponseNorm": _AnyRank},
        "rejection",
        LAYERS,
    ),
)


def _cross(**changes: Any) -> dict[str, Any]:
    """CrossMapLRN2d by the explicit implementation, with windows that reach equally far to both sides."""

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        if input.dim() != 4:
            raise ValueError("4 axes are needed")
        window = 2 * ((self.size - 1) // 2) + 1
        alpha = self.alpha * (window / self.size)
        return local_response_norm(input, window, alpha, self.beta, self.k, way=replace(RIGHT, **changes))

    return {"CrossMapLRN2d": type("CrossMapLRN2d", (torch.nn.CrossMapLRN2d,), {"forward": forward})}


class _CrossOfAnyRank(torch.nn.CrossMapLRN2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)


def _cross_fault(name: str, sentence: str, caught_by: str, **changes: Any) -> Fault:
    return Fault(f"cross_map_{name}", sentence, _cross(**changes), caught_by, ("CrossMapLRN2d",))


FAULTS = (
    *FAULTS,
    _cross_fault("magnitudes", "magnitudes are summed, not squares", "forward", squares=torch.abs),
    _cross_fault("k_fixed", "k is always 1", "forward", scalars=lambda alpha, beta, k: (alpha, beta, 1.0)),
    _cross_fault("square_without_two", "the derivative lacks its 2", "input_gradients", slope=1.0),
    _cross_fault("wide", "half inputs give float32", "metadata", finish=lambda output, dtype: output),
    Fault(
        "cross_map_any_rank",
        "an input of any rank is accepted",
        {"CrossMapLRN2d": _CrossOfAnyRank},
        "rejection",
        ("CrossMapLRN2d",),
    ),
)

CONTROLS = (
    Control("cross_map_explicit", "windows in A, gradient by the formula", _cross(), ("CrossMapLRN2d",)),
    Control("response_explicit", "windows in A, gradient by the formula", _way(), LAYERS),
    Control("response_float64", "everything in float64", _way(wide=lambda dtype: torch.float64), LAYERS),
)

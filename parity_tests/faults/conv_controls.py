"""Right but unusual convolutions, which no check may reject."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch.nn import functional

from parity_tests.faults.fault import Control

LAYERS = ("Conv1d", "Conv2d", "Conv3d")
TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
HALF = (torch.float16, torch.bfloat16)


def every_rank(make: Callable[[int, Callable], Callable], transposed: bool = False) -> dict[str, Callable]:
    """Stand-ins for the functions of all three ranks, each made from its rank and torch's own function."""
    names = {rank: f"conv_transpose{rank}d" if transposed else f"conv{rank}d" for rank in (1, 2, 3)}
    return {name: make(rank, getattr(functional, name)) for rank, name in names.items()}


def _by_columns(combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable:
    """conv2d from its columns (n, group, channel, tap, y, x) and its weights (group, o, channel, tap)."""

    def stand_in(input, weight, bias, stride, padding, dilation, groups):
        if input.dim() == 3:
            return stand_in(input[None], weight, bias, stride, padding, dilation, groups)[0]
        kernel, before, after = weight.shape[2:], (0, 0), (0, 0)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            before, after = [t // 2 for t in total], [t - t // 2 for t in total]
        elif padding != "valid":
            before = after = padding
        wide = torch.float32 if input.dtype in HALF else input.dtype
        padded = functional.pad(input.to(wide), (before[1], after[1], before[0], after[0]))
        size = [
            (n - d * (k - 1) - 1) // s + 1
            for n, d, k, s in zip(padded.shape[2:], dilation, kernel, stride, strict=True)
        ]
        taps = [
            padded[
                ...,
                i * dilation[0] : i * dilation[0] + (size[0] - 1) * stride[0] + 1 : stride[0],
                j * dilation[1] : j * dilation[1] + (size[1] - 1) * stride[1] + 1 : stride[1],
            ]
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
        columns = torch.stack(taps, 2).unflatten(1, (groups, input.shape[1] // groups))
        matrix = weight.to(wide).flatten(2).unflatten(0, (groups, weight.shape[0] // groups))
        output = combine(columns, matrix).flatten(1, 2)
        output = output if bias is None else output + bias.to(wide)[:, None, None]
        return _like(input, output.to(input.dtype))

    return stand_in


def _like(input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """`output` in the memory format of `input`."""
    for dims, form in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if input.dim() == dims and input.is_contiguous(memory_format=form):
            return output.contiguous(memory_format=form)
    return output.contiguous()


def _multiplied(columns: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ngckyx,gock->ngoyx", columns, matrix)


def _reversed_taps(columns: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """One product after the other, the last channel and the last tap first."""
    channels, taps = matrix.shape[2:]
    total = torch.zeros((), dtype=columns.dtype, device=columns.device)
    for c, k in itertools.product(reversed(range(channels)), reversed(range(taps))):
        total = total + columns[:, :, c, k][:, :, None] * matrix[:, :, c, k][None, ..., None, None]
    return total


def _float64_then_round(rank: int, original: Callable) -> Callable:
    def stand_in(input, weight, bias=None, *args):
        wide = original(input.double(), weight.double(), None if bias is None else bias.double(), *args)
        return _like(input, wide.to(input.dtype))

    return stand_in


CONTROLS = (
    Control(
        "float64_then_round", "computed in float64 and rounded once", every_rank(_float64_then_round), LAYERS
    ),
    Control(
        "transposed_float64_then_round",
        "computed in float64 and rounded once",
        every_rank(_float64_then_round, transposed=True),
        TRANSPOSED,
    ),
    Control(
        "unfold_and_multiply", "unfold and matrix product", {"conv2d": _by_columns(_multiplied)}, ("Conv2d",)
    ),
    Control(
        "taps_in_reverse_order",
        "one product after the other, the last tap first",
        {"conv2d": _by_columns(_reversed_taps)},
        ("Conv2d",),
    ),
)

"""Interpolation written plainly, right unless a keyword is changed: raw material of faults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from parity_tests.faults.plain_pooling import like

Taps = tuple[torch.Tensor, torch.Tensor]  # which elements each output of an axis reads, and their weights


def hat(distance: torch.Tensor, antialias: bool) -> torch.Tensor:
    return (1 - distance.abs()).clamp(min=0)


def keys(distance: torch.Tensor, antialias: bool) -> torch.Tensor:
    """Keys' cubic kernel, a = -1/2 with antialias and -3/4 without."""
    a, d = (-0.5 if antialias else -0.75), distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def ratio_of(size: int, outputs: int, scale: float | None, corners: bool) -> float:
    """Input elements an output element."""
    if corners:
        return (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    return size / outputs if scale is None else 1 / scale


def nearest_place(y: int, size: int, outputs: int, scale: float | None, exact: bool) -> int:
    """In whole numbers where there is no scale factor."""
    if scale is None:
        place = (2 * y + exact) * size // (2 * outputs)
    else:
        place = math.floor((y + 0.5 * exact) / scale)
    return min(place, size - 1)


def region(y: int, size: int, outputs: int) -> tuple[int, int]:
    return y * size // outputs, -(-(y + 1) * size // outputs)


def padded(rows: list[list[tuple[int, float]]]) -> Taps:
    """Taps of unequal number, filled up with weight 0 at an element that is read anyway."""
    most = max(map(len, rows), default=1)
    rows = [row + [(row[0][0], 0.0)] * (most - len(row)) for row in rows]
    places = torch.tensor([[place for place, _ in row] for row in rows], dtype=torch.int64)
    weights = torch.tensor([[weight for _, weight in row] for row in rows], dtype=torch.float64)
    return places.reshape(-1, most), weights.reshape(-1, most)


def axis_taps(
    size: int,
    outputs: int,
    scale: float | None,
    mode: str,
    corners: bool,
    antialias: bool,
    *,
    place: Callable = nearest_place,
    ratio: Callable = ratio_of,
    kernel: Callable | None = None,
    shift: float = 0.5,
    coordinate: torch.dtype = torch.float64,
) -> Taps:
    if mode.startswith("nearest"):
        return padded([[(place(y, size, outputs, scale, mode != "nearest"), 1.0)] for y in range(outputs)])
    if mode == "area":
        ends = [region(y, size, outputs) for y in range(outputs)]
        return padded([[(x, 1 / (last - first)) for x in range(first, last)] for first, last in ends])
    cubic = mode == "bicubic"
    weigh, r = kernel or (keys if cubic else hat), ratio(size, outputs, scale, corners)
    y = torch.arange(outputs).to(coordinate)
    if antialias:
        return _stretched(size, (r * (y + 0.5)).double(), r, weigh, 2 if cubic else 1)
    s = (r * y if corners else r * (y + shift) - shift).double()
    s = s if cubic else s.clamp(min=0)
    offsets = torch.tensor([-1, 0, 1, 2] if cubic else [0, 1])
    places = s.floor().long()[:, None] + offsets
    return places.clamp(0, size - 1), weigh(s[:, None] - places, False)


def _stretched(size: int, centre: torch.Tensor, r: float, weigh: Callable, radius: int) -> Taps:
    stretch, rows = max(1.0, r), []
    x = torch.arange(size, dtype=torch.float64)
    for c in centre:
        weights = weigh((x + 0.5 - c) / stretch, True)
        inside = ((x + 0.5 - c).abs() < radius * stretch).nonzero()[:, 0]
        rows.append([(int(i), float(weights[i] / weights[inside].sum())) for i in inside])
    return padded(rows)


def targets(
    input: torch.Tensor, size: Any, scale_factor: Any, mode: str, recompute: Any
) -> tuple[list, list]:
    """Sizes of the outputs, and the scale factors that are used for coordinates."""
    own, rank = input.shape[2:], input.dim() - 2
    if size is not None:
        return list(size) if isinstance(size, (tuple, list)) else [size] * rank, [None] * rank
    scales = list(scale_factor) if isinstance(scale_factor, (tuple, list)) else [scale_factor] * rank
    scales = [float(scale) for scale in scales]
    sizes = [int(n * scale) for n, scale in zip(own, scales, strict=True)]
    return sizes, [None] * rank if recompute or mode == "area" else scales


def weighted(x: torch.Tensor, axis: int, taps: Taps) -> torch.Tensor:
    """Sum over the taps of an axis, one after the other, nothing where the weight is 0."""
    places, weights = taps
    shape = [-1 if other == axis else 1 for other in range(x.dim())]
    total = None
    for t in range(places.shape[1]):
        weight = weights[:, t].to(x.dtype).reshape(shape)
        term = torch.where(
            weight == 0, torch.zeros((), dtype=x.dtype), weight * x.index_select(axis, places[:, t])
        )
        total = term if total is None else total + term
    return total


def lerped(x: torch.Tensor, axis: int, taps: Taps) -> torch.Tensor:
    """x0 + f (x1 - x0) for two taps; a sum for others."""
    places, weights = taps
    if places.shape[1] != 2:
        return weighted(x, axis, taps)
    first, second = (x.index_select(axis, places[:, t]) for t in (0, 1))
    fraction = weights[:, 1].to(x.dtype).reshape([-1 if other == axis else 1 for other in range(x.dim())])
    return torch.where(fraction == 0, first, first + fraction * (second - first))


def interpolate(
    input: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    wide: Callable = lambda dtype: torch.float64,
    find: Callable = targets,
    order: Callable = list,
    add: Callable = weighted,
    weights: torch.dtype = torch.float64,
    **changes: Any,
) -> torch.Tensor:
    """`torch.nn.functional.interpolate`, right unless a keyword is changed."""
    sizes, scales = find(input, size, scale_factor, mode, recompute_scale_factor)
    x = input.to(wide(input.dtype))
    axes = list(zip(range(2, input.dim()), input.shape[2:], sizes, scales, strict=True))
    for axis, n, p, scale in order(axes):
        places, values = axis_taps(n, p, scale, mode, bool(align_corners), antialias, **changes)
        x = add(x, axis, (places, values.to(weights).double()))
    return like(x.to(input.dtype), input)

"""Adaptive average and max pooling, 1-d to 3-d: any output size, regions as equal as they can be.

    region(y) = [floor(y L / P), ceil((y + 1) L / P))   on an axis of L elements with P outputs
Source: torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveMaxPool2d.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.regions import RegionMaxima, RegionMeans

__all__ = [
    name.format(kind, lower, rank)
    for rank in (1, 2, 3)
    for kind, lower in (("Avg", "avg"), ("Max", "max"))
    for name in ("Adaptive{0}Pool{2}d", "adaptive_{1}_pool{2}d", "adaptive_{1}_pool{2}d_backward")
]


def adaptive_regions(size: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last element (exclusive) of each region of an axis, as rows that hold for all planes."""
    place = np.arange(outputs, dtype=np.int64)[None]
    return place * size // outputs, -(-(place + 1) * size // outputs)


class _Find:
    """Checks one call's `output_size` and input; gives the regions."""

    def __init__(self, name: str, rank: int, output_size: Any, channels_needed: bool):
        self.name, self.rank, self.output_size, self.channels_needed = (
            name,
            rank,
            output_size,
            channels_needed,
        )

    def __call__(self, input: np.ndarray) -> tuple[tuple, tuple]:
        wanted = self._sizes(input.shape[5 - self.rank :])
        if min(input.shape[2:]) < 1 or (self.channels_needed and input.shape[1] < 1):
            raise RuntimeError(
                f"{self.name}: input {input.shape} has an empty axis; only the batch may be empty"
            )
        wanted = (1,) * (3 - self.rank) + wanted
        first, last = zip(*map(adaptive_regions, input.shape[2:], wanted), strict=True)
        return first, last

    def _sizes(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """One size for each axis: an int stands for all of them, None for the input's own."""
        given = self.output_size
        if isinstance(given, int) and not isinstance(given, bool):
            given = (given,) * self.rank
        elif self.rank == 1 and not isinstance(given, (tuple, list)):
            given = (given,)
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"{self.name}: output_size {given!r}; needed is an int or {self.rank} ints")
        if len(given) != self.rank:
            raise RuntimeError(
                f"{self.name}: output_size {given!r}; needed is one for each of {self.rank} axes"
            )
        if self.rank > 1:
            given = tuple(n if size is None else size for n, size in zip(own, given, strict=True))
        if any(isinstance(size, bool) or not isinstance(size, (int, np.integer)) for size in given):
            raise TypeError(f"{self.name}: output_size {self.output_size!r}; needed are ints")
        if min(given) < 0:
            raise RuntimeError(f"{self.name}: output_size {given} is negative; needed is at least 0")
        return tuple(int(size) for size in given)


def adaptive_means(rank: int, input: Any, output_size: Any) -> RegionMeans:
    name = f"adaptive_avg_pool{rank}d"
    return RegionMeans(name, rank, input, _Find(name, rank, output_size, channels_needed=rank == 3))


def adaptive_maxima(rank: int, input: Any, output_size: Any) -> RegionMaxima:
    name = f"adaptive_max_pool{rank}d"
    return RegionMaxima(name, rank, input, _Find(name, rank, output_size, channels_needed=True))


def _functions(rank: int) -> tuple:
    def average(input, output_size):
        return adaptive_means(rank, input, output_size).output()

    def average_backward(grad_output, input, output_size):
        return (adaptive_means(rank, input, output_size).gradient(grad_output),)

    def largest(input, output_size, return_indices=False):
        output, indices = adaptive_maxima(rank, input, output_size).both()
        return (output, indices) if return_indices else output

    def largest_backward(grad_output, input, output_size, return_indices=False):
        return (adaptive_maxima(rank, input, output_size).gradient(grad_output),)

    shapes = f"""input (N, C, *L) or (C, *L), output_size {
        "an int" if rank == 1 else "an int or one entry an axis, None for the length of the input,"
    } -> output (N, C, *P) float64"""
    average.__doc__ = f"""The mean of every region of `input`, as many regions as `output_size` says,
    {rank}-d.

    output[n, c, y] = mean(input[n, c, x] for x in region(y)), region(y) = [floor(y L / P), ceil((y + 1) L /
    P))

    {shapes}.
    Error: gamma(n + 2 {rank}) sum |input| / n an element for regions of n, less where divisors are powers of
    two.
    Raises RuntimeError for sizes that do not fit, TypeError for what is no int.
    Source: torch.nn.functional.adaptive_avg_pool{rank}d."""
    largest.__doc__ = f"""The maximum of every region of `input`, as many regions as `output_size` says,
    {rank}-d.

    output[n, c, y] = max(input[n, c, x] for x in region(y)), region(y) = [floor(y L / P), ceil((y + 1) L /
    P))

    {shapes}; return_indices adds int64
    indices (N, C, *P), the flat place of each maximum in its plane.  As torch does where its documentation is
    silent: the first of equal maxima is chosen; NaN wins against everything, the last of several NaN is
    chosen.
    Error: none, values are copied; gradients gamma(m - 1) sum |grad_output| over the m regions that chose.
    Raises RuntimeError for sizes that do not fit, TypeError for what is no int.
    Source: torch.nn.functional.adaptive_max_pool{rank}d."""
    return (
        *_named(average, average_backward, f"adaptive_avg_pool{rank}d"),
        *_named(largest, largest_backward, f"adaptive_max_pool{rank}d"),
    )


def _named(function: Any, backward: Any, name: str) -> tuple:
    function.__name__ = function.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"""Gradient of sum(grad_output * {name}(...)) for the input: (grad_input,)."""
    return function, backward


(adaptive_avg_pool1d, adaptive_avg_pool1d_backward, adaptive_max_pool1d, adaptive_max_pool1d_backward) = (
    _functions(1)
)
(adaptive_avg_pool2d, adaptive_avg_pool2d_backward, adaptive_max_pool2d, adaptive_max_pool2d_backward) = (
    _functions(2)
)
(adaptive_avg_pool3d, adaptive_avg_pool3d_backward, adaptive_max_pool3d, adaptive_max_pool3d_backward) = (
    _functions(3)
)


class _AdaptiveAvgPool(Module):
    """{rank}-d adaptive average pooling layer.

    Formula, shapes, error, what it raises: `adaptive_avg_pool{rank}d`.  Source:
    torch.nn.AdaptiveAvgPool{rank}d."""

    rank: int

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> np.ndarray:
        return adaptive_means(self.rank, input, self.output_size).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (adaptive_means(self.rank, inputs[0], self.output_size).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (adaptive_means(self.rank, input, self.output_size).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return adaptive_means(self.rank, inputs[0], self.output_size).bounded(contract, grad_outputs[0])


class _AdaptiveMaxPool(Module):
    """{rank}-d adaptive max pooling layer; with return_indices a call gives (output, indices).

    Formula, shapes, error, what it raises: `adaptive_max_pool{rank}d`.  Source:
    torch.nn.AdaptiveMaxPool{rank}d."""

    rank: int

    def __init__(self, output_size, return_indices=False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        output, indices = adaptive_maxima(self.rank, input, self.output_size).both()
        return (output, indices) if self.return_indices else output

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (adaptive_maxima(self.rank, inputs[0], self.output_size).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (adaptive_maxima(self.rank, input, self.output_size).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = adaptive_maxima(self.rank, inputs[0], self.output_size).bounded(contract, grad_outputs[0])
        return {name: value for name, value in result.items() if name != "indices" or self.return_indices}


def _of_rank(base: type, name: str, rank: int) -> type:
    name = f"{name}{rank}d"
    return type(
        name,
        (base,),
        {
            "rank": rank,
            "__doc__": (base.__doc__ or "").replace("{rank}", str(rank)),
            "__module__": __name__,
            "__qualname__": name,
        },
    )


AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d = (
    _of_rank(_AdaptiveAvgPool, "AdaptiveAvgPool", rank) for rank in (1, 2, 3)
)
AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d = (
    _of_rank(_AdaptiveMaxPool, "AdaptiveMaxPool", rank) for rank in (1, 2, 3)
)

"""Fractional max pooling, 2-d and 3-d: windows of one size at distances that vary by a random sample.

    output[n, c, y] = max(input[n, c, first[y] + k] for k in kernel)
    first[y] = floor((y + sample) a) - floor(sample a), a = (L - kernel) / (P - 1);  first[P - 1] = L - kernel

for P outputs on an axis of L elements; one sample in [0, 1) a plane and axis.
Source: torch.nn.FractionalMaxPool2d; Graham, arXiv:1412.6071.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from refimpl.error_bounds import FLOATS, Bounded, Contract, SuiteError, gamma, strictest
from refimpl.module import Module
from refimpl.regions import RegionMaxima
from refimpl.taps import float_array

__all__ = [
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "fractional_max_pool2d",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d",
    "fractional_max_pool3d_backward",
]


@lru_cache(maxsize=1024)
def starts(size: int, kernel: int, outputs: int, sample: Fraction) -> list[int]:
    """Where the windows of an axis begin."""
    first = [math.floor(place) for place in _places(size, kernel, outputs, sample)]
    return [place - math.floor(sample * _step(size, kernel, outputs)) for place in first] + [
        size - kernel
    ] * (outputs > 0)


def _step(size: int, kernel: int, outputs: int) -> Fraction:
    return Fraction(size - kernel, outputs - 1) if outputs > 1 else Fraction(0)


def _places(size: int, kernel: int, outputs: int, sample: Fraction) -> Iterator[Fraction]:
    """(y + sample) a of all windows but the last."""
    return ((y + sample) * _step(size, kernel, outputs) for y in range(outputs - 1))


class Fractional(RegionMaxima):
    """One call: arguments checked, windows found for every plane."""

    def __init__(
        self, rank: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, samples: Any
    ):
        self.given = (kernel_size, output_size, output_ratio, samples)
        super().__init__(f"fractional_max_pool{rank}d", rank, input, self._find)

    def _find(self, input: np.ndarray) -> tuple[list, list]:
        kernel_size, output_size, output_ratio, samples = self.given
        size = input.shape[5 - self.rank :]
        if min(input.shape[1:]) < 1:
            raise RuntimeError(
                f"{self.name}: input {input.shape} has an empty axis; only the batch may be empty"
            )
        self.kernel = _ints(self.name, kernel_size, self.rank, "kernel_size")
        self.wanted = _wanted(self.name, size, output_size, output_ratio)
        if self.rank == 3 and min(self.kernel) < 1:
            raise RuntimeError(f"{self.name}: kernel_size {self.kernel}; needed is at least 1")
        spare = self.rank - 2  # torch's 3-d pooling asks for one element more than the windows need
        for n, k, p in zip(size, self.kernel, self.wanted, strict=True):
            if p < 0 or p + k - 1 + spare > n:
                raise RuntimeError(
                    f"{self.name}: {p} windows of {k} do not fit in an axis of {n}; input {input.shape}"
                )
        self.samples = self._checked(samples, input)
        one = (np.zeros((1, 1), dtype=np.int64),) * (3 - self.rank)
        rows = [self._starts(axis) for axis in range(self.rank)]
        first = [*(np.broadcast_to(lead, (len(rows[0]), 1)).copy() for lead in one), *rows]
        lengths = (1,) * (3 - self.rank) + self.kernel
        return first, [row + length for row, length in zip(first, lengths, strict=True)]

    def _checked(self, samples: Any, input: np.ndarray) -> np.ndarray:
        """(N, C, rank) samples; as torch, more rows than the batch has are ignored.  None draws them."""
        batch, channels = input.shape[:2]
        if samples is None:
            return np.random.default_rng().random((batch, channels, self.rank))
        samples = float_array(samples)
        if samples.ndim != 3 or samples.shape[0] < batch or samples.shape[1:] != (channels, self.rank):
            raise RuntimeError(
                f"{self.name}: _random_samples {samples.shape}; needed are {(batch, channels, self.rank)}"
            )
        return samples[:batch]

    def _axis(self, axis: int) -> tuple[tuple[int, int, int], list[Fraction], np.ndarray]:
        """Size, kernel and outputs of an axis, its different samples, and which of them each plane has.
        In 2-d torch's first sample is the last axis's."""
        place = self.rank - 1 - axis if self.rank == 2 else axis
        samples, of_plane = np.unique(self.samples[:, :, place].ravel(), return_inverse=True)
        lengths = self.input.shape[5 - self.rank + axis], self.kernel[axis], self.wanted[axis]
        return lengths, [Fraction(float(sample)) for sample in samples], of_plane.ravel()

    def _starts(self, axis: int) -> np.ndarray:
        lengths, samples, of_plane = self._axis(axis)
        rows = [starts(*lengths, sample) for sample in samples]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.wanted[axis])[of_plane]

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """As of any maximum, once it is certain that no candidate can find another window."""
        if contract == strictest(contract.store):
            self._demand_certain_windows(contract)
        return super().bounded(contract, grad_output)

    def _demand_certain_windows(self, contract: Contract) -> None:
        slack = Fraction(float(gamma(4, FLOATS[contract.accumulate].roundoff)))
        for axis in range(self.rank):
            lengths, samples, _ = self._axis(axis)
            step = _step(*lengths)
            exact = step.denominator & (step.denominator - 1) == 0
            for sample in samples:
                for place in (*_places(*lengths, sample), sample * step):
                    if place and not exact and abs(place - round(place)) <= slack * place:
                        raise SuiteError(
                            f"{self.name}: sample {float(sample)} puts a window so near a whole number "
                            f"that rounding in {contract.accumulate} decides; draw another one"
                        )


def _ints(name: str, value: Any, rank: int, argument: str) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if any(isinstance(item, bool) or not isinstance(item, (int, np.integer)) for item in given):
        raise TypeError(f"{name}: {argument} is {value!r}; needed is an int or {rank} ints")
    if len(given) != rank:
        raise RuntimeError(f"{name}: {argument} is {value!r}; needed is an int or {rank} ints")
    return given


def _wanted(name: str, size: tuple[int, ...], output_size: Any, output_ratio: Any) -> tuple[int, ...]:
    """Outputs on each axis: as given, or the ratio of the size, rounded down."""
    rank = len(size)
    if output_size is not None:
        return _ints(name, output_size, rank, "output_size")
    if output_ratio is None:
        raise ValueError(f"{name}: neither output_size nor output_ratio is given; needed is one of them")
    ratios = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
    if len(ratios) != rank:
        raise ValueError(f"{name}: output_ratio {output_ratio!r}; needed is a number or {rank} numbers")
    return tuple(int(n * ratio) for n, ratio in zip(size, ratios, strict=True))


def _functions(rank: int) -> tuple:
    def pool(
        input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None
    ):
        output, indices = Fractional(
            rank, input, kernel_size, output_size, output_ratio, _random_samples
        ).both()
        return (output, indices) if return_indices else output

    def backward(
        grad_output,
        input,
        kernel_size,
        output_size=None,
        output_ratio=None,
        _random_samples=None,
    ):
        call = Fractional(rank, input, kernel_size, output_size, output_ratio, _random_samples)
        return (call.gradient(grad_output),)

    name = f"fractional_max_pool{rank}d"
    pool.__name__ = pool.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = f"""Gradient of sum(grad_output * {name}(...)) for the input: (grad_input,)."""
    pool.__doc__ = f"""The maximum of windows at fractional distances, {rank}-d.

    output[n, c, y] = max(input[n, c, first[y] + k] for k in kernel)
    first[y] = floor((y + sample) a) - floor(sample a), a = (L - kernel) / (P - 1); first[P - 1] = L - kernel

    input (N, C, *L) or (C, *L) -> output (N, C, *P) float64, P = output_size or floor(output_ratio L);
    _random_samples (N, C, {rank}) in [0, 1), drawn when None{
        "; the first is that of the last axis" if rank == 2 else ""
    }. return_indices adds int64 indices, the flat place of each maximum in its plane.
    The formula of `first`, the first of equal maxima, NaN as the largest: as torch does, its documentation
    is silent.
    Error: none, values are copied; gradients gamma(m - 1) sum |grad_output| over the m windows that chose.
    Raises RuntimeError for sizes and samples that do not fit, ValueError without size and ratio, TypeError
    for no ints.
    Source: torch.nn.functional.{name}; Graham, arXiv:1412.6071."""
    return pool, backward


fractional_max_pool2d, fractional_max_pool2d_backward = _functions(2)
fractional_max_pool3d, fractional_max_pool3d_backward = _functions(3)


class _FractionalMaxPool(Module):
    """{rank}-d fractional max pooling layer; with return_indices a call gives (output, indices).

    Formula, shapes, error: `fractional_max_pool{rank}d`.  Raises ValueError unless exactly one of
    output_size and
    output_ratio (each in (0, 1)) is given.  `_random_samples` is a buffer.  Source:
    torch.nn.FractionalMaxPool{rank}d."""

    buffers = ("_random_samples",)
    rank: int

    def __init__(
        self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None
    ):
        super().__init__()
        if (
            self.rank == 3
            and min(kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,)) <= 0
        ):
            raise ValueError(f"kernel_size is {kernel_size}; needed is at least 1")
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"output_size {output_size}, output_ratio {output_ratio}; needed is one of the two"
            )
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,)
        if output_ratio is not None and not all(0 < ratio < 1 for ratio in ratios):
            raise ValueError(f"output_ratio is {output_ratio}; needed is more than 0 and less than 1")
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices = return_indices
        self._random_samples = None if _random_samples is None else float_array(_random_samples)

    def _call(self, input: Any) -> Fractional:
        samples = self._random_samples
        return Fractional(self.rank, input, self.kernel_size, self.output_size, self.output_ratio, samples)

    def forward(self, input: Any) -> Any:
        output, indices = self._call(input).both()
        return (output, indices) if self.return_indices else output

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(inputs[0]).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = self._call(inputs[0]).bounded(contract, grad_outputs[0])
        return {name: value for name, value in result.items() if name != "indices" or self.return_indices}


FractionalMaxPool2d, FractionalMaxPool3d = (
    type(
        f"FractionalMaxPool{rank}d",
        (_FractionalMaxPool,),
        {
            "rank": rank,
            "__doc__": (_FractionalMaxPool.__doc__ or "").replace("{rank}", str(rank)),
            "__module__": __name__,
            "__qualname__": f"FractionalMaxPool{rank}d",
        },
    )
    for rank in (2, 3)
)

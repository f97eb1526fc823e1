"""Interpolation, 1-d to 3-d, in every mode: one walk over weighted samples, a few readings.

    output[n, c, y] = sum over t of  input[n, c, x(y, t)] weight(y, t),   the weight a product of one factor
    an axis

Which elements x an output reads and with what weights is in interpolation_axes; mode 'area' is adaptive
average pooling.
Source: torch.nn.functional.interpolate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from refimpl.adaptive_pooling import adaptive_means
from refimpl.error_bounds import Bounded, Contract, gamma, multilinear
from refimpl.floats import outward
from refimpl.interpolation_axes import STORED_WEIGHTS, Axis, Taps
from refimpl.interpolation_bounds import exactly, left_open, roundings, roundings_back, weighted_sum
from refimpl.interpolation_taps import (
    Samples,
    contested_gradients,
    distances,
    input_errors,
    output_errors,
    read_input,
    read_output,
)
from refimpl.module import Module
from refimpl.regions import Lifted, RegionMeans
from refimpl.taps import float_array

__all__ = ["interpolate", "interpolate_backward"]

# mode -> the kind of each axis, and the ranks that have the mode
MODES = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "bicubic": ("cubic", (2,)),
    "trilinear": ("linear", (3,)),
    "area": ("area", (1, 2, 3)),
}


class Interpolation(Lifted):
    """One call in a mode other than 'area': sizes checked, an `Axis` for each of three spatial axes."""

    def __init__(
        self, input: Any, sizes: tuple, scales: tuple | None, mode: str, corners: bool, antialias: bool
    ):
        super().__init__("interpolate", len(sizes), input)
        size = self.input.shape[5 - self.rank :]
        if min(*self.input.shape[1:], *sizes) < 1:
            raise RuntimeError(
                f"interpolate: input {self.input.shape} to sizes {sizes}; needed are sizes of at least 1, "
                "and only the batch may be empty"
            )
        axes = [
            Axis(n, p, _ratio(n, p, scale, corners), MODES[mode][0], corners, antialias)
            for n, p, scale in zip(size, sizes, scales or (None,) * self.rank, strict=True)
        ]
        self.axes = [Axis(1, 1, Fraction(1), "nearest")] * (3 - self.rank) + axes
        self.sizes = self.input.shape[2:]
        self.output_shape = (*self.input.shape[:2], *sizes)

    def _geometry(self, tables: Sequence[Taps]) -> Samples:
        batch, channels = self.input.shape[:2]
        first, second, third = (table.index for table in tables)
        return Samples(batch, channels, (first, second, third))

    def _plain(self, operand: np.ndarray) -> tuple[Samples, list[np.ndarray]]:
        tables = [axis.table(object if operand.dtype == object else np.float64) for axis in self.axes]
        return self._geometry(tables), [table.weight for table in tables]

    def output(self) -> np.ndarray:
        return self.down(self._output())

    def _output(self) -> np.ndarray:
        """A sum that begins with 0 loses the sign of -0; nearest modes copy it."""
        geometry, weights = self._plain(self.input)
        output = read_output(geometry, self.input, *weights)
        if output.dtype == object or not self._copies or self.input.all():
            return output
        return np.copysign(output, read_output(geometry, np.copysign(1.0, self.input), *weights))

    @property
    def _copies(self) -> bool:
        return self.axes[-1].kind.startswith("nearest")

    def gradient(self, grad_output: Any) -> np.ndarray:
        up = self.up(grad_output, self.output_shape)
        geometry, weights = self._plain(up)
        return self.down(read_input(geometry, self.sizes, up, *weights))

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """What `interpolation_axes` says of the weights, and the rest as of any sum of products.

            output    sum of |drift| |x - output| + |loose| |x| over the taps, and gamma(n) sum |weight| |x|
            gradient  sum of (|drift| + |loose|) |g|, and gamma(n) sum |weight| |g|

        n - 1 additions and a product an axis on each of n terms, in any order.  x - output, because drifting
        weights keep their sum of 1.  The bound is 0 where A holds coordinates and weights exactly, and sums
        as large as with weights of 1: those of x0 + f (x1 - x0) are not larger.
        """
        up = self.up(grad_output, self.output_shape)
        within = [axis.within(contract) for axis in self.axes]
        tables = [np.stack([np.abs(table.weight), table.loose, table.drift]) for table in within]
        around, exact = self._geometry(within), all(table.exact for table in within)
        if self._copies:
            return self._copied(contract, up, around, tables)
        geometry, weights = self._plain(self.input)
        forward, backward = partial(read_output, geometry), partial(read_input, geometry, self.sizes)
        output = multilinear(forward, (self.input, *weights), roundings(within))
        gradient = multilinear(backward, (up, *weights), roundings_back(within, self.sizes))
        off, magnitude = output_errors(around, output.value, self.input, *tables)
        off_back, magnitude_back = input_errors(around, self.sizes, up, *tables)
        results = {
            "output": weighted_sum(output, off, magnitude, contract),
            "grad_input": weighted_sum(gradient, off_back, magnitude_back, contract),
        }
        if exact:  # differences are taken in linear interpolation only
            most = [
                weight * 0 + 1 if axis.kind == "linear" else np.abs(weight)
                for weight, axis in zip(weights, self.axes, strict=True)
            ]
            results["output"] = exactly(results["output"], forward(np.abs(self.input), *most))
            results["grad_input"] = exactly(results["grad_input"], backward(np.abs(up), *most))
        return {name: self._in_shape(result) for name, result in results.items()}

    def _in_shape(self, result: Bounded) -> Bounded:
        """As returned; without the products, whose statistics say nothing of the errors of weights."""
        return Bounded(
            self.down(result.value), self.down(left_open(result.error, result.contract)), result.contract
        )

    def _copied(
        self, contract: Contract, up: np.ndarray, around: Samples, tables: list
    ) -> dict[str, Bounded]:
        """Nearest modes copy.  Where rounding can move a coordinate over a whole number the output may be
        any of the elements that it could read, and its gradient may go to any of them: an element that m
        outputs may choose besides its own n has a sum of n + m terms at most."""
        geometry, weights = self._plain(self.input)
        output = self._output()
        one = geometry._replace(batch=1, channels=1)
        ones = np.ones((1, 1, *around.outputs))
        counts = read_input(one, self.sizes, ones, *weights)
        backward = partial(read_input, geometry, self.sizes)
        sums = multilinear(backward, (up, *weights), np.maximum(counts - 1, 0)).bounded(contract)
        if not any(drift.any() for _, _, drift in tables):
            copied = contract.copied(output)
            return {
                "output": replace(copied, value=self.down(output), error=self.down(copied.error)),
                "grad_input": Bounded(self.down(sums.value), self.down(sums.error), contract),
            }
        error = left_open(distances(around, output, self.input), contract)
        doubt = contested_gradients(around, self.sizes, up, *tables)
        others = contested_gradients(around._replace(batch=1, channels=1), self.sizes, ones, *tables)
        assert sums.products is not None
        more = doubt + gamma(counts + others, contract.u) * (sums.products.magnitude + doubt)
        widened = np.where(doubt > 0, contract.stored(sums.value, outward(sums.error + more)), sums.error)
        copied = contract.copied(output) if not error.any() else Bounded(output, error, contract)
        return {
            "output": replace(copied, value=self.down(output), error=self.down(error)),
            "grad_input": Bounded(self.down(sums.value), self.down(left_open(widened, contract)), contract),
        }

    def unsettled(self, contract: Contract) -> np.ndarray:
        """Input elements (of all planes) that a candidate may read or leave out: what is not finite there
        decides nothing."""
        marks = reduce(np.logical_or.outer, (axis.unsettled(contract) for axis in self.axes))
        return marks.reshape(self.sizes[3 - self.rank :])


def _ratio(size: int, outputs: int, scale: float | None, corners: bool) -> Fraction:
    """Input elements an output element."""
    if corners:
        return Fraction(size - 1, outputs - 1) if outputs > 1 else Fraction(0)
    return Fraction(size, outputs) if scale is None else 1 / Fraction(scale)


def _sizes(
    shape: tuple[int, ...], size: Any, scale_factor: Any, mode: str, recompute: Any
) -> tuple[tuple, tuple | None]:
    """Output sizes, and the scale factors where they are to be used for the coordinates."""
    rank = len(shape)
    if size is not None and scale_factor is not None:
        raise ValueError(
            f"interpolate: size {size} and scale_factor {scale_factor}; needed is only one of them"
        )
    if size is None and scale_factor is None:
        raise ValueError("interpolate: neither size nor scale_factor is given; needed is one of them")
    given = scale_factor if size is None else size
    if isinstance(given, (list, tuple)) and len(given) != rank:
        raise ValueError(f"interpolate: {given} for input of spatial size {shape}; needed are {rank} numbers")
    given = tuple(given) if isinstance(given, (list, tuple)) else (given,) * rank
    if size is not None:
        if recompute:
            raise ValueError(f"interpolate: recompute_scale_factor with size {size}; it needs a scale_factor")
        if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in given):
            raise TypeError(f"interpolate: size {size!r}; needed are ints")
        return tuple(int(n) for n in given), None
    scales = tuple(float(scale) for scale in given)
    if any(math.isnan(scale) for scale in scales):
        raise RuntimeError(f"interpolate: scale_factor {scale_factor}; needed are numbers")
    sizes = tuple(int(n * scale) for n, scale in zip(shape, scales, strict=True))
    return sizes, None if recompute or mode == "area" else scales


def _interpolation(
    input: Any, size: Any, scale_factor: Any, mode: Any, align_corners: Any, recompute: Any, antialias: Any
) -> Interpolation | RegionMeans:
    """One call, its arguments checked in the order in which torch does."""
    input = float_array(input)
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError(
            f"interpolate: align_corners with mode {mode!r}; only linear and cubic modes have corners"
        )
    shape = input.shape[2:]
    sizes, scales = _sizes(shape, size, scale_factor, mode, recompute)
    if antialias and (mode not in ("bilinear", "bicubic") or len(shape) != 2):
        raise ValueError(
            f"interpolate: antialias with mode {mode!r}, input {input.shape}; needed is a 2-d mode"
        )
    if mode not in MODES or len(shape) not in MODES[mode][1]:
        raise NotImplementedError(
            f"interpolate: mode {mode!r} for input {input.shape}; known are {', '.join(MODES)}"
        )
    if align_corners is not None and not isinstance(align_corners, bool):
        raise TypeError(f"interpolate: align_corners is {align_corners!r}; needed is True or False")
    if mode == "area":
        return adaptive_means(len(shape), input, sizes)
    return Interpolation(input, sizes, scales, mode, bool(align_corners), bool(antialias))


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """Resample `input` to another spatial size.

        output[n, c, y] = sum of input[n, c, x] weight(x - s) over the x around s, axis by axis
        s = r y (nearest; align_corners, r = (L - 1) / (P - 1)), r (y + 1/2) (nearest-exact), r (y + 1/2) -
        1/2 (others)

    r = L / P, or 1 / scale_factor where that is given and not recomputed.  Weights: of floor(s) alone
    (nearest modes); linear; Keys' cubic kernel with a = -3/4, indices clamped; the mean over adaptive
    regions ('area').  antialias: the linear kernel or Keys' with a = -1/2, stretched by max(1, r) around r
    (y + 1/2), cut off at the border, divided by its sum.  input (N, C, *L), 1 to 3 spatial axes as the mode
    has -> output (N, C, *P), P = size or floor(L scale_factor).  A coordinate is exact here.
    Error: one rounding of r, of the product and of the difference move s, at the kernel's slope; gamma(n) sum
    |weight| |input|.  Nearest modes copy; where that rounding can move s over a whole number either
    neighbour is right.
    Raises ValueError and TypeError for sizes and options that contradict each other, NotImplementedError for
    a mode that the rank has not, RuntimeError for empty sizes.
    Source: torch.nn.functional.interpolate; Keys, IEEE Trans. ASSP 29(6), 1981."""
    call = _interpolation(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    return call.output()


def interpolate_backward(
    grad_output, input, size=None, scale_factor=None, mode="nearest", align_corners=None,
    recompute_scale_factor=None, antialias=False
):  # fmt: skip
    """Gradient of sum(grad_output * interpolate(...)) for the input: (grad_input,)."""
    call = _interpolation(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    return (call.gradient(grad_output),)


class Interpolate(Module):
    """`interpolate` as a layer: what the classes of torch.nn share.

    'stored weights': each weight is rounded to T before it is used."""

    algorithms = (STORED_WEIGHTS,)

    def __init__(
        self,
        size=None,
        scale_factor=None,
        mode="nearest",
        align_corners=None,
        recompute_scale_factor=None,
        antialias=False,
    ):
        super().__init__()
        self.arguments = (size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)

    def call(self, input: Any) -> Interpolation | RegionMeans:
        return _interpolation(input, *self.arguments)

    def forward(self, input: Any) -> np.ndarray:
        return self.call(input).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self.call(inputs[0]).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self.call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self.call(inputs[0]).bounded(contract, grad_outputs[0])

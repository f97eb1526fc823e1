"""Unfold and Fold: the taps of a convolution written down one by one, and added back.

    unfold: columns[n, (c, k), (y)] = input[n, c, y*stride - padding + k*dilation]     0 outside
    fold:   output[n, c, y*stride - padding + k*dilation] += columns[n, (c, k), (y)]

The walk is that of a convolution with one input channel a group: its weight index says which row of
`columns` a tap has.
Source: torch.nn.Unfold, torch.nn.Fold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.conv_taps import Geometry, taps
from refimpl.error_bounds import Bounded, Contract, multilinear
from refimpl.module import Module
from refimpl.shapes import per_axis
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = ["Fold", "Unfold", "fold", "fold_backward", "unfold", "unfold_backward"]


def write_down(arrays, y, x, w):
    columns, input = arrays
    columns[y[0], y[1], w[3], w[4], y[3], y[4]] = input[x]


def add_back(arrays, y, x, w):
    columns, output = arrays
    output[x] += columns[y[0], y[1], w[3], w[4], y[3], y[4]]


_write_down = Kernel(taps, write_down)
_add_back = Kernel(taps, add_back)


class _Blocks:
    """Sliding blocks of an image: arguments checked, walk ready.  `image` is (N, C, height, width)."""

    def __init__(
        self, name: str, image: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any
    ):
        kernel, dilation = per_axis(kernel_size, 2, "kernel_size"), per_axis(dilation, 2, "dilation")
        padding, stride = per_axis(padding, 2, "padding"), per_axis(stride, 2, "stride")
        if min(*kernel, *dilation, *stride) < 1 or min(padding) < 0:
            raise RuntimeError(
                f"{name}: kernel_size {kernel}, dilation {dilation}, stride {stride}, padding {padding}; "
                "needed are positive values, and paddings of at least 0"
            )
        self.blocks = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, d, p, s in zip(image[2:], kernel, dilation, padding, stride, strict=True)
        )
        if min(self.blocks) < 1:
            raise RuntimeError(
                f"{name}: there would be {self.blocks} blocks for spatial size {image[2:]}, "
                f"kernel_size {kernel}, dilation {dilation}, padding {padding}; needed is at least 1 an axis"
            )
        self.image, self.kernel = image, kernel
        self.geometry = Geometry(
            image[0], image[1], 1, image[1], (1, *image[2:]), (1, *kernel), (1, *self.blocks), (1, *stride),
            (0, *padding), (1, *dilation),
        )  # fmt: skip

    @property
    def columns(self) -> tuple[int, int, int]:
        return (self.image[0], self.image[1] * math.prod(self.kernel), math.prod(self.blocks))

    def unfold(self, image: np.ndarray) -> np.ndarray:
        columns = zeros_like_kind((*self.image[:2], *self.kernel, *self.blocks), image)
        _write_down((columns, image[:, :, None]), self.geometry, self.geometry.taps)
        return columns.reshape(self.columns)

    def fold(self, columns: np.ndarray) -> np.ndarray:
        image = zeros_like_kind((*self.image[:2], 1, *self.image[2:]), columns)
        columns = columns.reshape(*self.image[:2], *self.kernel, *self.blocks)
        _add_back((columns, image), self.geometry, self.geometry.taps)
        return image[:, :, 0]

    def additions(self) -> np.ndarray:
        """How many additions make an element of the image: one less than the blocks that hold it."""
        return np.maximum(self.fold(np.ones(self.columns)) - 1, 0)


def _batch(name: str, input: Any, rank: int) -> tuple[np.ndarray, bool]:
    """The input with a batch axis, and whether it had one."""
    input = float_array(input)
    if input.ndim not in (rank - 1, rank):
        raise RuntimeError(
            f"{name}: input has {input.ndim} axes {input.shape}; needed are {rank - 1} or {rank}"
        )
    had = input.ndim == rank
    if min(input.shape[1:] if had else input.shape) < 1:
        raise RuntimeError(f"{name}: input {input.shape} has an empty axis; only the batch may be empty")
    return (input, True) if had else (input[None], False)


def _same_shape(name: str, grad_output: Any, needed: tuple[int, ...], had_batch: bool) -> np.ndarray:
    grad_output = float_array(grad_output)
    grad_output = grad_output if had_batch else grad_output[None]
    if grad_output.shape != needed:
        raise RuntimeError(f"{name}: grad_output has shape {grad_output.shape}; needed is {needed}")
    return grad_output


class _Call:
    """One call of either: the input with a batch axis, the blocks, and which of the two directions is
    forward."""

    def __init__(self, name: str, input: np.ndarray, had_batch: bool, blocks: _Blocks):
        self.name, self.input, self.had_batch, self.blocks = name, input, had_batch, blocks

    def down(self, array: np.ndarray) -> np.ndarray:
        return array if self.had_batch else array[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        shape = self.blocks.columns if self.name == "unfold" else self.blocks.image
        return shape if self.had_batch else shape[1:]

    def output(self) -> np.ndarray:
        return self.down((self.blocks.unfold if self.name == "unfold" else self.blocks.fold)(self.input))

    def gradient(self, grad_output: Any) -> np.ndarray:
        back = self.blocks.fold if self.name == "unfold" else self.blocks.unfold
        return self.down(back(self._up(grad_output)))

    def _up(self, grad_output: Any) -> np.ndarray:
        needed = self.blocks.columns if self.name == "unfold" else self.blocks.image
        return _same_shape(self.name, grad_output, needed, self.had_batch)

    def bounded(self, contract: Contract, grad_output: Any) -> dict[str, Bounded]:
        """Unfolding copies, folding adds: m terms take m - 1 additions."""
        up, blocks = self._up(grad_output), self.blocks
        copied, added = (self.input, up) if self.name == "unfold" else (up, self.input)
        copies = contract.copied(self.down(blocks.unfold(copied)))
        sums = multilinear(blocks.fold, (added,), blocks.additions()).map(self.down).bounded(contract)
        names = ("output", "grad_input") if self.name == "unfold" else ("grad_input", "output")
        return dict(zip(names, (copies, sums), strict=True))


def _unfolding(input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> _Call:
    input, had_batch = _batch("unfold", input, 4)
    return _Call(
        "unfold", input, had_batch, _Blocks("unfold", input.shape, kernel_size, dilation, padding, stride)
    )


def _folding(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> _Call:
    input, had_batch = _batch("fold", input, 3)
    size, kernel = per_axis(output_size, 2, "output_size"), per_axis(kernel_size, 2, "kernel_size")
    if min(kernel) < 1 or input.shape[1] % math.prod(kernel):
        raise RuntimeError(
            f"fold: input {input.shape} has {input.shape[1]} rows; needed is a multiple of the elements of "
            f"kernel_size {kernel}"
        )
    image = (input.shape[0], input.shape[1] // math.prod(kernel), *size)
    blocks = _Blocks("fold", image, kernel, dilation, padding, stride)
    if blocks.columns != input.shape:
        raise RuntimeError(
            f"fold: input {input.shape} has {input.shape[2]} columns; output_size {size} has "
            f"{blocks.columns[2]} blocks"
        )
    return _Call("fold", input, had_batch, blocks)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Write every sliding block of an image down as a column.

    output[n, (c, k), (y)] = input[n, c, y*stride - padding + k*dilation], 0 outside; (c, k), (y) in C order

    input (N, C, H, W) or (C, H, W) -> output (N, C prod(kernel), blocks) with
    floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1 blocks an axis.  Error: none, values are
    copied; gradients gamma(m - 1) sum |grad_output| over the m blocks that hold an element.
    Raises RuntimeError for sizes that do not fit, TypeError for what is no int.
    Source: torch.nn.functional.unfold."""
    return _unfolding(input, kernel_size, dilation, padding, stride).output()


def unfold_backward(grad_output, input, kernel_size, dilation=1, padding=0, stride=1):
    """Gradient of sum(grad_output * unfold(...)) for the input: (grad_input,)."""
    return (_unfolding(input, kernel_size, dilation, padding, stride).gradient(grad_output),)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Add columns back into the image of which they are the sliding blocks; what falls into the padding is
    lost.

    output[n, c, y*stride - padding + k*dilation] += input[n, (c, k), (y)]

    input (N, C prod(kernel), blocks) or without N -> output (N, C, *output_size), the adjoint of `unfold`.
    Error: gamma(m - 1) sum |input| over the m blocks that hold an element; gradients are copied.
    Raises RuntimeError for sizes that do not fit, TypeError for what is no int.
    Source: torch.nn.functional.fold."""
    return _folding(input, output_size, kernel_size, dilation, padding, stride).output()


def fold_backward(grad_output, input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Gradient of sum(grad_output * fold(...)) for the input: (grad_input,)."""
    return (_folding(input, output_size, kernel_size, dilation, padding, stride).gradient(grad_output),)


class _Folding(Module):
    def _call(self, input: Any) -> _Call:
        raise NotImplementedError

    def forward(self, input: Any) -> np.ndarray:
        return self._call(input).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(inputs[0]).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        return self._call(inputs[0]).bounded(contract, grad_outputs[0])


class Unfold(_Folding):
    """`unfold` as a layer.

    Formula, shapes, error, what it raises: `unfold`.  Source: torch.nn.Unfold."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.arguments = (kernel_size, dilation, padding, stride)

    def _call(self, input: Any) -> _Call:
        return _unfolding(input, *self.arguments)


class Fold(_Folding):
    """`fold` as a layer.

    Formula, shapes, error, what it raises: `fold`.  Source: torch.nn.Fold."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.arguments = (output_size, kernel_size, dilation, padding, stride)

    def _call(self, input: Any) -> _Call:
        return _folding(input, *self.arguments)

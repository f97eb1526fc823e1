"""Pixel and channel shuffles: every element moves, none changes.

Source: torch.nn.PixelShuffle, torch.nn.PixelUnshuffle, torch.nn.ChannelShuffle.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.taps import Kernel, float_array, zeros_like_kind

__all__ = [
    "ChannelShuffle",
    "PixelShuffle",
    "PixelUnshuffle",
    "channel_shuffle",
    "channel_shuffle_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
]


class Blocks(NamedTuple):
    """N planes of C channels of r x r blocks, (h, w) of them."""

    batch: int
    channels: int
    factor: int
    height: int
    width: int


class Groups(NamedTuple):
    """N batches of g groups of C channels each, L elements a channel."""

    batch: int
    groups: int
    channels: int
    length: int


def pixels(visit, arrays, geometry):
    """Element (i, j) of block (y, x) is channel c r^2 + i r + j at (y, x), and channel c at (y r + i, x r +
    j)."""
    batch, channels, r, height, width = geometry
    for n in range(batch):
        for c in range(channels):
            for i in range(r):
                for j in range(r):
                    for y in range(height):
                        for x in range(width):
                            visit(arrays, (n, (c * r + i) * r + j, y, x), (n, c, y * r + i, x * r + j))


def channels_of_groups(visit, arrays, geometry):
    """Channel c of group g is channel g C + c before, and channel c G + g after the shuffle."""
    batch, groups, channels, length = geometry
    for n in range(batch):
        for g in range(groups):
            for c in range(channels):
                for x in range(length):
                    visit(arrays, (n, g * channels + c, x), (n, c * groups + g, x))


def there(arrays, before, after):
    source, target = arrays
    target[after] = source[before]


def back(arrays, before, after):
    target, source = arrays
    target[before] = source[after]


_pixels_there, _pixels_back = Kernel(pixels, there), Kernel(pixels, back)
_channels_there, _channels_back = Kernel(channels_of_groups, there), Kernel(channels_of_groups, back)


class _Shuffle:
    """One call: shapes before and after in the walk's terms, and whether `input` is the side before."""

    def __init__(
        self, input: np.ndarray, geometry: Any, before: tuple, after: tuple, shape: tuple, forward: bool
    ):
        self.input, self.geometry, self.before, self.after = input, geometry, before, after
        self.output_shape, self.forward = shape, forward

    def _move(self, array: np.ndarray, forward: bool, shape: tuple) -> np.ndarray:
        pixelwise = isinstance(self.geometry, Blocks)
        if forward:
            source, target = array.reshape(self.before), zeros_like_kind(self.after, array)
            (_pixels_there if pixelwise else _channels_there)((source, target), self.geometry, array.size)
        else:
            source, target = array.reshape(self.after), zeros_like_kind(self.before, array)
            (_pixels_back if pixelwise else _channels_back)((target, source), self.geometry, array.size)
        return target.reshape(shape)

    def output(self) -> np.ndarray:
        return self._move(self.input, self.forward, self.output_shape)

    def gradient(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.output_shape:
            raise RuntimeError(f"grad_output has shape {grad_output.shape}; needed is {self.output_shape}")
        return self._move(grad_output, not self.forward, self.input.shape)


def _positive(name: str, argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: {argument} is {value!r}; needed is an int")
    if value < 1:
        raise RuntimeError(f"{name}: {argument} is {value}; needed is at least 1")
    return int(value)


def _at_least_three(name: str, input: Any) -> np.ndarray:
    input = float_array(input)
    if input.ndim < 3:
        raise RuntimeError(f"{name}: input has {input.ndim} axes {input.shape}; needed are at least 3")
    return input


def _shuffle(input: Any, upscale_factor: Any) -> _Shuffle:
    input = _at_least_three("pixel_shuffle", input)
    r, (*lead, channels, height, width) = (
        _positive("pixel_shuffle", "upscale_factor", upscale_factor),
        input.shape,
    )
    if channels % r**2:
        raise RuntimeError(
            f"pixel_shuffle: input {input.shape} has {channels} channels; needed is a multiple of {r**2}"
        )
    blocks = Blocks(math.prod(lead), channels // r**2, r, height, width)
    return _pixelwise(input, blocks, (*lead, channels // r**2, height * r, width * r), True)


def _unshuffle(input: Any, downscale_factor: Any) -> _Shuffle:
    input = _at_least_three("pixel_unshuffle", input)
    r, (*lead, channels, height, width) = (
        _positive("pixel_unshuffle", "downscale_factor", downscale_factor),
        input.shape,
    )
    if height % r or width % r:
        raise RuntimeError(
            f"pixel_unshuffle: input {input.shape}; needed are height and width that {r} divides"
        )
    blocks = Blocks(math.prod(lead), channels, r, height // r, width // r)
    return _pixelwise(input, blocks, (*lead, channels * r**2, height // r, width // r), False)


def _pixelwise(input: np.ndarray, blocks: Blocks, shape: tuple, forward: bool) -> _Shuffle:
    batch, channels, r, height, width = blocks
    before, after = (batch, channels * r**2, height, width), (batch, channels, height * r, width * r)
    return _Shuffle(input, blocks, before, after, shape, forward)


def _of_channels(input: Any, groups: Any) -> _Shuffle:
    input, groups = _at_least_three("channel_shuffle", input), _positive("channel_shuffle", "groups", groups)
    batch, channels, length = input.shape[0], input.shape[1], math.prod(input.shape[2:])
    if channels % groups:
        raise RuntimeError(f"channel_shuffle: groups {groups}; needed is a divisor of {channels} channels")
    flat = (batch, channels, length)
    return _Shuffle(input, Groups(batch, groups, channels // groups, length), flat, flat, input.shape, True)


def pixel_shuffle(input, upscale_factor):
    """Rearrange channels into blocks of pixels.

    output[..., c, y r + i, x r + j] = input[..., c r^2 + i r + j, y, x], r = upscale_factor

    input (*, C r^2, H, W) -> output (*, C, H r, W r).  Error: none, values are copied.
    Raises RuntimeError for a factor or shape that does not fit, TypeError for a factor that is no int.
    Source: torch.nn.functional.pixel_shuffle."""
    return _shuffle(input, upscale_factor).output()


def pixel_shuffle_backward(grad_output, input, upscale_factor):
    """Gradient of sum(grad_output * pixel_shuffle(...)) for the input: (grad_input,)."""
    return (_shuffle(input, upscale_factor).gradient(grad_output),)


def pixel_unshuffle(input, downscale_factor):
    """Rearrange blocks of pixels into channels: the inverse of `pixel_shuffle`.

    output[..., c r^2 + i r + j, y, x] = input[..., c, y r + i, x r + j], r = downscale_factor

    input (*, C, H r, W r) -> output (*, C r^2, H, W).  Error: none, values are copied.
    Raises RuntimeError for a factor or shape that does not fit, TypeError for a factor that is no int.
    Source: torch.nn.functional.pixel_unshuffle."""
    return _unshuffle(input, downscale_factor).output()


def pixel_unshuffle_backward(grad_output, input, downscale_factor):
    """Gradient of sum(grad_output * pixel_unshuffle(...)) for the input: (grad_input,)."""
    return (_unshuffle(input, downscale_factor).gradient(grad_output),)


def channel_shuffle(input, groups):
    """Deal the channels of every group out among the groups.

    output[n, c G + g] = input[n, g C / G + c], G = groups

    input (N, C, *) -> output (N, C, *).  Error: none, values are copied.
    Raises RuntimeError for groups or a shape that do not fit, TypeError for groups that are no int.
    Source: torch.nn.functional.channel_shuffle."""
    return _of_channels(input, groups).output()


def channel_shuffle_backward(grad_output, input, groups):
    """Gradient of sum(grad_output * channel_shuffle(...)) for the input: (grad_input,)."""
    return (_of_channels(input, groups).gradient(grad_output),)


class _Shuffling(Module):
    """A shuffle as a layer: both ways bitwise copies."""

    def _call(self, input: Any) -> _Shuffle:
        raise NotImplementedError

    def forward(self, input: Any) -> np.ndarray:
        return self._call(input).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(inputs[0]).output_shape,)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._call(input).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        call = self._call(inputs[0])
        return {
            "output": contract.copied(call.output()),
            "grad_input": contract.copied(call.gradient(grad_outputs[0])),
        }


class PixelShuffle(_Shuffling):
    """`pixel_shuffle` as a layer.

    Formula, shapes, error, what it raises: `pixel_shuffle`.  Source: torch.nn.PixelShuffle."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = upscale_factor

    def _call(self, input: Any) -> _Shuffle:
        return _shuffle(input, self.upscale_factor)


class PixelUnshuffle(_Shuffling):
    """`pixel_unshuffle` as a layer.

    Formula, shapes, error, what it raises: `pixel_unshuffle`.  Source: torch.nn.PixelUnshuffle."""

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = downscale_factor

    def _call(self, input: Any) -> _Shuffle:
        return _unshuffle(input, self.downscale_factor)


class ChannelShuffle(_Shuffling):
    """`channel_shuffle` as a layer.

    Formula, shapes, error, what it raises: `channel_shuffle`.  Source: torch.nn.ChannelShuffle."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def _call(self, input: Any) -> _Shuffle:
        return _of_channels(input, self.groups)

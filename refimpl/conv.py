"""Convolution and transposed convolution, 1-d to 3-d: functions and classes around the walk of conv_taps.

    output[n, o, y] = bias[o] + sum(input[n, first(o) + c, y*stride - padding + k*dilation] * weight[o, c, k]
                                    for c in channels of the group, k in kernel)

with first(o) the first input channel of the group of o.  A transposed convolution is the same walk with the
roles of input and output exchanged; so its forward is the convolution's input gradient, and the other way
round. Source: torch.nn.Conv2d, torch.nn.ConvTranspose2d.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.conv_call import Convolution, both_sides
from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module, uniform
from refimpl.padding import pad, pad_adjoint, pad_backward
from refimpl.shapes import per_axis

__all__ = [
    f"{name}{rank}d{suffix}"
    for name in ("conv", "conv_transpose")
    for rank in (1, 2, 3)
    for suffix in ("", "_backward")
] + [f"{name}{rank}d" for name in ("Conv", "ConvTranspose") for rank in (1, 2, 3)]


def _convolution_functions(rank: int) -> tuple:
    name = f"conv{rank}d"

    def convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        return Convolution(name, rank, input, weight, bias, stride, padding, dilation, groups).output()

    def backward(grad_output, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        call = Convolution(name, rank, input, weight, bias, stride, padding, dilation, groups)
        return call.gradients(grad_output)

    convolution.__doc__ = f"""Cross-correlate `input` with `weight`, {rank}-d.

    output[n, o, y] = bias[o] + sum(input[n, first(o) + c, y*stride - padding + k*dilation] * weight[o, c, k]
                                    for c in channels of the group, k in kernel); input outside is 0

    input (N, C, *L) or (C, *L), weight (O, C/groups, *K), bias (O) -> output (N, O, *P) float64 with
    P = floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1; padding 'same' keeps L, 'valid' is 0.
    Error: gamma(C/groups prod(K) + 1) sum |input| |weight| an element, gamma counted exactly.
    Raises RuntimeError for shapes, groups, stride, padding or dilation that do not fit.
    Source: torch.nn.functional.{name}."""
    return _named(convolution, backward, name)


def _transposed_functions(rank: int) -> tuple:
    name = f"conv_transpose{rank}d"

    def convolution(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        return Convolution(
            name, rank, input, weight, bias, stride, padding, dilation, groups, output_padding
        ).output()

    def backward(
        grad_output, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ):
        call = Convolution(name, rank, input, weight, bias, stride, padding, dilation, groups, output_padding)
        return call.gradients(grad_output)

    convolution.__doc__ = f"""Transposed convolution, {rank}-d, the adjoint of conv{rank}d.

    output[n, first(o) + c, y*stride - padding + k*dilation] += input[n, o, y] * weight[o, c, k]   from bias

    input (N, C, *L) or (C, *L), weight (C, O/groups, *K), bias (O) -> output (N, O, *P) float64 with
    P = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.
    Error: gamma(terms + 1) sum |input| |weight| an element, terms counted exactly.
    Raises RuntimeError for shapes, groups, stride, padding, output_padding or dilation that do not fit.
    Source: torch.nn.functional.{name}."""
    return _named(convolution, backward, name)


def _named(function: Any, backward: Any, name: str) -> tuple:
    function.__name__ = function.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    backward.__doc__ = (
        f"""Gradients of sum(grad_output * {name}(...)): (grad_input, grad_weight, grad_bias or None)."""
    )
    return function, backward


conv1d, conv1d_backward = _convolution_functions(1)
conv2d, conv2d_backward = _convolution_functions(2)
conv3d, conv3d_backward = _convolution_functions(3)
conv_transpose1d, conv_transpose1d_backward = _transposed_functions(1)
conv_transpose2d, conv_transpose2d_backward = _transposed_functions(2)
conv_transpose3d, conv_transpose3d_backward = _transposed_functions(3)


class _ConvNd(Module):
    parameters = ("weight", "bias")
    rank: int
    transposed = False

    def _set_up(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
    ) -> None:
        """Check what torch's constructors check and make weight and bias."""
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups is {groups}; needed is a positive integer")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}"
            )
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"padding_mode {padding_mode!r}; needed is 'zeros', 'reflect', 'replicate' or 'circular'"
            )
        kernel = per_axis(kernel_size, self.rank, "kernel_size")
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (first, second // groups, *kernel)
        if min(shape) < 0:
            raise RuntimeError(
                f"in_channels {in_channels}, out_channels {out_channels}, kernel_size {kernel_size}; "
                "needed is at least 0"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.groups, self.padding_mode = kernel, groups, padding_mode
        self.weight = uniform(shape, math.prod(shape[1:]))
        self.bias = uniform((out_channels,), math.prod(shape[1:])) if bias else None

    def _call(self, input: Any, *more: Any) -> Convolution:
        """The convolution of one call; `more` are the call's other arguments."""
        raise NotImplementedError

    def forward(self, input: Any, *more: Any) -> np.ndarray:
        return self._call(self._padded(input), *more).output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (self._call(self._padded(inputs[0]), *inputs[1:]).output_shape,)

    def _padded(self, input: Any) -> Any:
        return input

    def _unpadded(self, grad: Any, input: Any) -> Any:
        return grad

    def _backward(self, grad_outputs: tuple, input: Any, *more: Any) -> tuple[tuple, dict]:
        grad_input, grad_weight, grad_bias = self._call(self._padded(input), *more).gradients(grad_outputs[0])
        grads = {"weight": grad_weight} | ({} if grad_bias is None else {"bias": grad_bias})
        return (self._unpadded(grad_input, input),), grads

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        products = self._call(self._padded(inputs[0]), *inputs[1:]).products(grad_outputs[0])
        return {name: result.bounded(contract) for name, result in products.items()}


class _Conv(_ConvNd):
    """{rank}-d convolution layer; with a padding_mode other than 'zeros' the input is padded so first.

    Formula, shapes, error: `conv{rank}d`.
    weight (out_channels, in_channels/groups, *kernel_size), bias (out_channels).
    Raises ValueError for groups, padding or padding_mode that cannot be; calls raise RuntimeError as
    `conv{rank}d` does.  Source: torch.nn.Conv{rank}d."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
    ):
        self._set_up(in_channels, out_channels, kernel_size, groups, bias, padding_mode)
        self.stride = per_axis(stride, self.rank, "stride")
        self.dilation = per_axis(dilation, self.rank, "dilation")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"padding {padding!r}; needed is an int, {self.rank} ints, 'same' or 'valid'")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(f"padding='same' with stride {self.stride}; needed is stride 1")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self.rank, "padding")

    def _call(self, input: Any, *more: Any) -> Convolution:
        padding = self.padding if self.padding_mode == "zeros" else 0
        return Convolution(
            f"conv{self.rank}d",
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )

    def _amounts(self) -> tuple[int, ...]:
        """Padding amounts in the order that `pad` takes them: last axis first, before and after."""
        before, after = both_sides(
            type(self).__name__, self.padding, self.rank, self.stride, self.kernel_size, self.dilation
        )
        return tuple(amount for pair in reversed(list(zip(before, after, strict=True))) for amount in pair)

    def _padded(self, input: Any) -> Any:
        return input if self.padding_mode == "zeros" else pad(input, self._amounts(), self.padding_mode)

    def _unpadded(self, grad: Any, input: Any) -> Any:
        if self.padding_mode == "zeros":
            return grad
        return pad_backward(grad, input, self._amounts(), self.padding_mode)[0]

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        result = super().bounded(contract, inputs, grad_outputs)
        if self.padding_mode != "zeros":
            padded = result["grad_input"]  # stored in T between the two
            result["grad_input"] = pad_adjoint(padded, inputs[0], self._amounts(), self.padding_mode)
        return result


class _ConvTranspose(_ConvNd):
    """{rank}-d transposed convolution layer; the call takes output_size, which chooses the output padding.

    Formula, shapes, error: `conv_transpose{rank}d`.  weight (in_channels, out_channels/groups, *kernel_size).
    Raises ValueError for groups, padding_mode or an output_size that cannot be; calls raise RuntimeError
    otherwise.  Source: torch.nn.ConvTranspose{rank}d."""

    transposed = True

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
    ):
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode {padding_mode!r}; a transposed convolution has only 'zeros'")
        self._set_up(in_channels, out_channels, kernel_size, groups, bias, padding_mode)
        self.stride = per_axis(stride, self.rank, "stride")
        self.dilation = per_axis(dilation, self.rank, "dilation")
        self.padding = per_axis(padding, self.rank, "padding")
        self.output_padding = per_axis(output_padding, self.rank, "output_padding")

    def _call(self, input: Any, *more: Any) -> Convolution:
        extra = self._extra(np.asarray(input), *more)
        return Convolution(
            f"conv_transpose{self.rank}d",
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            extra,
        )

    def _extra(self, input: np.ndarray, output_size: Any = None) -> tuple[int, ...]:
        """output_padding, or what it must be for the wanted output_size; ValueError when none can give it."""
        if output_size is None:
            return self.output_padding
        wanted = tuple(output_size)
        wanted = wanted[-self.rank :] if len(wanted) == input.ndim else wanted
        if len(wanted) != self.rank:
            raise ValueError(
                f"output_size {wanted} has {len(wanted)} entries; needed are {self.rank} or {input.ndim}"
            )
        smallest = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self.rank :],
                self.stride,
                self.padding,
                self.dilation,
                self.kernel_size,
                strict=True,
            )
        ]
        if any(
            not low <= size <= low + s - 1 for size, low, s in zip(wanted, smallest, self.stride, strict=True)
        ):
            raise ValueError(
                f"output_size {wanted}; possible are {tuple(smallest)} to "
                f"{tuple(low + s - 1 for low, s in zip(smallest, self.stride, strict=True))}"
            )
        return tuple(size - low for size, low in zip(wanted, smallest, strict=True))


def _of_rank(base: type, rank: int) -> type:
    name = f"{base.__name__[1:]}{rank}d"
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


Conv1d, Conv2d, Conv3d = (_of_rank(_Conv, rank) for rank in (1, 2, 3))
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = (_of_rank(_ConvTranspose, rank) for rank in (1, 2, 3))

"""The vocabulary of a layer specification: what a layer is called, what is swept, what is rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parity_tests.harness.covering import Constraint

HALF = ("float16", "bfloat16")
DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Drawn:
    """An argument that is a tensor: drawn like others of the case, by the argument's name.

    `kind` 'bool': the spec's `values` draws booleans."""

    shape: tuple[int, ...]
    kind: str = "float"

    def __str__(self) -> str:
        return ("drawn" if self.kind == "float" else self.kind) + "x".join(map(str, self.shape))


@dataclass(frozen=True)
class Made:
    """A constructor argument that is itself a layer, perhaps made with another: torch.nn's for a candidate,
    its own for a reference."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "_".join([self.name, *(f"{name}_{value}" for name, value in self.arguments)])

    def __repr__(self) -> str:
        return f"torch.nn.{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"

    def of(self, namespace: Any) -> Any:
        arguments = {n: v.of(namespace) if isinstance(v, Made) else v for n, v in self.arguments}
        return getattr(namespace, self.name)(**arguments)


@dataclass(frozen=True)
class Built:
    """What one row of axis values means: how the layer is made and called.

    arguments  constructor arguments, as passed (of a function: its keyword arguments); `Drawn` is a tensor,
               `Made` a layer
    shapes     shape of each input tensor
    call       keyword arguments of the call besides the inputs (`output_size`)
    """

    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corner:
    """A named case outside the covering array: axis values that differ from the default row, or a `Built`.

    name     stands in the case id for the arguments (`network_alexnet_conv1`): it says what the case is
    row      axis values that differ from the default row (used when `built` is None)
    data     name of the way to draw values (harness/data.py or the spec's `values`), 'normal' unless told
    dtypes   the dtypes it runs in
    sweep    the smallest sweep that includes it: 'quick', 'default' or 'full'
    crashes  whether some torch ends, corrupts or hangs its process: then a case that only a child process is
             given
    """

    name: str
    row: Mapping[str, Any] = field(default_factory=dict)
    built: Built | None = None
    data: str = "normal"
    dtypes: tuple[str, ...] = DTYPES
    sweep: str = "default"
    crashes: bool = False


@dataclass(frozen=True)
class Rejection:
    """Arguments that must be refused, with the exception class that torch and the reference raise.

    note     why, where torch's class is an accident and not a documented promise
    dtype    of the inputs
    sweep    the smallest sweep that includes it
    crashes  as of a corner
    kinds    dtypes of the inputs, where that is what is wrong; '' for the right one
    of_reference  whether the reference refuses them too, or accepts them on purpose
    """

    name: str
    built: Built
    exception: type[Exception]
    note: str = ""
    dtype: str = "float32"
    sweep: str = "default"
    crashes: bool = False
    kinds: tuple[str, ...] = ()
    of_reference: bool = True


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """One layer of torch.nn (or one function of torch.nn.functional): its reference and what is swept.

    name         torch's own name
    family       file name in refimpl, specs and faults
    reference    called with the same arguments as torch's class; gives a refimpl.module.Module
    axes         axis -> values, the default first.  Beside the layer's own, the harness itself understands
                 'dtype', 'layout' (of inputs), 'parameter_layout', 'tier' ('rounding', 'exact'), 'data' and
                 'mode' ('train', 'eval', and 'inference': evaluation without gradients)
    factorial    axes swept in full against each other
    build        row of axis values -> Built
    constraints  combinations that cannot be, with the reason
    updates      of the constructor's arguments, names of parameters that a call writes (an embedding's weight
                 with `max_norm`): compared like buffers, and put back before a second call
    functions    names in torch.nn.functional that the layer calls, so that a stand-in for one reaches it;
                 or a function of the constructor's arguments that gives them
    values       (case, name, rng, shape) -> float64 array for one tensor (int64 for indices) or None for the
                 general way; `name` is 'input0', a parameter's or a buffer's name, or 'grad_output0'
    multilinear  whether the contracts for products and transforms apply
    is_function  whether `name` is in torch.nn.functional rather than in torch.nn
    keeps_channels_last   whether an input in channels_last gives an output in channels_last; or a function of
                          the constructor's arguments (sizes of 0 or 1 are ambiguous and not asked)
    nest         (inputs, call) -> positional arguments of the reference's call, where they are not just these
    invoke       (torch, layer, inputs, call) -> torch's outputs, where not those of layer(*inputs, **call):
                 a function `invoke` that needs nothing else: scripts hold its source; nested outputs are fine
    """

    name: str
    family: str
    reference: Callable[..., Any]
    axes: Mapping[str, tuple]
    factorial: tuple[str, ...]
    build: Callable[[Mapping[str, Any]], Built]
    constraints: tuple[Constraint, ...] = ()
    corners: tuple[Corner, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    functions: tuple[str, ...] | Callable[[Mapping[str, Any]], tuple[str, ...]] = ()
    values: Callable[..., Any] | None = None
    multilinear: bool = False
    is_function: bool = False
    keeps_channels_last: bool | Callable[[Mapping[str, Any]], bool] = False
    updates: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda arguments: ()
    nest: Callable[[tuple, Mapping[str, Any]], tuple] | None = None
    invoke: Callable[[Any, Any, tuple, Mapping[str, Any]], Any] | None = None


def layouts(rank: int) -> tuple[str, ...]:
    """Memory layouts that a tensor with `rank` spatial axes can be swept over, the default first."""
    base = ("contiguous", "transposed", "expanded", "sliced")
    return (*base, "channels_last") if rank >= 2 else base

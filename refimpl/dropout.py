"""Dropout of elements and of whole channels, plain and for SELU networks.

    dropout:        output = input / (1 - p) where kept, 0 where dropped
    alpha dropout:  output = a input + b where kept, a alpha + b where dropped
                    alpha = -1.7580993408473766, a = 1 / sqrt((alpha^2 p + 1) (1 - p)), b = -a alpha p

Each element, or each channel of each sample, is kept with probability 1 - p.  The gradient of the input is
the upstream gradient times 1 / (1 - p), or a, where kept, and 0 where dropped.  Outside of training and for p
= 0 the output is the input; for p = 1 it is 0 times the input, so that NaN stays NaN, as torch has it.
Source: torch.nn.Dropout, Hinton et al. arXiv:1207.0580; torch.nn.AlphaDropout, Klambauer et al.
arXiv:1706.02515.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.taps import Kernel, float_array

_PLAIN = ("dropout", "dropout1d", "dropout2d", "dropout3d")
_ALPHA = ("alpha_dropout", "feature_alpha_dropout")
_CLASSES = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "alpha_dropout",
    "alpha_dropout_backward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
]

# The value that SELU takes at minus infinity: - scale * alpha of torch.nn.SELU.
ALPHA = -1.7580993408473766


class Geometry(NamedTuple):
    """How many units are kept or dropped as a whole, and how many elements each of them has."""

    units: int
    length: int


def elements(visit, arrays, geometry):
    """Every element e of every unit m."""
    units, length = geometry
    for m in range(units):
        for e in range(length):
            visit(arrays, m, e)


def keep_or_drop(arrays, m, e):
    output, input, kept, factor, shift, dropped = arrays
    if kept[m]:
        output[m, e] = input[m, e] * factor[0] + shift[0]
    else:
        output[m, e] = dropped[0]


_keep_or_drop = Kernel(elements, keep_or_drop)


def unit_axes(name: str, shape: tuple[int, ...]) -> int:
    """How many leading axes say which unit an element belongs to.

    Raises RuntimeError, as torch does, for too few axes, and for any number but 2 and 3 of dropout1d."""
    rank = len(shape)
    if name in ("dropout", "alpha_dropout"):
        return rank
    if name == "dropout1d" and rank not in (2, 3):
        raise RuntimeError(f"dropout1d: input has shape {shape}; needed are 2 or 3 axes")
    if rank < (1 if name == "dropout3d" else 2):
        raise RuntimeError(f"{name}: input has shape {shape}; needed is an axis of channels")
    batched = {"dropout1d": rank == 3, "dropout3d": rank == 5}.get(name, True)
    return 2 if batched else 1


def affine(name: str, p: float) -> tuple[float, float, float]:
    """Factor and shift of what is kept, and the value of what is dropped, for 0 < p < 1."""
    if name in _PLAIN:
        return 1.0 / (1.0 - p), 0.0, 0.0
    a = 1.0 / math.sqrt((ALPHA * ALPHA * p + 1.0) * (1.0 - p))
    return a, -a * ALPHA * p, a * ALPHA - a * ALPHA * p


class Dropping:
    """One call: arguments checked, and which units are kept, drawn where `kept` is not given."""

    def __init__(self, name: str, input: Any, p: Any, training: Any, kept: Any = None):
        self.name, self.input = name, float_array(input)
        self.p = check_probability(p)
        leading = unit_axes(name, self.input.shape)
        self.units = self.input.shape[:leading]
        self.copies, self.zeroes = not training or p == 0, bool(training) and p == 1
        if kept is None and not (self.copies or self.zeroes):
            kept = np.random.default_rng().random(self.units) >= p
        self.kept = kept

    def _run(self, values: np.ndarray, factor: float, shift: float, dropped: float) -> np.ndarray:
        geometry = Geometry(math.prod(self.units), math.prod(values.shape[len(self.units) :]))
        output = np.zeros(geometry, dtype=values.dtype)
        kept = np.array(self.kept, dtype=np.int64).ravel()
        constants = (np.array([number]) for number in (factor, shift, dropped))
        _keep_or_drop((output, values.reshape(geometry), kept, *constants), geometry, values.size)
        return output.reshape(values.shape)

    def output(self) -> np.ndarray:
        if self.copies or self.zeroes:
            return self.certain(self.input)
        return self._run(self.input, *affine(self.name, self.p))

    def gradient(self, grad_output: Any) -> np.ndarray:
        grad_output = float_array(grad_output)
        if grad_output.shape != self.input.shape:
            raise RuntimeError(
                f"{self.name}: grad_output has shape {grad_output.shape}; needed is {self.input.shape}"
            )
        if self.copies or self.zeroes:
            return self.certain(grad_output)
        return self._run(grad_output, affine(self.name, self.p)[0], 0.0, 0.0)

    @np.errstate(invalid="ignore")
    def certain(self, values: np.ndarray) -> np.ndarray:
        """What a call gives where nothing is left to chance."""
        return values if self.copies else 0.0 * values


def check_probability(p: Any) -> Any:
    """Raises ValueError for a p outside of [0, 1], TypeError for what is no number."""
    if not isinstance(p, (int, float, np.number)):
        raise TypeError(f"p is {p!r}; needed is a probability")
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; needed is a probability, 0 to 1")
    return p


_DOCUMENT = """Drop {what} at random, each with probability `p`, and {rest}.

        output = {formula}

    input (*) -> output (*){shape}.  Outside of training and for p = 0 the input itself, for p = 1 0 times the
    input. Error: {error}, none where nothing is left to chance.
    Raises ValueError for a p outside of [0, 1], TypeError for a p that is no number{raises}.
    Source: torch.nn.functional.{name}."""

_BACKWARD = """Gradients of sum(grad_output * {name}(...)): (grad_input,); `kept` says which {what} the call
kept.

    Raises ValueError without it where it was left to chance."""


def _functions(name: str) -> tuple[Callable, Callable]:
    def forward(input, p=0.5, training=True, inplace=False):
        return Dropping(name, input, p, training).output()

    def backward(grad_output, input, p=0.5, training=True, inplace=False, kept=None):
        if kept is None and training and 0 < p < 1:
            raise ValueError(f"{name}_backward: needed is `kept`, what the call kept")
        return (Dropping(name, input, p, training, kept).gradient(grad_output),)

    channels = name not in ("dropout", "alpha_dropout")
    words = {
        "name": name,
        "what": "channels" if channels else "elements",
        "rest": "scale what is kept" if name in _PLAIN else "keep mean and variance of what SELU gives",
        "formula": "input / (1 - p) where kept, 0 where dropped" if name in _PLAIN
        else "a input + b where kept, a alpha + b where dropped",
        "shape": {
            "dropout1d": ", (N, C, L) or (C, L)",
            "dropout2d": ", (N, C, *)",
            "dropout3d": ", (N, C, D, H, W) or (C, D, H, W)",
            "feature_alpha_dropout": ", (N, C, *)",
        }.get(name, ""),
        "error": "two roundings" if name in _PLAIN else "the roundings of a, b and the formula",
        "raises": ", RuntimeError for another number of axes" if channels else "",
    }  # fmt: skip
    forward.__name__ = forward.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    if name in _ALPHA:  # torch's default
        forward.__defaults__, backward.__defaults__ = (0.5, False, False), (0.5, False, False, None)
    forward.__doc__, backward.__doc__ = _DOCUMENT.format(**words), _BACKWARD.format(**words)
    return forward, backward


dropout, dropout_backward = _functions("dropout")
dropout1d, dropout1d_backward = _functions("dropout1d")
dropout2d, dropout2d_backward = _functions("dropout2d")
dropout3d, dropout3d_backward = _functions("dropout3d")
alpha_dropout, alpha_dropout_backward = _functions("alpha_dropout")
feature_alpha_dropout, feature_alpha_dropout_backward = _functions("feature_alpha_dropout")


class _Dropout(Module):
    """`{function}` as a layer: formula, shapes, error.

    Raises as `{function}` does.  Source: torch.nn.{layer}."""

    function: str

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        self.p, self.inplace = check_probability(p), inplace
        self.kept: np.ndarray | None = None  # of the last call, True for each unit that it kept

    def _dropping(self, input: Any, kept: Any = None) -> Dropping:
        return Dropping(self.function, input, self.p, self.training, kept)

    def forward(self, input: Any) -> np.ndarray:
        call = self._dropping(input)
        self.kept = call.kept
        return call.output()

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        return (np.shape(inputs[0]),)

    def _backward(self, grad_outputs: tuple, input: Any) -> tuple[tuple, dict]:
        return (self._dropping(input, self.kept).gradient(grad_outputs[0]),), {}

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        """For calls that leave nothing to chance: copies, or zeros whose sign is not asked for."""
        call = self._dropping(inputs[0])
        if not (call.copies or call.zeroes):
            raise ValueError("a call that leaves something to chance has a law, and no value to compare with")
        exact = contract.copied if call.copies else contract.exact
        return {"output": exact(call.output()), "grad_input": exact(call.gradient(grad_outputs[0]))}


def _class(layer: str, function: str) -> type:
    text = (_Dropout.__doc__ or "").format(layer=layer, function=function)
    body = {"function": function, "__doc__": text, "__module__": __name__, "__qualname__": layer}
    return type(layer, (_Dropout,), body)


Dropout, Dropout1d, Dropout2d, Dropout3d, AlphaDropout, FeatureAlphaDropout = (
    _class(layer, function) for layer, function in zip(_CLASSES, (*_PLAIN, *_ALPHA), strict=True)
)

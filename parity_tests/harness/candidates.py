"""Candidates: whatever is put to the trial.  A candidate turns a case and its numbers into an `Outcome`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data, draw
from parity_tests.harness.options import OptionError
from parity_tests.harness.tensors import channels_last_format, to_array, to_tensor
from parity_tests.specs.spec import LayerSpec


class CandidateError(AssertionError):
    """The candidate raised, or gave something that is no result at all."""


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of a candidate are its own affair: under `-W error` they must not turn into failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Facts:
    """What a tensor is, besides its values."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    channels_last: bool


@dataclass
class Outcome:
    """What a candidate did with a case; the keys of `arrays` and `facts` are those of the reference's `bounded`."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)  # inputs and parameters that the call changed
    second: dict[str, np.ndarray] = field(default_factory=dict)  # outputs of a second call
    evaluated: np.ndarray | None = (
        None  # output in evaluation mode after a training call, of layers with buffers
    )


class Eager:
    """torch.nn as installed, called eagerly on one device."""

    name = "eager"

    def __init__(self, device: str = "cpu"):
        self.device = device

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        """Whether a case exercises this candidate at all."""
        return True

    def standing_in(self, spec: LayerSpec, case: Case) -> Any:
        """Context manager in which the layer's code runs."""
        return nullcontext()

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        """Forward, gradients by autograd with a random upstream gradient, buffers, a second call, evaluation."""
        inputs = tuple(
            to_tensor(array, case.dtype, case.layout, self.device).requires_grad_(array.dtype.kind == "f")
            for array in data.inputs
        )
        with self.standing_in(spec, case):
            layer, tensors = self._layer(spec, case, data)
            outputs = self._call(layer, case, inputs)
        outcome = Outcome()
        self._take(outcome, dict(zip(output_names(outputs), outputs, strict=True)))
        self._take_gradients(outcome, spec, case, inputs, tensors, outputs)
        self._take(outcome, {name: buffer for name, buffer in _buffers(layer).items() if buffer is not None})
        with self.standing_in(spec, case):
            if (
                _buffers(layer) and case.mode == "train"
            ):  # before the second call, which moves the buffers again
                layer.train(False)
                outcome.evaluated = to_array(self._call(layer, case, inputs)[0])
                layer.train(True)
            again = self._call(layer, case, inputs)
        outcome.second = {
            name: to_array(tensor) for name, tensor in zip(output_names(again), again, strict=True)
        }
        before = dict(zip((f"input{i}" for i in range(len(inputs))), data.inputs, strict=True)) | {
            name: data.state[name] for name in tensors
        }
        after = dict(zip(before, (*inputs, *tensors.values()), strict=True))
        outcome.written = [
            name for name, array in before.items() if not same_bits(to_array(after[name]), array)
        ]
        return outcome

    def rejects(self, spec: LayerSpec, case: Case) -> BaseException | None:
        """The exception that construction, call or backward of a case raises; None if it is accepted."""
        rng = np.random.default_rng(0)
        try:
            with self.standing_in(spec, case), quiet():
                layer = self._make(spec, case)
                inputs = tuple(
                    to_tensor(rng.standard_normal(shape), case.dtype, "contiguous", self.device)
                    for shape in case.shapes
                )
                if isinstance(layer, torch.nn.Module):
                    layer.to(device=self.device, dtype=getattr(torch, case.dtype)).train(case.mode == "train")
                layer(*inputs, **dict(case.call))
        except Exception as error:
            return error
        return None

    def _make(self, spec: LayerSpec, case: Case) -> Any:
        arguments = dict(case.arguments)
        if spec.is_function:
            return lambda *inputs, **call: getattr(torch.nn.functional, spec.name)(
                *inputs, **arguments, **call
            )
        return getattr(torch.nn, spec.name)(**arguments)

    def _layer(self, spec: LayerSpec, case: Case, data: Data) -> tuple[Any, dict[str, torch.Tensor]]:
        """The layer with the case's parameters and buffers put in, and its parameters."""
        layer = self._make(spec, case)
        tensors = {}
        if isinstance(layer, torch.nn.Module):
            layer.train(case.mode == "train")
            parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())
            expected, has = sorted(data.state), sorted({*parameters, *buffers})
            if expected != has:
                raise CandidateError(
                    f"{spec.name} has parameters and buffers {has}; torch.nn.{spec.name} has {expected}"
                )
            for name, array in data.state.items():
                owner, _, last = name.rpartition(".")
                module = layer.get_submodule(owner)
                if name in parameters:
                    value = torch.nn.Parameter(
                        to_tensor(array, case.dtype, case.parameter_layout, self.device)
                    )
                    tensors[name] = module._parameters[last] = value
                else:
                    module._buffers[last] = to_tensor(array, case.dtype, "contiguous", self.device)
        return layer, tensors

    def _call(self, layer: Any, case: Case, inputs: tuple) -> tuple[torch.Tensor, ...]:
        outputs = layer(*inputs, **dict(case.call))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for output in outputs:
            if not isinstance(output, torch.Tensor):
                raise CandidateError(f"{case.layer} returned {type(output).__name__}; needed is a tensor")
        return outputs

    def _take_gradients(
        self, outcome: Outcome, spec: LayerSpec, case: Case, inputs: tuple, tensors: Mapping, outputs: tuple
    ) -> None:
        """Gradients of every input and parameter for a random upstream gradient, under the reference's names."""
        names = input_gradient_names(inputs)
        wanted = {names[i]: tensor for i, tensor in enumerate(inputs) if tensor.requires_grad}
        wanted |= {f"grad_{name}": tensor for name, tensor in tensors.items()}
        real = [output for output in outputs if output.is_floating_point()]
        if not wanted or not real:
            return
        if not any(output.requires_grad for output in real):
            raise CandidateError(
                f"{case.layer}: the output has no gradient function; needed are gradients of "
                f"{', '.join(wanted)} (use torch operations or a torch.autograd.Function)"
            )
        upstream = [
            to_tensor(
                draw(spec, case, f"grad_output{i}", tuple(output.shape)), case.dtype, case.layout, self.device
            )
            for i, output in enumerate(real)
        ]
        gradients = torch.autograd.grad(real, list(wanted.values()), upstream, allow_unused=True)
        self._take(
            outcome,
            {
                name: gradient
                for name, gradient in zip(wanted, gradients, strict=True)
                if gradient is not None
            },
        )

    def _take(self, outcome: Outcome, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            outcome.arrays[name] = to_array(tensor)
            outcome.facts[name] = facts_of(tensor)


def output_names(outputs: tuple) -> tuple[str, ...]:
    """'output', and 'indices' for a second output."""
    return ("output", "indices")[: len(outputs)]


def input_gradient_names(inputs: tuple) -> tuple[str, ...]:
    return ("grad_input",) if len(inputs) == 1 else tuple(f"grad_input{i}" for i in range(len(inputs)))


def facts_of(tensor: torch.Tensor) -> Facts:
    channels_last = tensor.dim() in (4, 5) and tensor.is_contiguous(
        memory_format=channels_last_format(tensor)
    )
    return Facts(
        tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.device.type, channels_last
    )


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal values, NaN equal to NaN (whatever its sign and payload), and equal signs of zeros."""
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    equal = (first == second) & (np.signbit(first) == np.signbit(second))
    return bool((equal | (np.isnan(first) & np.isnan(second))).all())


def _buffers(layer: Any) -> dict[str, torch.Tensor]:
    return dict(layer.named_buffers()) if isinstance(layer, torch.nn.Module) else {}


class StandIns(Eager):
    """torch.nn with some functions and classes replaced by the user's own of the same name.

    A function takes the place of torch.nn.functional's (and of torch's own where torch.nn calls that: `sigmoid`,
    `tanh`) while the layer's code runs.  Inside the stand-in and in the backward pass everything is torch's own again, so a
    stand-in may call what it replaces.  A class takes the place of torch.nn's.
    """

    def __init__(self, name: str, public: Mapping[str, Any], device: str = "cpu"):
        super().__init__(device)
        self.name = name
        self.classes = {
            key: value
            for key, value in public.items()
            if inspect.isclass(value) and inspect.isclass(getattr(torch.nn, key, None))
        }
        self.functions = {
            key: value
            for key, value in public.items()
            if callable(value)
            and not inspect.isclass(value)
            and callable(getattr(torch.nn.functional, key, None))
            and not inspect.isclass(getattr(torch.nn.functional, key))
        }
        self.calls = 0
        if not self.classes and not self.functions:
            raise OptionError(
                f"--candidate {name} stands in for nothing: none of its public names {sorted(public) or '(it has none)'} is a "
                "function of torch.nn.functional or a class of torch.nn; name them as torch does, for example `def conv2d`"
            )

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        if case.rejects and spec.name not in self.classes:
            return False  # the arguments may be refused before the stand-in is reached
        return spec.name in self.classes or any(name in self.functions for name in functions_of(spec, case))

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        self.calls = 0
        outcome = super().run(spec, case, data)
        if self.calls == 0:
            raise CandidateError(
                f"{self.name}: the stand-in for {case.layer} was never called; needed is a case that reaches it"
            )
        return outcome

    def _make(self, spec: LayerSpec, case: Case) -> Any:
        if spec.name in self.classes:
            self.calls += 1
            return self.classes[spec.name](**dict(case.arguments))
        return super()._make(spec, case)

    @contextmanager
    def standing_in(self, spec: LayerSpec, case: Case) -> Iterator[None]:
        places = [
            (owner, name)
            for name in self.functions
            for owner in (torch.nn.functional, torch)
            if owner is torch.nn.functional or name in ("sigmoid", "tanh")
        ]
        originals = {place: getattr(*place) for place in places}
        wrapped = {place: self._wrapper(self.functions[place[1]], originals) for place in places}
        _put(wrapped)
        try:
            yield
        finally:
            _put(originals)

    def _wrapper(self, function: Callable, originals: Mapping) -> Callable:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            patched = {place: getattr(*place) for place in originals}
            _put(originals)
            try:
                return function(*args, **kwargs)
            finally:
                _put(patched)

        return stand_in


def _put(values: Mapping[tuple[Any, str], Any]) -> None:
    for (owner, name), value in values.items():
        setattr(owner, name, value)


def functions_of(spec: LayerSpec, case: Case) -> tuple[str, ...]:
    """The functions of torch.nn.functional that a case calls."""
    return spec.functions(dict(case.arguments)) if callable(spec.functions) else spec.functions


def make_candidate(name: str, device: str) -> Eager:
    """The candidate of that name: 'eager', a file ending in .py, or an importable module.  Raises OptionError."""
    if name == "eager":
        return Eager(device)
    module = _load_file(Path(name)) if name.endswith(".py") else _load_module(name)
    public = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_") and not inspect.ismodule(value)
    }
    return StandIns(name, public, device)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise OptionError(
            f"--candidate {path}: there is no such file; give the path of a Python file, or a module's name"
        )
    module_name = f"parity_candidate_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    return _imported(lambda: spec.loader.exec_module(module), str(path)) or module


def _load_module(name: str) -> Any:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise OptionError(
            f"--candidate {name!r} is neither 'eager', nor a file ending in .py, nor a module that can be found"
        )
    return _imported(lambda: importlib.import_module(name), name)


def _imported(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except Exception as error:
        raise OptionError(
            f"--candidate {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error

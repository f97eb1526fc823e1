"""Candidates: whatever is put to the trial.  A candidate turns a case and its numbers into an `Outcome`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch

from parity_tests.harness.cases import Case, rejection_of
from parity_tests.harness.data import Data, call_arguments, constructor_arguments, draw, rejected_inputs
from parity_tests.harness.neighbours import called_before
from parity_tests.harness.options import OptionError
from parity_tests.harness.outcome import (
    CandidateError,
    Outcome,
    flat,
    input_gradient_names,
    output_names,
    quiet,
    same_bits,
)
from parity_tests.harness.tensors import laid_out, to_array, to_tensor
from parity_tests.specs.spec import LayerSpec, Made


class Eager:
    """torch.nn as installed, called eagerly on one device."""

    name = "eager"
    gradients = True  # whether it gives any
    keeps_layouts = True  # whether it promises the memory formats that torch.nn promises
    costly = False  # whether a case takes seconds, so that a sweep has to do with few

    def __init__(self, device: str = "cpu"):
        self.device = device

    def script(self, case: Case) -> str:
        """Lines of a repro script that wrap its `invoke`, so that it calls the layer as `run` does."""
        return ""

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        """Whether a case exercises this candidate at all."""
        return True

    def why_not(self, spec: LayerSpec, case: Case) -> str:
        """Why a case is not put to this candidate, in words that are counted."""
        return f"not reached by {self.name}"

    def computes(self, spec: LayerSpec, case: Case) -> str:
        """The dtype to which the operands are rounded first, and which outputs have; gradients have the
        case's."""
        return case.dtype

    def standing_in(self, spec: LayerSpec, case: Case) -> Any:
        """Context manager in which the layer's code runs."""
        return nullcontext()

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        """A neighbour's call; then forward, gradients, buffers, evaluation, a second call."""
        self._call_neighbour(spec, case, data)
        inputs = self._inputs(case, data)
        # torch takes other paths where no gradient will be asked for
        recorded = self.gradients and case.mode != "inference"
        with self.standing_in(spec, case), torch.set_grad_enabled(recorded):
            layer, tensors = self._layer(spec, case, data)
            operands = _operands(case, inputs)
            outputs = self._call(spec, layer, case, operands)
        outcome = Outcome()
        outcome.take(dict(zip(output_names(outputs), outputs, strict=True)))
        outcome.in_place = operands is inputs or same_bits(to_array(operands[0]), outcome.arrays["output"])
        if recorded:
            outcome.take(self._gradients(spec, case, inputs, tensors, outputs))
        buffers = _buffers(layer)
        updated = spec.updates(dict(case.arguments))
        outcome.take(buffers | {name: tensors[name] for name in updated})
        _put_back(data, {name: tensors.pop(name) for name in updated}, case)
        with self.standing_in(spec, case), torch.set_grad_enabled(recorded):
            if buffers and case.mode == "train":  # before the second call, which moves the buffers again
                layer.train(False)
                outcome.evaluated = to_array(self._call(spec, layer, case, _operands(case, inputs))[0])
                layer.train(True)
            again = self._call(spec, layer, case, _operands(case, inputs))
        outcome.second = dict(zip(output_names(again), map(to_array, again), strict=True))
        outcome.written = _written(data, inputs, tensors)
        return outcome

    def _inputs(self, case: Case, data: Data) -> tuple[torch.Tensor, ...]:
        return tuple(
            to_tensor(array, case.dtype, case.layout, self.device).requires_grad_(array.dtype.kind == "f")
            for array in data.inputs
        )

    def _call_neighbour(self, spec: LayerSpec, case: Case, data: Data) -> None:
        """One call with another argument on the same inputs; nobody looks at what it gives, or raises."""
        other = called_before(spec, case, data)
        if other is not None:
            with suppress(Exception), self.standing_in(spec, other), quiet():
                layer, _ = self._layer(spec, other, data)
                self._call(spec, layer, other, _operands(other, self._inputs(other, data)))

    def rejects(self, spec: LayerSpec, case: Case) -> BaseException | None:
        """The exception that construction or call of a case raises; None if it is accepted."""
        try:
            with self.standing_in(spec, case), quiet():
                layer = self._make(spec, case)
                arrays = rejected_inputs(spec, case)
                kinds = (*rejection_of(spec, case).kinds, *("" for _ in arrays))
                inputs = tuple(
                    to_tensor(array, kind or case.dtype, "contiguous", self.device)
                    for array, kind in zip(arrays, kinds, strict=False)
                )
                if isinstance(layer, torch.nn.Module):
                    layer.to(device=self.device, dtype=getattr(torch, case.dtype)).train(case.mode == "train")
                self._invoke(spec, layer, case, inputs)
        except Exception as error:
            return error
        return None

    def _make(self, spec: LayerSpec, case: Case) -> Any:
        arguments = self._arguments(spec, case)
        if spec.is_function:
            return lambda *inputs, **call: getattr(torch.nn.functional, spec.name)(
                *inputs, **arguments, **call
            )
        return getattr(torch.nn, spec.name)(**arguments)

    def _arguments(self, spec: LayerSpec, case: Case) -> dict[str, Any]:
        """The arguments with which the layer is made, arrays as tensors, layers as torch's."""
        return self._tensors(case, constructor_arguments(spec, case))

    def _tensors(self, case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            if isinstance(value, np.ndarray):
                arguments[name] = to_tensor(value, case.dtype, "contiguous", self.device)
            elif isinstance(value, Made):
                arguments[name] = value.of(torch.nn)
        return arguments

    def _layer(self, spec: LayerSpec, case: Case, data: Data) -> tuple[Any, dict[str, torch.Tensor]]:
        """The layer with the case's parameters and buffers put in, and its parameters."""
        layer = self._make(spec, case)
        tensors: dict[str, torch.Tensor] = {}
        if not isinstance(layer, torch.nn.Module):
            return layer, tensors
        layer.train(case.mode == "train")
        parameters = dict(layer.named_parameters())
        expected, has = sorted(data.state), sorted({*parameters, *dict(layer.named_buffers())})
        if expected != has:
            raise CandidateError(
                f"{spec.name} has parameters and buffers {has}; torch.nn.{spec.name} has {expected}"
            )
        for name, array in data.state.items():
            owner, _, last = name.rpartition(".")
            module = layer.get_submodule(owner)
            if name in parameters:
                tensor = to_tensor(array, case.dtype, case.parameter_layout, self.device)
                tensors[name] = module._parameters[last] = torch.nn.Parameter(tensor)
            else:
                module._buffers[last] = to_tensor(array, case.dtype, "contiguous", self.device)
        return layer, tensors

    def _invoke(self, spec: LayerSpec, layer: Any, case: Case, inputs: tuple) -> Any:
        call = self._tensors(case, call_arguments(spec, case))
        return layer(*inputs, **call) if spec.invoke is None else spec.invoke(torch, layer, inputs, call)

    def _call(self, spec: LayerSpec, layer: Any, case: Case, inputs: tuple) -> tuple[torch.Tensor, ...]:
        outputs = flat(self._invoke(spec, layer, case, inputs))
        if not outputs:
            raise CandidateError(f"{case.layer} returned no output; needed are tensors")
        for output in outputs:
            if not isinstance(output, torch.Tensor):
                raise CandidateError(f"{case.layer} returned {type(output).__name__}; needed is a tensor")
        return outputs

    def _gradients(
        self, spec: LayerSpec, case: Case, inputs: tuple, tensors: Mapping, outputs: tuple
    ) -> dict[str, torch.Tensor]:
        """Gradients of every input and parameter for a random upstream gradient of every real output, by the
        reference's names."""
        names = input_gradient_names(inputs)
        wanted = {names[i]: tensor for i, tensor in enumerate(inputs) if tensor.requires_grad}
        wanted |= {f"grad_{name}": tensor for name, tensor in tensors.items()}
        real = [output for output in outputs if output.is_floating_point()]
        if not wanted or not real:
            return {}
        if not any(output.requires_grad for output in real):
            raise CandidateError(
                f"{case.layer}: the output has no gradient function; needed are gradients of "
                f"{', '.join(wanted)} (use torch operations or a torch.autograd.Function)"
            )
        upstream = [
            to_tensor(
                draw(spec, case, f"grad_output{i}", tuple(output.shape)),
                str(output.dtype).removeprefix("torch."),  # a wrong dtype is for check_metadata to say
                case.layout,
                str(output.device),
            )
            for i, output in enumerate(real)
        ]
        # An output without a gradient function hands nothing on, which the numbers will show.
        pairs = [pair for pair in zip(real, upstream, strict=True) if pair[0].requires_grad]
        gradients = torch.autograd.grad(
            [output for output, _ in pairs], list(wanted.values()), [up for _, up in pairs], allow_unused=True
        )
        return {name: tensor for name, tensor in zip(wanted, gradients, strict=True) if tensor is not None}


def _operands(case: Case, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The inputs; of a call in place copies laid out alike, since autograd allows no writing into a leaf (and
    torch none into an expanded tensor)."""
    if not dict(case.arguments).get("inplace"):
        return inputs
    layout = "contiguous" if case.layout == "expanded" else case.layout
    return tuple(laid_out(tensor.clone(), layout) for tensor in inputs)


def _put_back(data: Data, parameters: Mapping[str, torch.Tensor], case: Case) -> None:
    """Give parameters that a call writes the values of the case again."""
    for name, parameter in parameters.items():
        parameter.data.copy_(to_tensor(data.state[name], case.dtype, "contiguous", str(parameter.device)))


def _written(data: Data, inputs: tuple, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the inputs and parameters that are no longer what they were."""
    before = {f"input{i}": array for i, array in enumerate(data.inputs)}
    before |= {name: data.state[name] for name in tensors}
    after = (*inputs, *tensors.values())
    return [
        name
        for (name, array), tensor in zip(before.items(), after, strict=True)
        if not same_bits(to_array(tensor), array)
    ]


def _buffers(layer: Any) -> dict[str, torch.Tensor]:
    return dict(layer.named_buffers()) if isinstance(layer, torch.nn.Module) else {}


class StandIns(Eager):
    """torch.nn with some functions and classes replaced by the user's own of the same name.

    A function takes the place of torch.nn.functional's (and of torch's own where torch.nn calls that:
    `sigmoid`, `tanh`) while the layer's code runs.  Inside the stand-in and in the backward pass everything
    is torch's own again, so a stand-in may call what it replaces.  A class takes the place of torch.nn's.
    """

    def __init__(self, name: str, public: Mapping[str, Any], device: str = "cpu"):
        super().__init__(device)
        self.name = name
        known = {key: value for key, value in public.items() if replaceable(key, value)}
        self.classes = {key: value for key, value in known.items() if inspect.isclass(value)}
        self.functions = {key: value for key, value in known.items() if not inspect.isclass(value)}
        self.calls = 0
        if not known:
            given = ", ".join(sorted(public)) or "none at all"
            raise OptionError(
                f"--candidate {name} stands in for nothing: its public names are {given}, "
                "and none is a function of torch.nn.functional or a class of torch.nn; "
                "name yours as torch does, for example `def conv2d(input, weight, ...)`"
            )

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        if case.rejects and spec.name not in self.classes:
            return False  # the arguments may be refused before the stand-in is reached
        if case.mode == "inference" and spec.name not in self.classes:
            return False  # torch may take a path of its own, which calls none of its functions
        return spec.name in self.classes or any(name in self.functions for name in functions_of(spec, case))

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        self.calls = 0
        outcome = super().run(spec, case, data)
        if self.calls == 0:
            raise CandidateError(
                f"the stand-in for {case.layer} was never called; needed is a case that reaches it "
                f"(the layer calls {', '.join(functions_of(spec, case))})"
            )
        return outcome

    def _call_neighbour(self, spec: LayerSpec, case: Case, data: Data) -> None:
        super()._call_neighbour(spec, case, data)
        self.calls = 0  # the case itself has to reach the stand-in

    def _make(self, spec: LayerSpec, case: Case) -> Any:
        if spec.name in self.classes:
            self.calls += 1
            return self.classes[spec.name](**self._arguments(spec, case))
        return super()._make(spec, case)

    @contextmanager
    def standing_in(self, spec: LayerSpec, case: Case) -> Iterator[None]:
        places: list[tuple[Any, str]] = [(torch.nn.functional, name) for name in self.functions]
        places += [(torch, name) for name in self.functions if name in ("sigmoid", "tanh")]
        originals = {place: getattr(*place) for place in places}
        _put({place: self._wrapper(self.functions[place[1]], originals) for place in places})
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


def replaceable(name: str, value: Any) -> bool:
    """Whether a value can take the place of torch's own of that name: a class of a class, else a function."""
    if inspect.isclass(value):
        return inspect.isclass(getattr(torch.nn, name, None))
    own = getattr(torch.nn.functional, name, None)
    return callable(value) and callable(own) and not inspect.isclass(own)


def functions_of(spec: LayerSpec, case: Case) -> tuple[str, ...]:
    """The functions of torch.nn.functional that a case calls."""
    return spec.functions(dict(case.arguments)) if callable(spec.functions) else spec.functions

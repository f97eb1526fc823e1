"""Wrong stacks of transformer layers that the suite must catch, and right but unusual ones that it must
accept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from parity_tests.faults.fault import Control, Fault
from parity_tests.faults.multihead_attention import HalfGradient

ENCODER, DECODER, BOTH = ("TransformerEncoder",), ("TransformerDecoder",), ("Transformer",)
STACKS = ENCODER + DECODER
LAYERS = STACKS + BOTH
_BASES = {name: getattr(torch.nn, name) for name in LAYERS}
_MASKS = ("mask", "src_mask", "tgt_mask")


def _classes(names: tuple[str, ...], call: Callable[..., Any]) -> dict[str, type]:
    """torch's classes with another forward: call(layer, torch's own forward, inputs, masks and hints)."""

    def make(base: type) -> type:
        def forward(self: Any, *inputs: Any, **given: Any) -> Any:
            return call(self, super(derived, self).forward, inputs, given)

        derived = type(base.__name__, (base,), {"forward": forward})
        return derived

    return {name: make(_BASES[name]) for name in names}


def _fault(
    name: str, sentence: str, layers: tuple[str, ...], call: Callable[..., Any], caught_by: str = "forward"
) -> Fault:
    return Fault(f"stack_{name}", sentence, _classes(layers, call), caught_by, layers)


@contextmanager
def _changed(module: Any, **attributes: Any) -> Iterator[None]:
    """The module with other attributes for the time of a call."""
    kept = {name: getattr(module, name) for name in attributes}
    for name, value in attributes.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


def _with_all_parameters(output: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """The same numbers; parameters that were not used get gradients of zero."""
    return output + 0 * sum(parameter.sum() for parameter in module.parameters())


def _stacks(module: Any) -> list[Any]:
    return [module.encoder, module.decoder] if isinstance(module, torch.nn.Transformer) else [module]


def _norm_forgotten(self, own, inputs, given):
    last = _stacks(self)[-1]
    with _changed(last, norm=None):
        output = own(*inputs, **given)
    return _with_all_parameters(output, self)


def _other_layers(choose: Callable[[list], list]) -> Callable[..., Any]:
    """Layers in another choice, the last stack's."""

    def call(self: Any, own: Callable, inputs: tuple, given: dict) -> Any:
        last = _stacks(self)[-1]
        with _changed(last, layers=torch.nn.ModuleList(choose(list(last.layers)))):
            output = own(*inputs, **given)
        return _with_all_parameters(output, self)

    return call


def _without(*names: str) -> Callable[..., Any]:
    """Masks of these names are ignored, and so are the hints about them."""
    hints = {name.replace("mask", "is_causal") for name in names}

    def call(self: Any, own: Callable, inputs: tuple, given: dict) -> Any:
        left = {name: value for name, value in given.items() if name not in (*names, *hints)}
        return own(*inputs, **left)

    return call


def _hint_as_mask(self, own, inputs, given):
    """The memory is looked at as the target is: with a causal mask wherever the hint is given."""
    memory = given.get("memory_mask")
    if given.get("tgt_is_causal") and memory is not None:
        given = given | {"memory_mask": torch.ones_like(memory).triu(1)}
    return own(*inputs, **given)


def _memory_of(choose: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A transformer whose decoder gets another memory: choose(encoder, torch's own forward of it)."""

    def call(self: Any, own: Callable, inputs: tuple, given: dict) -> Any:
        with choose(self.encoder):
            return _with_all_parameters(own(*inputs, **given), self)

    return call


class _Spoiled(torch.nn.Module):
    """A layer whose memory, or first operand, goes through a function first."""

    def __init__(self, layer: Any, change: Callable[[tuple], tuple]):
        super().__init__()
        self.inner, self.change = layer, change
        self.self_attn = layer.self_attn

    def forward(self, *operands: Any, **given: Any) -> Any:
        return self.inner(*self.change(operands), **given)


def _last_layer_with(change: Callable[[tuple], tuple]) -> Callable[..., Any]:
    def call(self: Any, own: Callable, inputs: tuple, given: dict) -> Any:
        last = _stacks(self)[-1]
        layers = [*last.layers][:-1]
        spoiled = torch.nn.ModuleList([*layers, _Spoiled(last.layers[-1], change)])
        with _changed(last, layers=spoiled):
            return own(*inputs, **given)

    return call


def _memory_constant(operands: tuple) -> tuple:
    """No gradient to the memory from here, except where it would be the only one."""
    target, memory = operands
    return target, memory.detach() + 0 * memory


def _half_gradient_between(operands: tuple) -> tuple:
    return HalfGradient.apply(operands[0]), *operands[1:]


def _half_gradient_of_parameters(self, own, inputs, given):
    for parameter in self.parameters():
        if not getattr(parameter, "halved", False) and parameter.requires_grad:
            parameter.halved = True
            parameter.register_hook(lambda gradient: gradient * 0.5)
    return own(*inputs, **given)


def _writes_input(self, own, inputs, given):
    output = own(*inputs, **given)
    inputs[0].data.clamp_(min=-0.5)
    return output


def _second_call_differs(self, own, inputs, given):
    self.calls = getattr(self, "calls", 0) + 1
    return own(*inputs, **given) * (1.0 if self.calls == 1 else 1.5)


def _accepts_none(self, own, inputs, given):
    return inputs[0] if len(self.layers) == 0 else own(*inputs, **given)


def _accepts_other_batches(self, own, inputs, given):
    axis = 0 if self.batch_first else 1
    if inputs[0].dim() == 3 and inputs[0].shape[axis] != inputs[1].shape[axis]:
        least = min(x.shape[axis] for x in inputs)
        inputs = tuple(x.narrow(axis, 0, least) for x in inputs)
    return own(*inputs, **given)


FAULTS = (
    _fault("norm_forgotten", "the last norm is left out", LAYERS, _norm_forgotten),
    _fault(
        "same_weights",
        "all layers have the first one's weights",
        LAYERS,
        _other_layers(lambda layers: layers[:1] * len(layers)),
    ),
    _fault(
        "last_layer_twice", "the last layer is applied twice", LAYERS, _other_layers(lambda ls: [*ls, ls[-1]])
    ),
    _fault("reversed", "the layers come in reverse order", LAYERS, _other_layers(lambda ls: ls[::-1])),
    _fault("mask_ignored", "the mask of the sequence is ignored", LAYERS, _without(*_MASKS)),
    _fault(
        "padding_ignored",
        "the padding mask of the sequence is ignored",
        LAYERS,
        _without("src_key_padding_mask", "tgt_key_padding_mask"),
    ),
    _fault("memory_mask_ignored", "memory_mask is ignored", DECODER + BOTH, _without("memory_mask")),
    _fault(
        "memory_padding_ignored",
        "memory_key_padding_mask is ignored",
        DECODER + BOTH,
        _without("memory_key_padding_mask"),
    ),
    _fault("causal_memory", "the causal hint hides memory too", DECODER + BOTH, _hint_as_mask),
    _fault(
        "memory_before_norm",
        "the memory is taken before the encoder's norm",
        BOTH,
        _memory_of(lambda encoder: _changed(encoder, norm=None)),
    ),
    _fault(
        "memory_of_first_layer",
        "the memory is the first encoder layer's output",
        BOTH,
        _memory_of(lambda encoder: _changed(encoder, layers=torch.nn.ModuleList([encoder.layers[0]]))),
    ),
    _fault(
        "memory_gradient_lacks_a_layer",
        "the gradient of the memory lacks the last layer's term",
        DECODER + BOTH,
        _last_layer_with(_memory_constant),
        "input_gradients",
    ),
    _fault(
        "gradient_half_between_layers",
        "half the gradient goes from the last layer to the one below",
        LAYERS,
        _last_layer_with(_half_gradient_between),
        "input_gradients",
    ),
    _fault(
        "parameter_gradient_half",
        "parameters get half their gradient",
        LAYERS,
        _half_gradient_of_parameters,
        "parameter_gradients",
    ),
    _fault(
        "wrong_dtype",
        "the result comes in float16",
        LAYERS,
        lambda self, own, inputs, given: own(*inputs, **given).half(),
        "metadata",
    ),
    _fault("writes_input", "the input is clamped in place", LAYERS, _writes_input, "purity"),
    _fault(
        "second_call_differs", "a second call gives another result", LAYERS, _second_call_differs, "purity"
    ),
    _fault("accepts_no_layers", "no layers give the input", STACKS, _accepts_none, "rejection"),
    _fault("accepts_other_batches", "the larger batch is cut off", BOTH, _accepts_other_batches, "rejection"),
)


def _in_float64(self, own, inputs, given):
    """Everything in float64, the result rounded once."""

    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    types = {parameter.dtype for parameter in self.parameters()}
    if {operand.dtype for operand in inputs} != types - {torch.float64}:
        return own(*inputs, **given)  # float64 already, or what torch refuses
    parameters = {name: wide(parameter) for name, parameter in self.named_parameters()}
    masks = {name: wide(value) for name, value in given.items()}
    output = torch.func.functional_call(self, parameters, tuple(map(wide, inputs)), masks)
    return output.to(inputs[0].dtype)


def _without_fast_path(self, own, inputs, given):
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return own(*inputs, **given)
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


CONTROLS = (
    Control("stack_in_float64", "all in float64, rounded once", _classes(LAYERS, _in_float64), LAYERS),
    Control(
        "stack_without_fast_path",
        "in evaluation the same path as in training",
        _classes(LAYERS, _without_fast_path),
        LAYERS,
    ),
)

"""`Module`: what refimpl's classes share: parameters and buffers as arrays, train, eval, backward, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.error_bounds import Bounded, Contract


class Module:
    """A layer with torch.nn's interface on numpy arrays.

    A class derived from it names its `parameters` and `buffers`, keeps them as attributes (None when absent),
    and writes
        forward(*inputs) -> output or tuple of outputs
        _backward(grad_outputs, *inputs) -> (tuple of input gradients, {parameter name: gradient})
        bounded(contract, inputs, grad_outputs) -> {name: Bounded}
    `bounded` gives what a candidate is compared with, each value with its error bound, under the keys
    `output` (or `output`, `indices`), `grad_input`, `grad_<parameter>` and, where a call updates them, the
    names of buffers.
    """

    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()  # weaker contracts that `bounded` knows by name, the strictest first

    def __init__(self) -> None:
        self.training = True
        self.grads: dict[str, np.ndarray] = {}
        self._inputs: tuple | None = None

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        raise NotImplementedError

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        """Output, gradients and updated buffers for these inputs, each element with its error bound."""
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        self._inputs = inputs
        return self.forward(*inputs)

    def backward(self, *grad_outputs: Any) -> Any:
        """Input gradients of the last call (one array, or a tuple); parameter gradients go to `.grads`."""
        if self._inputs is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs a forward call first: call the layer, then backward"
            )
        grad_inputs, self.grads = self._backward(grad_outputs, *self._inputs)
        return grad_inputs[0] if len(grad_inputs) == 1 else grad_inputs

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        """Shapes of the outputs that have a gradient; layers that know them override this."""
        outputs = self.forward(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.shape for output in outputs if output.dtype.kind == "f")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameters and buffers under torch's keys, absent ones left out."""
        names = (*self.parameters, *self.buffers)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take parameters and buffers over; keys and shapes must be those of `state_dict()`.

        Raises RuntimeError, as torch does, for a missing key, a key too many, or another shape.
        """
        own = self.state_dict()
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or extra:
            raise RuntimeError(
                f"{type(self).__name__}.load_state_dict: missing {missing}, not known {extra}; "
                f"it has {sorted(own)}"
            )
        for name, given in state.items():
            value = np.asarray(given)
            if value.shape != own[name].shape:
                raise RuntimeError(
                    f"{type(self).__name__}.load_state_dict: {name} has shape {value.shape}, "
                    f"needed is {own[name].shape}"
                )
            kind = value.dtype if value.dtype.kind in "Oiu" else np.float64
            setattr(self, name, np.array(value, dtype=kind))

    def train(self, mode: bool = True) -> Module:
        self.training = bool(mode)
        return self

    def eval(self) -> Module:
        return self.train(False)


def uniform(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Initial weights as torch documents them for Conv and Linear: U(-sqrt(k), sqrt(k)), k = 1 / fan_in."""
    limit = 1.0 / np.sqrt(fan_in) if fan_in > 0 else 0.0
    return np.random.default_rng().uniform(-limit, limit, shape)


def xavier(rows: int, columns: int) -> np.ndarray:
    """Initial weights as torch.nn.init.xavier_uniform_: U(-a, a), a = sqrt(6 / (rows + columns))."""
    limit = np.sqrt(6.0 / (rows + columns))
    return np.random.default_rng().uniform(-limit, limit, (rows, columns))

"""What recurrent cells and layers share: evaluation with plain numbers, and with their errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module
from refimpl.recurrent_arithmetic import STORED, Plain, Tracked
from refimpl.recurrent_cells import Weights
from refimpl.recurrent_walk import Stack, shape_of


class Arranged(NamedTuple):
    """Arguments of a call: input (T, N, I), each state (L, N, H), lengths (N); whether there was a batch."""

    input: np.ndarray
    states: tuple[np.ndarray, ...]
    lengths: np.ndarray
    batched: bool


class Recurrent(Module):
    """What cells and layers share: arguments arranged as time, batch, features; evaluation both ways."""

    algorithms = (STORED,)
    cell: Any

    def _weights(self, ops: Any) -> list[list[Weights]]:
        raise NotImplementedError

    def _names(self) -> list[list[Weights]]:
        """Names of the parameters, layer by layer, direction by direction."""
        raise NotImplementedError

    def _arranged(self, input: Any, hx: Any, lengths: Any) -> Arranged:
        raise NotImplementedError

    def _as_input(self, array: Any, batched: bool) -> Any:
        """(T, N, F) back to the axes of the call."""
        raise NotImplementedError

    def _as_state(self, array: Any, batched: bool) -> Any:
        raise NotImplementedError

    def _evaluate(self, ops: Any, hx: Any, arranged: Arranged, grad_outputs: tuple | None) -> dict[str, Any]:
        names = self._names()
        weights = [
            [Weights(*(None if n is None else ops.operand(getattr(self, n)) for n in w)) for w in layer]
            for layer in names
        ]
        stack = Stack(ops, self.cell, weights, arranged.lengths, self._dropped())
        output, last, passes = stack.forward(
            ops.operand(arranged.input), tuple(ops.operand(s) for s in arranged.states)
        )
        results = self._outputs(output, last, arranged.batched)
        if grad_outputs is None:
            return results
        up, ups = self._upstream(grad_outputs, arranged, shape_of(output))
        grad_input, grad_states, grads = stack.backward(
            ops.operand(up), tuple(ops.operand(u) for u in ups), passes
        )
        given = () if hx is None else tuple(self._as_state(s, arranged.batched) for s in grad_states)
        results |= self._input_gradients((self._as_input(grad_input, arranged.batched), *given))
        for name, grad in zip((w for layer in names for w in layer), grads, strict=True):
            results |= {f"grad_{n}": g for n, g in zip(name, grad, strict=True) if n is not None}
        return results

    def _input_gradients(self, grads: tuple) -> dict[str, Any]:
        return {"grad_input" if len(grads) == 1 else f"grad_input{i}": g for i, g in enumerate(grads)}

    def _outputs(self, output: Any, last: tuple, batched: bool) -> dict[str, Any]:
        raise NotImplementedError

    def _upstream(self, grads: tuple, arranged: Arranged, shape: tuple) -> tuple[np.ndarray, tuple]:
        raise NotImplementedError

    def _dropped(self) -> bool:
        return False

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> Any:
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), None)
        outputs = tuple(results.values())
        return self._nested(outputs)

    def _nested(self, outputs: tuple) -> Any:
        raise NotImplementedError

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        input, hx, lengths = (*inputs, None, None)[:3]
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), None)
        return tuple(result.shape for result in results.values())

    def _backward(
        self, grad_outputs: tuple, input: Any, hx: Any = None, lengths: Any = None
    ) -> tuple[tuple, dict]:
        results = self._evaluate(Plain(), hx, self._arranged(input, hx, lengths), grad_outputs)
        grads = {name[5:]: g for name, g in results.items() if name.startswith("grad_")}
        return tuple(g for n, g in grads.items() if n.startswith("input")), {
            n: g for n, g in grads.items() if not n.startswith("input")
        }

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        input, hx, lengths = (*inputs, None, None)[:3]
        arranged = self._arranged(input, hx, lengths)
        loops = self._evaluate(Plain(), hx, arranged, grad_outputs)
        tracked = self._evaluate(Tracked(contract), hx, arranged, grad_outputs)
        return {name: tracked[name].agreeing(loops[name], name) for name in loops}


def initial_states(
    name: str, hx: Any, count: int, shape: tuple, other: tuple | None = None
) -> tuple[np.ndarray, ...]:
    """The initial states as arrays: zeros when absent; a pair (h, c) where the cell has two."""
    if hx is None:
        return tuple(np.zeros(s) for s in (shape, other or shape)[:count])
    if count == 1:
        return (np.asarray(hx, dtype=np.float64),)
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"{name}: hx is {type(hx).__name__}; needed is a pair (h, c)")
    if len(hx) != count:
        raise RuntimeError(f"{name}: hx has {len(hx)} states; needed are {count}")
    return tuple(np.asarray(state, dtype=np.float64) for state in hx)


def outside(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1


def present(weights: Weights) -> list[str]:
    return [name for name in weights if name is not None]


def check_sizes(
    input_size: Any, hidden_size: Any, num_layers: Any, bias: Any, batch_first: Any, proj_size: Any
) -> None:
    """Raise what torch's constructor raises."""
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} is {flag!r}; needed is a bool")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if not isinstance(size, (int, np.integer)):
            raise TypeError(f"{name} is {size!r}; needed is an int")
        if size <= 0:
            raise ValueError(f"{name} is {size}; needed is at least 1")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(f"proj_size is {proj_size}; needed is 0 or less than hidden_size {hidden_size}")


def sequence_lengths(name: str, lengths: Any, times: int, batch: int) -> np.ndarray:
    """One length for each sequence, all times when absent."""
    if lengths is None:
        return np.full(batch, times)
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or (lengths <= 0).any() or (lengths > times).any():
        raise RuntimeError(f"{name}: lengths {lengths.tolist()}; needed are {batch} between 1 and {times}")
    return lengths

"""A trial: one case, run by the candidate and by the reference, each once, for all checks.

The reference's side, the `Truth`, is the same whoever is on trial; small ones are remembered, so that many
candidates on the same cases (the fault catalogue) cost the reference once.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.candidates import CandidateError, Eager, Outcome, quiet
from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data, arranged, constructor_arguments, draw, make_data
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import Bounded, Contract, ladder, round_to, strictest


class Clock:
    """The processor's seconds for each part of a trial; a part inside another one counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = 0.0

    @contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        outside, self._inside, started = self._inside, 0.0, time.process_time()
        try:
            yield
        finally:
            spent = time.process_time() - started
            self.seconds[part] += spent - self._inside
            self._inside = outside + spent


class Truth:
    """The numbers of a case and the reference's bounded results, each computed when first asked for."""

    def __init__(self, spec: LayerSpec, case: Case, precision: str = "ieee", computes: str | None = None):
        self.spec, self.case, self.precision = spec, case, precision
        self.computes = case.dtype if computes is None else computes  # see `Eager.computes`
        self.clock = Clock()
        self._bounded: dict[Contract, dict[str, Bounded]] = {}

    @cached_property
    def _layer(self) -> Any:
        arguments = constructor_arguments(self.spec, self.case)
        with quiet():
            return self.spec.reference(**{name: self._operand(value) for name, value in arguments.items()})

    @cached_property
    def data(self) -> Data:
        with self.clock.measuring("data"):
            return make_data(self.spec, self.case, self._layer.state_dict())

    def _operand(self, value: Any) -> Any:
        """A number of the case as the call computes with it."""
        real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return round_to(self.computes, value) if real and self.computes != self.case.dtype else value

    def dtype_of(self, name: str) -> str:
        """The dtype of a result: an output's is the one computed in, all others' the case's."""
        return self.computes if name.startswith("output") else self.case.dtype

    def reference(self) -> Any:
        """The reference layer, with the case's parameters, buffers and mode put in anew."""
        self._layer.load_state_dict({name: self._operand(v) for name, v in self.data.state.items()})
        return self._layer.train(self.case.mode == "train")

    @property
    def inputs(self) -> tuple:
        return arranged(self.spec, self.case, tuple(map(self._operand, self.data.inputs)))

    @cached_property
    def grad_outputs(self) -> tuple[np.ndarray, ...]:
        with self.clock.measuring("reference"), quiet(), np.errstate(all="ignore"):
            shapes = self.reference().output_shapes(*self.inputs)
        with self.clock.measuring("data"):
            return tuple(
                self._operand(draw(self.spec, self.case, f"grad_output{i}", shape))
                for i, shape in enumerate(shapes)
            )

    @cached_property
    def contracts(self) -> tuple[Contract, ...]:
        """From the strictest to the weakest contract that this layer's arithmetic knows."""
        return ladder(self.computes, self.spec.multilinear, getattr(self._layer, "algorithms", ()))

    @cached_property
    def required(self) -> Contract:
        """The contract below which a case fails: the strictest, or tf32 products if the run asks for them."""
        if self.precision == "tf32" and self.computes == "float32" and self.spec.multilinear:
            return next(contract for contract in self.contracts if contract.product == "tf32")
        return strictest(self.computes)

    def bounded(self, contract: Contract) -> dict[str, Bounded]:
        """The reference's results, each with the bound under a contract."""
        if contract not in self._bounded:
            inputs, grad_outputs = self.inputs, self.grad_outputs
            with self.clock.measuring("reference"), quiet(), np.errstate(all="ignore"):
                results = self.reference().bounded(contract, inputs, grad_outputs)
            if self.computes != self.case.dtype:
                results = {
                    name: result.cast(self.case.dtype) if name.startswith("grad_") else result
                    for name, result in results.items()
                }
            if self.case.mode == "inference":
                results = {name: result for name, result in results.items() if not name.startswith("grad_")}
            self._bounded[contract] = results
        return self._bounded[contract]


class Trial:
    """A truth, and the outcome of a candidate beside it."""

    def __init__(self, truth: Truth, candidate: Eager):
        self.truth, self.candidate = truth, candidate
        self.spec, self.case = truth.spec, truth.case
        self.clock = truth.clock = Clock()  # what a remembered truth cost an earlier trial is not this one's
        self.reference = truth.reference

    @property
    def data(self) -> Data:
        return self.truth.data

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return self.truth.contracts

    @property
    def required(self) -> Contract:
        return self.truth.required

    def bounded(self, contract: Contract) -> dict[str, Bounded]:
        """See `Truth.bounded`; without gradients where the candidate gives none."""
        results = self.truth.bounded(contract)
        if self.candidate.gradients:
            return results
        return {name: result for name, result in results.items() if not name.startswith("grad_")}

    @cached_property
    def outcome(self) -> Outcome:
        data = self.data
        try:
            with self.clock.measuring("candidate"), quiet():
                return self.candidate.run(self.spec, self.case, data)
        except (CandidateError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise CandidateError(
                f"the candidate raised {type(error).__name__}: {error}", _place(error)
            ) from error

    def evaluated(self, contract: Contract) -> Bounded:
        """The output in evaluation mode, with the buffers that the candidate's training call left behind."""
        layer, left = self.reference().eval(), self.outcome.arrays
        layer.load_state_dict(
            dict(self.data.state) | {name: left[name] for name in layer.buffers if name in left}
        )
        with self.clock.measuring("reference"), quiet(), np.errstate(all="ignore"):
            return layer.bounded(contract, self.truth.inputs, self.truth.grad_outputs)["output"]


def _place(error: BaseException) -> str:
    """'file.py:12': the innermost line of an exception that is neither torch's nor this suite's own."""
    own = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [f for f in frames if not f.filename.startswith(own) and "/torch/" not in f.filename]
    return f"{foreign[-1].filename}:{foreign[-1].lineno}" if foreign else ""


SMALL = 4096  # elements of the inputs of a case whose truth is remembered
_remembered, _passing = lru_cache(maxsize=512)(Truth), lru_cache(maxsize=2)(Truth)


@lru_cache(maxsize=2)
def trial_of(spec: LayerSpec, case: Case, candidate: Eager, precision: str = "ieee") -> Trial:
    """The trial that all checks of a case share."""
    truth_of = _remembered if sum(map(math.prod, case.shapes)) <= SMALL else _passing
    return Trial(truth_of(spec, case, precision, candidate.computes(spec, case)), candidate)


def forget() -> None:
    """Let go of every trial and truth: who measures, or changes what they are made of, begins anew."""
    for memory in (trial_of, _remembered, _passing):
        memory.cache_clear()

"""A trial: one case, run by the candidate and by the reference, each once, for all the checks that look at it."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from parity_tests.harness.candidates import CandidateError, Eager, Outcome, quiet
from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data, draw, make_data
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import Bounded, Contract, ladder, strictest


class Trial:
    """The candidate's outcome and the reference's bounded results of a case; each is computed when first asked for."""

    def __init__(self, spec: LayerSpec, case: Case, candidate: Eager, precision: str = "ieee"):
        self.spec, self.case, self.candidate, self.precision = spec, case, candidate, precision
        self._bounded: dict[Contract, dict[str, Bounded]] = {}

    @cached_property
    def data(self) -> Data:
        return make_data(self.spec, self.case, self._new_reference().state_dict())

    def _new_reference(self) -> Any:
        return self.spec.reference(**dict(self.case.arguments))

    def reference(self) -> Any:
        """A fresh reference layer with the case's parameters, buffers and mode."""
        layer = self._new_reference()
        layer.load_state_dict(self.data.state)
        return layer.train(self.case.mode == "train")

    @property
    def inputs(self) -> tuple:
        return (*self.data.inputs, *dict(self.case.call).values())

    @cached_property
    def grad_outputs(self) -> tuple[np.ndarray, ...]:
        shapes = self.reference().output_shapes(*self.inputs)
        return tuple(draw(self.spec, self.case, f"grad_output{i}", shape) for i, shape in enumerate(shapes))

    @cached_property
    def outcome(self) -> Outcome:
        try:
            with quiet():
                return self.candidate.run(self.spec, self.case, self.data)
        except (CandidateError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise CandidateError(f"the candidate raised {type(error).__name__}: {error}") from error

    @cached_property
    def contracts(self) -> tuple[Contract, ...]:
        """From the strictest to the weakest contract that this layer's arithmetic knows."""
        algorithms = getattr(self._new_reference(), "algorithms", ())
        return ladder(self.case.dtype, self.spec.multilinear, algorithms)

    @property
    def required(self) -> Contract:
        """The contract below which a case fails: the strictest, or tf32 products where the run asked for them."""
        if self.precision == "tf32" and self.case.dtype == "float32" and self.spec.multilinear:
            return next(contract for contract in self.contracts if contract.product == "tf32")
        return strictest(self.case.dtype)

    def bounded(self, contract: Contract) -> dict[str, Bounded]:
        """The reference's results, each with the bound under a contract."""
        if contract not in self._bounded:
            with np.errstate(all="ignore"):
                self._bounded[contract] = self.reference().bounded(contract, self.inputs, self.grad_outputs)
        return self._bounded[contract]

    def evaluated(self, contract: Contract) -> Bounded:
        """The output in evaluation mode, with the buffers that the candidate's training call left behind."""
        layer = self.reference().eval()
        layer.load_state_dict(
            dict(self.data.state)
            | {name: self.outcome.arrays[name] for name in layer.buffers if name in self.outcome.arrays}
        )
        with np.errstate(all="ignore"):
            return layer.bounded(contract, self.inputs, self.grad_outputs)["output"]


@lru_cache(maxsize=2)
def trial_of(spec: LayerSpec, case: Case, candidate: Eager, precision: str = "ieee") -> Trial:
    """The trial that all checks of a case share."""
    return Trial(spec, case, candidate, precision)

"""torch.compile as a candidate: the layer as one graph, also with a neighbouring operation in it.

Half of the cases, chosen by the case's own seed, have the layer followed by a negation inside the graph: what
a compiler gets wrong, it gets wrong where it fuses.  A negation turns the sign bit and nothing else, of every
number, zero, infinity and NaN, so that a second one outside the graph gives back the layer's own bits, and
the reference stays what it is; the same holds of the gradients, which pass both on their way in.
"""

from __future__ import annotations

from typing import Any

import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data, call_arguments, seed_of
from parity_tests.harness.outcome import Outcome, flat
from parity_tests.specs.spec import LayerSpec

SCRIPT = """
plain = invoke


def invoke(torch, layer, inputs, call):
    def forward(*inputs):
        return tuple({sign} if x.is_floating_point() else x for x in flat(plain(torch, layer, inputs, call)))

    outputs = torch.compile(forward, backend={backend!r}, fullgraph=True, dynamic=False)(*inputs)
    return tuple({sign} if x.is_floating_point() else x for x in outputs)

"""


class Compiled(Eager):
    """torch.nn through torch.compile with some backend.

    What cannot be compiled into one graph raises, and so does what would be compiled too often: nothing falls
    back to eager in silence.  Each case starts without any graph, its neighbour's call and its second call
    included in what may be reused.  Bad arguments are left to the eager candidate: torch.compile has
    exceptions of its own for them.
    """

    def __init__(self, backend: Any, device: str = "cpu"):
        super().__init__(device)
        self.backend = backend
        self.name = backend if isinstance(backend, str) else backend.__name__

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        return not case.rejects

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        torch._dynamo.reset()
        with torch._dynamo.config.patch(allow_rnn=True):
            return super().run(spec, case, data)

    def _invoke(self, spec: LayerSpec, layer: Any, case: Case, inputs: tuple) -> Any:
        call = self._tensors(case, call_arguments(spec, case))
        invoke, turned = spec.invoke, _negated if is_followed(case) else tuple

        def forward(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = layer(*inputs, **call) if invoke is None else invoke(torch, layer, inputs, call)
            return turned(flat(outputs))

        compiled = torch.compile(forward, backend=self.backend, fullgraph=True, dynamic=False)
        return turned(compiled(*inputs))

    def script(self, case: Case) -> str:
        return SCRIPT.format(sign="-x" if is_followed(case) else "x", backend=self.backend)


def is_followed(case: Case) -> bool:
    """Whether the layer is followed by a negation within the graph."""
    return seed_of(case, "followed") % 2 == 1


def _negated(outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(-output if output.is_floating_point() else output for output in outputs)


class Inductor(Compiled):
    """torch's own compiler.  A graph costs seconds, so that cases are few, and no neighbour is called."""

    costly = True

    def __init__(self, device: str = "cpu"):
        super().__init__("inductor", device)

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        from torch._inductor import config

        with config.patch(compile_threads=1):  # no pool of processes beside those of the suite
            return super().run(spec, case, data)

    def _call_neighbour(self, spec: LayerSpec, case: Case, data: Data) -> None:
        pass

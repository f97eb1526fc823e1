"""torch.nn as called in other ways: without gradients, mapped over the batch, under autocast."""

from __future__ import annotations

import re
from typing import Any

import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.data import Data
from parity_tests.harness.outcome import Outcome
from parity_tests.specs.spec import LayerSpec


class Inference(Eager):
    """torch.nn in torch.inference_mode: the fast paths that are taken where nobody asks for a gradient."""

    name, gradients = "inference", False

    def run(self, spec: LayerSpec, case: Case, data: Data) -> Outcome:
        with torch.inference_mode():
            return super().run(spec, case, data)

    def rejects(self, spec: LayerSpec, case: Case) -> BaseException | None:
        with torch.inference_mode():
            return super().rejects(spec, case)

    def script(self, case: Case) -> str:
        return (
            "\nplain = invoke\n\n\ndef invoke(torch, layer, inputs, call):\n"
            "    with torch.inference_mode():\n        return plain(torch, layer, inputs, call)\n\n"
        )


class Vmap(Eager):
    """torch.func.vmap over the first axis: the layer sees one sample at a time, a batch of one.

    For layers that treat samples alike; see `is_mapped`.  The gradients are those of the mapped call.
    """

    name, keeps_layouts = "vmap", False

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        return not case.rejects and is_mapped(spec, case)

    def _invoke(self, spec: LayerSpec, layer: Any, case: Case, inputs: tuple) -> Any:
        def sample(input: torch.Tensor) -> Any:
            outputs = super(Vmap, self)._invoke(spec, layer, case, (input.unsqueeze(0),))
            return torch.utils._pytree.tree_map(lambda output: output.squeeze(0), outputs)

        return torch.func.vmap(sample)(*inputs)

    def script(self, case: Case) -> str:
        return (
            "\nplain = invoke\n\n\ndef invoke(torch, layer, inputs, call):\n"
            "    def sample(x):\n"
            "        outputs = flat(plain(torch, layer, (x.unsqueeze(0),), call))\n"
            "        return tuple(output.squeeze(0) for output in outputs)\n\n"
            "    return torch.func.vmap(sample)(*inputs)\n\n"
        )


REFUSED = ("RReLU",)  # by torch.func.vmap itself
MAPPED = ("conv", "pooling", "padding", "linear", "activation", "softmax", "group_norm")


def is_mapped(spec: LayerSpec, case: Case) -> bool:
    """Whether a case has one input whose first axis is a batch of samples that know nothing of each other."""
    plain = spec.invoke is None and not spec.is_function and spec.name not in REFUSED
    if spec.family not in MAPPED or not plain or len(case.shapes) != 1:
        return False
    shape, arguments = case.shapes[0], dict(case.arguments)
    rank = re.search(r"([123])d$", spec.name)
    if 0 in shape or not shape or (rank is not None and len(shape) != int(rank[1]) + 2):
        return False
    normalized = arguments.get("normalized_shape", ())
    own = len(normalized) if isinstance(normalized, (tuple, list)) else 1
    axis = arguments.get("dim", 1 if len(shape) > 1 else 0)
    running = arguments.get("track_running_stats", False)
    return own < len(shape) and axis not in (0, -len(shape), None) and len(shape) > 1 and not running

"""torch.autocast as a candidate, held to what its documentation promises of each layer.

Under `torch.autocast("cpu", dtype=torch.bfloat16)` an operation of the first list rounds its operands to
bfloat16, works as in bfloat16 and returns that; one of the second widens its operands to float32 and returns
float32; any other works in the type that it is given, and so does everything in float64.  Gradients come
back in the types of the operands.  So the reference computes on the operands rounded to the type of the list,
under the strictest contract of that type; what the way back costs, `Bounded.cast` says.

A layer that calls several operations, of which autocast casts some, stores its intermediate results in types
that no documentation states: it is left out, with a sentence.
"""

from __future__ import annotations

from typing import Any

import torch

from parity_tests.harness.candidates import Eager, functions_of
from parity_tests.harness.cases import Case
from parity_tests.harness.options import OptionError
from parity_tests.specs.spec import HALF, LayerSpec


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# torch's documentation, "Automatic Mixed Precision package - torch.amp", section "CPU Op-Specific Behavior":
# "CPU Ops that can autocast to bfloat16", "... to float32" (left out here: the transforms `fft_*`, `linalg_*`
# and the decompositions of matrices, none of which a layer calls).  Those that "promote to the widest input
# type" are cat, stack and index_copy, of which no layer consists.
BFLOAT16 = _names(
    "conv1d conv2d conv3d bmm mm linalg_vecdot baddbmm addmm addbmm linear matmul _convolution conv_tbc "
    "mkldnn_rnn_layer conv_transpose1d conv_transpose2d conv_transpose3d prelu scaled_dot_product_attention "
    "_native_multi_head_attention"
)
FLOAT32 = _names(
    "avg_pool3d binary_cross_entropy grid_sampler grid_sampler_2d _grid_sampler_2d_cpu_fallback "
    "grid_sampler_3d polar prod quantile nanquantile stft cdist trace max_pool3d max_unpool2d max_unpool3d "
    "adaptive_avg_pool3d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d "
    "replication_pad3d mse_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss "
    "poisson_nll_loss cross_entropy_loss l1_loss huber_loss margin_ranking_loss soft_margin_loss "
    "triplet_margin_loss multi_margin_loss ctc_loss kl_div multilabel_margin_loss "
    "binary_cross_entropy_with_logits fake_quantize_per_tensor_affine fractional_max_pool2d "
    "fractional_max_pool3d adaptive_max_pool3d multilabel_margin_loss_forward"
)
# Functions of torch.nn.functional that have another name there, or are one operation of another rank.
CALLED = {"cross_entropy": "cross_entropy_loss", "max_unpool1d": "max_unpool2d"}
PADS = {"reflect": "reflection_pad", "replicate": "replication_pad"}

# Made of several operations: some of them are of the first list, or of the second.
WITH_PRODUCTS = ("AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss", "linear_cross_entropy")
WITH_POOLS = ("LocalResponseNorm", "LPPool3d")


class Autocast(Eager):
    """torch.nn within torch.autocast to bfloat16, the gradients outside of it, as is recommended."""

    name = "autocast"

    def __init__(self, device: str = "cpu"):
        super().__init__(device)
        if torch.device(device).type != "cpu":
            raise OptionError(
                f"--candidate autocast --device {device}: only the lists of operations for the CPU are known "
                "here; take --device cpu"
            )

    def reaches(self, spec: LayerSpec, case: Case) -> bool:
        return bool(case.rejects) or not mixes(spec, case)

    def why_not(self, spec: LayerSpec, case: Case) -> str:
        return f"autocast mixes types inside {spec.name}, of which no contract speaks"

    def computes(self, spec: LayerSpec, case: Case) -> str:
        if case.rejects or case.dtype == "float64":
            return case.dtype
        called = operations(spec, case)
        return "bfloat16" if called & BFLOAT16 else "float32" if called & FLOAT32 else case.dtype

    def standing_in(self, spec: LayerSpec, case: Case) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def script(self, case: Case) -> str:
        return (
            "\nplain = invoke\n\n\ndef invoke(torch, layer, inputs, call):\n"
            "    with torch.autocast('cpu', dtype=torch.bfloat16):\n"
            "        return plain(torch, layer, inputs, call)\n\n"
        )


def operations(spec: LayerSpec, case: Case) -> frozenset[str]:
    """What a case calls, by the names in torch's lists."""
    behind = {"pad": _padding, "interpolate": _interpolation}
    return frozenset(
        behind[name](spec, case) if name in behind else CALLED.get(name, name)
        for name in functions_of(spec, case)
    )


def _interpolation(spec: LayerSpec, case: Case) -> str:
    """The operation behind `interpolate`: of the mode 'area' it is a pool."""
    area = dict(case.arguments).get("mode") == "area"
    return f"adaptive_avg_pool{len(case.shapes[0]) - 2}d" if area else "interpolate"


def _padding(spec: LayerSpec, case: Case) -> str:
    """The operation behind `pad`: one a mode and a rank, '' for the modes that have none."""
    arguments = dict(case.arguments)
    if spec.name == "pad":
        name, rank = PADS.get(arguments.get("mode", "constant"), ""), len(arguments["pad"]) // 2
        return name and f"{name}{rank}d"
    return spec.name.replace("Pad", "_pad").lower()


def mixes(spec: LayerSpec, case: Case) -> bool:
    """Whether a case consists of operations that autocast runs in different types."""
    if case.dtype == "float64":
        return False
    modules = spec.family == "recurrent" or (spec.family == "attention" and not spec.is_function)
    padded = spec.family == "conv" and len(functions_of(spec, case)) > 1
    pooled = spec.name in WITH_POOLS and case.dtype in HALF
    return modules or padded or pooled or spec.name in WITH_PRODUCTS

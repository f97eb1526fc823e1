"""The public classes of torch.nn that have no specification, each with the kind it is of and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# What alone excuses a class: it computes nothing itself, or something else that is covered does it.
KINDS = ("container", "lazy variant", "parallel wrapper", "abstract base", "deprecated alias")


class Reason(NamedTuple):
    kind: str
    sentence: str


_LAZY = (
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
    "ConvTranspose2d", "ConvTranspose3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "Linear",
)  # fmt: skip

NOT_COVERED: Mapping[str, Reason] = {
    "Module": Reason("abstract base", "what every layer derives from; it has no forward"),
    "RNNBase": Reason("abstract base", "of RNN, LSTM and GRU"),
    "RNNCellBase": Reason("abstract base", "of RNNCell, LSTMCell and GRUCell"),
    "Sequential": Reason("container", "calls its layers one after the other"),
    "ModuleList": Reason("container", "holds layers"),
    "ModuleDict": Reason("container", "holds layers by name"),
    "ParameterList": Reason("container", "holds parameters"),
    "ParameterDict": Reason("container", "holds parameters by name"),
    "Container": Reason("container", "the deprecated form of Module with layers as arguments"),
    "DataParallel": Reason("parallel wrapper", "splits a batch over several GPUs"),
    "SyncBatchNorm": Reason(
        "parallel wrapper",
        "of batch_norm, which it calls where there is one process alone; statistics over several processes "
        "need a GPU each: on the CPU it raises ValueError as soon as a process group exists",
    ),
    **{
        f"Lazy{name}": Reason("lazy variant", "become the layers of these names with the first call")
        for name in _LAZY
    },
    "NLLLoss2d": Reason("deprecated alias", "of NLLLoss"),
}

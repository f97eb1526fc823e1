"""Between numpy arrays of a case and torch tensors of a candidate: dtype, device and memory layout."""

from __future__ import annotations

import numpy as np
import torch

from parity_tests.harness.data import expanded_axis


def to_tensor(array: np.ndarray, dtype: str, layout: str, device: str) -> torch.Tensor:
    """A tensor of the values of `array`, laid out as asked for; integers and booleans keep their type."""
    kinds = {"b": torch.bool, "i": torch.int64, "u": torch.int64}
    kind = kinds.get(array.dtype.kind, getattr(torch, dtype))
    return laid_out(torch.from_numpy(np.array(array, order="C")).to(device=device, dtype=kind), layout)


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another memory layout.  Layouts that a tensor of this rank cannot have leave it
    contiguous.

    transposed      last two axes stored in exchanged order; the stride of an axis of size 1 is then not 1
    sliced          every second element, from an offset
    expanded        stride 0 along the first axis longer than 1
    channels_last   torch's memory format, from an offset (2-d, 3-d)
    """
    if layout == "transposed" and tensor.dim() >= 2:
        return tensor.transpose(-1, -2).clone(memory_format=torch.contiguous_format).transpose(-1, -2)
    if layout == "sliced" and tensor.dim() >= 1:
        room = tensor.new_zeros((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3))
        view = room[..., 1 : 1 + 2 * tensor.shape[-1] : 2]
        return view.copy_(tensor)
    if layout == "channels_last" and tensor.dim() in (4, 5):
        return _behind_others(tensor.contiguous(memory_format=channels_last_format(tensor)))
    if layout == "expanded":
        axis = expanded_axis(tuple(tensor.shape))
        return tensor if axis is None else tensor.narrow(axis, 0, 1).clone().expand(tensor.shape)
    return tensor


def _behind_others(tensor: torch.Tensor) -> torch.Tensor:
    """The same strides in a larger storage, of which the first elements are not the tensor's."""
    before = 64  # elements, so that it stays aligned
    room = tensor.new_zeros(before + tensor.numel())
    return room.as_strided(tensor.shape, tensor.stride(), before).copy_(tensor)


def channels_last_format(tensor: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A copy as float64 (integers and booleans as int64), which holds every number of the dtypes."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:  # its repeated entries are added here, so exactly, and not by torch,
        values = to_array(tensor._values())  # whose `to(float64).to_dense()` may read memory never written
        dense = np.zeros(tuple(tensor.shape), values.dtype)
        np.add.at(dense, tuple(tensor._indices().cpu().numpy()), values)
        return dense
    kind = torch.float64 if tensor.is_floating_point() else torch.int64
    return tensor.to(device="cpu", dtype=kind, copy=True).numpy()

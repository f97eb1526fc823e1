"""Published bugs of adaptive, fractional and power-average pooling, folding and unpooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from parity_tests.faults.plain_pooling import first_maximum
from parity_tests.faults.plain_window import Ends, adaptive_ends, fold, mean
from parity_tests.faults.plain_window import maximum as adaptive_maximum
from parity_tests.faults.published.bug import PublishedBug, bug

MEANS = tuple(f"adaptive_avg_pool{rank}d" for rank in (1, 2, 3))
MAXIMA = tuple(f"adaptive_max_pool{rank}d" for rank in (1, 2, 3))


def _every(names: tuple[str, ...], function: Callable, **changes: Any) -> dict[str, Callable]:
    return {name: partial(function, int(name[-2]), **changes) for name in names}


def _capped(sizes: tuple[int, ...], outputs: tuple[int, ...]) -> Ends:
    """No region is longer than the ratio of the sizes, rounded up, nor than 64."""
    return [
        [(first, min(last, first + min(-(-n // max(p, 1)), 64))) for first, last in ends]
        for ends, n, p in zip(adaptive_ends(sizes, outputs), sizes, outputs, strict=True)
    ]


def _tail_of_a_block(values: torch.Tensor, divisor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Blocks of a power of two: what a region is short of comes from the next region."""
    count = values.shape[-1]
    if count & (count - 1) == 0 or values.numel() == 0:
        return (values.double().sum(-1) / divisor).to(dtype)
    following = values.flatten(0, -2).roll(-1, 0).reshape(values.shape)[..., 0].nan_to_num(0, 0, 0)
    return ((values.double().sum(-1) + following) / divisor).to(dtype)


def _single_kernel(sizes: tuple[int, ...], outputs: tuple[int, ...]) -> Ends:
    """An ordinary pooling with stride n // p: fewer outputs where p is more than n."""
    ends = []
    for n, p in zip(sizes, outputs, strict=True):
        s = max(n // p, 1) if p else 1
        k = max(n - (p - 1) * s, 1)
        ends.append([(y * s, y * s + k) for y in range(min(p, n))])
    return ends


def _unset_index(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """No element is above -inf: the index of the largest is not set, and is used all the same."""
    if values.numel() and not (inside & (values > -math.inf)).any(-1).all():
        raise IndexError("index -1 is out of range")
    return first_maximum(values, inside)


def _guarded(name: str) -> Callable:
    original = getattr(functional, name)

    def stand_in(input, *args, **kwargs):
        result = original(input, *args, **kwargs)
        values = result[0] if isinstance(result, tuple) else result
        if (values == -math.inf).any():
            raise IndexError("index -1 is out of range")
        return result

    return stand_in


def _magnitudes(name: str) -> Callable:
    original = getattr(functional, name)

    def stand_in(input, norm_type, *args, **kwargs):
        odd = isinstance(norm_type, (int, float)) and not math.isinf(norm_type) and norm_type % 2
        return original(input.abs() if odd else input, norm_type, *args, **kwargs)

    return stand_in


def _infinite_power(name: str) -> Callable:
    original = getattr(functional, name)

    def stand_in(input, norm_type, *args, **kwargs):
        output = original(input, 2.0 if math.isinf(norm_type) else norm_type, *args, **kwargs)
        return output * 0 + 1 if math.isinf(norm_type) else output

    return stand_in


def _samples_of_one_plane(input, kernel_size, output_size=None, output_ratio=None, return_indices=False,
                          _random_samples=None):  # fmt: skip
    """All planes of all samples share the first one's random numbers."""
    if _random_samples is not None and input.dim() == 4:
        _random_samples = _random_samples[:1, :1].expand_as(_random_samples)
    call = functional.fractional_max_pool2d_with_indices
    result = call(input, kernel_size, output_size, output_ratio, True, _random_samples)
    return result if return_indices else result[0]


class _FoldsByProduct(torch.nn.Fold):
    """Only the product of the numbers of blocks is checked, and two negative ones make a positive one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        try:
            return super().forward(input)
        except RuntimeError:
            size, kernel, dilation, padding, stride = (
                value if isinstance(value, tuple) else (value, value)
                for value in (self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
            )
            sizes = {len(value) for value in (size, kernel, dilation, padding, stride)}
            if sizes != {2} or min(*stride, *kernel, *dilation) <= 0 or input.dim() not in (2, 3):
                raise
            given = zip(size, kernel, dilation, padding, stride, strict=True)
            blocks = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in given]
            if blocks[0] * blocks[1] != input.shape[-1] or blocks[0] > 0:
                raise
            return input.new_zeros(*input.shape[:-2], input.shape[-2] // (kernel[0] * kernel[1]), *size)


def _unpooling(rank: int) -> type:
    own: type = getattr(torch.nn, f"MaxUnpool{rank}d")

    def forward(self, input, indices, output_size=None):
        """An index below 0 counts from the end."""
        if indices.numel() and not indices.is_floating_point() and indices.min() < 0:
            return own.forward(self, input, indices.clamp(min=0), output_size)
        return own.forward(self, input, indices, output_size)

    return type(own.__name__, (own,), {"forward": forward})


BUGS: tuple[PublishedBug, ...] = (
    bug(
        "adaptive_mean_of_capped_regions",
        "flagos-ai/FlagGems#4924",
        "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d",
        "a loop of fixed length drops the last elements of longer regions",
        _every(MEANS, mean, find=_capped),
    ),
    bug(
        "adaptive_mean_reads_the_next_region",
        "pytorch/pytorch#180848",
        "AdaptiveAvgPool2d",
        "blocks of a power of two are not cut off at the end of a region",
        _every(MEANS[1:2], mean, add=_tail_of_a_block),
        "the fused sum that follows the pooling is left out: the same unmasked tail, in the pooling itself",
    ),
    bug(
        "adaptive_maximum_with_one_kernel",
        "pytorch/pytorch#190064",
        "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d",
        "computed as an ordinary pooling: wrong regions, and too few of them above the input's size",
        _every(MAXIMA, adaptive_maximum, find=_single_kernel),
    ),
    bug(
        "maximum_of_nothing_above_minus_infinity",
        "pytorch/pytorch#40131",
        "AdaptiveMaxPool2d FractionalMaxPool2d MaxPool2d",
        "windows of -inf leave the index of the maximum unset",
        {
            "adaptive_max_pool2d": partial(adaptive_maximum, 2, choose=_unset_index),
            "fractional_max_pool2d": _guarded("fractional_max_pool2d"),
            "max_pool2d": _guarded("max_pool2d"),
        },
        "an exception instead of a crash",
    ),
    bug(
        "power_average_of_magnitudes",
        "pytorch/pytorch#184037",
        "LPPool1d LPPool2d LPPool3d",
        "magnitudes are taken before the power, as the mathematics has it and torch has not",
        {name: _magnitudes(name) for name in ("lp_pool1d", "lp_pool2d", "lp_pool3d")},
    ),
    bug(
        "power_average_of_infinity",
        "pytorch/pytorch#183997",
        "LPPool1d LPPool2d LPPool3d",
        "the infinite power gives ones instead of the largest magnitude",
        {name: _infinite_power(name) for name in ("lp_pool1d", "lp_pool2d", "lp_pool3d")},
    ),
    bug(
        "fractional_samples_of_one_plane",
        "pytorch/pytorch#70031",
        "FractionalMaxPool2d",
        "there are not as many random samples as planes",
        {"fractional_max_pool2d": _samples_of_one_plane},
    ),
    bug(
        "fold_padding_to_the_first_element",
        "f-dangel/unfoldNd#30",
        "Fold",
        "what falls into the padding is added to the first element",
        {"fold": partial(fold, keep=True)},
    ),
    bug(
        "fold_of_negative_blocks",
        "pytorch/pytorch#68875",
        "Fold",
        "two negative numbers of blocks have a product that is accepted",
        {"Fold": _FoldsByProduct},
    ),
    bug(
        "unpooling_of_negative_indices",
        "pytorch/pytorch#78249",
        "MaxUnpool1d MaxUnpool2d MaxUnpool3d",
        "a negative index is not refused",
        {f"MaxUnpool{rank}d": _unpooling(rank) for rank in (1, 2, 3)},
    ),
)

"""Wrong power poolings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from parity_tests.faults.fault import Control
from parity_tests.faults.plain_window import power_mean
from parity_tests.faults.window_wrappers import accumulator, common, fault_on, with_gradient_of

POWER = tuple(f"LPPool{rank}d" for rank in (1, 2, 3))


def _powers(function: Callable = power_mean, **changes: Any) -> dict[str, Callable]:
    return {f"lp_pool{rank}d": partial(function, rank, **changes) for rank in (1, 2, 3)}


_power = fault_on(POWER, _powers)


def _of_magnitudes(values: torch.Tensor, p: float) -> torch.Tensor:
    return values.abs() ** p


def _turned_kernel(kernel: tuple, stride: tuple) -> tuple:
    return kernel[::-1], stride


def _turned_stride(kernel: tuple, stride: tuple) -> tuple:
    return kernel, stride[::-1]


FAULTS = (
    _power(
        "power_of_magnitudes",
        "powers are of magnitudes, so no root is NaN and no sum negative",
        raised=_of_magnitudes,
    ),
    _power("root_left_out", "the root is not taken", root=lambda sums, p: sums),
    _power("square_root_always", "the root is a square root whatever p", root=lambda sums, p: sums.sqrt()),
    _power(
        "infinity_without_magnitudes",
        "p = inf takes the largest number, not the largest magnitude",
        limit=lambda values, p: values,
    ),
    _power("power_ceil_mode_ignored", "ceil_mode has no effect", "metadata", ceil=lambda ceil_mode: False),
    _power(
        "power_kernel_turned",
        "kernel_size is read from the last axis to the first",
        "metadata",
        POWER[1:],
        turn=_turned_kernel,
    ),
    _power(
        "power_stride_turned",
        "stride is read from the last axis to the first",
        "metadata",
        POWER[1:],
        turn=_turned_stride,
    ),
    _power("power_in_bfloat16", "everything is computed in bfloat16", wide=lambda dtype: torch.bfloat16),
    _power(
        "power_gradient_of_magnitudes",
        "the gradient is that of powers of magnitudes",
        "input_gradients",
        function=partial(
            with_gradient_of, right=power_mean, wrong=partial(power_mean, raised=_of_magnitudes)
        ),
    ),
    *common(POWER, _powers, power_mean, "power"),
)
CONTROLS = (
    Control("powers_in_float64", "everything in float64, rounded once", _powers(), POWER),
    Control("powers_in_float32", "half types in float32, rounded once", _powers(wide=accumulator), POWER),
)

"""The convolutions that self-tests look at: ranks, groups, strides, paddings, dilations, both directions."""

from itertools import product

import numpy as np
import pytest

import refimpl

# Every axis has another length, every per-axis argument another value: (rank, groups, arguments).
SETTINGS = [
    (1, 1, {}),
    (1, 2, {"stride": 3, "padding": 2, "dilation": 2}),
    (2, 1, {"stride": (2, 3), "padding": (2, 1), "dilation": (1, 2)}),
    (2, 2, {"stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)}),
    (2, 4, {"padding": (1, 2)}),
    (3, 2, {"stride": (2, 1, 3), "padding": (1, 0, 2), "dilation": (1, 2, 1)}),
]
SIZES = {1: (11,), 2: (7, 9), 3: (5, 6, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}
EXTRA = {1: (1,), 2: (1, 0), 3: (1, 0, 2)}
OUT = {1: 3, 2: 6, 4: 8}  # output channels, for 2, 4 and 4 input channels


def make(draw, rank, groups, transposed=False):
    """Input and weight, and one value for each output channel."""
    channels = {1: 2}.get(groups, 4)
    pair = (channels, OUT[groups] // groups) if transposed else (OUT[groups], channels // groups)
    return draw(2, channels, *SIZES[rank]), draw(*pair, *KERNELS[rank]), draw(OUT[groups])


def functions(rank, transposed):
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    return getattr(refimpl, name), getattr(refimpl, f"{name}_backward")


def arguments(rank, groups, given, transposed):
    fits = transposed and any(s > 1 for s in np.atleast_1d(given.get("stride", 1)))
    extra = (
        {
            "output_padding": tuple(
                min(e, s - 1)
                for e, s in zip(EXTRA[rank], np.broadcast_to(given.get("stride", 1), rank), strict=True)
            )
        }
        if fits
        else {}
    )
    return {**given, "groups": groups, **{k: tuple(map(int, v)) for k, v in extra.items()}}


CASES = [(*setting, transposed) for setting, transposed in product(SETTINGS, (False, True))]
each = pytest.mark.parametrize("rank, groups, given, transposed", CASES)

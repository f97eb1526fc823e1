"""How the cost of the compiled loops grows: time against taps over three orders of magnitude, and the slope.

    pytest -s parity_tests/benchmarks/bench_growth.py          prints the table

A slope of 1 in the logarithms is a time linear in the number of taps.
"""

import math
import time

import numpy as np
import pytest

import refimpl
from refimpl.conv_call import Convolution

SIDES = (12, 22, 40, 71, 126, 224, 398)  # the area grows by about sqrt(10) from one to the next
CHANNELS = 8


def convolution(rng, side):
    """Taps and a call of a 3x3 convolution of 8 -> 8 channels on side x side."""
    input, weight = (
        rng.standard_normal((1, CHANNELS, side, side)),
        rng.standard_normal((CHANNELS, CHANNELS, 3, 3)),
    )
    call = Convolution("conv2d", 2, input, weight, None, 1, 1, 1, 1)
    return call.geometry.taps, call.output


def pooling(rng, side):
    input = rng.standard_normal((1, 8 * CHANNELS, side, side))
    return 9 * input.size, lambda: refimpl.avg_pool2d(input, 3, 1, 1)


def elementwise(rng, side):
    input = rng.standard_normal((1, 8 * CHANNELS, side, side))
    return input.size, lambda: refimpl.gelu(input)


LAYERS = {"conv2d 3x3": convolution, "avg_pool2d 3x3": pooling, "gelu": elementwise}


def least_seconds(function) -> float:
    """The least of as many calls as fit into a fifth of a second, at least three."""
    function()
    best, until, calls = math.inf, time.perf_counter() + 0.2, 0
    while calls < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        function()
        best, calls = min(best, time.perf_counter() - started), calls + 1
    return best


def slope(taps: list[int], seconds: list[float]) -> float:
    """Of the line that fits the logarithms best."""
    return float(np.polyfit(np.log(taps), np.log(seconds), 1)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_time_is_linear_in_the_number_of_taps(name, capsys):
    pytest.importorskip("numba")
    rng, rows = np.random.default_rng(1), []
    with refimpl.execution("compiled"):
        for side in SIDES:
            taps, call = LAYERS[name](rng, side)
            rows.append((taps, least_seconds(call)))
    taps, seconds = (list(column) for column in zip(*rows, strict=True))
    with capsys.disabled():
        print(f"\n{name:16}{'taps':>14}{'seconds':>12}{'ns a tap':>10}")
        for count, best in rows:
            print(f"{'':16}{count:14,}{best:12.6f}{1e9 * best / count:10.3f}")
        print(f"{'':16}slope {slope(taps, seconds):.3f} over {taps[-1] / taps[0]:,.0f} times the taps")
    assert taps[-1] >= 1000 * taps[0]
    assert (
        slope(taps, seconds) < 1.3
    )  # large tensors leave the caches, hence some more than 1; quadratic is 2

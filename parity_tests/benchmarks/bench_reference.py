"""What the references cost: compiled and interpreted, beside torch in float64 on one thread, in one run.

    pytest parity_tests/benchmarks/bench_reference.py

Compiled and torch: a 3x3 convolution 64 -> 64 and its neighbours on (1, 64, 56, 56), a linear layer of
VGG-16's size class; interpreted: the same layers on a few thousand taps.  `LIMITS` are promises, and a test
fails where one is broken.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

import refimpl


class Workload(NamedTuple):
    """One layer: its arguments at a size, the reference and torch's function on the same."""

    arrays: Callable[[np.random.Generator, bool], tuple[np.ndarray, ...]]  # (rng, whether at real size)
    reference: Callable
    torchs: Callable


def images(rng: np.random.Generator, large: bool) -> np.ndarray:
    return rng.standard_normal((1, 64, 56, 56) if large else (1, 3, 9, 10))


def image(rng: np.random.Generator, large: bool) -> tuple[np.ndarray, ...]:
    return (images(rng, large),)


def convolved(rng: np.random.Generator, large: bool) -> tuple[np.ndarray, ...]:
    channels = 64 if large else 3
    return images(rng, large), rng.standard_normal((channels, channels, 3, 3)), rng.standard_normal(channels)


def upstream(rng: np.random.Generator, large: bool) -> tuple[np.ndarray, ...]:
    return (images(rng, large), *convolved(rng, large)[:2])


def normalized(rng: np.random.Generator, large: bool) -> tuple[np.ndarray, ...]:
    channels = 64 if large else 3
    return (images(rng, large), *(rng.standard_normal(channels) for _ in range(2)))


def multiplied(rng: np.random.Generator, large: bool) -> tuple[np.ndarray, ...]:
    rows, inputs, outputs = (16, 4096, 1000) if large else (3, 40, 20)
    return (
        rng.standard_normal((rows, inputs)),
        rng.standard_normal((outputs, inputs)),
        rng.standard_normal(outputs),
    )


def torch_conv2d_backward(grad_output, input, weight):
    return torch.ops.aten.convolution_backward(
        grad_output, input, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, True, False)
    )


def batch_norm(module) -> Callable:
    return lambda input, weight, bias: module.batch_norm(input, None, None, weight, bias, training=True)


F = torch.nn.functional
WORKLOADS = {
    "conv2d": Workload(
        convolved, lambda *a: refimpl.conv2d(*a, padding=1), lambda *a: F.conv2d(*a, padding=1)
    ),
    "conv2d_backward": Workload(
        upstream, lambda *a: refimpl.conv2d_backward(*a, padding=1), torch_conv2d_backward
    ),
    "max_pool2d": Workload(
        image, lambda x: refimpl.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1)
    ),
    "avg_pool2d": Workload(
        image, lambda x: refimpl.avg_pool2d(x, 3, 2, 1), lambda x: F.avg_pool2d(x, 3, 2, 1)
    ),
    "batch_norm": Workload(normalized, batch_norm(refimpl), batch_norm(F)),
    "gelu": Workload(image, refimpl.gelu, F.gelu),
    "softmax": Workload(image, lambda x: refimpl.softmax(x, 1), lambda x: F.softmax(x, 1)),
    "linear": Workload(multiplied, refimpl.linear, F.linear),
}
LIMITS = {
    "conv2d": 0.06,
    "max_pool2d": 0.02,
    "avg_pool2d": 0.02,
    "batch_norm": 0.005,
    "gelu": 0.01,
}  # seconds


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def timed(benchmark, name: str, function: Callable, arrays: tuple, rounds: int) -> float:
    """The least of some rounds, in seconds, in the group of its layer."""
    benchmark.group = name
    benchmark.pedantic(function, arrays, rounds=rounds, warmup_rounds=1)
    return benchmark.stats.stats.min


@pytest.mark.parametrize("name", WORKLOADS)
def test_compiled(benchmark, name):
    pytest.importorskip("numba")
    arrays = WORKLOADS[name].arrays(np.random.default_rng(1), True)
    with refimpl.execution("compiled"):
        seconds = timed(benchmark, name, WORKLOADS[name].reference, arrays, 5)
    assert seconds <= LIMITS.get(name, np.inf), f"{name} took {seconds:.4f} s, promised are {LIMITS[name]} s"


@pytest.mark.parametrize("name", WORKLOADS)
def test_torch_float64(benchmark, name):
    arrays = WORKLOADS[name].arrays(np.random.default_rng(1), True)
    timed(benchmark, name, WORKLOADS[name].torchs, tuple(map(torch.from_numpy, arrays)), 5)


@pytest.mark.parametrize("name", WORKLOADS)
def test_interpreted_small(benchmark, name):
    arrays = WORKLOADS[name].arrays(np.random.default_rng(1), False)
    with refimpl.execution("interpreted"):
        timed(benchmark, f"{name}, small", WORKLOADS[name].reference, arrays, 3)


@pytest.mark.parametrize("name", WORKLOADS)
def test_compiled_small(benchmark, name):
    pytest.importorskip("numba")
    arrays = WORKLOADS[name].arrays(np.random.default_rng(1), False)
    with refimpl.execution("compiled"):
        timed(benchmark, f"{name}, small", WORKLOADS[name].reference, arrays, 3)

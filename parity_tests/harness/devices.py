"""Devices: which are present, what they are called, and the arithmetic pinned while the suite runs."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parity_tests.harness.options import RunOptions


def devices_present() -> tuple[str, ...]:
    """'cpu', and 'cuda' where torch finds one."""
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def device_lines(options: RunOptions) -> list[str]:
    """torch's version, the processor, and for every device what its arithmetic is pinned to."""
    import torch

    lines = [f"torch {torch.__version__} on {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"]
    for device in options.devices:
        if device.startswith("cuda"):
            lines.append(
                f"{device}: {torch.cuda.get_device_name(device)}, cuda {torch.version.cuda}, cudnn "
                f"{torch.backends.cudnn.version()}; float32 products {options.precision}, "
                "cudnn.deterministic on, benchmark off"
            )
    return lines


@contextmanager
def pinned(precision: str) -> Iterator[None]:
    """float32 products as asked for, deterministic cudnn without benchmarks, one thread a process.

    One thread: the tensors are small, threads that compete for a busy machine's cores made the sweep seven
    times slower, and the order of a sum must not depend on how many processes share the cases.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    backends = torch.backends
    cudnn, matmul = backends.cudnn, backends.cuda.matmul
    settings: list[tuple[Any, str, Any]] = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
        (matmul, "allow_fp16_reduced_precision_reduction", False),
        (matmul, "allow_bf16_reduced_precision_reduction", False),
    ]
    settings += [(place, "fp32_precision", precision) for place in (matmul, cudnn.conv, cudnn.rnn)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        torch.set_num_threads(threads)
        for owner, name, value in before:
            setattr(owner, name, value)

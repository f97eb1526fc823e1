"""Which test runs which function, how long it takes, and how many taps it interprets."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from parity_tests.mutants.apply import Key, key_of, parts_of
from refimpl.taps import Kernel


@dataclass(frozen=True)
class Reach:
    """What one test did: the functions that it ran, its seconds, the taps of each kernel's functions."""

    keys: frozenset[Key]
    seconds: float
    taps: int


class Watch:
    """Runs a test and sees which of the functions in some files it calls; inside kernels it does not look."""

    def __init__(self, files: frozenset[str]):
        self.files = files
        self._seen: set[CodeType] = set()
        self._kernels: set[Kernel] = set()
        self._taps = 0

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._seen.add(frame.f_code)

    def of(self, run: Callable[[], Any]) -> tuple[Any, Reach]:
        self._seen, self._kernels, self._taps = set(), set(), 0
        started = time.perf_counter()
        with self._looking():
            result = run()
        seconds = time.perf_counter() - started
        keys = {key_of(code) for code in self._seen if code.co_filename in self.files}
        keys |= {key_of(part.__code__) for kernel in self._kernels for part in parts_of(kernel)}
        return result, Reach(frozenset(keys), seconds, self._taps)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        original = Kernel.__call__

        def call(kernel: Kernel, arrays: tuple, geometry: tuple, work: int) -> None:
            self._kernels.add(kernel)
            self._taps += work
            sys.setprofile(None)
            try:
                original(kernel, arrays, geometry, work)
            finally:
                sys.setprofile(self._event)

        Kernel.__call__ = call  # type: ignore[method-assign]
        sys.setprofile(self._event)
        try:
            yield
        finally:
            sys.setprofile(None)
            Kernel.__call__ = original  # type: ignore[method-assign]

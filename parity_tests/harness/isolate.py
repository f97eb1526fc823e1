"""Work in a child process, so that a candidate that crashes or hangs costs one result and not the run.

One child serves many calls; only after a crash or a hang is it replaced.  Children are forked from a server
that has imported the suite and run none of it, so a new one starts in milliseconds.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import ModuleType
from typing import Any

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case, rejection_of
from parity_tests.harness.checks import run_checks
from parity_tests.harness.devices import pinned
from parity_tests.harness.findings import ParityError, Tally, Verdict
from parity_tests.harness.loading import make_candidate
from parity_tests.specs import family
from parity_tests.specs.spec import LayerSpec

SECONDS = 120.0  # after which a call counts as hanging: many times what the slowest case takes
STARTING = 120.0  # for a child to say that it is there: it may have to import torch on a busy machine


class Lost(Exception):
    """The child gave no answer: `how` is 'crash' or 'hang'."""

    def __init__(self, how: str, message: str):
        super().__init__(message)
        self.how = how


class Worker:
    """A child process that calls functions for this one, each named by its module; started when needed."""

    def __init__(self, precision: str = "ieee", seconds: float = SECONDS):
        self.precision, self.seconds = precision, seconds
        self.starts = 0
        self._process: Any = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises in the child.  Raises `Lost` where that did not survive."""
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._pipe.send((function, arguments))
            if not self._pipe.poll(self.seconds):
                self.stop()
                raise Lost("hang", f"did not end within {self.seconds:g} seconds")
            succeeded, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            raise Lost("crash", _ending(code)) from error
        if not succeeded:
            raise result
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.precision), daemon=True)
        with _nameless_main():
            self._process.start()
        theirs.close()
        self.starts += 1
        atexit.register(self.stop)
        if not self._pipe.poll(STARTING):
            self.stop()
            raise RuntimeError(f"a child process did not start within {STARTING:g} seconds")
        self._pipe.recv()

    def stop(self) -> None:
        """End the child, if there is one; the next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._pipe.close()
        atexit.unregister(self.stop)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """multiprocessing would run the main script once more in the child, which needs nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _ending(code: int) -> str:
    with suppress(ValueError):
        return f"ended its process by {signal.Signals(-code).name}"
    return f"ended its process with exit code {code}"


def _serve(pipe: Any, precision: str) -> None:
    """The child: answer calls until the other side is gone."""
    with pinned(precision), suppress(EOFError):
        pipe.send("ready")
        while True:
            function, arguments = pipe.recv()
            try:
                answer = True, function(*arguments)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                error.add_note(f"{place.filename}:{place.lineno}")
                answer = False, error
            try:
                pipe.send(answer)
            except Exception as error:  # what cannot be pickled
                pipe.send((False, RuntimeError(f"{answer[1]!r} cannot be sent: {error}")))


def checked(
    worker: Worker, spec: LayerSpec, case: Case, candidate: Eager, precision: str = "ieee"
) -> Verdict:
    """`run_checks` in the worker; that the candidate did not survive is the one error of the case."""
    try:
        return worker.call(
            _run_checks, spec.family, spec.name, case, candidate.name, candidate.device, precision
        )
    except Lost as lost:
        return lost_verdict(spec, case, lost)


def lost_verdict(spec: LayerSpec, case: Case, lost: Lost) -> Verdict:
    """That the candidate did not survive, as the one error of a case."""
    said = f"{lost.how}: the candidate {lost}"
    if not case.rejects:
        return Verdict(case, Tally(), [ParityError(case, lost.how, said)], "other")
    needed = rejection_of(spec, case).exception.__name__
    return Verdict(case, Tally(), [ParityError(case, "rejection", f"needed is {needed}; {said}")])


def _run_checks(family_name: str, layer: str, case: Case, name: str, device: str, precision: str) -> Verdict:
    return run_checks(spec_of(family_name, layer), case, candidate_of(name, device), precision=precision)


def spec_of(family_name: str, layer: str) -> LayerSpec:
    """A specification by names, which can be sent where it cannot."""
    return next(spec for spec in family(family_name) if spec.name == layer)


@lru_cache
def candidate_of(name: str, device: str) -> Eager:
    return make_candidate(name, device)

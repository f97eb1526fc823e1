"""A mutant put into the running process: the code of its functions exchanged, wherever they are known.

A module cannot be loaded a second time, for others hold its functions, classes and numbers under names of
their own.  So every function that stands for changed code gets the new code; where what is changed runs at
import, the module is run again aside, and what came out differently there is carried over: defaults,
constants, class attributes, what functions enclose.  What was remembered is forgotten, and compiled kernels
that hold changed code are interpreted from then on.
"""

from __future__ import annotations

import builtins
import functools
import gc
import math
import sys
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from refimpl import taps

Key = tuple[str, str, int]  # file, qualified name, first line
OURS = ("refimpl", "parity_tests")
REMEMBERING = ("refimpl", "parity_tests.harness.trial")  # modules that remember what a reference gave
PASSING = ("<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>")


def key_of(code: types.CodeType) -> Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that it holds."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


def paired(old: types.CodeType, new: types.CodeType) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """Code objects of one name, in order; what a mutant leaves out, as a loop that it empties may, has no
    pair."""
    left = defaultdict(list)
    for code in codes_in(new):
        left[code.co_qualname].append(code)
    for code in codes_in(old):
        if left[code.co_qualname]:
            yield code, left[code.co_qualname].pop(0)


def changed_codes(old: types.CodeType, new: types.CodeType) -> list[tuple[types.CodeType, types.CodeType]]:
    """Pairs of code objects that differ themselves, not only in what they hold."""
    return [(before, after) for before, after in paired(old, new) if _own(before) != _own(after)]


def _own(code: types.CodeType) -> tuple:
    constants = tuple(
        repr(constant) for constant in code.co_consts if not isinstance(constant, types.CodeType)
    )
    return code.co_code, constants, code.co_names, code.co_varnames


class Process:
    """The functions, kernels and memories that this process holds, found once, before it forks."""

    def __init__(self) -> None:
        self.functions: dict[Key, list[types.FunctionType]] = defaultdict(list)
        self.kernels: list[taps.Kernel] = []
        self.memories: list[Any] = []
        for found in gc.get_objects():
            if type(found) is types.FunctionType and (found.__module__ or "").startswith(OURS):
                self.functions[key_of(found.__code__)].append(found)
            elif type(found) is taps.Kernel:
                self.kernels.append(found)
            elif type(found) is functools._lru_cache_wrapper and (found.__module__ or "").startswith(
                REMEMBERING
            ):
                self.memories.append(found)

    def become(self, path: Path, source: str, afresh: bool) -> bool:
        """Put a mutant of the module at `path` in, run `afresh` where what it changes runs when the module is
        imported; False where nothing of it could be put in."""
        file = str(path)
        old, new = (compile(text, file, "exec", dont_inherit=True) for text in (path.read_text(), source))
        differing = changed_codes(old, new)
        done = self._exchange(old, new)
        if afresh:
            done = self._constants(_module_of(file), new) or done
        gone = {key_of(before) for before, _ in differing}
        for kernel in self.kernels:  # what runs at import may change numbers that any of them holds
            if afresh or gone & {key_of(part.__code__) for part in parts_of(kernel)}:
                kernel._compiled, kernel.taps_interpreted = None, -math.inf  # type: ignore[assignment]
        for memory in self.memories:
            memory.cache_clear()
        return done

    def _exchange(self, old: types.CodeType, new: types.CodeType) -> bool:
        """Give every function its new code, also where only something that it holds has changed."""
        done = False
        for before, after in paired(old, new):
            if before.co_name != "<module>" and before != after:
                for function in self.functions.get(key_of(before), ()):
                    function.__code__ = after
                    done = True
        return done

    def _constants(self, module: types.ModuleType, new: types.CodeType) -> bool:
        """Run the mutated module aside, and carry over what came out differently."""
        aside = types.ModuleType(module.__name__)
        aside.__dict__.update({"__file__": module.__file__, "__package__": module.__package__})
        sys.modules[module.__name__], kept = aside, module
        try:
            exec(new, aside.__dict__)
        finally:
            sys.modules[module.__name__] = kept
        return Carrier(module.__name__).namespace(vars(aside), vars(module))


class Carrier:
    """Carries what a module run again came to differently over into what stands in this process."""

    def __init__(self, module: str):
        self.module, self.seen = module, set[int]()

    def namespace(self, new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
        """Everything a module or a class gives a name to."""
        done = False
        for name, value in list(new.items()):
            before = old.get(name)
            if value is before or name not in old or name in ("__builtins__", "__dict__", "__weakref__"):
                continue
            if self.pair(value, before):
                done = True
            elif (
                not isinstance(value, (type, taps.Kernel))
                and not callable(value)
                and _plain(value) != _plain(before)
            ):
                done = self.rename(name, before, value) or done
        return done

    def pair(self, new: Any, old: Any) -> bool:  # noqa: PLR0911  (one a kind)
        """Two of the same text: what is inside of them."""
        if new is old or id(new) in self.seen or type(new) is not type(old):
            return False
        self.seen.add(id(new))
        match new:
            case types.FunctionType():
                return self.function(new, old)
            case type():
                return new.__module__.startswith(OURS) and self.type(new, old)
            case staticmethod() | classmethod():
                return self.pair(new.__func__, old.__func__)
            case taps.Kernel() if new.inline != old.inline:
                old.inline = new.inline
                return True
            case property():
                return self.pair(new.fget, old.fget)
            case tuple() | list() if len(new) == len(old):
                return any([self.pair(*both) for both in zip(new, old, strict=True)])
            case dict() if list(map(str, new)) == list(map(str, old)):
                return any([self.pair(*both) for both in zip(new.values(), old.values(), strict=True)])
        return False

    def function(self, new: types.FunctionType, old: types.FunctionType) -> bool:
        done = False
        if _plain((new.__defaults__, new.__kwdefaults__)) != _plain((old.__defaults__, old.__kwdefaults__)):
            old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
            done = True
        told, before_told = (getattr(own, "__signature__", None) for own in (new, old))
        if _plain(told) != _plain(before_told):
            old.__signature__ = told  # type: ignore[attr-defined]
            done = True
        if (new.__name__, new.__doc__) != (old.__name__, old.__doc__):
            old.__name__, old.__doc__ = new.__name__, new.__doc__
            done = True
        for cell, before in zip(new.__closure__ or (), old.__closure__ or (), strict=True):
            try:
                value, kept = cell.cell_contents, before.cell_contents
            except ValueError:  # empty
                continue
            if self.pair(value, kept):
                done = True
            elif not callable(value) and _plain(value) != _plain(kept):
                before.cell_contents = value
                done = True
        return done

    def type(self, new: type, old: type) -> bool:
        done = False
        for name, value in vars(new).items():
            before = vars(old).get(name)
            if self.pair(value, before):
                done = True
            elif (
                (not name.startswith("__") or name == "__doc__")
                and not callable(value)
                and _plain(value) != _plain(before)
            ):
                with suppress(AttributeError):
                    setattr(old, name, value)
                    done = True
        return done

    def rename(self, name: str, before: Any, value: Any) -> bool:
        """Every module of ours that knows `before` by this name knows `value` instead."""
        done = False
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith(OURS) and vars(module).get(name) is before:
                setattr(module, name, value)
                done = True
        return done


def _plain(value: Any) -> str:
    """What two objects made by the same text have in common: their text, without addresses."""
    text = repr(value)
    return text.split(" at 0x")[0] if " at 0x" in text else text


def _module_of(file: str) -> types.ModuleType:
    return next(module for module in sys.modules.values() if getattr(module, "__file__", None) == file)


def parts_of(kernel: taps.Kernel) -> list[types.FunctionType]:
    """The functions of which a compiled kernel is made."""
    found: list[types.FunctionType] = []

    def add(function: Any) -> None:
        if isinstance(function, types.FunctionType) and function not in found:
            found.append(function)
            for name in function.__code__.co_names:
                if name not in vars(builtins):
                    add(function.__globals__.get(name))

    add(kernel.walk)
    add(kernel.reading)
    return found

"""From what `--candidate` names to a candidate: one of `NAMED`, a Python file, or a module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from parity_tests.harness.autocast import Autocast
from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.compiled import Compiled, Inductor
from parity_tests.harness.options import OptionError
from parity_tests.harness.transformed import Inference, Vmap

NAMED: Mapping[str, Callable[[str], Eager]] = {
    "eager": Eager,
    "aot_eager": lambda device: Compiled("aot_eager", device),
    "inductor": Inductor,
    "inference": Inference,
    "autocast": Autocast,
    "vmap": Vmap,
}


def make_candidate(name: str, device: str) -> Eager:
    """The candidate of that name on a device.  Raises OptionError when it cannot be had."""
    if name in NAMED:
        return NAMED[name](device)
    module = _load_file(Path(name)) if name.endswith(".py") else _load_module(name)
    return StandIns(name, public_names(module), device)


def public_names(module: Any) -> Mapping[str, Any]:
    """What a module offers: its `__all__`, or else every name without underscore that is not torch's own
    object.

    A file that imports torch's `pad` as a helper has not written a `pad`.  One that hands torch's own on says
    so in `__all__`.
    """
    values = vars(module)
    if "__all__" in values:
        missing = [name for name in values["__all__"] if name not in values]
        if missing:
            raise OptionError(
                f"--candidate {module.__name__}: __all__ names {missing}, which it does not have"
            )
        return {name: values[name] for name in values["__all__"]}
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and all(value is not getattr(owner, name, None) for owner in (torch.nn.functional, torch.nn, torch))
    }


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise OptionError(
            f"--candidate {path}: there is no such file; give the path of a Python file, or a module's name"
        )
    module_name = f"parity_candidate_{path.stem}"
    if module_name in sys.modules and sys.modules[module_name].__file__ == str(path.resolve()):
        return sys.modules[module_name]  # once for all devices
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    assert spec is not None and spec.loader is not None
    module, execute = importlib.util.module_from_spec(spec), spec.loader.exec_module
    sys.modules[module_name] = module
    try:
        _imported(lambda: execute(module), str(path))
    except OptionError:
        del sys.modules[module_name]
        raise
    return module


def _load_module(name: str) -> Any:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise OptionError(
            f"--candidate {name!r} is none of {', '.join(NAMED)}, nor a file ending in .py, nor a module "
            "that can be found; give one of these"
        )
    return _imported(lambda: importlib.import_module(name), name)


def _imported(load: Callable[[], Any], name: str) -> Any:
    """The result of `load`; whatever a file may do while it is imported, the run ends with a sentence."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        frames = traceback.extract_tb(error.__traceback__)
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        raise OptionError(
            f"--candidate {name} cannot be imported: {what} (line {line}); mend the file, or name another"
        ) from error

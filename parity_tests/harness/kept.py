"""Arrays that took long to find, kept beside the compiled modules for the next process.

A file is named after a fingerprint of everything that its content depends on, the source code included, so a
file that is there is right; a folder that cannot be written keeps nothing.  `make clean` removes them all.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "__pycache__"


def fingerprint(source: str | Path, *parts: Any) -> str:
    """Of a source file's text and of parts: arrays by their bytes, everything else by its `repr`."""
    digest = hashlib.sha256(f"{np.__version__} {Path(source).read_text()}".encode())
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()[:24]


def kept(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` gives, from the file of this name if there is one."""
    path = FOLDER / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or not whole
        made = make()
    _keep(path, made)
    return made


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Whole or not at all: written beside and then moved into place, as another process may do it too."""
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()

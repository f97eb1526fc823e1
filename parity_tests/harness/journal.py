"""The report of a run on disk: while it runs a line a case, at its end one file, and reading either.

Of a run that is killed the lines are left: what it had planned, and the results that it had.  They lie beside
the report, under its name and `.partial`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
CODE = ("refimpl", "parity_tests/specs", "parity_tests/harness", "parity_tests/deviations")


class ReportError(ValueError):
    """A report that cannot be used: which, why, what to do."""


@lru_cache(maxsize=1)
def suite_code() -> str:
    """A fingerprint of what decides which cases there are and what is required of them."""
    digest, root = hashlib.sha256(), Path(__file__).parents[2]
    for folder in CODE:
        for path in sorted((root / folder).iterdir()):
            if path.suffix in (".py", ".toml"):
                digest.update(f"{folder}/{path.name}\n".encode())
                digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]


def key(record: Mapping[str, Any]) -> str:
    """A case on its device, as the id of its test names it."""
    return f"{record['id']}-{record['device'].replace(':', '')}"


def plain(value: Any) -> Any:
    """JSON knows no infinity and no NaN: they become the words 'inf', '-inf', 'nan'."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it was before `plain`."""
    for name in ("utilisation", "deviations"):
        record[name] = {what: float(number) for what, number in record[name].items()}
    record["statistical"] = float(record["statistical"])
    for error in record["errors"]:
        error["excess"] = float(error["excess"])
    return record


class Journal:
    """The lines of a run that goes on: what was planned, then the records of cases as they come."""

    def __init__(self, report: str, opening: Mapping[str, Any]):
        """An older report of that name is removed: it would be taken for the one of this run."""
        self.report, self.partial = Path(report), Path(report + PARTIAL)
        self.report.unlink(missing_ok=True)
        self._file = self.partial.open("w", encoding="utf-8")
        self._line(opening)

    def add(self, record: Mapping[str, Any]) -> None:
        self._line(record)

    def _line(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(plain(content), allow_nan=False) + "\n")
        self._file.flush()  # now it survives the process

    def close(self, content: Mapping[str, Any]) -> None:
        """The report takes the place of the lines."""
        self._file.close()
        write(self.report, content)
        self.partial.unlink()


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: written beside and then moved into place."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(plain(content), indent=1, allow_nan=False), encoding="utf-8")
    beside.replace(path)


def read(name: str) -> dict[str, Any]:
    """A report, or what a killed run left in place of it.  Raises ReportError."""
    path = Path(name)
    if not path.exists() and Path(name + PARTIAL).exists():
        path = Path(name + PARTIAL)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"{name}: there is no such file; give reports written with --report") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{name} cannot be read: {error}; give reports written with --report") from error
    try:
        content = _joined(text) if path.name.endswith(PARTIAL) else json.loads(text)
        content["cases"] = [_numbers(record) for record in content["cases"]]
        for part in content["parts"]:
            part["file"] = part["file"] or path.name
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(
            f"{name} is no report that can be merged ({type(error).__name__}: {error}); give reports written "
            "with --report by this suite"
        ) from error
    return content


def _joined(text: str) -> dict[str, Any]:
    """The lines of a killed run as a report; of its last line only a part may have been written."""
    first, *lines = text.splitlines(keepends=True)
    content = json.loads(first)
    content["cases"] = [json.loads(line) for line in lines if line.endswith("\n")]
    (part,) = content["parts"]
    part["unfinished"] = unfinished(part["unfinished"], content["cases"])
    return content


def unfinished(planned: Iterable[str], records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of the planned cases those without a result."""
    finished = {key(record) for record in records}
    return [case for case in planned if case not in finished]

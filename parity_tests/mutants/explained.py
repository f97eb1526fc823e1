"""Mutants that no test can tell from the original, each with the reason why.

`equivalent/<module>.toml` holds tables [[mutant]] with

    function   the qualified name of the function it is in ("" outside of any)
    changes    the lines before and after, "a + b  ->  a - b", of one or several mutants
    reason     why no result can differ

and `equivalent/all_modules.toml` the same with `pattern`, a regular expression for the line before the
change, in place of the first two.  An entry whose mutant is killed, or no longer there, is an error: it says
something that is not so.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity_tests.mutants.results import ALIVE, Verdict, change

FOLDER = Path(__file__).with_name("equivalent")
EVERYWHERE = "all_modules"


@dataclass(frozen=True)
class Entry:
    """One change, or every change of lines with a pattern."""

    module: str
    function: str
    change: str
    pattern: str
    reason: str

    def explains(self, verdict: Verdict) -> bool:
        if self.pattern:
            return re.fullmatch(self.pattern, verdict.before) is not None
        place = Path(verdict.path).stem, verdict.function, change(verdict)
        return place == (self.module, self.function, self.change)

    def __str__(self) -> str:
        return self.pattern or f"{self.module}, {self.function or 'outside of functions'}: {self.change}"


def entries(folder: Path = FOLDER) -> list[Entry]:
    """All entries.  Raises ValueError where one lacks something."""
    return [entry for file in sorted(folder.glob("*.toml")) for entry in _entries_of(file)]


def _entries_of(file: Path) -> Iterator[Entry]:
    needed = {"pattern", "reason"} if file.stem == EVERYWHERE else {"function", "changes", "reason"}
    for table in tomllib.loads(file.read_text()).get("mutant", []):
        if set(table) != needed or not table["reason"].strip():
            raise ValueError(
                f"{file.name}: an entry has {', '.join(sorted(table))}; "
                f"needed are {', '.join(sorted(needed))}"
            )
        yield from _each(file.stem, table)


def _each(module: str, table: dict[str, Any]) -> Iterator[Entry]:
    for told in table.get("changes", [""]):
        yield Entry(module, table.get("function", ""), told, table.get("pattern", ""), table["reason"])


def explained(verdicts: Sequence[Verdict], known: Sequence[Entry]) -> dict[Verdict, str]:
    """The mutants alive that an entry explains, with its reason."""
    found = {}
    for verdict in verdicts:
        if verdict.outcome in ALIVE:
            reasons = [entry.reason for entry in known if entry.explains(verdict)]
            if reasons:
                found[verdict] = reasons[0]
    return found


def stale(verdicts: Sequence[Verdict], known: Sequence[Entry]) -> list[str]:
    """What entries of the modules that were hunted say and is not so."""
    modules, lines = {Path(verdict.path).stem for verdict in verdicts}, []
    for entry in known:
        if entry.module not in modules:  # also those for all modules, which one module need not have
            continue
        matching = [verdict for verdict in verdicts if entry.explains(verdict)]
        if not matching:
            lines.append(f"{entry}: there is no such mutant; take the entry out or mend it")
        elif all(verdict.outcome not in ALIVE for verdict in matching):
            lines.append(f"{entry}: is killed by {matching[0].by or 'a timeout'}; take the entry out")
    return lines

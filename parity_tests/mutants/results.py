"""What became of the mutants: one line each in a file, the score of every module as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from parity_tests.mutants.mutate import Mutant

ALIVE = ("survived", "unreached", "unapplied")
COLUMNS = ("mutants", "sweep", "self-tests", "record", "timeout", "equivalent", "alive", "score")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    outcome   killed, timeout (it ran many times as long as the original), survived, unreached (no test runs
              it), or unapplied (it is part of what only the import of the module could show)
    by        the test that turned red, and where
    """

    path: str
    line: int
    function: str
    operator: str
    before: str
    after: str
    occurrence: int
    outcome: str
    by: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, mutant: Mutant, outcome: str, by: str = "", seconds: float = 0.0) -> Verdict:
        known = {
            field.name: getattr(mutant, field.name) for field in fields(Mutant) if field.name != "source"
        }
        return cls(**known, outcome=outcome, by=by, seconds=round(seconds, 2))

    @property
    def name(self) -> tuple[str, str, str, int]:
        """What a mutant is known by, also when lines have moved."""
        return self.path, self.function, change(self), self.occurrence

    @property
    def killer(self) -> str:
        """The column in which a killed mutant counts."""
        if self.outcome == "timeout":
            return "timeout"
        if "test_recorded_bounds" in self.by:
            return "record"
        return "sweep" if "conformance" in self.by else "self-tests"


def change(mutant: Mutant | Verdict) -> str:
    return f"{mutant.before}  ->  {mutant.after}"


def file_of(path: str, folder: Path) -> Path:
    """Where the verdicts of a module lie."""
    return folder / f"{Path(path).stem}.jsonl"


def save(path: str, verdicts: Iterable[Verdict], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file_of(path, folder).write_text("".join(json.dumps(asdict(verdict)) + "\n" for verdict in verdicts))


def load(path: str, folder: Path) -> list[Verdict]:
    """The verdicts of a module, none where it was not hunted yet."""
    file = file_of(path, folder)
    return [Verdict(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def merged(before: Sequence[Verdict], after: Sequence[Verdict]) -> list[Verdict]:
    """The later verdict of every mutant."""
    newer = {verdict.name: verdict for verdict in after}
    return [newer.get(verdict.name, verdict) for verdict in before]


def table(verdicts: Sequence[Verdict], equivalent: Collection[Verdict]) -> list[str]:
    """The score of every module in Markdown: killed of those that are not equivalent."""
    modules: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        modules.setdefault(verdict.path, []).append(verdict)
    rows = [_row(path, found, equivalent) for path, found in modules.items()]
    rows.append(_row(f"all {len(modules)} modules", verdicts, equivalent))
    lines = [
        "| module | " + " | ".join(COLUMNS) + " |",
        "|:--|" + "--:|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return lines


def _row(name: str, verdicts: Sequence[Verdict], equivalent: Collection[Verdict]) -> list[str]:
    killed: Mapping[str, int] = Counter(v.killer for v in verdicts if v.outcome not in ALIVE)
    explained = sum(verdict in equivalent for verdict in verdicts)
    alive = sum(verdict.outcome in ALIVE for verdict in verdicts) - explained
    judged = len(verdicts) - explained
    score = f"{100 * (judged - alive) / judged:.1f} %" if judged else "-"
    counts = [killed[column] for column in COLUMNS[1:5]]
    return [name, str(len(verdicts)), *map(str, counts), str(explained), str(alive), score]

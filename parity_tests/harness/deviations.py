"""The ledger of known deviations: where a candidate is known to miss the reference, and when that goes stale.

An entry never widens a bound.  A failure that an entry names becomes an expected failure; one that it does
not name stays a failure; an entry that matched cases none of which failed is an error of the ledger.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Deviation:
    """One entry.

    name          short, unique
    cases         regular expression that the whole case id matches
    checks        the checks that fail
    candidate     regular expression for the candidate's name, and `device` (without index)
    torch         regular expression for torch's version
    worst         largest error / bound measured in the default sweep (inf: not a matter of numbers)
    cause         what is known of it
    link          where it can be read about, '' if nowhere
    look_again    date after which somebody should look whether it still holds
    meets         the weaker contract that the failing results do meet; one that does not meet it is
                  unexpected
    message       regular expression found in the messages of the failures, '' for any: of failures that are
                  not about numbers, it keeps an entry from explaining more than it means
    every         True: each matching case fails; False: some do, the numbers decide
    hardware      True: depends on the processor, so that no longer failing is a warning and not an error
    family        the layers that it speaks of, by the name of its file; '' for any
    """

    name: str
    cases: str
    checks: tuple[str, ...]
    worst: float
    cause: str
    look_again: date
    candidate: str = "eager"
    device: str = "cpu"
    torch: str = ".*"
    link: str = ""
    meets: str = ""
    message: str = ""
    every: bool = True
    hardware: bool = False
    family: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile(self.cases))

    def matches(self, case_id: str) -> bool:
        return bool(self._pattern.fullmatch(case_id))  # type: ignore[attr-defined]

    def explains(self, error: Any) -> bool:
        named = error.check in self.checks and self.meets in ("", error.met)
        return named and re.search(self.message, error.message) is not None


@lru_cache(maxsize=1)
def ledger() -> tuple[Deviation, ...]:
    """The ledger that the suite ships: one TOML file a family in parity_tests/deviations."""
    files = sorted(resources.files("parity_tests.deviations").iterdir(), key=lambda file: file.name)
    files = [file for file in files if file.name.endswith(".toml")]
    return _unique(
        entry for file in files for entry in parse(file.read_text(), file.name.removesuffix(".toml"))
    )


@lru_cache
def of_torch(family: str, device: str = "cpu") -> tuple[Deviation, ...]:
    """What the installed torch is known for in the layers of one family."""
    import torch

    return of_family(in_force(ledger(), "eager", device, torch.__version__), family)


def of_family(entries: Iterable[Deviation], family: str) -> tuple[Deviation, ...]:
    """The entries that may speak of the layers of one family."""
    return tuple(entry for entry in entries if entry.family in ("", family))


def parse(text: str, family: str = "") -> tuple[Deviation, ...]:
    """Entries of a ledger in TOML (`[[deviation]]` tables).  Raises ValueError for incomplete ones."""
    entries = []
    for table in tomllib.loads(text).get("deviation", []):
        try:
            entries.append(Deviation(**{**table, "checks": tuple(table["checks"]), "family": family}))
        except (TypeError, KeyError, re.error) as error:
            raise ValueError(f"ledger entry {table.get('name', table)!r}: {error}") from error
    return _unique(entries)


def _unique(entries: Iterable[Deviation]) -> tuple[Deviation, ...]:
    entries = tuple(entries)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"ledger: names are not unique: {sorted(n for n in names if names.count(n) > 1)}")
    return entries


def overdue(entries: Iterable[Deviation], today: date) -> list[str]:
    """Sentences about entries that somebody should look at again by now: warnings, not errors."""
    return [
        f"ledger entry {entry.name!r} was to be looked at again by {entry.look_again}"
        for entry in entries
        if entry.look_again < today
    ]


def in_force(
    entries: Iterable[Deviation], candidate: str, device: str, torch_version: str
) -> tuple[Deviation, ...]:
    """The entries that speak of this candidate on this device with this torch."""
    return tuple(
        entry
        for entry in entries
        if re.fullmatch(entry.candidate, candidate)
        and entry.device == device.split(":", maxsplit=1)[0]
        and re.fullmatch(entry.torch, torch_version)
    )


@dataclass(frozen=True)
class Judgement:
    """Of one case: errors nobody expected, entries that explain the others, entries that were not met."""

    unexpected: tuple[Any, ...]
    explained_by: tuple[Deviation, ...]
    not_met: tuple[Deviation, ...]


def judge(entries: Sequence[Deviation], case_id: str, errors: Sequence[Any]) -> Judgement:
    """Which errors of a case are known, and which entries expected one that did not come."""
    here = [entry for entry in entries if entry.matches(case_id)]
    failed = {error.check for error in errors}
    unexpected = tuple(error for error in errors if not any(entry.explains(error) for entry in here))
    explained = tuple(entry for entry in here if any(entry.explains(error) for error in errors))
    not_met = tuple(entry for entry in here if entry.every and not failed.issuperset(entry.checks))
    return Judgement(unexpected, explained, not_met)

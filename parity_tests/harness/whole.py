"""What is wrong with a run as a whole, judged from the records of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parity_tests.harness.deviations import Deviation

Record = Mapping[str, Any]


def errors_of(records: Sequence[Record]) -> list[str]:
    """That nothing was compared, or nothing of some layer in whole numbers."""
    compared = [record for record in records if not record["rejection"]]
    nothing = bool(compared) and not any(record["elements"] for record in records)
    return ["no element was compared in the whole run"] * nothing + [
        f"{layer}: all {count} exact cases are untested: mostly zeros, mend their data"
        for layer, count in _untested(records).items()
    ]


def _untested(records: Sequence[Record]) -> dict[str, int]:
    """Layers whose every case of the exact tier is mostly zeros."""
    exact = Counter(record["layer"] for record in records if record["tier"] == "exact")
    untested = Counter(record["layer"] for record in records if record["untested"])
    return {layer: count for layer, count in exact.items() if untested[layer] == count}


def stale_entries(entries: Iterable[Deviation], records: Sequence[Record], hardware: bool) -> list[str]:
    """Ledger entries that matched cases of the run none of which failed."""
    explained = {name for record in records for name in record["deviations"]}
    return [
        f"ledger entry {entry.name!r} matched cases, and none of them fails any more: mend or remove it"
        for entry in dict.fromkeys(entries)
        if entry.hardware == hardware
        and entry.name not in explained
        and any(entry.matches(record["id"]) for record in records)
    ]

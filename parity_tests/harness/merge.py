"""Reports of shards and of devices as one: refused where they are of different suites or hold a case twice,
complete or with the name of everything that is missing.

Needs neither torch nor numpy, so that the last of many machines need not install them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from parity_tests.harness import report
from parity_tests.harness.deviations import Deviation, in_force, ledger, overdue
from parity_tests.harness.journal import ReportError, key, read, suite_code
from parity_tests.harness.report import Summary, Triples
from parity_tests.harness.whole import errors_of, stale_entries

Report = Mapping[str, Any]
Part = Mapping[str, Any]
# Of the header, what may differ: machines and devices, and the numpy that the reference ran on.
MAY_DIFFER = ("devices", "processor", "numpy")
NAMED = 3  # cases that a sentence names


@dataclass(frozen=True)
class Merged:
    """What the reports say together."""

    content: dict[str, Any]  # as JSON
    summary: Summary
    missing: tuple[str, ...]  # sentences: shards and cases without a result
    errors: tuple[str, ...]  # sentences: what is wrong with the run as a whole
    warnings: tuple[str, ...]

    @property
    def green(self) -> bool:
        return not (self.missing or self.errors or self.summary.totals["failed"])

    def lines(self) -> list[str]:
        """The tables and sentences that a run of all of it would end with."""
        times = [part["time"] for part in self.content["parts"]]
        processes = sum(time["processes"] for time in times)
        wall, busy = max(time["wall"] for time in times), sum(time["busy"] for time in times)
        known = {entry.name: entry for entry in ledger()}
        return [
            *report.table(self.summary),
            "",
            *report.families(self.summary),
            "",
            *report.closing(self.summary, known, processes, wall, busy),
            *(f"merged: {_said(part)}" for part in self.content["parts"]),
            *(f"WARNING: {line}" for line in self.warnings),
            *(f"MISSING: {line}" for line in self.missing),
            *(f"ERROR: {line}" for line in self.errors),
        ]


def merge(files: Sequence[str]) -> Merged:
    """The reports of these files as one.  Raises ReportError where that would mean nothing."""
    reports = [read(name) for name in files]
    _refuse_other_suites(files, reports)
    _refuse_overlap(files, reports)
    parts = [part for one in reports for part in one["parts"]]
    records = sorted((record for one in reports for record in one["cases"]), key=key)
    missing = _missing(parts)
    summary = _summary(reports, records, complete=not missing)
    entries, gone = _ledger(reports[0]["suite"], parts, records)
    seen = [entry for entry in entries if entry.name in summary.deviations]
    errors = [] if missing else errors_of(records)
    errors += [line for device in gone for line in stale_entries(*gone[device], hardware=False)]
    warnings = overdue(seen, date.today())
    warnings += [line for device in gone for line in stale_entries(*gone[device], hardware=True)]
    content = {
        "suite": _header([one["suite"] for one in reports]),
        "parts": parts,
        "missing": missing,
        "errors": errors,
        **summary.content(records),
    }
    return Merged(content, summary, tuple(missing), tuple(errors), tuple(warnings))


def _refuse_other_suites(files: Sequence[str], reports: Sequence[Report]) -> None:
    """Everything but the shard and the machine must be the same, and the suite be the one that merges."""
    headers = {name: _identity(one["suite"]) for name, one in zip(files, reports, strict=True)}
    headers["the suite that merges"] = {"code": suite_code()}
    different = []
    for what in dict.fromkeys(name for header in headers.values() for name in header):
        having: dict[str, list[str]] = {}
        for name, header in headers.items():
            if what in header:
                having.setdefault(str(header[what]), []).append(name)
        if len(having) > 1:
            values = (f"{value} in {', '.join(names)}" for value, names in having.items())
            different.append(f"{what.replace('_', ' ')} is {' and '.join(values)}")
    if different:
        raise ReportError(f"reports of different suites cannot be merged: {'; '.join(different)}")


def _identity(header: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same; a build of torch for a device (`+cpu`, `+cu130`) is the same torch."""
    known = {what: value for what, value in header.items() if what not in MAY_DIFFER}
    return known | {
        "torch": known["torch"].partition("+")[0],
        "candidate": Path(known["candidate"]).name,
    }


def _refuse_overlap(files: Sequence[str], reports: Sequence[Report]) -> None:
    """No two reports may have, or have planned, one and the same case; nor be shards of different splits."""
    for (one, first), (other, second) in itertools.combinations(zip(files, reports, strict=True), 2):
        for mine, its in itertools.product(first["parts"], second["parts"]):
            if _group(mine) == _group(its) and (_of(mine) != _of(its) or _number(mine) == _number(its)):
                raise ReportError(
                    f"{one} and {other} overlap: they hold {_shard(mine)} and {_shard(its)} of the same "
                    "cases; name each shard of one split once"
                )
        both = _cases(first) & _cases(second)
        if both:
            raise ReportError(
                f"{one} and {other} overlap: {len(both)} cases are in both, for example {min(both)}; "
                "name one of the two"
            )


def _cases(one: Report) -> set[str]:
    planned = {case for part in one["parts"] for case in part["unfinished"]}
    return planned | {key(record) for record in one["cases"]}


def _group(part: Part) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parts of one group are the shards of one run: the same devices, the same things asked for."""
    return tuple(part["devices"]), tuple(part["asked"])


def _of(part: Part) -> int:
    return int(part["shard"].partition("/")[2]) if part["shard"] else 1


def _number(part: Part) -> int:
    return int(part["shard"].partition("/")[0]) if part["shard"] else 1


def _shard(part: Part) -> str:
    return f"shard {part['shard']}" if part["shard"] else "all of it"


def _said(part: Part) -> str:
    """Which part a file holds: 'b.json: shard 2/3 of conformance on cpu, 40 cases'."""
    asked, devices = ", ".join(part["asked"]), ", ".join(part["devices"])
    shard = f"{_shard(part)} of {asked}" if part["shard"] else asked
    return f"{part['file']}: {shard} on {devices}, {part['planned']} cases"


def _missing(parts: Sequence[Part]) -> list[str]:
    """Sentences: shards of which there is no report, and cases that were planned and gave no result."""
    lines = []
    for group in dict.fromkeys(map(_group, parts)):
        shards = [part for part in parts if _group(part) == group]
        there, of = {_number(part) for part in shards}, _of(shards[0])
        devices, asked = map(", ".join, group)
        lines += [
            f"shard {number}/{of} of {asked} on {devices} is not there"
            for number in range(1, of + 1)
            if number not in there
        ]
    for part in parts:
        cases = part["unfinished"]
        if cases:
            more = f" and {len(cases) - NAMED} more" if len(cases) > NAMED else ""
            lines.append(f"{_said(part)}, {len(cases)} without a result: {', '.join(cases[:NAMED])}{more}")
    return lines


def _summary(reports: Sequence[Report], records: Sequence[Mapping[str, Any]], complete: bool) -> Summary:
    """As a run of all cases would have it.  The triples that incomplete shards cover together are not known;
    those that one of them covers are."""
    summary = Summary()
    for record in records:
        summary.add(record, record["outcome"])
    for one in reports:
        summary.deselected.update(Counter(one["not_run"]))
        for layer, values in one["triples"].items():
            triples = Triples(**values)
            known = summary.triples.get(layer, triples)
            covered = triples.of_all if complete else max(known.covered, triples.covered)
            summary.triples[layer] = Triples(covered, triples.feasible, triples.of_all, triples.dropped)
    return summary


def _ledger(
    suite: Mapping[str, Any], parts: Sequence[Part], records: Sequence[Mapping[str, Any]]
) -> tuple[list[Deviation], dict[str, tuple[list[Deviation], list[Mapping[str, Any]]]]]:
    """All entries in force; and for each device that ran everything, those of it and its records, for entries
    that nothing meets any more."""
    known = () if suite["ignore_known"] else ledger()
    every, whole = [], {}
    for device in dict.fromkeys(device for part in parts for device in part["devices"]):
        of_device = [part for part in parts if device in part["devices"]]
        versions = {part["torch"] for part in of_device}
        entries = [
            entry
            for entry in known
            if all(in_force((entry,), suite["candidate"], device, version) for version in versions)
        ]
        every += entries
        groups = {_group(part) for part in of_device}
        complete = not _missing([part for part in parts if _group(part) in groups])
        if complete and all(part["asked_for_all"] for part in of_device):
            whole[device] = entries, [record for record in records if record["device"] == device]
    return every, whole


def _header(headers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The header that all have, with the machines' own values side by side."""
    merged = dict(headers[0])
    merged["devices"] = list(dict.fromkeys(device for header in headers for device in header["devices"]))
    for what in ("torch", "numpy", "processor"):
        merged[what] = ", ".join(dict.fromkeys(str(header[what]) for header in headers))
    return merged

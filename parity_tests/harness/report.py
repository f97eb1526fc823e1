"""What a run found, layer by layer: collected from the test reports, shown as a table, written as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parity_tests.harness.findings import Verdict
from parity_tests.harness.deviations import Judgement
from refimpl.error_bounds import DTYPES

PROPERTY = "parity"


def record_of(verdict: Verdict, judgement: Judgement, device: str, contract: str) -> dict[str, Any]:
    """One case as plain data: it travels with the test report, also between processes."""
    tally, case = verdict.tally, verdict.case
    met = [error.met for error in verdict.errors]
    return {
        "id": case.id,
        "layer": case.layer,
        "dtype": case.dtype,
        "device": device,
        "rejection": case.rejects,
        "elements": tally.elements,
        "exact": tally.exact,
        "facts": tally.facts,
        "uninformative": tally.uninformative,
        "utilisation": {name: ratio for name, ratio in tally.utilisation.items() if ratio <= 1},
        "statistical": tally.statistical,
        "contract": contract
        if not met
        else next((m for m in met if m is not None), "none")
        if all(met)
        else "none",
        "errors": [{"check": error.check, "message": error.message} for error in verdict.errors],
        "deviations": [entry.name for entry in judgement.explained_by],
        "not_met": [entry.name for entry in judgement.not_met],
        "untested": tally.mostly_zeros if case.tier == "exact" else [],
        "tells_nothing": tally.tells_nothing,
        "seconds": sum(verdict.seconds.values()),
    }


@dataclass
class Row:
    """One layer on one device."""

    cases: int = 0
    failed: int = 0
    elements: int = 0
    utilisation: dict[str, float] = field(default_factory=dict)
    contracts: Counter = field(default_factory=Counter)
    deviations: int = 0
    seconds: float = 0.0


@dataclass
class Summary:
    """Everything a run says at its end."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    totals: Counter = field(default_factory=Counter)
    deviations: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    statistical: list[tuple[float, str]] = field(default_factory=list)
    tells_nothing: list[str] = field(default_factory=list)
    triples: dict[str, tuple[int, int]] = field(default_factory=dict)
    dropped: Counter = field(default_factory=Counter)
    deselected: Counter = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any], outcome: str) -> None:
        row = self.rows.setdefault((record["layer"], record["device"]), Row())
        row.cases += 1
        row.failed += outcome == "failed"
        row.elements += record["elements"]
        row.seconds += record["seconds"]
        for ratio in record["utilisation"].values():
            row.utilisation[record["dtype"]] = max(row.utilisation.get(record["dtype"], 0.0), ratio)
        if not record["rejection"]:
            row.contracts[record["contract"]] += 1
        row.deviations += bool(record["deviations"])
        for name in record["deviations"]:
            self.deviations[name]["cases"] += 1
        if record["statistical"] > 1:
            self.statistical.append((record["statistical"], record["id"]))
        if record["tells_nothing"]:
            self.tells_nothing.append(record["id"])
        self.totals.update({key: record[key] for key in ("elements", "exact", "facts", "uninformative")})
        self.totals.update({"cases": 1, outcome: 1, "rejections": int(record["rejection"])})

    def table(self) -> list[str]:
        """layer x dtype: cases, elements, worst utilisation of the bound, contract met, deviations."""
        head = (
            f"{'layer':<18} {'device':<6} {'cases':>6} {'elements':>10}  "
            + " ".join(f"{d:>8}" for d in DTYPES)
            + "  deviations  contract met"
        )
        lines = [head, "-" * len(head)]
        for (layer, device), row in self.rows.items():
            ratios = " ".join(_ratio(row.utilisation.get(dtype)) for dtype in DTYPES)
            weaker = [
                f"{name} in {count}"
                for name, count in row.contracts.most_common()
                if not name.startswith("strictest")
            ]
            met = "strictest" + (f" but {'; '.join(weaker)}" if weaker else "")
            failed = f"  {row.failed} FAILED" if row.failed else ""
            lines.append(
                f"{layer:<18} {device:<6} {row.cases:>6} {row.elements:>10,}  {ratios}  {row.deviations:>10}  "
                f"{met}{failed}"
            )
        return lines

    def closing(self) -> list[str]:
        """Totals, coverage, drops, warnings: one line each."""
        totals = self.totals
        lines = [
            f"cases {totals['cases']:,} ({totals['rejections']:,} of them rejections), elements compared "
            f"{totals['elements']:,} ({totals['exact']:,} of them with bound 0), facts {totals['facts']:,}, "
            f"uninformative elements {totals['uninformative']:,}",
        ]
        if self.triples:
            covered, feasible = (sum(pair[i] for pair in self.triples.values()) for i in (0, 1))
            lines.append(
                f"triples of axis values covered: {covered:,} of {feasible:,} feasible, in {len(self.triples)} layers"
            )
        lines += [
            f"dropped combinations: {count:,} ({reason})" for reason, count in self.dropped.most_common()
        ]
        lines += [f"not run: {count:,} ({reason})" for reason, count in self.deselected.most_common()]
        lines += [
            f"known deviation {name}: {count['cases']} cases"
            for name, count in sorted(self.deviations.items())
        ]
        if self.statistical:
            ratio, case = max(self.statistical)
            lines.append(
                f"WARNING: error above 8 u sqrt(n) ||products|| in {len(self.statistical)} cases, worst {ratio:.2f} "
                f"in {case}: correct by the bound, unlikely by chance"
            )
        if self.tells_nothing:
            lines.append(
                f"uninformative cases (bound wider than the values): {len(self.tells_nothing)}, "
                f"for example {self.tells_nothing[0]}"
            )
        return lines

    def write(self, path: str, header: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> None:
        """The same as JSON, whole or not at all: written beside and then moved into place."""
        content = {
            "suite": dict(header),
            "totals": dict(self.totals),
            "dropped": dict(self.dropped),
            "not_run": dict(self.deselected),
            "deviations": {name: dict(count) for name, count in self.deviations.items()},
            "triples": {
                layer: {"covered": pair[0], "feasible": pair[1]} for layer, pair in self.triples.items()
            },
            "layers": [
                {"layer": layer, "device": device, **asdict(row)}
                for (layer, device), row in self.rows.items()
            ],
            "cases": list(records),
        }
        target = Path(path)
        partial = target.with_name(target.name + ".part")
        partial.write_text(json.dumps(content, indent=1))
        os.replace(partial, target)


def _ratio(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:>8.3f}"

"""What a run found, layer by layer: collected from records of cases, shown as tables, written as JSON."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from parity_tests.harness.deviations import Deviation, Judgement
from parity_tests.harness.options import DTYPES

if TYPE_CHECKING:  # reports are merged where there is no torch
    from parity_tests.harness.findings import Verdict

SLOWEST = 3
PARTS = ("candidate", "reference", "comparison", "data", "checks")


def record_of(
    verdict: Verdict, judgement: Judgement, family: str, device: str, seconds: float
) -> dict[str, Any]:
    """One case as plain data; `seconds` is all that its checks took, `parts` says where it went."""
    tally, case = verdict.tally, verdict.case
    parts = {part: verdict.seconds.get(part, 0.0) for part in PARTS}
    parts["checks"] = max(0.0, seconds - sum(parts.values()))
    excess = {
        entry.name: max(error.excess for error in verdict.errors if entry.explains(error))
        for entry in judgement.explained_by
    }
    return {
        "id": case.id,
        "layer": case.layer,
        "family": family,
        "dtype": case.dtype,
        "tier": case.tier,
        "device": device,
        "rejection": case.rejects,
        "elements": tally.elements,
        "exact": tally.exact,
        "facts": tally.facts,
        "uninformative": tally.uninformative,
        "utilisation": {name: ratio for name, ratio in tally.utilisation.items() if ratio <= 1},
        "statistical": tally.statistical,
        "contract": verdict.contract,
        "errors": [
            {"check": error.check, "excess": error.excess, "message": error.message}
            for error in verdict.errors
        ],
        "deviations": excess,
        "not_met": [entry.name for entry in judgement.not_met],
        "untested": tally.mostly_zeros if case.tier == "exact" and "output" in tally.mostly_zeros else [],
        "tells_nothing": tally.tells_nothing,
        "seconds": seconds,
        "parts": parts,
    }


@dataclass
class Row:
    """One layer on one device."""

    family: str
    cases: int = 0
    failed: int = 0
    elements: int = 0
    utilisation: dict[str, float] = field(default_factory=dict)
    contracts: Counter = field(default_factory=Counter)
    deviations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Triples:
    """Of one layer's axes: triples of values covered by these cases, feasible ones, and those covered by the
    cases of all shards; which combinations cannot be, and why."""

    covered: int
    feasible: int
    of_all: int
    dropped: Mapping[str, int]


@dataclass
class Summary:
    """Everything a run says at its end."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    totals: Counter = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    deviations: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    statistical: list[tuple[float, str]] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    tells_nothing: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    triples: dict[str, Triples] = field(default_factory=dict)
    deselected: Counter = field(default_factory=Counter)
    not_begun: Counter = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any], outcome: str) -> None:
        if record.get("not_run"):
            self.not_begun[record["not_run"]] += 1
            return
        row = self.rows.setdefault((record["layer"], record["device"]), Row(record["family"]))
        row.cases += 1
        row.failed += outcome == "failed"
        row.elements += record["elements"]
        row.seconds += record["seconds"]
        for ratio in record["utilisation"].values():
            row.utilisation[record["dtype"]] = max(row.utilisation.get(record["dtype"], 0.0), ratio)
        if not record["rejection"]:
            row.contracts[record["contract"]] += 1
        row.deviations += bool(record["deviations"])
        for name, excess in record["deviations"].items():
            known = self.deviations[name]
            known["cases"] = known.get("cases", 0) + 1
            known["worst"] = max(known.get("worst", 0.0), excess)
        if record["statistical"] > 1:
            self.statistical.append((record["statistical"], record["id"]))
        self.slowest = sorted([*self.slowest, (record["seconds"], record["id"])], reverse=True)[:SLOWEST]
        self.tells_nothing += [record["id"]] if record["tells_nothing"] else []
        self.untested += [record["id"]] if record["untested"] else []
        for part, seconds in record["parts"].items():
            self.seconds[part] += seconds
        self.totals.update({key: record[key] for key in ("elements", "exact", "facts", "uninformative")})
        self.totals.update({"cases": 1, outcome: 1, "rejections": int(record["rejection"])})

    @property
    def dropped(self) -> Counter[str]:
        """Reason -> impossible combinations, of all layers."""
        return sum((Counter(of_layer.dropped) for of_layer in self.triples.values()), Counter())

    def content(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "totals": dict(self.totals),
            "seconds": dict(self.seconds),
            "dropped": dict(self.dropped),
            "not_run": dict(self.deselected),
            "untested": self.untested,
            "uninformative": self.tells_nothing,
            "deviations": dict(self.deviations),
            "triples": {layer: asdict(of_layer) for layer, of_layer in self.triples.items()},
            "layers": [
                {"layer": layer, "device": device, **vars(row)} for (layer, device), row in self.rows.items()
            ],
            "cases": list(records),
        }


def table(summary: Summary) -> list[str]:
    """layer x dtype: cases, elements, triples, worst utilisation of the bound, deviations, contracts met."""
    head = (
        f"{'layer':<18} {'device':<6} {'cases':>6} {'elements':>11} {'triples':>8}  "
        + " ".join(f"{dtype:>8}" for dtype in DTYPES)
        + "  known  contract met"
    )
    lines = [head, "-" * len(head)]
    order = {layer: place for place, layer in enumerate(summary.triples)}
    rows = sorted(summary.rows.items(), key=lambda item: order.get(item[0][0], len(order)))
    for (layer, device), row in rows:
        ratios = " ".join(_ratio(row.utilisation.get(dtype)) for dtype in DTYPES)
        share = f"{'-':>8}"
        if layer in summary.triples and summary.triples[layer].feasible:
            share = f"{100 * summary.triples[layer].covered // summary.triples[layer].feasible:>7}%"
        failed = f"  {row.failed} FAILED" if row.failed else ""
        lines.append(
            f"{layer:<18} {device:<6} {row.cases:>6} {row.elements:>11,} {share}  {ratios}  "
            f"{row.deviations or '-':>5}  {_contracts(row.contracts)}{failed}"
        )
    return lines


def _contracts(counts: Mapping[str, int]) -> str:
    """'strictest', or how many cases met which contract; what distinguishes a contract is its last part."""
    words = {"none": "no contract", "other": "not numbers"}
    short: Counter[str] = Counter()
    for name, count in counts.items():
        short[words.get(name, name.split(", ", 1)[-1].replace("accumulation", "sums"))] += count
    if set(short) <= {"strictest"}:
        return "strictest" if short else "-"
    first = [("strictest", short.pop("strictest", 0))]
    return ", ".join(f"{name} {count}" for name, count in first + short.most_common())


def _ratio(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:>8.3f}"


def families(summary: Summary) -> list[str]:
    """Worst utilisation of the bound, family x dtype."""
    worst: dict[str, dict[str, float]] = defaultdict(dict)
    for row in summary.rows.values():
        for dtype, ratio in row.utilisation.items():
            worst[row.family][dtype] = max(ratio, worst[row.family].get(dtype, 0.0))
    head = f"{'worst error / bound':<20}" + " ".join(f"{dtype:>8}" for dtype in DTYPES)
    return [head] + [
        f"{family:<20}" + " ".join(_ratio(ratios.get(dtype)) for dtype in DTYPES)
        for family, ratios in worst.items()
    ]


def closing(
    summary: Summary, entries: Mapping[str, Deviation], processes: int, wall: float, busy: float
) -> list[str]:
    """Totals, coverage, what was left out and why, known deviations, warnings, time: one line each."""
    totals = summary.totals
    outcomes = ("passed", "expected failure", "skipped", "failed")
    lines = [
        f"cases {totals['cases']:,}: "
        + ", ".join(f"{totals[name]:,} {name}" for name in outcomes if totals[name])
        + f"; {totals['rejections']:,} of them rejections",
        f"compared {totals['elements']:,} elements, {totals['exact']:,} of them with bound 0, and "
        f"{totals['facts']:,} facts",
    ]
    layers = len(summary.triples)
    if layers:
        covered = sum(of_layer.covered for of_layer in summary.triples.values())
        feasible = sum(of_layer.feasible for of_layer in summary.triples.values())
        lines.append(f"covered {covered:,} of {feasible:,} feasible triples of axis values, {layers} layers")
    lines += [f"dropped: {count:,} combinations, {reason}" for reason, count in summary.dropped.most_common()]
    left_out = summary.deselected + summary.not_begun
    lines += [f"not run: {count:,} cases, {reason}" for reason, count in left_out.most_common()]
    lines += _known(summary, entries)
    lines += _warnings(summary)
    return lines + _time(summary, processes, wall, busy)


def _known(summary: Summary, entries: Mapping[str, Deviation]) -> list[str]:
    """Known deviations: cases, worst measured now and in the ledger."""
    lines, worse = [], []
    for name, known in sorted(summary.deviations.items()):
        worst, documented = known["worst"], entries[name].worst
        numbers = "not a matter of numbers" if math.isinf(worst) else f"worst {worst:.4g} x the bound"
        ledger = "" if math.isinf(worst) or math.isinf(documented) else f" (ledger {documented:.4g})"
        lines.append(f"known deviation {name}: {known['cases']} cases, {numbers}{ledger}")
        worse += [name] if float(f"{worst:.2g}") > float(f"{documented:.2g}") else []
    if worse:
        lines.append(f"WARNING: worse than the ledger says by its first two digits: {', '.join(worse)}")
    return lines


def _warnings(summary: Summary) -> list[str]:
    lines = []
    if summary.statistical:
        ratio, case = max(summary.statistical)
        lines.append(
            f"WARNING: error above 8 u sqrt(n) ||products|| in {len(summary.statistical)} cases, "
            f"worst {ratio:.2f} in {case}: correct by the bound, unlikely by chance"
        )
    if summary.tells_nothing:
        lines.append(
            f"uninformative (a bound wider than the values): {len(summary.tells_nothing)} cases, "
            f"for example {summary.tells_nothing[0]}"
        )
    if summary.untested:
        lines.append(
            f"untested (exact results that are mostly zeros): {len(summary.untested)} cases, "
            f"for example {summary.untested[0]}"
        )
    return lines


def _time(summary: Summary, processes: int, wall: float, busy: float) -> list[str]:
    """Where the processor's time went, and how many cases a second and core that makes."""
    spent, cases = sum(summary.seconds.values()), summary.totals["cases"]
    if not spent:
        return []
    busy = max(busy, spent)
    shares = [f"{part} {summary.seconds[part] / busy:.0%}" for part in PARTS]
    plural = "es" if processes > 1 else ""
    slowest = ", ".join(f"{case} {seconds:.1f} s" for seconds, case in summary.slowest)
    return [
        f"time {wall:.0f} s, of {processes} process{plural} {busy:.0f} s: {', '.join(shares)}, "
        f"pytest and planning {(busy - spent) / busy:.0%}",
        f"cases a second and core: {cases / busy:.0f}, without pytest {cases / spent:.0f}",
        f"slowest: {slowest}",
    ]


def faults(caught: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fault catalogue in one line: how many were caught, and what the first catch took."""
    if not caught:
        return []
    seconds = sorted((record["seconds"], record["fault"], record["layer"]) for record in caught)
    cases = sorted(record["cases"] for record in caught)
    slowest, fault, layer = seconds[-1]
    middle, count = len(caught) // 2, len({record["fault"] for record in caught})
    return [
        f"faults caught: {count}, in {len(caught)} pairs of fault and layer; to the first catch "
        f"median {cases[middle]} cases and {seconds[middle][0]:.2f} s, "
        f"most {cases[-1]} cases and {slowest:.1f} s ({fault} in {layer})"
    ]

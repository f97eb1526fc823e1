"""python -m parity_tests.strength [FOLDER]: run the catalogue of published bugs, write tables and plot.

Into FOLDER, .parity unless told, go strength.md, strength.json and comparison.svg.  With --record the data,
the plot and the README's section of the checkout are written anew as well.  The exit status is 1 where a bug
is caught by nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from parity_tests.faults import all_faults
from parity_tests.faults.published import published_bugs
from parity_tests.strength import plot
from parity_tests.strength.catching import Catch, catches
from parity_tests.strength.others import (
    SUITE,
    WAYS,
    controls_rejected,
    judge_faults,
    judge_in_known_cases,
    number_of_controls,
)
from parity_tests.strength.results import document, rows_of, totals, with_section

HERE = Path(__file__).parent


def tell(text: str) -> None:
    """A line of progress that the next one overwrites, on a terminal."""
    print(f"\r{text:<100}", end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def run_catalogue() -> dict[str, list[Catch]]:
    """Every published bug, in all of its layers."""
    bugs, found, started = published_bugs(), {}, time.perf_counter()
    for number, (name, bug) in enumerate(bugs.items(), 1):
        found[name] = list(catches(name, bug))
        missed = [catch.layer for catch in found[name] if not catch.check]
        verdict = f"NOT CAUGHT in {', '.join(missed)}" if missed else "caught"
        tell(f"{number} of {len(bugs)}, {time.perf_counter() - started:.0f} s: {name} {verdict}")
    return found


def compare(numbers: Mapping[str, Any], catches: Mapping[str, list[Catch]]) -> dict[str, Any]:
    """The comparison with others' tolerances: rows, and what they are out of."""
    faults = all_faults()
    published = list(judge_faults(published_bugs(), tell))
    in_known_cases = list(judge_in_known_cases(published_bugs(), catches))
    all_of_them, rejected = list(judge_faults(faults, tell)), controls_rejected()
    rows = [
        {
            "way": way,
            "published": sum(way in judged.with_gradients for judged in published),
            "published_by_output": sum(way in judged.by_output for judged in published),
            "published_in_known_cases": sum(way in judged.with_gradients for judged in in_known_cases),
            "faults": sum(way in judged.with_gradients for judged in all_of_them),
            "faults_by_output": sum(way in judged.by_output for judged in all_of_them),
            "rejected": len(rejected[way]),
        }
        for way in WAYS
    ]
    rows.append(
        {
            "way": SUITE,
            "published": numbers["caught"],
            "published_by_output": numbers["caught"],
            "published_in_known_cases": numbers["caught"],
            "faults": len(faults),  # the self-tests demand each
            "faults_by_output": len(faults),
            "rejected": len(rejected[SUITE]),
        }
    )
    return {"comparison": rows, "faults": len(faults), "controls": number_of_controls(), "which": rejected}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m parity_tests.strength", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".parity"))
    parser.add_argument(
        "--record", action="store_true", help="also write the record, the plot and the README"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # the cases are small: threads would only wait for each other
    caught = run_catalogue()
    rows = rows_of(caught)
    numbers = totals(rows)
    results = {"torch": torch.__version__, "totals": numbers, **compare(numbers, caught), "rows": rows}
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "strength.md").write_text(document(results))
    (given.folder / "strength.json").write_text(json.dumps(results, indent=1) + "\n")
    places = [given.folder]
    if given.record:
        (HERE / "record.json").write_text(json.dumps(results, indent=1) + "\n")
        readme = Path("README.md")
        readme.write_text(with_section(readme.read_text(), results))
        places.append(HERE)
    for place in places:
        _draw(results, place / "comparison.svg")
    missed = [row for row in rows if not row["check"]]
    where = given.folder / "strength.md"
    print(f"\n{numbers['caught']} of {numbers['bugs']} published bugs caught; see {where}")
    for row in missed:
        print(f"caught by nothing: {row['bug']} in {row['layer']}")
    return 1 if missed else 0


def _draw(results: Mapping[str, Any], path: Path) -> None:
    try:
        plot.draw(results, path)
    except ImportError:
        print(f"{path} is not drawn: matplotlib is not installed", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

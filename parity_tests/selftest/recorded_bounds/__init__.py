"""The bounds on record: how wide the reference's bounds are in a few cases of every layer.

A bound that becomes wider lets more pass and turns no test red; one that becomes narrower may reject what is
right, on a machine that nobody here has.  So every change of a bound is to be a decision: it shows here, and
in the commit that writes the record anew.

    python -m parity_tests.selftest.recorded_bounds [FAMILY ...]     writes the record anew

A record is family -> case -> contract -> result -> the mean bound of its elements.  Numbers differ between
builds of numpy by the last bits of their transcendental functions; `SEEN` is far above that and far below any
change that is meant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity_tests.harness.cases import Case, sweep_of
from parity_tests.harness.options import RunOptions
from parity_tests.harness.trial import Truth
from parity_tests.specs import FAMILIES, family
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import Bounded

FOLDER = Path(__file__).parent
SEEN = 2.0**-20  # the least relative change of a mean bound that counts
LARGEST = 3_000  # elements of a case's inputs: real-size layers have the bounds of small ones
Record = dict[str, dict[str, dict[str, float]]]


def cases_on_record(family_name: str) -> Iterator[tuple[LayerSpec, Case]]:
    """The quick sweep's cases of a family, without bad arguments and without large ones."""
    for spec in family(family_name):
        for case in sweep_of(spec, RunOptions(sweep="quick")).cases:
            if not case.rejects and sum(map(math.prod, case.shapes)) <= LARGEST:
                yield spec, case


def bounds_of(spec: LayerSpec, case: Case) -> dict[str, dict[str, float]]:
    """contract -> result -> mean bound, under the strictest contract and under the weakest."""
    truth = Truth(spec, case)
    strictest, *_, weakest = (*truth.contracts, truth.contracts[-1])
    return {
        str(contract): {name: mean_bound(result) for name, result in truth.bounded(contract).items()}
        for contract in dict.fromkeys((strictest, weakest))
    }


def mean_bound(result: Bounded) -> float:
    """The mean of the elements' bounds; 0 where there are no elements."""
    bounds = np.broadcast_to(result.error, result.value.shape)
    with np.errstate(over="ignore"):
        return float(np.mean(bounds)) if bounds.size else 0.0


def changed(before: float, after: float) -> bool:
    return before != after and not abs(after - before) <= SEEN * abs(before)


def recorded(family_name: str) -> Record:
    return json.loads(file_of(family_name).read_text())


def file_of(family_name: str) -> Path:
    return FOLDER / f"{family_name}.json"


def write(family_name: str) -> None:
    record = {case.id: bounds_of(spec, case) for spec, case in cases_on_record(family_name)}
    file_of(family_name).write_text(json.dumps(record, indent=0) + "\n")
    print(f"{family_name}: {len(record)} cases", flush=True)


def families(named: list[str]) -> list[str]:
    """Those named, or all."""
    unknown = sorted(set(named) - set(FAMILIES))
    if unknown:
        raise SystemExit(f"no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    return named or list(FAMILIES)

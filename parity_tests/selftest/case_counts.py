"""How many cases each layer has in each sweep: `case_counts.toml`, which a self-test compares with the
sweeps.

python -m parity_tests.selftest.case_counts          writes the table anew, after a change that was meant
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from parity_tests.harness.cases import sweep_of
from parity_tests.harness.options import SWEEPS, RunOptions
from parity_tests.specs import all_specs

FILE = Path(__file__).with_name("case_counts.toml")


def counted() -> dict[str, dict[str, int]]:
    """layer -> sweep -> number of cases, as the specifications give them now."""
    return {
        spec.name: {sweep: len(sweep_of(spec, RunOptions(sweep=sweep)).cases) for sweep in SWEEPS}
        for spec in all_specs()
    }


def expected() -> dict[str, dict[str, int]]:
    """The same as it was written down."""
    return tomllib.loads(FILE.read_text())


def main() -> None:
    lines = [
        f"{layer} = {{ " + ", ".join(f"{sweep} = {count}" for sweep, count in counts.items()) + " }"
        for layer, counts in counted().items()
    ]
    FILE.write_text(
        "# Cases of each layer; python -m parity_tests.selftest.case_counts\n" + "\n".join(lines) + "\n"
    )
    print(f"{FILE.name}: {len(lines)} layers")


if __name__ == "__main__":
    main()

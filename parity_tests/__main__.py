"""Commands beside pytest: python -m parity_tests merge a.json b.json -o all.json

Cases are run by pytest (`pytest parity_tests --shard 1/2 --report a.json`) or by `python -m
parity_tests.fuzz`.  merge ends with exit code 0 where everything is there and green, 1 where something failed
or is missing, 4 for a wrong call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from parity_tests.harness.journal import ReportError, write
from parity_tests.harness.merge import merge
from parity_tests.harness.options import OptionError, writable

USAGE = 4  # as pytest


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; `python -m parity_tests {self.prog.split()[-1]} --help` says more")


def parser() -> Parser:
    first, _, rest = (__doc__ or "").partition("\n\n")
    own = Parser("python -m parity_tests", description=f"{first}. {rest}")
    commands = own.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    command = commands.add_parser(
        "merge",
        help="make one report of those of shards and devices",
        description="Make one report of those of shards and devices, print it, and name what is missing.",
    )
    command.add_argument(
        "reports",
        nargs="+",
        metavar="REPORT.json",
        help="written with pytest's --report; of a run that was killed, what it left (REPORT.json.partial)",
    )
    command.add_argument("-o", "--output", metavar="FILE.json", help="write the merged report to this file")
    return own


def main(arguments: Sequence[str] | None = None) -> int:
    own = parser()
    try:
        given = own.parse_args(arguments)
        if given.command is None:
            own.print_help(sys.stderr)
            return USAGE
        return _merge(given.reports, given.output)
    except (OptionError, ReportError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return USAGE


def _merge(files: Sequence[str], output: str | None) -> int:
    if output is not None:
        target = Path(writable("-o", output))
        if target.resolve() in {Path(name).resolve() for name in files}:
            raise OptionError(f"-o {output} is one of the reports to be merged; name another file")
    merged = merge(files)
    print("\n".join(merged.lines()))
    if output is not None:
        write(target, merged.content)
        print(f"written to {output}")
    return 0 if merged.green else 1


if __name__ == "__main__":
    sys.exit(main())

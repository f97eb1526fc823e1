"""The options of a run: defined once for pytest and for runs made by hand, parsed once, then frozen."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Named here and not imported from refimpl: pytest loads this module in every run, also of other projects'
# tests, and these should not wait for numpy.  A self-test compares.
DTYPES = ("float64", "float32", "float16", "bfloat16")
SWEEPS = ("quick", "default", "full")
LAYOUTS = ("contiguous", "transposed", "expanded", "sliced", "channels_last")
PRECISIONS = ("ieee", "tf32")


class OptionError(ValueError):
    """An option that cannot be served: what was given, what is needed."""


@dataclass(frozen=True)
class RunOptions:
    """Everything that a run depends on, besides the selection of tests."""

    candidate: str = "eager"
    devices: tuple[str, ...] = ("cpu",)
    dtype: str | None = None
    layout: str | None = None
    sweep: str = "default"
    cases: int | None = None
    minutes: int | None = None
    shard: tuple[int, int] | None = None  # (i, n): the i-th of n, from 1
    seed: int = 0
    precision: str = "ieee"
    ignore_known: bool = False
    isolate: bool = False
    report: str | None = None

    def lines(self) -> list[str]:
        """The effective values, as the header of a run shows them."""
        shown = {
            "candidate": self.candidate,
            "devices": ",".join(self.devices),
            "dtype": self.dtype or "all",
            "layout": self.layout or "all",
            "sweep": self.sweep,
            "cases": "all" if self.cases is None else f"{self.cases} a layer",
            "shard": "all" if self.shard is None else "{}/{}".format(*self.shard),
            "seed": self.seed,
            "precision": self.precision,
            "known deviations": "ignored" if self.ignore_known else "expected to fail",
            "minutes": "no limit" if self.minutes is None else str(self.minutes),
            "cases run in": "a child process" if self.isolate else "this process",
        }
        return ["parity: " + "  ".join(f"{name} {value}" for name, value in shown.items())]


def add_options(add: Any) -> None:
    """Call `add(name, **keywords)` for every option: argparse's add_argument, or pytest's addoption."""
    add(
        "--candidate",
        default="eager",
        metavar="NAME|FILE.py|MODULE",
        help="implementation under test: eager (default), aot_eager or inductor (torch.compile), inference "
        "(torch.inference_mode), autocast (to bfloat16, on the CPU), vmap (sample by sample), or a file or "
        "module whose public functions and classes stand in for those of the same name in "
        "torch.nn.functional and torch.nn",
    )
    add(
        "--device",
        default=None,
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, ...; by default every device that is present (cpu and cuda)",
    )
    add("--dtype", default=None, metavar="DTYPE", help=f"only this dtype: {', '.join(DTYPES)}")
    add("--layout", default=None, metavar="LAYOUT", help=f"only this layout of inputs: {', '.join(LAYOUTS)}")
    add(
        "--sweep",
        default="default",
        metavar="SWEEP",
        help="quick (every axis value once, seconds), default (every triple of axis values), full (every row "
        "in every dtype)",
    )
    add(
        "--cases",
        default=None,
        metavar="N",
        help="about N cases a layer at most; all pairs of axis values are kept, even if that takes more",
    )
    add(
        "--minutes",
        default=None,
        metavar="N",
        help="begin no case after so many minutes and count the others as not run (inductor: 30 by default)",
    )
    add(
        "--shard",
        default=None,
        metavar="i/n",
        help="only the i-th of n parts of the cases, each with its share of every layer; "
        "`python -m parity_tests merge` makes one report of theirs",
    )
    add("--seed", default="0", metavar="SEED", help="changes the random numbers of every case (default 0)")
    add(
        "--precision",
        default="ieee",
        metavar="PRECISION",
        help="contract required of float32 products: ieee (default) or tf32",
    )
    add(
        "--ignore-known",
        action="store_true",
        default=False,
        help="run as if the ledger of known deviations were empty",
    )
    add(
        "--isolate",
        action="store_true",
        default=False,
        help="run cases in a child process: a candidate that crashes or hangs costs that case and no other",
    )
    add("--report", default=None, metavar="FILE.json", help="write the results of the run to this file")


def parse(values: argparse.Namespace | Any, present: tuple[str, ...]) -> RunOptions:
    """RunOptions from parsed values; `present` are the devices of this machine.  Raises OptionError."""
    return RunOptions(
        candidate=values.candidate,
        devices=_devices(values.device, present),
        dtype=_one_of("--dtype", values.dtype, DTYPES),
        layout=_one_of("--layout", values.layout, LAYOUTS),
        sweep=_one_of("--sweep", values.sweep, SWEEPS) or "default",
        cases=_number("--cases", values.cases, 1),
        minutes=_number("--minutes", values.minutes, 1),
        shard=_shard(values.shard),
        seed=_number("--seed", values.seed, 0) or 0,
        precision=_one_of("--precision", values.precision, PRECISIONS) or "ieee",
        ignore_known=bool(values.ignore_known),
        isolate=bool(values.isolate),
        report=None if values.report is None else writable("--report", values.report),
    )


def _devices(wanted: str | None, present: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is None:
        return present
    if not re.fullmatch(r"[a-z]+(:\d+)?", wanted):
        raise OptionError(f"--device {wanted!r} is not a device; give one like cpu, cuda or cuda:1")
    if wanted.split(":")[0] not in present:
        raise OptionError(
            f"--device {wanted}: torch finds no such device here; present are {', '.join(present)}. "
            "Choose one of these, or install a torch build and driver for it"
        )
    return (wanted,)


def _shard(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    numbers = re.fullmatch(r"0*([1-9]\d*)/0*([1-9]\d*)", value)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise OptionError(f"--shard {value!r} is not a shard; give i/n with i from 1 to n, like 1/3")
    return int(numbers[1]), int(numbers[2])


def writable(option: str, path: str) -> str:
    """Judged before the run: nobody should wait for a report that cannot be written.  Raises OptionError."""
    target, folder = Path(path), Path(path).absolute().parent
    if not folder.is_dir():
        raise OptionError(f"{option} {path}: there is no folder {folder}; make it, or name another file")
    if target.is_dir():
        raise OptionError(f"{option} {path} is a folder; give the name of a file in it")
    if not os.access(folder, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OptionError(f"{option} {path} cannot be written here; name a file in a folder of your own")
    return str(target.absolute())


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is None or value in allowed:
        return value
    raise OptionError(f"{option} {value!r} is not known; choose one of {', '.join(allowed)}")


def _number(option: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"\d+", str(value)) or int(value) < least:
        raise OptionError(f"{option} {value!r} is not a whole number of at least {least}")
    return int(value)

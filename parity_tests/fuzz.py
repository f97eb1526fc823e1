"""Put generated cases to a candidate: python -m parity_tests.fuzz --cases 10000 --seed 0 --layers Conv2d,pad

Beyond the cases that a sweep lists, Hypothesis draws others from the same specifications and shrinks those
that fail.  The candidate runs in a child process: a crash is a finding, and the run goes on.
Ends with exit code 0 where nothing was found, 1 with findings, 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import importlib.util
import pickle
import re
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from parity_tests.harness.candidates import Eager
from parity_tests.harness.compare import Unbounded
from parity_tests.harness.deviations import parse as parse_ledger
from parity_tests.harness.devices import device_lines, devices_present, pinned
from parity_tests.harness.isolate import Worker
from parity_tests.harness.options import OptionError, add_options, parse
from parity_tests.harness.repro import FOLDER, failure_text, file_name
from parity_tests.harness.run import Planned, Run
from parity_tests.specs import FAMILIES, all_specs
from parity_tests.specs.spec import LayerSpec

if TYPE_CHECKING:
    from parity_tests.harness.fuzzing import Apart, Finding, Layer

CASES = 10_000
LOOK_AGAIN = timedelta(days=180)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; --help lists what there is")


def parser() -> Parser:
    own = Parser(prog="python -m parity_tests.fuzz", description=__doc__.partition(":")[0])
    add = own.add_argument
    add("--cases", default=str(CASES), metavar="N", help=f"cases in all, {CASES} by default")
    add("--seed", default="0", metavar="SEED", help="another seed, other cases (default 0)")
    add("--layers", default="", metavar="A,B", help="only these layers")
    add("--families", default="", metavar="A,B", help="only these families of layers")
    add("--candidate", default="eager", metavar="NAME|FILE.py|MODULE", help="implementation under test")
    add("--device", default="cpu", metavar="DEVICE", help="cpu (default), cuda, cuda:1, ...")
    add("--dtype", default=None, metavar="DTYPE", help="only this dtype")
    add("--precision", default="ieee", metavar="PRECISION", help="contract of float32 products: ieee or tf32")
    add("--ignore-known", action="store_true", help="known deviations are findings too")
    add("--limit", default="60", metavar="SECONDS", help="after which a case counts as hanging")
    add("--save", default=None, metavar="FILE.toml", help="append the findings to a file as ledger entries")
    add("--again", default=None, metavar="FILE.case", help="run the case of a finding, and no other")
    return own


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        given = parser().parse_args(arguments)
        run, specs, worker = prepared(given)
    except OptionError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    with pinned(run.options.precision):
        try:
            return again(run, worker, given.again) if given.again else fuzz(run, specs, worker, given.save)
        finally:
            worker.stop()


def prepared(given: argparse.Namespace) -> tuple[Run, list[LayerSpec], Worker]:
    """The run, its layers, and the child process that the candidate will live in.  Raises OptionError."""
    if importlib.util.find_spec("hypothesis") is None:
        raise OptionError("fuzzing needs Hypothesis, which is not installed: pip install hypothesis")
    every = argparse.ArgumentParser()
    add_options(every.add_argument)
    options = vars(every.parse_args([])) | {k: v for k, v in vars(given).items() if k in RUN}
    if not re.fullmatch(r"[1-9]\d*", given.limit):
        raise OptionError(f"--limit {given.limit!r} is not a whole number of seconds of at least 1")
    if given.save is not None and not Path(given.save).absolute().parent.is_dir():
        raise OptionError(f"--save {given.save}: there is no such folder; make it, or name another file")
    if given.again is not None and not Path(given.again).is_file():
        raise OptionError(f"--again {given.again}: there is no such file; a finding names its own")
    specs = chosen(given.layers, given.families)
    run = Run(parse(argparse.Namespace(**options), devices_present()))
    return run, specs, Worker(run.options.precision, float(given.limit))


RUN = ("cases", "seed", "candidate", "device", "dtype", "precision", "ignore_known")


def chosen(layers: str, families: str) -> list[LayerSpec]:
    """The layers of those names and families; all of them where neither is named."""
    known = {spec.name: spec for spec in all_specs()}
    for option, names, allowed in (("--layers", layers, tuple(known)), ("--families", families, FAMILIES)):
        for name in filter(None, names.split(",")):
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, 3) or allowed[:3]
                raise OptionError(f"{option} {name!r} is not known; near it are {', '.join(near)}")
    wanted = [spec for spec in known.values() if spec.name in layers.split(",")]
    wanted += [spec for spec in known.values() if spec.family in families.split(",") and spec not in wanted]
    return wanted or list(known.values())


def fuzz(run: Run, specs: Sequence[LayerSpec], worker: Worker, save: str | None) -> int:
    """Layer by layer, a line and the findings of each; then the totals."""
    from parity_tests.harness.fuzzing import Apart, fuzz_layer

    options, candidate, started = run.options, run.candidates[0], time.perf_counter()
    cases = CASES if options.cases is None else options.cases
    print(f"fuzz: {cases:,} cases of {len(specs)} layers  candidate {candidate.name}  device "
          f"{candidate.device}  seed {options.seed}")  # fmt: skip
    print("\n".join(device_lines(options)), flush=True)
    layers: list[Layer] = []
    apart = Apart(worker)
    for place, spec in enumerate(specs):
        share = cases // len(specs) + (place < cases % len(specs))
        began = time.perf_counter()
        layer = fuzz_layer(run, spec, candidate, share, apart)
        layers.append(layer)
        print(f"{place + 1:>4}/{len(specs)} {spec.name:<30} {_counts(layer)}  "
              f"{time.perf_counter() - began:.1f} s", flush=True)  # fmt: skip
        for finding in layer.findings:
            print(f"\n{told(run, candidate, finding)}\n", flush=True)
    findings = [finding for layer in layers for finding in layer.findings]
    if save is not None and findings:
        append(Path(save), findings)
    for line in closing(layers, apart, time.perf_counter() - started, options.seed):
        print(line)
    without = [spec.name for spec, layer in zip(specs, layers, strict=True) if not layer.cases]
    for name in without:
        print(f"ERROR: {name}: no case was tried, the reference refused all that were generated")
    return 1 if findings or without else 0


def _counts(layer: Layer) -> str:
    counts = f"{layer.cases:>6,} cases {layer.refused:>6,} refused {layer.known.total():>6,} known"
    again = f", {layer.again.total()} more like them" if layer.again else ""
    return f"{counts} {len(layer.findings):>3} findings{again}"


def closing(layers: Sequence[Layer], apart: Apart, seconds: float, seed: int) -> list[str]:
    """The totals of a run."""
    cases, different = (
        sum(count) for count in zip(*((layer.cases, len(layer.different)) for layer in layers), strict=True)
    )
    refused, elements = sum(layer.refused for layer in layers), sum(layer.elements for layer in layers)
    unbounded = sum(layer.unbounded for layer in layers)
    known = {name for layer in layers for name in layer.known}
    return [
        "",
        f"{cases:,} generated cases of {len(layers)} layers, {different:,} of them different, {elements:,} "
        f"elements compared; {refused:,} more refused by the reference, {unbounded:,} of infinite bounds",
        f"known deviations: {sum(layer.known.total() for layer in layers):,} times, {len(known)} entries",
        f"findings: {sum(len(layer.findings) for layer in layers)}, and "
        f"{sum(layer.again.total() for layer in layers):,} failures like them",
        f"time {seconds:.0f} s, {cases / seconds:.0f} cases a second; the candidate's process was started "
        f"{apart.worker.starts} times; {apart.elsewhere} crashes and hangs did not come again in a new one",
        f"seed {seed}: the same seed gives the same cases",
    ]


def told(run: Run, candidate: Eager, finding: Finding) -> str:
    """A finding as a conformance run tells a failure; its case is kept in a file."""
    options, path = run.options, FOLDER / f"{file_name(finding.case, candidate)}.case"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(finding.case))
    more = f" --candidate {candidate.name}" if candidate.name != "eager" else ""
    more += f" --device {candidate.device}" if candidate.device != "cpu" else ""
    again = f"python -m parity_tests.fuzz --again {path}{more}"
    text = failure_text(finding.spec, finding.case, candidate, finding.errors, options, again)
    return f"FINDING (batch {finding.batch}) {finding.case.id}\n{text}"


def again(run: Run, worker: Worker, path: str) -> int:
    """The case of a finding once more; since then the reference may have come to refuse it."""
    from parity_tests.harness.fuzzing import Apart

    case, candidate = pickle.loads(Path(path).read_bytes()), run.candidates[0]
    spec = next(spec for spec in all_specs() if spec.name == case.layer)
    try:
        verdict = Apart(worker)(spec, case, candidate, run.options.precision)
    except Unbounded as error:
        print(f"no case: its bound is infinite, so that it tells nothing ({error})")
        return 0
    if verdict is None:
        print("no case: the reference refuses it")
        return 0
    judgement = Planned(spec, case, candidate, run).judge(verdict.errors)
    for entry in judgement.explained_by:
        print(f"known: {entry.name}: {entry.cause}")
    if judgement.unexpected:
        command = f"python -m parity_tests.fuzz --again {path}"
        print(failure_text(spec, case, candidate, judgement.unexpected, run.options, command))
    return 1 if judgement.unexpected else 0


def append(path: Path, findings: Sequence[Finding]) -> None:
    """Ledger entries, one a finding, for somebody to complete with the cause."""
    text = (path.read_text() + "\n" if path.exists() else "") + "\n".join(map(entry, findings))
    parse_ledger(text)
    path.write_text(text)


def entry(finding: Finding) -> str:
    """A finding as an entry of the ledger: the one case, to be widened to what has the same cause."""
    worst = max(error.excess for error in finding.errors)
    name = hashlib.sha256(finding.case.id.encode()).hexdigest()[:8]
    first: Any = finding.errors[0].message.partition("\n")[0]
    version = re.escape(".".join(torch.__version__.split(".")[:2]))
    return "\n".join([
        "[[deviation]]",
        f'name = "fuzz-{finding.spec.name.lower()}-{name}"',
        f"cases = '{re.escape(finding.case.id)}'",
        f"checks = {[*dict.fromkeys(error.check for error in finding.errors)]}",
        f"worst = {worst if worst == float('inf') else float(f'{worst:.3g}')}",
        f"torch = '{version}\\..*'",
        f"look_again = {date.today() + LOOK_AGAIN}",
        f"cause = {_quoted(f'to be explained: {first}')}",
        "",
    ])  # fmt: skip


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", " ")
    return f'"{escaped}"'


if __name__ == "__main__":
    sys.exit(main())

"""What a failure says, and the script that shows its numbers again with torch and numpy alone."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.cases import Case
from parity_tests.harness.compare import Comparison
from parity_tests.harness.data import draw, seed_of
from parity_tests.harness.findings import ParityError
from parity_tests.harness.neighbours import called_before
from parity_tests.harness.options import RunOptions
from parity_tests.harness.trial import Trial, trial_of
from parity_tests.specs.spec import Drawn, LayerSpec
from refimpl.error_bounds import round_to

FOLDER = Path(".parity")
TEMPLATE = Path(__file__).with_name("repro_template.py.txt")
INLINE = 20_000  # elements up to which a tensor is written into the script; larger ones are drawn again
PLAIN = "def invoke(torch, layer, inputs, call):\n    return layer(*inputs, **call)\n"
SHOWN = 12  # wrong elements of each result that a script shows


def failure_text(
    spec: LayerSpec, case: Case, candidate: Eager, errors: Sequence[ParityError], options: RunOptions,
    again: str = "",
) -> str:  # fmt: skip
    """All that a user needs to see of a failed case: what, where, numbers, bound, verdict, rerun, script.

    `again` is the command that runs a case which no sweep holds; its script is always written."""
    arguments, lines = case.id.removeprefix(f"{case.layer}-"), []
    for error in errors:
        lines.append(f"{case.layer} {error.check}, {arguments}, {candidate.name}/{candidate.device}")
        lines.append(error.message + (f" ({error.place})" if error.place else ""))
        lines.append("")
    lines.append(f"rerun: {again or rerun(case, candidate, options)}")
    found = [error.comparison for error in errors if error.comparison is not None]
    if found or again:
        lines.append(f"script: {_written(spec, case, candidate, found, options)}")
    return "\n".join(lines)


def rerun(case: Case, candidate: Eager, options: RunOptions) -> str:
    """The command that runs this case alone, with the same numbers."""
    checkout = Path(__file__).parents[2] == Path.cwd()
    given = [
        ("--candidate", candidate.name, "eager"),
        ("--device", candidate.device, "cpu"),
        ("--sweep", options.sweep if options.sweep == "full" else "default", "default"),
        ("--seed", str(options.seed), "0"),
        ("--precision", options.precision, "ieee"),
    ]
    more = [f"{name} {value}" for name, value, default in given if value != default]
    more += ["--ignore-known"] if options.ignore_known else []
    more += ["--isolate"] if options.isolate else []
    where = "parity_tests" if checkout else "--pyargs parity_tests"
    name = f"{case.id}-{candidate.device.replace(':', '')}"
    return " ".join(
        [f'pytest {where} -k "[{name}]"', *more]
    )  # brackets: not also the ids that end like this one


def _written(
    spec: LayerSpec, case: Case, candidate: Eager, found: Sequence[Comparison], options: RunOptions
) -> Path | str:
    """Where the script lies now; a folder that cannot be written must not hide the failure."""
    path = FOLDER / f"{file_name(case, candidate)}.py"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(script(spec, case, candidate, found, options))
    except OSError as problem:
        return f"not written ({problem})"
    return path


def file_name(case: Case, candidate: Eager) -> str:
    """What a file about a case is called, without its ending."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{case.id}-{candidate.device}")
    return name if len(name) <= 200 else f"{name[:190]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def script(
    spec: LayerSpec, case: Case, candidate: Eager, found: Sequence[Comparison], options: RunOptions
) -> str:
    """The source of the script: tensors, call, and of each wrong element the exact value and its bound."""
    trial = trial_of(spec, case, candidate, precision=options.precision)
    names = [f"input{i}" for i in range(len(trial.data.inputs))]
    parts = {
        "@TITLE": f"{case.id}: {', '.join(comparison.name for comparison in found)}",
        "@DEVICE": repr(candidate.device),
        "@DTYPE": case.dtype,
        "@PRECISION": repr(options.precision),
        "@TENSORS": "\n".join(_tensors(trial)),
        "@CANDIDATE": _candidate_lines(candidate),
        "@LAYER": _layer_lines(trial),
        "@NEIGHBOUR": _neighbour_lines(trial),
        "@INPUTS": ", ".join(names) + ",",
        "@COPIED": _operands("inputs", case),
        "@INVOKE": (PLAIN if spec.invoke is None else inspect.getsource(spec.invoke))
        + candidate.script(case),
        "@CALL": ", ".join(_given(case.call)),
        "@UPSTREAM": ", ".join(f"grad_output{i}" for i in range(len(trial.truth.grad_outputs))),
        "@EVALUATED": str(any(comparison.name == "evaluated" for comparison in found)),
        "@SIGNED": repr({comparison.name for comparison in found if comparison.bounded.bitwise} or ()),
        "@ROWS": "\n".join(row for comparison in found for row in _rows(comparison)),
    }
    text = TEMPLATE.read_text()
    return re.sub("|".join(parts), lambda found: parts[found.group()], text)


def _rows(comparison: Comparison) -> list[str]:
    """(name, index, exact value, bound) of the worst elements."""
    value, bound = comparison.bounded.value, comparison.bounded.error
    wrong = [tuple(int(i) for i in index) for index in comparison.wrong[:SHOWN]]
    return [f"    ({comparison.name!r}, {i}, {_number(value[i])}, {_number(bound[i])})," for i in wrong]


def _tensors(trial: Trial) -> list[str]:
    """A line for each tensor of the case: inputs, parameters and buffers, arguments, upstream gradients."""
    case, buffers = trial.case, trial.reference().buffers
    tensors = [(f"input{i}", array, case.layout) for i, array in enumerate(trial.data.inputs)]
    tensors += [
        (name, array, "contiguous" if name in buffers else case.parameter_layout)
        for name, array in trial.data.state.items()
    ]
    tensors += [
        (name, draw(trial.spec, case, name, value.shape), "contiguous")
        for name, value in (*case.arguments, *case.call)
        if isinstance(value, Drawn)
    ]
    tensors += [(f"grad_output{i}", array, case.layout) for i, array in enumerate(trial.truth.grad_outputs)]
    return [
        f"{_variable(name)} = tensor({_source(case, name, array)}, {layout!r})"
        for name, array, layout in tensors
    ]


def _source(case: Case, name: str, array: np.ndarray) -> str:
    """The numbers inline, or drawn again where there are many and they came from the plain generator."""
    if array.size > INLINE:
        again = np.random.default_rng(seed_of(case, name)).standard_normal(array.shape)
        if np.array_equal(array, round_to(case.dtype, again)):
            return f"drawn({seed_of(case, name)}, {array.shape})"
    numbers = ", ".join(_number(value) for value in array.ravel().tolist())
    return f"np.array([{numbers}], dtype=np.{array.dtype}).reshape({array.shape})"


def _given(arguments: tuple[tuple[str, Any], ...]) -> list[str]:
    """Arguments as they are written in the script, tensors by their names."""
    return [
        f"{name}={_variable(name) if isinstance(value, Drawn) else repr(value)}" for name, value in arguments
    ]


def _number(value: Any) -> str:
    return repr(value) if isinstance(value, int) or np.isfinite(value) else f"float('{float(value)}')"


def _variable(name: str) -> str:
    return name.replace(".", "_")


def _candidate_lines(candidate: Eager) -> str:
    """The user's file or module, and the names under which it stands in."""
    if not isinstance(candidate, StandIns):
        return "candidate, FUNCTIONS, CLASSES = None, [], []"
    if candidate.name.endswith(".py"):
        path = str(Path(candidate.name).resolve())
        lines = [
            f"found = importlib.util.spec_from_file_location('candidate', {path!r})",
            "candidate = importlib.util.module_from_spec(found)",
            "found.loader.exec_module(candidate)",
        ]
    else:
        lines = [f"candidate = importlib.import_module({candidate.name!r})"]
    lines.append(f"FUNCTIONS, CLASSES = {list(candidate.functions)}, {list(candidate.classes)}")
    return "\n".join(lines)


def _layer_lines(trial: Trial) -> str:
    """The layer or function with the case's arguments, parameters and buffers."""
    lines = [_made("layer", trial.spec, trial.case)]
    lines += ["torch.set_grad_enabled(False)"] if trial.case.mode == "inference" else []
    for name in trial.data.state:
        kind = "buffers" if name in trial.reference().buffers else "parameters"
        lines.append(f"{kind}[{name!r}] = {_variable(name)}")
    return "\n".join(lines)


def _made(called: str, spec: LayerSpec, case: Case) -> str:
    """The layer or function of a case under a name."""
    arguments = ", ".join(_given(case.arguments))
    if spec.is_function:
        return (
            f"def {called}(*inputs, **call):\n    return torch.nn.functional.{spec.name}(*inputs, "
            f"{arguments}{', ' if arguments else ''}**call)\n"
        )
    return f"{called} = torch.nn.{spec.name}({arguments})\n{called}.train({case.mode == 'train'})"


def _operands(inputs: str, case: Case) -> str:
    """What the layer is called with, as a candidate is."""
    if not dict(case.arguments).get("inplace"):
        return inputs
    layout = "contiguous" if case.layout == "expanded" else case.layout
    return f"tuple(laid_out(x.clone(), {layout!r}) for x in {inputs})"


def _neighbour_lines(trial: Trial) -> str:
    """The neighbour's call before the case's own: what the candidate keeps from it may be the failure."""
    other = called_before(trial.spec, trial.case, trial.data)
    if other is None:
        return ""
    lines = _made("neighbour", trial.spec, other).splitlines()
    lines += [] if trial.spec.is_function else ["fill(neighbour, copy.deepcopy({**parameters, **buffers}))"]
    lines += ["copied = copy.deepcopy(inputs)"]
    call = f"dict({', '.join(_given(other.call))})"
    lines += [f"invoke(torch, neighbour, {_operands('copied', other)}, {call})"]
    head = [
        "# As in the suite its neighbour is called first, with one argument or the mode different.",
        "with contextlib.suppress(Exception), torch.enable_grad():",
    ]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"

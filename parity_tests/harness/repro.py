"""What a failure says, and the stand-alone script that shows the same numbers again with torch and numpy only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.candidates import Eager, StandIns
from parity_tests.harness.cases import Case
from parity_tests.harness.findings import ParityError
from parity_tests.harness.data import draw, seed_of
from parity_tests.harness.options import RunOptions
from parity_tests.harness.trial import trial_of
from parity_tests.specs.spec import Drawn, LayerSpec

FOLDER = Path(".parity")
INLINE = 20_000  # elements up to which a tensor is written into the script; larger ones are drawn again
SHOWN = 12  # wrong elements that a script shows


def failure_text(
    spec: LayerSpec, case: Case, candidate: Eager, errors: Sequence[ParityError], options: RunOptions
) -> str:
    """All that a user needs to see of a failed case: what, where, numbers, bound, verdict, rerun, script."""
    lines = []
    for error in errors:
        lines += [
            f"{case.layer} {error.check}, {case.id.removeprefix(case.layer + '-')}, {candidate.name}/{candidate.device}",
            error.message,
            "",
        ]
    rerun = "" if options.sweep == "default" else f" --sweep {options.sweep}"
    rerun += "" if options.seed == 0 else f" --seed {options.seed}"
    rerun += "" if candidate.name == "eager" else f" --candidate {candidate.name}"
    lines.append(f'rerun: pytest parity_tests -k "{case.id}-{candidate.device.replace(":", "")}"{rerun}')
    path = write_script(spec, case, candidate, errors, options)
    if path is not None:
        lines.append(f"script: {path}")
    return "\n".join(lines)


def write_script(
    spec: LayerSpec, case: Case, candidate: Eager, errors: Sequence[ParityError], options: RunOptions
) -> Path | None:
    """The script for the worst numeric error of a case; None where the error is not about numbers."""
    numeric = [error for error in errors if error.comparison is not None]
    if not numeric:
        return None
    worst = max(numeric, key=lambda error: error.excess)
    text = script(spec, case, candidate, worst, options)
    path = FOLDER / (_file_name(case.id) + ".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _file_name(case_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", case_id)[:180]


def script(spec: LayerSpec, case: Case, candidate: Eager, error: ParityError, options: RunOptions) -> str:
    """The source of the stand-alone script: tensors, call, and for each wrong element the expected value and its bound."""
    trial = trial_of(spec, case, candidate, precision=options.precision)
    comparison = error.comparison
    assert comparison is not None
    expected, bound = comparison.bounded.value, comparison.bounded.error
    wrong = [tuple(int(i) for i in index) for index in comparison.wrong[:SHOWN]]
    tensors = [
        _tensor(spec, case, f"input{i}", array, case.layout) for i, array in enumerate(trial.data.inputs)
    ]
    tensors += [
        _tensor(
            spec,
            case,
            name,
            array,
            case.parameter_layout if name not in trial.reference().buffers else "contiguous",
        )
        for name, array in trial.data.state.items()
    ]
    tensors += [
        _tensor(spec, case, f"grad_output{i}", array, case.layout)
        for i, array in enumerate(trial.grad_outputs)
    ]
    rows = "\n".join(
        f"    ({index}, {float(expected[index])!r}, {float(bound[index])!r})," for index in wrong
    )
    call = "".join(f", {name}={value!r}" for name, value in case.call)
    names = [f"input{i}" for i in range(len(trial.data.inputs))]
    parts = {
        "title": f"{case.id}: {comparison.name}",
        "message": error.message,
        "device": candidate.device,
        "dtype": case.dtype,
        "seeds": f"SEED = {case.seed}",
        "tensors": "\n".join(tensors),
        "stand_ins": _stand_in_lines(candidate, options),
        "make": _make_lines(spec, case, trial.data.state, trial.reference().buffers),
        "inputs": ", ".join(names) + ",",
        "call": call,
        "train": str(case.mode == "train"),
        "wanted": comparison.name,
        "rows": rows,
    }
    return _TEMPLATE.format(**parts)


def _tensor(spec: LayerSpec, case: Case, name: str, array: np.ndarray, layout: str) -> str:
    """A line that makes one tensor: inline, or drawn again where it is large and came from the plain generator."""
    variable = name.replace(".", "_")
    if array.size <= INLINE:
        source = f"np.array({_literal(array)}, dtype=np.{array.dtype}).reshape({array.shape})"
    else:
        source = f"np.random.default_rng({seed_of(case, name)}).standard_normal({array.shape})"
        again = np.random.default_rng(seed_of(case, name)).standard_normal(array.shape)
        if not np.array_equal(draw(spec, case, name, array.shape), _rounded(again, case.dtype)):
            source = f"np.array({_literal(array)}, dtype=np.{array.dtype}).reshape({array.shape})"
    return f"{variable} = tensor({source}, {layout!r})"


def _rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    from refimpl.error_bounds import round_to

    return round_to(dtype, array)


def _literal(array: np.ndarray) -> str:
    return "[" + ", ".join(_number(value) for value in array.ravel().tolist()) + "]"


def _number(value: float) -> str:
    return f"float('{value}')" if value != value or value in (float("inf"), float("-inf")) else repr(value)


def _stand_in_lines(candidate: Eager, options: RunOptions) -> str:
    if not isinstance(candidate, StandIns):
        return ""
    file = candidate.name.endswith(".py")
    load = (
        f"import importlib.util\nfound = importlib.util.spec_from_file_location('candidate', {str(Path(candidate.name).resolve())!r})\n"
        "candidate = importlib.util.module_from_spec(found)\nfound.loader.exec_module(candidate)\n"
        if file
        else f"import importlib\ncandidate = importlib.import_module({candidate.name!r})\n"
    )
    lines = [f"torch.nn.functional.{name} = candidate.{name}" for name in candidate.functions]
    lines += [f"torch.nn.{name} = candidate.{name}" for name in candidate.classes]
    return load + "\n".join(lines) + "\n"


def _make_lines(spec: LayerSpec, case: Case, state: Any, buffers: Sequence[str]) -> str:
    arguments = ", ".join(
        f"{name}={name if isinstance(value, Drawn) else repr(value)}" for name, value in case.arguments
    )
    if spec.is_function:
        return (
            f"def layer(*inputs, **call):\n    return torch.nn.functional.{spec.name}(*inputs, "
            f"{arguments + ', ' if arguments else ''}**call)\n\n\nparameters = {{}}\n"
        )
    lines = [
        f"layer = torch.nn.{spec.name}({arguments})",
        f"layer.train({case.mode == 'train'})",
        "parameters = {}",
    ]
    for name in state:
        if name in buffers:
            lines.append(f"layer._buffers[{name!r}] = {name}")
        else:
            lines.append(
                f"layer._parameters[{name!r}] = parameters['grad_{name}'] = torch.nn.Parameter({name})"
            )
    return "\n".join(lines) + "\n"


_TEMPLATE = '''"""{title}

{message}

Needs torch and numpy only: shows the same numbers again.
"""

import numpy as np
import torch

DEVICE, DTYPE = {device!r}, torch.{dtype}
{seeds}


def tensor(array, layout):
    """The array on the device, in the dtype and memory layout of the case."""
    kind = DTYPE if array.dtype.kind == "f" else torch.int64
    values = torch.from_numpy(np.array(array, order="C")).to(device=DEVICE, dtype=kind)
    if layout == "transposed" and values.dim() >= 2:
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced" and values.dim() >= 1:
        room = values.new_zeros((*values.shape[:-1], 2 * values.shape[-1] + 3))
        return room[..., 1 : 1 + 2 * values.shape[-1] : 2].copy_(values)
    if layout == "channels_last" and values.dim() in (4, 5):
        return values.contiguous(memory_format=torch.channels_last if values.dim() == 4 else torch.channels_last_3d)
    if layout == "expanded":
        axis = next((axis for axis, size in enumerate(values.shape) if size > 1), None)
        return values if axis is None else values.narrow(axis, 0, 1).clone().expand(values.shape)
    return values


{tensors}
{stand_ins}
{make}
inputs = ({inputs})
inputs = tuple(x.requires_grad_(x.is_floating_point()) for x in inputs)
outputs = layer(*inputs{call})
outputs = outputs if isinstance(outputs, tuple) else (outputs,)
results = dict(zip(("output", "indices"), outputs))
wanted = {{"grad_input" if len(inputs) == 1 else f"grad_input{{i}}": x for i, x in enumerate(inputs) if x.requires_grad}}
wanted |= parameters
gradients = torch.autograd.grad(outputs[:1], list(wanted.values()), (grad_output0,), allow_unused=True)
results |= dict(zip(wanted, gradients))
results |= dict(layer.named_buffers()) if isinstance(layer, torch.nn.Module) else {{}}
if {wanted!r} == "evaluated":
    layer.train(False)
    results["evaluated"] = layer(*inputs{call})

# index, exact value, bound on the error of a correct implementation
EXPECTED = [
{rows}
]
result = results[{wanted!r}].detach().to(device="cpu", dtype=torch.float64).numpy()
for index, exact, bound in EXPECTED:
    error = abs(float(result[index]) - exact)
    ratio = error / bound if bound else (0.0 if error == 0 else float("inf"))
    print(f"{wanted}{{list(index)}} = {{result[index]:.9g}}, exact {{exact:.9g}}, bound {{bound:.3g}}, error / bound {{ratio:.3g}}")
'''

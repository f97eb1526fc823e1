"""The checks: plain functions of (spec, case, candidate) that raise `ParityError` and count what they
compared.

They are what pytest runs, what the fault catalogue is tested with, and what a script may call.  None has an
off switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from parity_tests.harness.candidates import CandidateError, Eager, quiet, same_bits
from parity_tests.harness.cases import Case, rejection_of
from parity_tests.harness.compare import compare
from parity_tests.harness.data import arranged, constructor_arguments, rejected_inputs
from parity_tests.harness.findings import (
    ParityError,
    Probe,
    Tally,
    Verdict,
    contract_met,
    demand_whole,
    describe,
)
from parity_tests.harness.trial import Trial, trial_of
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import SuiteError


def check_metadata(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Shape, dtype and device of outputs, gradients and buffers; the memory format where it is promised."""
    trial = trial_of(spec, case, candidate, **how)
    probe, outcome, expected = Probe("metadata", trial, tally), trial.outcome, trial.bounded(trial.required)
    _demand_complete(trial)
    for name, bounded in expected.items():
        probe.fact(name in outcome.facts, f"{name} is missing")
        facts, shape = outcome.facts[name], bounded.value.shape
        probe.fact(facts.shape == shape, f"{name} has shape {facts.shape}, needed is {shape}")
        counted = name == "indices" or (name in trial.data.state and trial.data.state[name].dtype.kind == "i")
        dtype = "int64" if counted else trial.truth.dtype_of(name)
        probe.fact(facts.dtype == dtype, f"{name} has dtype {facts.dtype}, needed is {dtype}")
        device = candidate.device.split(":")[0]
        probe.fact(facts.device == device, f"{name} is on {facts.device}, needed is {device}")
    if candidate.keeps_layouts and _promises_channels_last(spec, case, expected["output"].value.shape):
        kept = outcome.facts["output"].channels_last
        probe.fact(kept, "the output is not in channels_last although the input is")


def check_forward(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Every output, element by element."""
    trial = trial_of(spec, case, candidate, **how)
    names = [name for name in trial.bounded(trial.required) if name.startswith(("output", "indices"))]
    Probe("forward", trial, tally).results(names)


def check_input_gradients(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The gradient of every input, each by itself, for a random upstream gradient."""
    trial = trial_of(spec, case, candidate, **how)
    _check_gradients(Probe("input_gradients", trial, tally), inputs=True)


def check_parameter_gradients(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The gradient of every parameter, each by itself, for a random upstream gradient."""
    trial = trial_of(spec, case, candidate, **how)
    _check_gradients(Probe("parameter_gradients", trial, tally), inputs=False)


def check_state(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Buffers after a call, and that evaluation after a training call uses them."""
    trial = trial_of(spec, case, candidate, **how)
    probe, outcome, state = Probe("state", trial, tally), trial.outcome, trial.data.state
    updated = trial.bounded(trial.required)
    buffers = [name for name in trial.reference().buffers if name in state]
    probe.results(buffers)
    for name in buffers:
        if name not in updated:
            unchanged = same_bits(outcome.arrays[name], state[name])
            probe.fact(
                unchanged, f"buffer {name} was changed; a call in {case.mode} mode must leave it alone"
            )
    if outcome.evaluated is not None:
        probe.array("evaluated", outcome.evaluated, trial.evaluated)


def check_purity(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Inputs and parameters unchanged, but for a call in place; a second call gives the same bits."""
    trial = trial_of(spec, case, candidate, **how)
    probe, written = Probe("purity", trial, tally), trial.outcome.written
    probe.fact(not written, f"the call changed {', '.join(written)}; it must leave its operands alone")
    if dict(case.arguments).get("inplace"):
        probe.fact(trial.outcome.in_place, "with inplace=True the input must hold the output after the call")
    for name, second in trial.outcome.second.items():
        same = same_bits(trial.outcome.arrays[name], second)
        probe.fact(same, f"a second call with the same operands gave another {name}")


def check_rejection(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The same bad arguments: candidate, torch and reference raise the same exception class; or candidate and
    torch, where a reference has reason to accept them."""
    rejection, own = rejection_of(spec, case), reference_rejection(spec, case)
    wanted, needed = rejection.exception, rejection.exception if rejection.of_reference else type(None)
    if type(own) is not needed:
        raise SuiteError(f"{case.id}: the reference raised {own!r}, its spec says {needed.__name__}")
    raised = candidate.rejects(spec, case)
    if tally is not None:
        tally.facts += 1
    if not isinstance(raised, wanted):
        said = str(raised).splitlines()[:1]
        given = "accepted it" if raised is None else f"raised {type(raised).__name__}: {''.join(said)}"
        raise ParityError(
            case, "rejection", f"needed is {wanted.__name__} ({own or rejection.note}); the candidate {given}"
        )


def reference_rejection(spec: LayerSpec, case: Case) -> BaseException | None:
    """What the reference raises for the bad arguments of a case."""
    try:
        with quiet():
            layer = spec.reference(**constructor_arguments(spec, case)).train(case.mode == "train")
            layer(*arranged(spec, case, rejected_inputs(spec, case)))
    except Exception as error:
        return error
    return None


CHECKS: Mapping[str, Callable[..., None]] = {
    "metadata": check_metadata,
    "forward": check_forward,
    "input_gradients": check_input_gradients,
    "parameter_gradients": check_parameter_gradients,
    "state": check_state,
    "purity": check_purity,
}


def run_checks(spec: LayerSpec, case: Case, candidate: Eager, **how: str) -> Verdict:
    """All checks of a case.  Where `metadata` fails, values cannot be compared: the others are not run."""
    tally, errors = Tally(), []
    checks = {"rejection": check_rejection} if case.rejects else CHECKS
    for name, check in checks.items():
        try:
            check(spec, case, candidate, tally, **how)
        except ParityError as error:
            errors.append(error)
        except CandidateError as error:
            errors.append(ParityError(case, name, str(error), place=error.place))
            break
        if name == "metadata" and errors:
            break
    if not errors and not case.rejects and candidate.gradients:  # an empty output alone has no elements
        demand_whole(case, tally)
    trial = trial_of(spec, case, candidate, **how)
    contract = "" if case.rejects else contract_met(trial, errors)
    return Verdict(case, tally, errors, contract, dict(trial.clock.seconds))


def _demand_complete(trial: Trial) -> None:
    """It is an error of the suite if the reference says nothing of an output."""
    expected, given = trial.bounded(trial.required), trial.outcome.arrays
    silent = [name for name in given if name not in expected and name.startswith("output")]
    if silent or "output" not in expected:
        raise SuiteError(
            f"{trial.case.id}: the reference says nothing of {', '.join(silent) or 'the output'}"
        )


def _promises_channels_last(spec: LayerSpec, case: Case, output_shape: tuple[int, ...]) -> bool:
    keeps = spec.keeps_channels_last
    keeps = keeps(dict(case.arguments)) if callable(keeps) else keeps
    if not keeps or case.layout != "channels_last" or len(case.shapes[0]) not in (4, 5):
        return False
    return all(size > 1 for size in (*case.shapes[0][1:], *output_shape[1:])) and case.shapes[0][0] > 0


def _check_gradients(probe: Probe, inputs: bool) -> None:
    """Those that the reference has, within their bounds; of an operand without one, nothing but zeros."""
    trial = probe.trial
    expected = trial.bounded(trial.required)
    probe.results(name for name in expected if _is_gradient(name, inputs))
    for name, array in trial.outcome.arrays.items():
        if name not in expected and _is_gradient(name, inputs):
            found = compare(name, array, trial.required.exact(np.zeros(array.shape)))
            if len(found.wrong):
                says = "the operand takes no part in the output; needed is no gradient of it, or zeros"
                raise ParityError(trial.case, probe.check, f"{describe(trial, found, None)}\n{says}", found)
            probe.tally.facts += 1


def _is_gradient(name: str, inputs: bool) -> bool:
    return name.startswith("grad_") and name.startswith("grad_input") == inputs

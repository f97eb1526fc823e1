"""The checks: plain functions of (spec, case, candidate) that raise `ParityError` and count what they compared.

They are what pytest runs, what the fault catalogue is tested with, and what a script may call.  None has an off switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

import refimpl
from parity_tests.harness.candidates import CandidateError, Eager, same_bits
from parity_tests.harness.cases import Case
from parity_tests.harness.compare import Comparison, compare
from parity_tests.harness.trial import Trial, trial_of
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import Bounded, Contract


class ParityError(AssertionError):
    """A candidate differs from the reference: what, where, numbers, bound, verdict."""

    def __init__(
        self,
        case: Case,
        check: str,
        message: str,
        comparison: Comparison | None = None,
        met: str | None = None,
    ):
        super().__init__(message)
        self.case, self.check, self.message, self.comparison, self.met = case, check, message, comparison, met

    @property
    def excess(self) -> float:
        """Largest error / bound; inf where it is not a matter of numbers."""
        return float("inf") if self.comparison is None else self.comparison.utilisation


@dataclass
class Tally:
    """What the checks of a case compared: it goes into the summary, and an empty one is an error."""

    elements: int = 0
    exact: int = 0
    facts: int = 0
    utilisation: dict[str, float] = field(default_factory=dict)
    statistical: float = 0.0
    uninformative: int = 0
    tells_nothing: list[str] = field(default_factory=list)
    mostly_zeros: list[str] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        self.elements += comparison.elements
        self.exact += comparison.exact
        self.uninformative += comparison.uninformative
        self.utilisation[comparison.name] = comparison.utilisation
        self.statistical = max(self.statistical, comparison.statistical)
        self.tells_nothing += [comparison.name] if comparison.tells_nothing else []
        self.mostly_zeros += [comparison.name] if 2 * comparison.zeros > comparison.elements else []


def check_forward(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Every output, element by element."""
    trial = trial_of(spec, case, candidate, **how)
    _compare_all(trial, "forward", ("output", "indices"), tally)


def check_input_gradients(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The gradient of every input, each by itself, for a random upstream gradient."""
    trial = trial_of(spec, case, candidate, **how)
    _compare_all(trial, "input_gradients", _gradients(trial, inputs=True), tally)


def check_parameter_gradients(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The gradient of every parameter, each by itself, for a random upstream gradient."""
    trial = trial_of(spec, case, candidate, **how)
    _compare_all(trial, "parameter_gradients", _gradients(trial, inputs=False), tally)


def check_state(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Buffers after a training call, and that evaluation afterwards uses them."""
    trial = trial_of(spec, case, candidate, **how)
    buffers = trial.reference().buffers
    _compare_all(trial, "state", [name for name in buffers if name in trial.bounded(trial.required)], tally)
    for name in buffers:
        if name not in trial.bounded(trial.required) and name in trial.data.state:
            unchanged = same_bits(trial.outcome.arrays[name], trial.data.state[name])
            _fact(
                trial,
                "state",
                unchanged,
                f"buffer {name} was changed; a call in this mode must leave it alone",
                tally,
            )
    if trial.outcome.evaluated is not None:
        expected = trial.evaluated(trial.required)
        _compare_one(
            trial,
            "state",
            "evaluated",
            trial.outcome.evaluated,
            lambda contract: trial.evaluated(contract),
            expected,
            tally,
        )


def check_metadata(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Shape, dtype and device of outputs, gradients and buffers; the memory format of outputs where it is promised."""
    trial = trial_of(spec, case, candidate, **how)
    outcome, expected = trial.outcome, trial.bounded(trial.required)
    for name, bounded in expected.items():
        _fact(trial, "metadata", name in outcome.facts, f"{name} is missing", tally)
        facts = outcome.facts[name]
        _fact(
            trial,
            "metadata",
            facts.shape == bounded.value.shape,
            f"{name} has shape {facts.shape}, needed is {bounded.value.shape}",
            tally,
        )
        counted = name == "indices" or (name in trial.data.state and trial.data.state[name].dtype.kind == "i")
        dtype = "int64" if counted else case.dtype
        _fact(
            trial,
            "metadata",
            facts.dtype == dtype,
            f"{name} has dtype {facts.dtype}, needed is {dtype}",
            tally,
        )
        device = candidate.device.split(":")[0]
        _fact(
            trial,
            "metadata",
            facts.device == device,
            f"{name} is on {facts.device}, needed is {device}",
            tally,
        )
    if _promises_channels_last(spec, case, expected["output"].value.shape):
        _fact(
            trial,
            "metadata",
            outcome.facts["output"].channels_last,
            "the output is not in channels_last although the input is",
            tally,
        )


def check_purity(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """Inputs and parameters unchanged, and a second call gives the same bits."""
    trial = trial_of(spec, case, candidate, **how)
    written = trial.outcome.written
    _fact(
        trial,
        "purity",
        not written,
        f"the call changed {', '.join(written)}; it must leave its operands alone",
        tally,
    )
    for name, second in trial.outcome.second.items():
        _fact(
            trial,
            "purity",
            same_bits(trial.outcome.arrays[name], second),
            f"a second call with the same operands gave another {name}",
            tally,
        )


def check_rejection(
    spec: LayerSpec, case: Case, candidate: Eager, tally: Tally | None = None, **how: str
) -> None:
    """The same bad arguments: candidate, torch and reference raise the same exception class."""
    rejection = next(r for r in spec.rejections if f"rejects_{r.name}" == case.name)
    wanted = rejection.exception
    own = reference_rejection(spec, case)
    if type(own) is not wanted:
        raise refimpl.error_bounds.SuiteError(
            f"{case.id}: the reference raised {own!r}, its spec says {wanted.__name__}"
        )
    raised = candidate.rejects(spec, case)
    if tally is not None:
        tally.facts += 1
    if not (isinstance(raised, wanted) or (raised is not None and _same_kind(raised, wanted))):
        given = (
            "accepted it"
            if raised is None
            else f"raised {type(raised).__name__}: {str(raised).splitlines()[0]}"
        )
        raise ParityError(case, "rejection", f"needed is {wanted.__name__} ({own}); the candidate {given}")


def _same_kind(raised: BaseException, wanted: type[Exception]) -> bool:
    return isinstance(raised, NotImplementedError) and wanted is NotImplementedError


def reference_rejection(spec: LayerSpec, case: Case) -> BaseException | None:
    """What the reference raises for the bad arguments of a case."""
    rng = np.random.default_rng(0)
    try:
        layer = spec.reference(**dict(case.arguments)).train(case.mode == "train")
        layer(*(rng.standard_normal(shape) for shape in case.shapes), *dict(case.call).values())
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


@dataclass
class Verdict:
    """Everything that the checks of one case said."""

    case: Case
    tally: Tally
    errors: list[ParityError]
    seconds: float = 0.0


def run_checks(spec: LayerSpec, case: Case, candidate: Eager, **how: str) -> Verdict:
    """All checks of a case.  Where `metadata` fails, values cannot be compared and the other checks are not run."""
    tally, errors = Tally(), []
    checks = {"rejection": check_rejection} if case.rejects else CHECKS
    for name, check in checks.items():
        try:
            check(spec, case, candidate, tally, **how)
        except ParityError as error:
            errors.append(error)
        except CandidateError as error:
            errors.append(ParityError(case, name, str(error)))
            break
        if name == "metadata" and errors:
            break
    return Verdict(case, tally, errors)


def _promises_channels_last(spec: LayerSpec, case: Case, output_shape: tuple[int, ...]) -> bool:
    keeps = spec.keeps_channels_last
    keeps = keeps(dict(case.arguments)) if callable(keeps) else keeps
    if not keeps or case.layout != "channels_last" or len(case.shapes[0]) not in (4, 5):
        return False
    return all(size > 1 for size in (*case.shapes[0][1:], *output_shape[1:])) and case.shapes[0][0] > 0


def _gradients(trial: Trial, inputs: bool) -> list[str]:
    return [
        name
        for name in trial.bounded(trial.required)
        if name.startswith("grad_") and name.startswith("grad_input") == inputs
    ]


def _fact(trial: Trial, check: str, holds: bool, sentence: str, tally: Tally | None) -> None:
    if tally is not None:
        tally.facts += 1
    if not holds:
        raise ParityError(trial.case, check, sentence)


def _compare_all(trial: Trial, check: str, names: Iterable[str], tally: Tally | None) -> None:
    expected, first = trial.bounded(trial.required), None
    for name in names:
        if name in expected:
            if name not in trial.outcome.arrays:
                raise ParityError(trial.case, check, f"{name} is missing")
            try:
                _compare_one(
                    trial,
                    check,
                    name,
                    trial.outcome.arrays[name],
                    lambda contract, name=name: trial.bounded(contract)[name],
                    expected[name],
                    tally,
                )
            except ParityError as error:
                first = error if first is None or error.excess > first.excess else first
    if first is not None:
        raise first


def _compare_one(
    trial: Trial,
    check: str,
    name: str,
    actual: np.ndarray,
    under: Callable[[Contract], Bounded],
    expected: Bounded,
    tally: Tally | None,
) -> None:
    comparison = compare(name, actual, expected)
    if tally is not None:
        tally.add(comparison)
    if len(comparison.wrong) == 0:
        return
    met = next(
        (
            str(contract)
            for contract in trial.contracts
            if contract != trial.required and not len(compare(name, actual, under(contract)).wrong)
        ),
        None,
    )
    raise ParityError(trial.case, check, describe(trial, comparison, met), comparison, met)


def describe(trial: Trial, comparison: Comparison, met: str | None) -> str:
    """Where, numbers, bound and verdict of a comparison that failed."""
    index = tuple(int(i) for i in comparison.wrong[0])
    bounded = comparison.bounded
    lines = [
        f"{comparison.name}{list(index)} = {comparison.actual[index]:.9g}, exact {bounded.value[index]:.9g}, "
        f"bound {bounded.error[index]:.3g}      {len(comparison.wrong)} of {comparison.elements} elements out of bound, "
        f"worst {comparison.utilisation:.3g} x"
    ]
    if met is not None:
        lines.append(f"verdict: structure right; meets the contract '{met}', required '{trial.required}'")
    elif bounded.error[index] == 0:
        lines.append(
            f"verdict: the structure is wrong: this element is exact in {trial.case.dtype}, whatever the order "
            "of summation"
        )
    else:
        lines.append(f"verdict: meets no contract of {trial.case.dtype}, required '{trial.required}'")
    return "\n".join(lines)

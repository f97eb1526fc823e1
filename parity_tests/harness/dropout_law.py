"""The law of the dropouts in training: what is dropped is random, so no value can be compared, but there are
rules.

* The gradient is 0 for what is dropped and the upstream gradient times 1 / (1 - p) (or a) for the rest; the
output
  is the documented value of what is dropped, and the scaled input for the rest, with the same mask.
* Units (elements, or channels of a sample) are kept or dropped as a whole.
* The number of n units that are kept is binomial, and so is that of the n / 2 disjoint pairs that are kept
both:
  neighbours, and partners half of all units apart (another sample).  By Hoeffding's inequality (J. Amer.
  Statist. Assoc. 58, 1963, theorem 1) such a number is off its mean by more than sqrt(n ln(2 / q) / 2) with
  probability q at most.  With q = 1e-12 and three numbers for each of 72 trials, a correct implementation
  fails a run with probability 2.2e-10 at most.
* A second call draws another mask: 2,000 units agree by chance with probability (p^2 + (1 - p)^2)^2000 at
most.
"""

from __future__ import annotations

import math

import numpy as np

from parity_tests.harness.candidates import Eager, quiet
from parity_tests.harness.cases import Case
from parity_tests.harness.checks import ParityError
from parity_tests.harness.data import draw, make_data
from parity_tests.specs.spec import LayerSpec
from refimpl.dropout import ALPHA, unit_axes
from refimpl.error_bounds import Bounded, Contract

FALSE_ALARM = 1e-12
PROBABILITIES = (0.5, 0.75, 0.3)
_SHAPES = {
    "Dropout": (40, 50),
    "AlphaDropout": (40, 50),
    "Dropout1d": (40, 50, 3),
    "Dropout3d": (40, 50, 1, 3, 2),
}


def training_case(layer: str, p: float, dtype: str) -> Case:
    """2,000 units in 40 samples."""
    shape = _SHAPES.get(layer, (40, 50, 3, 2))
    if (layer, p) == ("Dropout2d", 0.3):
        shape = (40, 50, 6)  # three axes, which it takes for (N, C, L)
    return Case(layer, (("p", p),), (shape,), dtype=dtype, name="training")


def check_dropout_training(spec: LayerSpec, case: Case, candidate: Eager) -> int:
    """Raise ParityError unless a training call obeys the law; returns the number of elements looked at."""
    data = make_data(spec, case, {})
    with quiet():
        outcome = candidate.run(spec, case, data)
    x, output, gradient = data.inputs[0], outcome.arrays["output"], outcome.arrays["grad_input"]
    upstream, p = draw(spec, case, "grad_output0", x.shape), dict(case.arguments)["p"]
    kept_values, slopes, dropped = _values(spec, case, x, upstream, p)
    kept = gradient != 0
    _within(case, "forward", output, kept_values, kept, "what is kept")
    _within(case, "forward", output, dropped, ~kept, "what the gradient says is dropped")
    _within(case, "input_gradients", gradient, slopes, kept, "the gradient of what is kept")
    leading = unit_axes(spec.functions[0], x.shape)  # type: ignore[index]
    units = kept.reshape(*x.shape[:leading], -1)
    _require(case, bool((units == units[..., :1]).all()), "a unit is kept in one part and dropped in another")
    _demand_rates(case, units[..., 0].ravel(), 1 - p)
    _require(
        case, not np.array_equal(outcome.second["output"], output), "a second call dropped the same units"
    )
    return 2 * x.size


def _values(
    spec: LayerSpec, case: Case, x: np.ndarray, upstream: np.ndarray, p: float
) -> tuple[Bounded, Bounded, Bounded]:
    """Output and gradient of what is kept, output of what is dropped, each operation rounded to the storage
    type."""
    contract = Contract(case.dtype, case.dtype)
    input, grad = contract.exact(x), contract.exact(upstream)
    one, rate = contract.constant(1.0), contract.constant(1.0 - p)
    if not spec.name.endswith("AlphaDropout"):
        if math.frexp(1 - p)[0] == 0.5:  # a power of two: survivors are scaled exactly
            return input * (1 / (1 - p)), grad * (1 / (1 - p)), contract.exact(np.zeros(x.shape))
        return input * (one / rate), grad * (one / rate), contract.exact(np.zeros(x.shape))
    a = one / ((contract.constant(ALPHA * ALPHA) * p + 1.0) * rate).sqrt()
    shift = a * contract.constant(-ALPHA) * p
    dropped = a * contract.constant(ALPHA) + shift
    return input * a + shift, grad * a, dropped + contract.exact(np.zeros(x.shape))


def _demand_rates(case: Case, kept: np.ndarray, rate: float) -> None:
    half = len(kept) // 2
    together = {
        "units": (kept, rate),
        "pairs of neighbours": (kept[0::2] & kept[1::2], rate**2),
        "pairs of units in two samples": (kept[:half] & kept[half : 2 * half], rate**2),
    }
    for what, (drawn, expected) in together.items():
        reach = math.sqrt(len(drawn) * math.log(2 / FALSE_ALARM) / 2)
        count, mean = int(drawn.sum()), len(drawn) * expected
        _require(
            case,
            abs(count - mean) <= reach,
            f"{count} of {len(drawn)} {what} are kept, expected are {mean:.0f} within {reach:.0f}",
        )


def _within(
    case: Case, check: str, actual: np.ndarray, expected: Bounded, where: np.ndarray, what: str
) -> None:
    wrong = where & ~(np.abs(actual - expected.value) <= expected.error)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ParityError(
            case,
            check,
            f"{case.layer} in training, {case.dtype}: {what} is {actual[index]:.9g} at {list(index)}, exact "
            f"{expected.value[index]:.9g}, bound {expected.error[index]:.3g}",
        )


def _require(case: Case, holds: bool, sentence: str) -> None:
    if not holds:
        raise ParityError(case, "forward", f"{case.layer} in training, {case.dtype}: {sentence}")

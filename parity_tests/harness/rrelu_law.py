"""The law of RReLU in training: its slopes are random, so no value can be compared, but there are rules.

Positive inputs pass unchanged.  For each other input one slope in [lower, upper] explains both output and
gradient, and the slopes fill the interval: among n even draws none lies in the lower quarter, or none in the
upper one, with probability 2 (3/4)^n at most, 1e-124 for the thousand that are drawn here.
"""

from __future__ import annotations

import numpy as np

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.checks import ParityError
from parity_tests.harness.data import draw, make_data
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import FLOATS, strictest


def training_case(lower: float, upper: float, dtype: str) -> Case:
    return Case("RReLU", (("lower", lower), ("upper", upper)), ((5, 401),), dtype=dtype, name="training")


def check_rrelu_training(spec: LayerSpec, case: Case, candidate: Eager) -> int:
    """Raise ParityError unless a training call obeys the law; returns the number of elements looked at."""
    data = make_data(spec, case, {})
    outcome = candidate.run(spec, case, data)
    x, output, gradient = data.inputs[0], outcome.arrays["output"], outcome.arrays["grad_input"]
    g = draw(spec, case, "grad_output0", x.shape)
    positive = x > 0
    _require(case, np.array_equal(output[positive], x[positive]), "a positive input was changed")
    _require(
        case, np.array_equal(gradient[positive], g[positive]), "the gradient of a positive input was changed"
    )
    lower, upper = dict(case.arguments)["lower"], dict(case.arguments)["upper"]
    largest = max(abs(lower), abs(upper))
    low, high = _slopes(case, x[~positive], output[~positive], largest)
    rounding = FLOATS[case.dtype].roundoff * largest  # of the limits and of the slopes, in the storage type
    inside = (high >= lower - rounding) & (low <= upper + rounding)
    _require(case, bool(inside.all()), f"a slope is {low[~inside][:1]}, outside [{lower}, {upper}]")
    low_back, high_back = _slopes(case, g[~positive], gradient[~positive], largest)
    same = (low <= high_back + rounding) & (
        low_back - rounding <= high
    )  # kept for the backward pass in that type
    _require(
        case,
        bool(same.all()),
        f"the slopes of output and gradient differ: {low[~same][:1]}, {low_back[~same][:1]}",
    )
    quarter = (upper - lower) / 4
    filled = low.min() <= lower + quarter and high.max() >= upper - quarter
    _require(case, bool(filled), "the slopes do not fill the interval")
    _require(case, not np.array_equal(outcome.second["output"], output), "a second call drew the same slopes")
    return 2 * x.size


def _slopes(
    case: Case, factor: np.ndarray, product: np.ndarray, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of slopes whose products with `factor`, rounded once and stored, may be `product`."""
    error = (strictest(case.dtype).exact(factor) * largest).store().error
    middle, reach = product / factor, error / np.abs(factor)
    return middle - reach, middle + reach


def _require(case: Case, holds: bool, sentence: str) -> None:
    if not holds:
        raise ParityError(case, "forward", f"RReLU in training, {case.dtype}: {sentence}")

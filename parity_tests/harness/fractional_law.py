"""The law of fractional max pooling without `_random_samples`: its windows are random, so no value can be
compared, but there are rules.

A sample u in [0, 1) puts window y of an axis at floor((y + u) a) - floor(u a), a = (L - kernel) / (P - 1).
With a = p / q in lowest terms and i = floor(p u), that is floor((y p + j) / q), j = i mod q: q sequences of
windows and no others.  All of them begin with 0 and end with L - kernel, and each i of 0 ... p - 1 is as
likely as any other.

* In every plane the output is the maximum of the windows of one such sequence an axis; the indices say where
  it is, and the gradient goes there.  The axes here have q = P - 1: one window alone tells j from j + 1, so
  that a coordinate rounded over a whole number gives a sequence that is legal too, in any dtype.
* Planes and axes draw for themselves.  The number of n planes with sequence j is binomial, and so is that of
  pairs of planes (neighbouring channels; two samples of a batch) or of axes with the same sequence.  By
  Hoeffding's inequality (J. Amer. Statist. Assoc. 58, 1963, theorem 1) such a number is off its mean by more
  than sqrt(n ln(2 / q) / 2) with probability q at most.  With q = 1e-12 a correct implementation fails a run
  with probability 2e-10 at most.  The half types are left out: their samples have 8 or 11 bits.
* A second call draws other windows.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from parity_tests.harness.candidates import Eager
from parity_tests.harness.cases import Case
from parity_tests.harness.checks import ParityError
from parity_tests.harness.data import Data, draw
from parity_tests.specs.spec import LayerSpec
from refimpl.error_bounds import strictest

FALSE_ALARM = 1e-12
# Number of axes -> shape, kernel, outputs: all axes different, and without a batch axis all alike.
_CALLS = {
    2: {"batch": ((30, 20, 11, 14), (2, 3), (5, 4)), "one_sample": ((600, 11, 11), 2, 5)},
    3: {"batch": ((30, 20, 9, 11, 7), (2, 2, 2), (4, 5, 3)), "one_sample": ((600, 7, 7, 7), 2, 3)},
}
CALLS = tuple(_CALLS[2])
LAYERS = tuple(f"FractionalMaxPool{rank}d" for rank in _CALLS)


def law_case(layer: str, call: str, dtype: str) -> Case:
    """600 planes without `_random_samples`; every fifth one holds numbers in random order."""
    shape, kernel, outputs = _CALLS[_rank(layer)][call]
    arguments = (("kernel_size", kernel), ("output_size", outputs), ("return_indices", True))
    return Case(layer, arguments, (shape,), dtype=dtype, name=f"own_samples_{call}")


def check_fractional_law(spec: LayerSpec, case: Case, candidate: Eager) -> int:
    """Raise ParityError unless a call obeys the law; returns the number of elements looked at."""
    x, axes = _planes(case), _axes(case)
    outcome = candidate.run(spec, case, Data((x,), {}))
    output = outcome.arrays["output"]
    shape = (*x.shape[: -len(axes)], *(outputs for _, _, outputs in axes))
    _require(case, "metadata", output.shape == shape, f"the output has shape {output.shape}")
    chosen = _sequences_of(case, x, output, axes)
    compared = _compare_with_reference(spec, case, x, outcome.arrays, chosen)
    if case.dtype in ("float32", "float64"):
        plane = np.arange(len(chosen)) % x.shape[-len(axes) - 1]
        _demand_rates(case, chosen[plane % 5 != 4], [_step(*axis) for axis in axes])
    again = not np.array_equal(outcome.second["output"], output)
    _require(case, "purity", again, "a second call drew the same windows")
    return compared


def sequences(size: int, kernel: int, outputs: int) -> np.ndarray:
    """All legal sequences of windows of an axis: row j holds floor((y p + j) / q) for its outputs y."""
    step = _step(size, kernel, outputs)
    places = np.arange(outputs) * step.numerator + np.arange(step.denominator)[:, None]
    return places // step.denominator


def rates(step: Fraction) -> np.ndarray:
    """The probability of each sequence: how many of the p values of i give it, divided by p."""
    return np.bincount(np.arange(step.numerator) % step.denominator) / step.numerator


def _rank(layer: str) -> int:
    return int(layer[-2])


def _axes(case: Case) -> list[tuple[int, int, int]]:
    """Size, kernel and outputs of each axis."""
    rank, arguments = _rank(case.layer), dict(case.arguments)
    each = [
        value if isinstance(value, tuple) else (value,) * rank
        for value in (arguments["kernel_size"], arguments["output_size"])
    ]
    return list(zip(case.shapes[0][-rank:], *each, strict=True))


def _step(size: int, kernel: int, outputs: int) -> Fraction:
    return Fraction(size - kernel, outputs - 1)


def _planes(case: Case) -> np.ndarray:
    """Different negative numbers in each plane, exact in every dtype: rising or falling along all axes, so
    that a maximum lies at the end or the beginning of its window, and in every fifth channel shuffled."""
    shape, rank = case.shapes[0], _rank(case.layer)
    count, channels = math.prod(shape[-rank:]), shape[-rank - 1]
    order = np.arange(count)
    numbers = -np.ldexp(1 + order % 128 / 128, order // 128)[::-1]
    rng = np.random.default_rng(0)
    of_channel = [
        rng.permutation(numbers) if channel % 5 == 4 else numbers[:: 1 if channel % 2 else -1]
        for channel in range(channels)
    ]
    planes = np.array(of_channel).reshape(channels, *shape[-rank:])
    return np.array(np.broadcast_to(planes, shape))


def _sequences_of(case: Case, x: np.ndarray, output: np.ndarray, axes: list) -> np.ndarray:
    """(planes, axes): which sequences explain each plane of the output."""
    planes, found = x.reshape(-1, *x.shape[-len(axes) :]), output.reshape(-1, *output.shape[-len(axes) :])
    maxima: dict[tuple[int, ...], np.ndarray] = {(): planes}
    for axis, (size, kernel, outputs) in enumerate(axes, 1):
        windows = sequences(size, kernel, outputs)[:, :, None] + np.arange(kernel)
        maxima = {
            (*choice, j): array.take(windows[j], axis).max(axis + 1)
            for choice, array in maxima.items()
            for j in range(len(windows))
        }
    explains = np.stack([(array == found).reshape(len(planes), -1).all(1) for array in maxima.values()])
    legal = explains.any(0)
    _require(
        case,
        "forward",
        bool(legal.all()),
        f"{np.count_nonzero(~legal)} of {len(planes)} planes, the first {np.argmin(legal)}, are the maxima "
        f"of no legal windows; legal ones begin at {[sequences(*axis).tolist() for axis in axes]}",
    )
    return np.array(list(maxima))[explains.argmax(0)]


def _compare_with_reference(
    spec: LayerSpec, case: Case, x: np.ndarray, arrays: dict, chosen: np.ndarray
) -> int:
    """Output, indices and gradient against the reference, with samples that give the same windows."""
    steps = [_step(*axis) for axis in _axes(case)]
    samples = (chosen + 0.5) / [step.numerator for step in steps]
    if len(steps) == 2:  # the first sample is that of the last axis
        samples = samples[:, ::-1]
    lead = x.shape[: -len(steps)]
    samples = samples.reshape(*(lead if len(lead) == 2 else (1, *lead)), len(steps))
    reference = spec.reference(**dict(case.arguments), _random_samples=samples)
    upstream = draw(spec, case, "grad_output0", arrays["output"].shape)
    compared = 0
    for name, expected in reference.bounded(strictest(case.dtype), (x,), (upstream,)).items():
        check = "input_gradients" if name == "grad_input" else "forward"
        _require(case, check, name in arrays, f"{name} is missing")
        wrong = ~(np.abs(arrays[name] - expected.value) <= expected.error)
        _require(
            case,
            check,
            not wrong.any(),
            f"{np.count_nonzero(wrong)} elements of {name} are not of its windows",
        )
        compared += wrong.size
    return compared


def _demand_rates(case: Case, chosen: np.ndarray, steps: list[Fraction]) -> None:
    half = len(chosen) // 2
    for axis, step in enumerate(steps):
        drawn, rate = chosen[:, axis], rates(step)
        for j, expected in enumerate(rate):
            _demand_count(case, f"planes with sequence {j} on axis {axis}", drawn == j, expected)
        both = float(np.square(rate).sum())
        _demand_count(
            case, f"neighbours alike on axis {axis}", drawn[0 : 2 * half : 2] == drawn[1::2][:half], both
        )
        _demand_count(
            case, f"planes of two samples alike on axis {axis}", drawn[:half] == drawn[half : 2 * half], both
        )
        for other in range(axis):
            if steps[other] == step:
                _demand_count(case, f"axes {other} and {axis} alike", drawn == chosen[:, other], both)


def _demand_count(case: Case, what: str, hits: np.ndarray, rate: float) -> None:
    reach = math.sqrt(len(hits) * math.log(2 / FALSE_ALARM) / 2)
    count, mean = int(hits.sum()), len(hits) * rate
    within = abs(count - mean) <= reach
    sentence = f"{count} of {len(hits)} {what}, expected are {mean:.0f} within {reach:.0f}"
    _require(case, "forward", within, sentence)


def _require(case: Case, check: str, holds: bool, sentence: str) -> None:
    if not holds:
        raise ParityError(case, check, f"{case.layer} without samples, {case.dtype}: {sentence}")

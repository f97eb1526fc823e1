"""What the self-tests of every family share: finite differences, inner products, exact numbers."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

UNIT = np.finfo(np.float64).eps


def finite_difference(
    function: Callable[..., np.ndarray], arrays: Sequence[np.ndarray], grad_output: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gradients of sum(grad_output * function(*arrays)) by central differences, each with an estimated error.

    With D(h) = (f(x + h) - f(x - h)) / 2h = f' + c h^2 + O(h^4), (4 D(h/2) - D(h)) / 3 is off by O(h^4), far
    less than it differs from D(h/2); to that difference comes the rounding of f, magnified by 1 / h.
    """
    arrays = [np.array(array, dtype=np.float64) for array in arrays]
    results = []
    for array in arrays:
        gradient, error = np.zeros_like(array), np.zeros_like(array)
        for index in np.ndindex(array.shape):
            step = 2.0**-10 * max(1.0, abs(array[index]))
            coarse, scale = _central(function, arrays, array, index, grad_output, step)
            fine, _ = _central(function, arrays, array, index, grad_output, step / 2)
            gradient[index] = (4 * fine - coarse) / 3
            error[index] = abs(gradient[index] - fine) + 64 * UNIT * scale / step
        results.append((gradient, error))
    return results


def directional_difference(
    function: Callable[[float], np.ndarray], grad_output: np.ndarray, step: float
) -> tuple[float, float]:
    """The derivative of sum(grad_output * function(t)) at t = 0, with an estimated error.

    As `finite_difference`, but along a line: all elements at once cost as much as one of them there.
    """

    def central(h: float) -> tuple[float, float]:
        values = [grad_output * function(t) for t in (h, -h)]
        return float((values[0] - values[1]).sum() / (2 * h)), float(np.abs(values).sum())

    (coarse, scale), (fine, _) = central(step), central(step / 2)
    slope = (4 * fine - coarse) / 3
    return slope, abs(slope - fine) + 64 * UNIT * scale / step


def _central(
    function: Callable,
    arrays: Sequence,
    array: np.ndarray,
    index: tuple,
    grad_output: np.ndarray,
    step: float,
) -> tuple[float, float]:
    """The central difference along one element, and the scale of what was subtracted."""
    kept, values = array[index], []
    for moved in (kept + step, kept - step):
        array[index] = moved
        values.append(grad_output * function(*arrays))
    array[index] = kept
    return float((values[0] - values[1]).sum() / (2 * step)), float(np.abs(values).sum())


def within(actual: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> None:
    """Assert |actual - expected| <= bound for every element."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    bound = np.broadcast_to(bound, actual.shape)
    apart = ~(np.abs(actual - expected) <= bound)
    assert not apart.any(), f"{actual[apart][0]!r} is not {expected[apart][0]!r} +- {bound[apart][0]!r}"


def inner(first: np.ndarray, second: np.ndarray):
    """<first, second>, exact for arrays of exact numbers."""
    return (first * second).sum()


def fractions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random exact numbers: thirds, fifths and sevenths in [-9, 9]."""
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        array[index] = Fraction(int(rng.integers(-9, 10)), int(rng.choice([1, 3, 5, 7])))
    return array


def exactly(array: np.ndarray) -> np.ndarray:
    """The same numbers as Fractions."""
    exact = np.empty(np.shape(array), dtype=object)
    for index in np.ndindex(exact.shape):
        exact[index] = Fraction(float(array[index]))
    return exact


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random eighths in [-8, 8]: sums of many products of them are exact in float64."""
    return rng.integers(-64, 65, shape) / 8.0


def same_numbers(first: np.ndarray, second: np.ndarray) -> None:
    """Assert that two arrays hold the same numbers, whatever their types."""
    assert np.shape(first) == np.shape(second), f"shapes {np.shape(first)} and {np.shape(second)}"
    apart = np.asarray(first != second)
    assert not apart.any(), f"{np.asarray(first)[apart][0]!r} is not {np.asarray(second)[apart][0]!r}"


def same_bits(first: np.ndarray, second: np.ndarray) -> None:
    """Assert that two float arrays are equal bit for bit."""
    assert first.dtype == second.dtype, f"{first.dtype} and {second.dtype}"
    assert first.shape == second.shape, f"shapes {first.shape} and {second.shape}"
    assert first.tobytes() == second.tobytes(), "same shape, other bits"

"""The bounds of cosines and distances of vectors, step by step."""

import math

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import CONTRACTS, same, same_bounds
from refimpl.activation_bounds import either, zero
from refimpl.bounded import Bounded, maximum, where
from refimpl.distance import Cosine, Distance, bounded_power
from refimpl.error_bounds import strictest
from refimpl.loss_bounds import branch, difference, signed, spread, sum_of

RNG = np.random.default_rng(5)
A, B = RNG.uniform(0.5, 2.0, (6, 5)) * RNG.choice([-1, 1], (6, 5)), RNG.uniform(2.5, 4.0, (6, 5))
B[0], B[1, 2], B[2, :2] = A[0], A[1, 2], A[2, :2] + 0.5
UP = RNG.uniform(-2, 2, 6)


def within(value, error):
    return Bounded(value, error, strictest("float32"))


def of(contract, array):
    return contract.exact(array)


@CONTRACTS
@pytest.mark.parametrize("eps", [1e-8, 3.0, 50.0])
@pytest.mark.parametrize("added", [0.0, 1e-12])
def test_bounds_of_cosines(contract, eps, added):
    call = Cosine("c", A, B, 1, eps, added)
    x = of(contract, A), of(contract, B)
    dot = (x[0] * x[1]).sum(1)
    squares = [(each * each).sum(1) + added for each in x]
    sizes = [maximum(square.sqrt(), spread(contract.constant(eps), (6,))) for square in squares]
    quotient = dot / (sizes[0] * sizes[1])
    units = (x[0] / sizes[0].reshape(6, 1) * (x[1] / sizes[1].reshape(6, 1))).sum(1)
    same_bounds(call.bounded_losses(contract), either(quotient, units))
    along = of(contract, UP) / (sizes[0] * sizes[1])
    for i, found in enumerate(call.bounded_slopes(of(contract, UP))):
        root = squares[i].sqrt()
        across = along * dot / squares[i]
        across = branch(root.value < eps, root - eps, zero(across), across)
        same_bounds(found, sum_of(along.reshape(6, 1) * x[1 - i], -(across.reshape(6, 1) * x[i])))


def norm_of(gap, p, contract):
    """The norm of rows of gaps."""
    if math.isinf(p):
        take = np.max if p > 0 else np.min
        value = take(gap.value, axis=1)
        above, below = take(gap.value + gap.error, axis=1), take(gap.value - gap.error, axis=1)
        with np.errstate(invalid="ignore"):
            return Bounded(value, np.maximum(above - value, value - below), contract)
    if p == 1:
        return gap.sum(1)
    return (gap * gap).sum(1).sqrt() if p == 2 else bounded_power(bounded_power(gap, p).sum(1), 1 / p)


def test_bounds_where_a_norm_is_eps():
    """Rounding decides whether it is below: the slope may be that of a constant as well as its own."""
    call, contract, x = (
        Cosine("c", np.array([[3.0, 4.0]]), np.ones((1, 2)), 1, 5.0),
        strictest("float32"),
        np.ones(1),
    )
    root = (contract.exact([[9.0, 16.0]])).sum(1).sqrt()
    assert root.value == 5.0 and root.error > 0
    found, _ = call.bounded_slopes(contract.exact(x))
    same(found.value, call.slopes(x)[0])
    constant = np.ones((1, 2)) / 25.0  # the other norm is below eps as well
    assert (np.abs(found.value - constant) > 0.01).all() and (
        np.abs(found.value - constant) <= found.error
    ).all()


@CONTRACTS
@pytest.mark.parametrize("p", [1.0, 2.0, 0.5, math.inf])
def test_bounds_of_gradients_have_the_shapes_of_what_was_given(contract, p):
    up = contract.exact(np.ones((2, 3)))
    for first, second in (((2, 1, 4), (3, 1)), ((3, 4), (2, 1, 1)), ((4,), (2, 3, 4))):
        call = Distance("d", np.full(first, 3.0), np.ones(second), p, 0.1)
        assert [slope.value.shape for slope in call.bounded_slopes(up)] == [first, second]


@CONTRACTS
@pytest.mark.parametrize("stores", [True, False])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 1.5, 0.5, -1.0])
@pytest.mark.parametrize("eps", [0.1, 0.0])
@np.errstate(all="ignore")
def test_bounds_of_distances(contract, p, stores, eps):
    call = Distance("d", A, B, p, eps, stores=stores)
    gap = difference(of(contract, A), of(contract, B)) + eps
    norm = norm_of(abs(gap), p, contract)
    same_bounds(call.bounded_losses(contract), norm)
    norm = norm.store() if stores else norm
    norm, up = spread(norm.reshape(6, 1), (6, 5)), spread(of(contract, UP).reshape(6, 1), (6, 5))
    if p == 1:
        slope = signed(up, gap)
    elif p == 2:
        slope = up * where(norm.value == 0, zero(gap), gap / norm)
    elif p < 1:
        ratio = bounded_power(abs(gap), p - 1) * bounded_power(norm, 1 - p)
        slope = up * where(gap.value == 0, zero(gap), signed(ratio, gap))
    else:
        ratio = bounded_power(abs(gap), p - 1) / bounded_power(norm, p - 1)
        slope = up * where(norm.value == 0, zero(gap), signed(ratio, gap))
    first, second = call.bounded_slopes(of(contract, UP))
    same_bounds(first, slope)
    same_bounds(second, -slope)


def test_slopes_of_what_may_be_zero():
    """A difference that only seems to be zero has a slope, of either sign, unless it is that of a norm that
    is 0."""
    gap, norm = within(np.array([0.0]), np.array([0.25])), within(np.array([1.0]), np.array([0.125]))
    call = Distance("d", np.ones((1, 1)), np.ones((1, 1)), 1.5, 0.0)
    same_bounds(
        call._bounded_slope(gap, norm), signed(bounded_power(abs(gap), 0.5) / bounded_power(norm, 0.5), gap)
    )
    assert call._bounded_slope(gap, norm).error > 0 == call._bounded_slope(gap, zero(norm)).error


@CONTRACTS
def test_bounds_of_counts(contract):
    call = Distance("d", A, B, 0.0, 0.0)
    same_bounds(call.bounded_losses(contract), contract.exact([0.0, 4.0, 5.0, 5.0, 5.0, 5.0]))
    assert call.bounded_slopes(of(contract, UP)) == (None, None)


@CONTRACTS
@pytest.mark.parametrize("p", [math.inf, -math.inf])
def test_bounds_of_an_infinite_norm(contract, p):
    """Alone, the largest component has the whole gradient; where several may be it, any of them may."""
    u = 2.0**-30
    x = np.array(
        [
            [1.0, 3.0, 2.0],
            [3.0, -3.0, 2.0],
            [3.0, 3.0 + u / 2**20, 2.0],
            [1.0, 1.0, 1.0],
            [math.inf, 1.0, 1.0],
        ]
    )
    x = x if p > 0 else 1 / x
    for eps in (0.0, 0.1):
        check_shared(contract, p, x, eps)


@np.errstate(invalid="ignore")
def check_shared(contract, p, x, eps):
    call = Distance("d", x, np.zeros((5, 3)), p, eps)
    gap = difference(of(contract, x), of(contract, np.zeros((5, 3)))) + eps
    size, up = abs(gap), np.array([2.0, 3.0, 4.0, 5.0, 6.0])
    norm = norm_of(size, p, contract)
    finite = np.isfinite(norm.value)
    same_bounds(
        call.bounded_losses(contract), Bounded(norm.value, np.where(finite, norm.error, 0.0), contract)
    )
    upstream = of(contract, up[:, None] * np.ones((5, 3)))
    reach = size.value if p > 0 else -size.value
    chosen = reach == reach.max(1, keepdims=True)
    count = chosen.sum(1, keepdims=True)
    share = signed(upstream * (1.0 / of(contract, count * np.ones((5, 3)))), gap)
    first, second = call.bounded_slopes(of(contract, up))
    same(first.value, np.where(chosen, share.value, 0.0))
    same(second.value, -first.value)
    same(second.error, first.error)
    best = (reach - size.error).max(1, keepdims=True)
    for r in range(5):
        near = [c for c in range(3) if reach[r, c] + size.error[r, c] >= best[r, 0]]
        unsure = any(size.error[r, c] > 0 for c in near)
        is_open = len(near) > count[r, 0] or (unsure and count[r, 0] > 1)
        for c in range(3):
            error = share.error[r, c]
            if is_open and c in near:
                error = 2 * up[r] + share.error[r, c]
            elif not chosen[r, c]:
                error = 0.0
            assert first.error[r, c] == error


GAP = np.array([[1, 0.5, -0.25], [2, -2, 1], [2, -2, 1], [2, 1, 1], [2, -2, 0.5], [math.nan, 1, 2]])
GAP_ERROR = np.array([[0.25, 0.25, 0], [0.5, 0.5, 0], [0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0, 0.5, 0.5]])

# What may be the largest in each row, and whether rounding decides.
NEAR = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
OPEN = np.array([[True], [True], [False], [False], [True], [False]])


@CONTRACTS
@pytest.mark.parametrize("p", [math.inf, -math.inf])
def test_who_shares_the_gradient_of_an_infinite_norm(contract, p):
    """An interval that only touches the largest one's may be the largest as well."""
    # 4 - |v| has its smallest where |v| is largest
    gap = Bounded(GAP if p > 0 else np.copysign(4 - np.abs(GAP), GAP), GAP_ERROR, contract)
    up = contract.exact(np.array([[2.0], [3.0], [-4.0], [5.0], [0.0], [6.0]]) * np.ones(3))
    count = np.array([[1], [2], [2], [1], [2], [1]])
    found = Distance("d", np.ones((6, 3)), np.ones((6, 3)), p, 0.25)._shared(up, gap)
    share = signed(up * (1.0 / contract.exact(count * np.ones((6, 3)))), gap)
    chosen = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    same(found.value, np.where(chosen, share.value, 0.0))
    unsure = np.where(NEAR & OPEN, 2 * np.abs(up.value) + share.error, 0.0)
    same(found.error, np.where(NEAR & ~OPEN, share.error, unsure))


def test_an_infinite_norm_is_as_unsure_as_its_farther_end(monkeypatch):
    for p, value, error, norm, apart in (
        (math.inf, [3.0, 2.5], [0.0, 1.0], 3.0, 0.5),
        (math.inf, [3.0, 2.5], [0.25, 0.0], 3.0, 0.25),
        (-math.inf, [3.0, 3.5], [0.0, 1.0], 3.0, 0.5),
        (-math.inf, [3.0, 3.5], [0.25, 0.0], 3.0, 0.25),
    ):
        call = Distance("d", np.ones((1, 2)), np.ones((1, 2)), p, 0.0)
        gap = within(np.array([value]), np.array([error]))
        monkeypatch.setattr(call, "_gap", lambda contract, gap=gap: gap)
        found = call.bounded_losses(gap.contract)
        assert (found.value.tolist(), found.error.tolist()) == ([norm], [apart])


@CONTRACTS
@pytest.mark.parametrize("exponent", [0.1, 2.0, -0.7])
def test_bounds_of_powers(contract, exponent):
    """Four ulps, and what the exponent's own rounding does: |log base| times its error."""
    base = Bounded(np.array([0.0, 0.3, 1.0, 7.0]), np.array([0.0, 0.1, 0.0, 0.5]), contract)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = base.apply(lambda value: np.power(np.maximum(value, 0.0), exponent), 4)
        moved = np.abs(np.log(base.value)) * contract.constant(exponent).error * np.abs(plain.value)
    found = bounded_power(base, exponent)
    same(found.value, plain.value)
    same(found.error, plain.error + np.where(np.isfinite(moved), moved, 0.0))

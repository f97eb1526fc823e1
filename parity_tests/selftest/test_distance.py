"""Cosines and distances of vectors: worked numbers for every kind of p, axes and sizes at their edges."""

import math
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.bound_steps import same
from refimpl.activation_formulas import INF, OVERFLOW
from refimpl.distance import (
    Cosine,
    CosineSimilarity,
    Distance,
    PairwiseDistance,
    Vectors,
    cosine_similarity,
    cosine_similarity_backward,
    pairwise_distance,
    pairwise_distance_backward,
    power,
    powers,
)


def test_powers_of_numbers_that_are_not_negative():
    """Infinite where they overflow, and of zero by a negative exponent; exp(OVERFLOW) itself does not."""
    assert power(0, -1) == power(0, -0.5) == INF and power(0, 0) == power(0, 0.5) == power(0, 3) == 0.0
    assert power(1, -1) == power(1, 7) == 1.0 and power(2, 3) == 8.0 and power(4, -0.5) == 0.5
    assert power(1e200, 2) == power(1e-200, -2) == INF
    assert power(math.e, OVERFLOW) == math.e**OVERFLOW < INF


# |x - y + eps| with eps 0.25 is 1.25, 1, 0, 2.25
X, Y, EPS = np.array([[3.0, 1.0, -2.0, 0.0]]), np.array([[2.0, 2.25, -1.75, 2.5]]), 0.25
SIZES, SIGNS = np.array([1.25, 1.0, 0.0, 2.25]), np.array([1.0, -1.0, 0.0, -1.0])


@pytest.mark.parametrize(
    ("p", "distance", "slopes"),
    [
        (0.0, 3.0, np.zeros(4)),
        (1.0, 4.5, SIGNS),
        (2.0, math.sqrt(1.5625 + 1 + 5.0625), SIGNS * SIZES / math.sqrt(7.625)),
        (math.inf, 2.25, np.array([0.0, 0.0, 0.0, -1.0])),
        (-math.inf, 0.0, np.zeros(4)),
        (-1.0, 0.0, np.zeros(4)),
    ],
)
def test_distances_by_hand(p, distance, slopes):
    same(pairwise_distance(X, Y, p, EPS), [distance])
    same(pairwise_distance(X, Y, p, EPS, True), [[distance]])
    for up in (1.0, 4.0):
        first, second = pairwise_distance_backward(np.array([up]), X, Y, p, EPS)
        same(first, up * slopes[None])
        same(second, -up * slopes[None])


@pytest.mark.parametrize("p", [3.0, 0.5, 1.5, -2.0, 4.0])
def test_other_powers(p):
    """The same operations by numpy, one by one; nothing is 0."""
    x, y = np.array([[3.0, 1.0, -2.0], [0.5, 7.0, 1.0]]), np.array([[2.0, 2.5, -3.5], [1.5, 2.0, 4.0]])
    gaps = x - y + EPS
    norms = np.array([sum(abs(gap) ** p for gap in row) ** (1 / p) for row in gaps.tolist()])
    same(pairwise_distance(x, y, p, EPS), norms)
    up = np.array([2.0, 0.25])
    first, second = pairwise_distance_backward(up, x, y, p, EPS)
    for r, c in np.ndindex(2, 3):
        size, norm = abs(gaps[r, c].item()), norms[r].item()
        slope = size ** (p - 1) * norm ** (1 - p) if p < 1 else size ** (p - 1) / norm ** (p - 1)
        assert first[r, c] == -second[r, c] == up[r] * (math.copysign(1.0, gaps[r, c]) * slope)


def test_distances_of_nothing_and_of_equal_vectors():
    """Slopes that are not finite are 0; equal components share an infinite norm's."""
    x = np.array([[1.0, -2.0, 0.5]])
    for p in (0.0, 0.5, 1.0, 2.0, 3.0, -1.0, math.inf, -math.inf):
        same(pairwise_distance(x, x, p, 0.0), [0.0])
        for gradient in pairwise_distance_backward(np.array([1.0]), x, x, p, 0.0):
            same(np.abs(gradient), np.zeros((1, 3)))
    tied = np.array([[2.0, -2.0, 1.0, 1.0]])
    for p, expected in ((math.inf, [0.5, -0.5, 0.0, 0.0]), (-math.inf, [0.0, 0.0, 0.5, 0.5])):
        same(pairwise_distance_backward(np.array([1.0]), tied, 0 * tied, p, 0.0)[0], [expected])
    for p in (0.5, 3.0):  # one component of several is 0
        slopes = pairwise_distance_backward(
            np.array([1.0]), np.array([[0.0, 1.0]]), np.zeros((1, 2)), p, 0.0
        )[0]
        same(slopes, [[0.0, 1.0]])


def test_squares_are_products():
    """Each is rounded once, as x x is; a library's power may be off by more."""
    rows = np.array([[3.7529595021799986, 3.963117857672733, 3.670728948954113, 1.8035229593039284]])
    for c, size in enumerate(rows[0].tolist()):
        total = np.zeros(1)
        powers((total, rows, 0 * rows), (2.0, 0.0), 0, c)
        assert total[0] == size * size


def test_numbers_that_are_not_finite():
    rows = np.array([[math.nan, 5.0], [5.0, math.nan], [math.inf, 1.0]])
    for p, last in (
        (1.0, math.inf),
        (2.0, math.inf),
        (math.inf, math.inf),
        (-math.inf, 1.0),
        (3.0, math.inf),
    ):
        found = pairwise_distance(rows, 0 * np.ones((3, 2)), p, 0.0)
        assert np.isnan(found[:2]).tolist() == [True, p != 0] and found[2] == last
    same(pairwise_distance(rows, np.zeros((3, 2)), 0.0, 0.0), [2.0, 2.0, 2.0])


def test_sizes_and_axes_of_distances():
    assert pairwise_distance(np.ones((2, 3, 4)), np.ones(4)).shape == (2, 3)
    assert pairwise_distance(np.ones((2, 1, 4)), np.ones((3, 1)), keepdim=True).shape == (2, 3, 1)
    assert pairwise_distance(3.0, 1.0, eps=0.0) == 2.0  # numbers are vectors of one component
    same(pairwise_distance([3.0, 1.0], 1.0, eps=0.0), 2.0)
    same(pairwise_distance(3.0, 3.0), 1e-6)
    first, second = pairwise_distance_backward(
        np.ones((2, 3)), np.full((2, 1, 4), 3.0), np.ones((3, 1)), 1.0, 0.0
    )
    same(first, np.full((2, 1, 4), 3.0))
    same(second, np.full((3, 1), -8.0))
    for gradient, expected in zip(
        pairwise_distance_backward(2.0, 3.0, 1.0, 2.0, 0.0), (2.0, -2.0), strict=True
    ):
        same(gradient, expected)
    assert pairwise_distance(np.ones((0, 4)), np.ones((0, 4))).shape == (0,)
    for p in (0.0, 0.5, 1.0, 2.0, 3.0):
        same(pairwise_distance(np.ones((2, 0)), np.ones((2, 0)), p), [0.0, 0.0])
    same(pairwise_distance(np.ones((3, 1)), np.zeros((3, 1)), math.inf, 0.0), [1.0] * 3)
    assert pairwise_distance(np.ones((0, 1)), np.ones((0, 1)), math.inf).shape == (0,)
    for p in (math.inf, -math.inf):
        with pytest.raises(RuntimeError, match="vectors without components have no norm of order"):
            pairwise_distance(np.ones((2, 0)), np.ones((2, 0)), p)
    with pytest.raises(RuntimeError, match=r"shapes \(2,\) and \(3,\); needed are shapes that broadcast"):
        pairwise_distance(np.ones(2), np.ones(3))
    for scalars in (("2", 1e-6), (2.0, None)):
        with pytest.raises(TypeError, match="a scalar argument is"):
            pairwise_distance(np.ones(2), np.ones(2), *scalars)


def test_defaults_of_distances():
    x, y = np.array([[3.0, 1.0]]), np.array([[1.0, 5.0]])
    call = Distance("d", x, y)
    assert call.scalars == (2.0, 1e-6) and call.stores is True and call.shape == (1,)
    assert Distance("d", x, y, keepdim=True).shape == (1, 1) and Distance("d", x, y, keepdim=True).rows == (
        1,
    )
    assert (PairwiseDistance().norm, PairwiseDistance(3).norm) == (2.0, 3)
    assert Cosine("c", x, y, 1, 0.5).added == 0.0
    pairwise, cosine = PairwiseDistance(), CosineSimilarity()
    assert (pairwise.p, pairwise.eps, pairwise.keepdim, cosine.dim, cosine.eps) == (2.0, 1e-6, False, 1, 1e-8)
    assert pairwise_distance(x, y) == np.sqrt((2.0 + 1e-6) ** 2 + (-4.0 + 1e-6) ** 2)
    same(
        cosine_similarity(np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[0.0, 2.0], [0.0, 1.0]])), [0.8, 1.0]
    )
    tiny = np.array([[2.0**-30, 0.0]])
    same(cosine_similarity(tiny, tiny), [2.0**-60 / (1e-8 * 1e-8)])


def test_what_is_added_to_squares():
    """1 + 3 and 13 + 3 are squares of 2 and 4."""
    call = Cosine("c", np.array([[1.0, 0.0]]), np.array([[2.0, 3.0]]), 1, 1e-8, 3.0)
    same(call.losses(), [2.0 / 8.0])
    first, second = call.slopes(np.ones(1))
    same(first, [[2.0 / 8 - 2.0 / 8 / 4, 3.0 / 8]])
    same(second, [[1.0 / 8 - 2.0 / 8 / 16 * 2, -2.0 / 8 / 16 * 3]])


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_axes_of_cosines(dim):
    """(6, 8) and (8, 6) along any axis: 0.96, gradient (y - 0.96 x) / 100 for vectors of length 10."""
    x, y = np.array([6.0, 8.0]), np.array([8.0, 6.0])
    shape = [3, 4, 5]
    shape[dim] = 2
    along = [1, 1, 1]
    along[dim] = 2
    first, second = (np.broadcast_to(v.reshape(along), shape) for v in (x, y))
    output = cosine_similarity(first, second, dim)
    del shape[dim]
    same(output, np.full(shape, 0.96))
    gradients = cosine_similarity_backward(np.full(shape, 100.0), first, second, dim)
    for gradient, one, other in zip(gradients, (x, y), (y, x), strict=True):
        expected = np.broadcast_to((other - 0.96 * one).reshape(along), first.shape)
        assert gradient.shape == first.shape and (np.abs(gradient - expected) <= 16 * 2.0**-50).all()
    same(cosine_similarity_backward(100.0, x, y, 0)[0], gradients[0].reshape(-1)[[0, -1]])


def test_cosines_below_eps():
    """A norm below eps is eps, a constant; one that is eps is itself."""
    x, y = np.array([3.0, 4.0]), np.array([0.0, 10.0])
    for eps, cosine, slope in (
        (1e-8, 0.8, (Fraction(-12, 125), Fraction(9, 125))),
        (5.0, 0.8, (Fraction(-12, 125), Fraction(9, 125))),
        (8.0, 0.5, (Fraction(0), Fraction(1, 8))),
        (20.0, 0.1, (Fraction(0), Fraction(1, 40))),
    ):
        same(cosine_similarity(x, y, 0, eps), cosine)
        found = cosine_similarity_backward(1.0, x, y, 0, eps)[0]
        assert all(
            abs(Fraction(f) - e) <= Fraction(1, 2**50) for f, e in zip(found.tolist(), slope, strict=True)
        )
    both = cosine_similarity_backward(1.0, x, y, 0, 20.0)
    same(both[0], y / 400)
    same(both[1], x / 400)
    same(cosine_similarity(0 * x, y, 0), 0.0)
    assert np.isnan(cosine_similarity(0 * x, y, 0, 0.0))
    assert cosine_similarity(2.0, 4.0, 0) == cosine_similarity(2.0, 4.0, -1) == 1.0


@pytest.mark.parametrize(
    ("shape", "dim"), [((3, 4), 2), ((3, 4), -3), ((4,), 1), ((4,), -2), ((), 1), ((), -2)]
)
def test_axes_that_are_none(shape, dim):
    with pytest.raises(IndexError, match=f"cosine_similarity: dim is {dim}; vectors of shape"):
        cosine_similarity(np.ones(shape), np.ones(shape), dim)


def test_arguments_of_cosines():
    for dim, eps in ((1.0, 1e-8), (True, 1e-8), (None, 1e-8), (0, "1"), (0, None)):
        with pytest.raises(TypeError, match="needed are an int and a number"):
            cosine_similarity(np.ones(2), np.ones(2), dim, eps)
    with pytest.raises(RuntimeError, match="eps is -1"):
        cosine_similarity(np.ones(2), np.ones(2), 0, -1)
    assert cosine_similarity(np.ones(2), np.ones(2), np.int64(0), 0) <= 1.0


def test_vectors_are_rows():
    """The axis last, and gradients back where it was."""
    array = np.arange(24.0).reshape(2, 3, 4)
    for dim in range(3):
        call = Vectors("v", array, array[0], dim)
        assert call.axis == dim and call.moved == (
            *(n for i, n in enumerate((2, 3, 4)) if i != dim),
            array.shape[dim],
        )
        same(call.x1, np.moveaxis(array, dim, -1).reshape(-1, array.shape[dim]))
        assert call.shape == call.moved[:-1] and call.given == ((2, 3, 4), (3, 4))
        same(call._back(call.x1, (2, 3, 4)), array)
        same(call._back(call.x1, (3, 4)), array.sum(0))

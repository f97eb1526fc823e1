"""The references of losses and distances: worked and exact numbers, corners, defaults, differences, second
sources."""

import inspect
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, fractions, within
from parity_tests.selftest.loss_settings import (
    CALLS,
    CLASSES,
    DISTANCES,
    PROBABILITIES,
    TARGETS,
    X,
    Y,
    Z,
    called,
    near,
)
from refimpl import loss as reference
from refimpl.error_bounds import strictest


@pytest.mark.parametrize(
    ("call", "reduction"),
    [*itertools.product(CALLS, ("none", "mean", "sum")), *((call, None) for call in DISTANCES)],
)
def test_gradients_by_finite_differences(call, reduction):
    name, arrays, more = (CALLS | DISTANCES)[call]
    more = more if reduction is None else {**more, "reduction": reduction}
    upstream = np.random.default_rng(8).standard_normal(called(name, arrays, more).shape)
    parameters = list(inspect.signature(getattr(reference, name)).parameters)
    given = dict(zip([p for p in parameters if p not in more], arrays, strict=False))
    gradients = getattr(reference, f"{name}_backward")(upstream, **given, **more)
    arrays_of = [p for p in parameters if p in given or np.ndim(more.get(p, 0)) > 0]
    ours = [gradients[arrays_of.index(p)] if len(gradients) > arrays_of.index(p) else None for p in given]
    differences = finite_difference(lambda *given: called(name, given, more), list(given.values()), upstream)
    for own, (expected, error) in zip(ours, differences, strict=True):
        within(own, expected, error)


def test_at_corners():
    """Where a formula changes: losses, then slopes of the operands; the bounds are around the same."""

    def found(name, *operands, **more):
        layer, operands = getattr(reference, name)(**more, reduction="none"), tuple(map(np.array, operands))
        losses = layer(*operands)
        upstream = np.ones(losses.shape)
        gradients = layer.backward(upstream)
        if math.inf not in more.values():
            layer.bounded(strictest("float64"), operands, (upstream,))  # raises where it has other values
        return [array.tolist() for array in (losses, *gradients) if array is not None]

    assert found("SmoothL1Loss", [0.1, -0.1], [0.0, 0.0], beta=0.1) == [[0.05] * 2, [1, -1], [-1, 1]]
    assert found("SmoothL1Loss", [-math.inf, math.inf], [0.0, 0.0], beta=math.inf)[1] == [-1, 1]
    assert found("HuberLoss", [0.5, -0.5], [0.0, 0.0], delta=0.5) == [[0.125] * 2, [0.5, -0.5], [-0.5, 0.5]]
    assert found("HuberLoss", [math.inf], [0.0], delta=math.inf)[0] == [math.inf]
    assert found("PoissonNLLLoss", [0.0], [1.0], full=True) == [[1.0], [0.0], [-0.0]]
    stirling = 3 * math.log(3) - 3 + 0.5 * math.log(3) + 0.5 * math.log(2 * math.pi)
    near(
        found("PoissonNLLLoss", [0.0], [3.0], full=True),
        [[1 + stirling], [-2], [math.log(3) + 0.5 / 3]],
    )
    means = found("PoissonNLLLoss", [0.5, -0.5, 1.5], [1.0, 2.0, 1.0], log_input=False, eps=0.5)
    assert means == [[0.5, math.inf, 1.5 - math.log(2)], [0, -math.inf, 0.5], [0, math.inf, -math.log(2)]]
    assert np.isnan(found("KLDivLoss", [0.0], [-0.5])[0]).all()
    assert found("MarginRankingLoss", [1.0], [0.0], [1.0], margin=1.0) == [[0], [-1], [1], [-1]]
    assert found("HingeEmbeddingLoss", [1.0, 0.25, 2.0], [-1, 0, 0]) == [[0, 1, 2], [-1, 0, 1]]
    labels = np.array([1, -1, 0])
    far = 2.0**20  # beside its square 1e-12 is nothing
    cosine = found("CosineEmbeddingLoss", [[far, 0.0]] * 3, [[0.0, far]] * 3, labels)
    slope = 1 / far
    assert cosine == [[1, 0, 0], [[0, -slope], [0, slope], [0, 0]], [[-slope, 0], [slope, 0], [0, 0]]]


def test_scalars_at_the_ends_of_their_ranges():
    for name, bad, match in (
        ("huber_loss", {"delta": 0.0}, "delta"),
        ("smooth_l1_loss", {"beta": -0.5}, "beta"),
    ):
        with pytest.raises(RuntimeError, match=match):
            getattr(reference, name)(X, Y, **bad)
    assert reference.smooth_l1_loss(X, Y, beta=0.0) == reference.l1_loss(X, Y)
    floor = reference.gaussian_nll_loss([0.0], [1.0], [0.0], eps=0.5)
    assert floor == reference.gaussian_nll_loss([0.0], [1.0], [0.5])
    for smoothing in (0.0, 1.0):
        reference.cross_entropy(X, CLASSES, label_smoothing=smoothing)
        reference.linear_cross_entropy(X, np.eye(5), CLASSES, label_smoothing=smoothing)
    for smoothing in (-0.25, 1.25):
        for call in (
            lambda s: reference.cross_entropy(X, CLASSES, label_smoothing=s),
            lambda s: reference.linear_cross_entropy(X, np.eye(5), CLASSES, label_smoothing=s),
        ):
            with pytest.raises(RuntimeError, match="label_smoothing"):
                call(smoothing)
    for margin in (0.0, -1.0):
        with pytest.raises(ValueError, match="margin"):
            reference.triplet_margin_loss(X, Y, Z, margin=margin)


def test_worked_numbers():
    assert reference.l1_loss([1.0, 2, 3], [2.0, 2, 5]) == 1.0
    assert reference.mse_loss([1.0, 2, 3], [2.0, 2, 5], reduction="sum") == 5.0
    assert reference.smooth_l1_loss([0.0, 3], [0.5, 0], reduction="none").tolist() == [0.125, 2.5]
    assert reference.huber_loss([0.0, 3], [0.5, 0], reduction="none", delta=2.0).tolist() == [0.125, 4.0]
    assert reference.margin_ranking_loss([1.0, 2], [2.0, 1], [1.0, 1], margin=0.5).tolist() == 0.75
    assert reference.hinge_embedding_loss([0.25, 0.25], [1, -1], reduction="none").tolist() == [0.25, 0.75]
    assert reference.pairwise_distance([3.0, 0], [0.0, 4], eps=0.0) == 5.0
    near(reference.cosine_similarity([1.0, 0], [1.0, 1], dim=0), math.sqrt(0.5))
    near(reference.cross_entropy(np.zeros((2, 8)), [3, 5]), math.log(8))
    near(reference.binary_cross_entropy_with_logits([0.0], [0.3]), math.log(2))
    near(reference.gaussian_nll_loss([1.0], [3.0], [1.0]), 2.0)


def test_exact_numbers():
    rng = np.random.default_rng(3)
    x, y, up = fractions(rng, 3, 2), fractions(rng, 3, 2), Fraction(2, 3)
    distance = x - y
    assert reference.l1_loss(x, y)[()] == sum(map(abs, distance.ravel())) / 6
    assert reference.mse_loss(x, y, reduction="sum")[()] == sum(d * d for d in distance.ravel())
    assert (reference.mse_loss_backward(up, x, y)[0] == 2 * distance * up / 6).all()
    assert (
        reference.l1_loss_backward(up, x, y)[1] == -np.sign(distance.astype(float)).astype(int) * up / 6
    ).all()


def test_defaults_of_functions():
    assert reference.huber_loss([3.0], [0.0]) == 2.5
    assert reference.smooth_l1_loss([3.0], [0.0]) == 2.5
    assert reference.poisson_nll_loss([0.0], [3.0]) == 1
    assert reference.poisson_nll_loss([0.0], [1.0], False) == -math.log(1e-8)
    assert reference.gaussian_nll_loss([0.0], [0.0], [0.0]) == 0.5 * math.log(1e-6)
    assert reference.hinge_embedding_loss([0.0], [-1]) == 1
    assert reference.margin_ranking_loss([0.0], [0.0], [1.0]) == 0
    assert reference.cosine_embedding_loss([1.0, 0.0], [1.0, 0.0], -1) > 0.5
    assert reference.multi_margin_loss([[0.0, 0.0]], [0]) == 0.5
    triplet = reference.triplet_margin_loss(X, Y, Z)
    assert triplet == reference.triplet_margin_loss(X, Y, Z, 1.0, 2, 1e-6, False)
    assert triplet == reference.triplet_margin_with_distance_loss(X, Y, Z)
    assert triplet != reference.triplet_margin_loss(X, Y, Z, swap=True)
    for layer in (reference.GaussianNLLLoss, reference.TripletMarginWithDistanceLoss):
        with pytest.raises(TypeError, match="positional"):
            layer(None)


def test_variances_that_are_numbers_or_shared():
    one, each = (reference.gaussian_nll_loss_backward(1.0, X, Y, var) for var in (0.5, np.full((4, 5), 0.5)))
    assert one[2] is None
    assert all(np.array_equal(own, whole) for own, whole in zip(one[:2], each[:2], strict=True))
    for shape in ((1,), (5,), (4, 3), (1, 1), (4, 5, 1)):
        with pytest.raises(ValueError, match="var has shape"):
            reference.gaussian_nll_loss(X, Y, np.ones(shape))


def test_labels_of_cosines():
    cosine = reference.cosine_embedding_loss
    assert cosine(X, Y, [1]) == cosine(X, Y, np.ones(4))
    for arrays in ((X, Y, np.ones(3)), (X[None], Y[None], np.ones((1, 4))), (X[0], Y[0], [1]), (X, Y, 1)):
        with pytest.raises(RuntimeError, match="target"):
            cosine(*arrays)


def test_probabilities_outside_their_range():
    half = np.full(2, 0.5)
    for wrong in ([0.5, 1.5], [-0.5, 0.5], [0.5, np.nan]):
        for arrays in ((wrong, half), (half, wrong)):
            with pytest.raises(RuntimeError, match="outside"):
                reference.binary_cross_entropy(*arrays)


def test_nothing_overflows():
    far = np.array([1000.0, -1000.0])
    assert reference.soft_margin_loss(far, [-1, 1], reduction="none").tolist() == [1000, 1000]
    assert reference.soft_margin_loss_backward([1.0, 1], far, [-1, 1], reduction="none")[0].tolist() == [
        1,
        -1,
    ]
    assert reference.binary_cross_entropy_with_logits(far, [0.0, 1], reduction="none").tolist() == [
        1000,
        1000,
    ]
    assert reference.cross_entropy(far[None], [1]) == 2000
    assert reference.binary_cross_entropy([0.0, 1], [1.0, 0], reduction="none").tolist() == [100, 100]
    assert reference.binary_cross_entropy_with_logits([-np.inf], [0.5]) == np.inf


def test_corners_follow_torch():
    """|d| has slope 0 at 0; a hinge that is just reached passes its gradient on, a margin just kept does
    not."""
    assert reference.l1_loss_backward(1.0, [1.0, np.nan], [1.0, 0])[0].tolist() == [0, 0]
    assert reference.margin_ranking_loss_backward(1.0, [1.0], [0.0], [1.0], margin=1.0)[0].tolist() == [-1]
    assert reference.multi_margin_loss_backward(1.0, [[1.0, 0.0]], np.array([0]))[0].tolist() == [[0, 0]]
    tied = reference.pairwise_distance_backward(1.0, [2.0, -2.0, 1.0], np.zeros(3), p=math.inf, eps=0.0)[0]
    assert tied.tolist() == [0.5, -0.5, 0]
    assert reference.triplet_margin_loss_backward(1.0, [[0.0]], [[2.0]], [[1.0]], eps=0.0, swap=True)[2] == 0


def test_second_sources():
    special, distance = pytest.importorskip("scipy.special"), pytest.importorskip("scipy.spatial.distance")
    near(
        reference.kl_div(np.log(PROBABILITIES), TARGETS, reduction="none"),
        special.rel_entr(TARGETS, PROBABILITIES),
    )
    near(reference.huber_loss(X, Y, reduction="none", delta=0.7), special.huber(0.7, X - Y))
    near(reference.cross_entropy(X, CLASSES, reduction="none"), -special.log_softmax(X, 1)[range(4), CLASSES])
    for p in (1, 2, 3, 0.5):
        expected = [distance.minkowski(x, y, p) for x, y in zip(X, Y, strict=True)]
        near(reference.pairwise_distance(X, Y, p, eps=0.0), expected)
    near(reference.cosine_similarity(X, Y), [1 - distance.cosine(x, y) for x, y in zip(X, Y, strict=True)])
    counts = np.array([2.0, 5.0, 30.0])
    stirling = reference.poisson_nll_loss(np.zeros(3), counts, full=True, reduction="none") - 1
    within(stirling, special.gammaln(counts + 1), 1 / (12 * counts))  # Stirling's series: the next term

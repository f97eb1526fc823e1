"""The references of losses and distances: hand values, enumerated alignments, exact numbers, laws,
differences."""

import inspect
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from parity_tests.selftest.laws import UNIT, finite_difference, fractions, within
from refimpl import execution
from refimpl import loss as reference
from refimpl.error_bounds import Bounded, Contract, strictest
from refimpl.floats import outward
from refimpl.loss_classification import Classes
from refimpl.loss_ctc import GRADIENT_OF_LOGITS
from refimpl.loss_distance import Triplet
from refimpl.loss_reduction import functions
from refimpl.taps import compiler_present

RNG = np.random.default_rng(31)
X, Y, Z = RNG.standard_normal((3, 4, 5))
PROBABILITIES, TARGETS = RNG.uniform(0.1, 0.9, (2, 4, 5))
SIGNS = np.sign(RNG.standard_normal((4, 5)))
CLASSES = np.array([0, 3, 4, 1])
WEIGHT = RNG.uniform(0.5, 2.0, 5)
LISTS = np.array([[3, 0, -1, 1, 2], [-1, 0, 0, 0, 0], [4, 3, 2, 1, 0], [2, -1, -1, 0, 1]])

# function, arrays that have a gradient, the other arguments
CALLS = {
    "l1_loss": ("l1_loss", (X, Y), {}),
    "l1_loss_weighted": ("l1_loss", (X, Y), {"weight": PROBABILITIES}),
    "mse_loss": ("mse_loss", (X, Y), {}),
    "mse_loss_broadcast": ("mse_loss", (X[:, None], Y[0]), {}),
    "smooth_l1_loss": ("smooth_l1_loss", (X, Y), {"beta": 0.7}),
    "huber_loss": ("huber_loss", (X, Y), {"delta": 0.7}),
    "kl_div": ("kl_div", (X, PROBABILITIES), {}),
    "kl_div_log": ("kl_div", (X, Y), {"log_target": True}),
    "poisson_nll_loss": ("poisson_nll_loss", (X, 3 * PROBABILITIES), {"full": True}),
    "poisson_nll_loss_mean": ("poisson_nll_loss", (PROBABILITIES, TARGETS), {"log_input": False, "eps": 0.1}),
    "gaussian_nll_loss": ("gaussian_nll_loss", (X, Y, PROBABILITIES), {"full": True}),
    "gaussian_nll_loss_shared": ("gaussian_nll_loss", (X, Y, PROBABILITIES[:, 0]), {}),
    "binary_cross_entropy": ("binary_cross_entropy", (PROBABILITIES, TARGETS), {"weight": WEIGHT}),
    "binary_cross_entropy_with_logits": (
        "binary_cross_entropy_with_logits",
        (X, TARGETS),
        {"weight": WEIGHT, "pos_weight": 2 * WEIGHT},
    ),
    "multilabel_soft_margin_loss": ("multilabel_soft_margin_loss", (X, TARGETS), {"weight": WEIGHT}),
    "soft_margin_loss": ("soft_margin_loss", (X,), {"target": SIGNS}),
    "hinge_embedding_loss": ("hinge_embedding_loss", (X,), {"target": SIGNS, "margin": 0.7}),
    "margin_ranking_loss": ("margin_ranking_loss", (X, Y), {"target": SIGNS, "margin": 0.3}),
    "nll_loss": ("nll_loss", (X,), {"target": CLASSES, "weight": WEIGHT, "ignore_index": 3}),
    "cross_entropy": ("cross_entropy", (X,), {"target": CLASSES, "weight": WEIGHT, "label_smoothing": 0.2}),
    "cross_entropy_probabilities": ("cross_entropy", (X, PROBABILITIES), {"weight": WEIGHT}),
    "multi_margin_loss": ("multi_margin_loss", (X,), {"target": CLASSES, "p": 2, "weight": WEIGHT}),
    "multilabel_margin_loss": ("multilabel_margin_loss", (X,), {"target": LISTS}),
    "cosine_embedding_loss": (
        "cosine_embedding_loss",
        (X, Y),
        {"target": np.array([1, -1, 1, -1]), "margin": -0.9},
    ),
    "triplet_margin_loss": ("triplet_margin_loss", (X, Y, Z), {"swap": True, "p": 3}),
    "triplet_margin_with_distance_loss": (
        "triplet_margin_with_distance_loss",
        (X, Y, Z),
        {"distance_function": reference.CosineSimilarity(-1), "swap": True},
    ),
    "ctc_loss": (
        "ctc_loss",
        (RNG.standard_normal((6, 2, 4)),),
        {"targets": np.array([[1, 1, 2], [3, 1, 0]]), "input_lengths": [6, 5], "target_lengths": [3, 2]},
    ),
}
DISTANCES = {
    "cosine_similarity": ("cosine_similarity", (X, Y), {"dim": 0}),
    "cosine_similarity_small": ("cosine_similarity", (X, Y), {"eps": 2.0}),
    "pairwise_distance_broadcast": ("pairwise_distance", (X[:, None], Y[:2]), {"p": 2}),
    **{
        f"pairwise_distance_{p}": ("pairwise_distance", (X, Y), {"p": p, "keepdim": True})
        for p in (1.0, 2.0, 3.0, 0.5, -1.0, math.inf, -math.inf)
    },
}


def called(name, arrays, more):
    """The call with `arrays` in front, or by the names of the arguments that come first."""
    function = getattr(reference, name)
    names = [p for p in inspect.signature(function).parameters if p not in more][: len(arrays)]
    return function(**dict(zip(names, arrays, strict=True)), **more)


def near(actual, expected, roundings=32):
    """Equal but for so many roundings of float64, relative to the largest element (at least 1)."""
    expected = np.asarray(expected, dtype=np.float64)
    within(np.asarray(actual), expected, roundings * UNIT * max(1.0, np.max(np.abs(expected), initial=0.0)))


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


# Function, arrays, the name of a weight that has a gradient, and its number among the gradients.
WEIGHTED = [
    ("l1_loss", (X, Y), "weight", 2),
    ("mse_loss", (X, Y), "weight", 2),
    ("binary_cross_entropy", (PROBABILITIES, TARGETS), "weight", 2),
    ("binary_cross_entropy_with_logits", (X, TARGETS), "weight", 2),
    ("binary_cross_entropy_with_logits", (X, TARGETS), "pos_weight", 3),
    ("multilabel_soft_margin_loss", (X, TARGETS), "weight", 2),
]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("name", "arrays", "weight", "number"), WEIGHTED)
def test_gradients_of_weights_by_finite_differences(name, arrays, weight, number, reduction):
    def function(values):
        return getattr(reference, name)(*arrays, **{weight: values}, reduction=reduction)

    values = 0.5 + PROBABILITIES
    upstream = np.random.default_rng(8).standard_normal(np.shape(function(values)))
    backward = getattr(reference, f"{name}_backward")
    gradients = backward(upstream, *arrays, **{weight: values}, reduction=reduction)
    ((expected, error),) = finite_difference(function, [values], upstream)
    within(gradients[number], expected, error)
    assert all(gradient is None for gradient in gradients[2:number] + gradients[number + 1 :])


def test_readings_with_arguments_are_not_inlined():
    """numba refuses to."""
    from refimpl.loss_pointwise import _FORWARD, _SLOPES

    assert reference.mse_loss(X, X) == 0
    assert {kernel.inline for kernel in (*_FORWARD.values(), *_SLOPES.values())} == {"never"}


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


@pytest.mark.parametrize("call", CALLS)
def test_reductions_agree(call):
    name, arrays, more = CALLS[call]
    losses, total = (called(name, arrays, {**more, "reduction": r}) for r in ("none", "sum"))
    near(losses.sum(), total)
    assert called(name, arrays, {**more, "reduction": "mean"}).shape == total.shape == ()


def test_reductions_of_torchs_older_arguments():
    losses = reference.mse_loss(X, Y, reduction="none")
    assert (reference.mse_loss(X, Y, reduce=False) == losses).all()
    near(reference.mse_loss(X, Y, size_average=False), losses.sum())
    near(reference.MSELoss(size_average=True)(X, Y), losses.mean())
    with pytest.raises(ValueError, match="'average'"):
        reference.mse_loss(X, Y, reduction="average")


@pytest.mark.parametrize("reduce", [None, False, True])
@pytest.mark.parametrize("size_average", [None, False, True])
def test_older_arguments_override_a_reduction(size_average, reduce):
    older = {"size_average": size_average, "reduce": reduce}
    if size_average is None and reduce is None:
        expected = "none"
    else:
        expected = "none" if reduce is False else "sum" if size_average is False else "mean"
    function = reference.mse_loss(X, Y, reduction="none", **older)
    assert np.array_equal(function, reference.mse_loss(X, Y, reduction=expected))
    assert reference.MSELoss(reduction="none", **older).reduction == expected


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


def test_batchmean_divides_by_the_first_size():
    for input, target in ((X, Y), (X, Y[:1]), (X[0], Y[0]), (X[0, 0], Y[0, 0]), (X[0, 0], Y[0])):
        total = reference.kl_div(input, target, reduction="sum", log_target=True)
        count = len(input) if np.ndim(input) else 1
        assert reference.kl_div(input, target, reduction="batchmean", log_target=True) == total / count
        layer = reference.KLDivLoss(reduction="batchmean", log_target=True)
        bounded = layer.bounded(strictest("float64"), (input, target), (np.array(1.0),))
        assert bounded["output"].value == total / count


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


def test_margins_of_the_documented_sample():
    """torch.nn.MultiLabelMarginLoss's example: 0.25 ((1-(0.1-0.2)) + (1-(0.1-0.4)) + (1-(0.8-0.2)) +
    (1-(0.8-0.4)))."""
    loss = reference.multilabel_margin_loss([[0.1, 0.2, 0.4, 0.8]], np.array([[3, 0, -1, 1]]))
    near(loss, 0.25 * (1.1 + 1.3 + 0.4 + 0.6))
    near(reference.multi_margin_loss([0.1, 0.2, 0.4, 0.8], np.array(3)), (0.3 + 0.4 + 0.6) / 4)


@pytest.mark.parametrize("labels", [(1,), (1, 2), (1, 1), (2, 1, 2), ()])
def test_alignments_enumerated(labels):
    """Every path of five steps over three classes that collapses to the labels."""
    log_probs = np.log(RNG.dirichlet(np.ones(3), 5))
    paths = [p for p in itertools.product(range(3), repeat=5) if collapsed(p) == labels]
    each = np.array([log_probs[range(5), path].sum() for path in paths])
    near(
        reference.ctc_loss(log_probs, np.array(labels, dtype=int), 5, len(labels), reduction="sum"),
        -np.log(np.exp(each).sum()),
    )
    gradient = np.zeros((5, 3))
    for path, share in zip(paths, np.exp(each) / np.exp(each).sum(), strict=True):
        gradient[range(5), path] -= share
    near(
        reference.ctc_loss_backward(
            1.0, log_probs, np.array(labels, dtype=int), 5, len(labels), reduction="sum"
        )[0],
        gradient,
    )


def collapsed(path):
    """Repetitions merged, then blanks (class 0) taken out."""
    return tuple(label for label, _ in itertools.groupby(path) if label != 0)


def test_alignments_of_joined_and_padded_targets_and_of_none():
    log_probs, lengths = RNG.standard_normal((7, 3, 4)), [3, 1, 2]
    padded = np.array([[1, 2, 3], [2, 0, 0], [3, 3, 0]])
    joined = np.array([1, 2, 3, 2, 3, 3])
    calls = [reference.ctc_loss(log_probs, t, [7, 7, 6], lengths, reduction="none") for t in (padded, joined)]
    assert (calls[0] == calls[1]).all()
    losses = reference.ctc_loss(log_probs, padded, [2, 7, 6], lengths, reduction="none", zero_infinity=True)
    assert losses[0] == 0 and (losses[1:] == calls[0][1:]).all()
    gradient = reference.ctc_loss_backward(
        np.ones(3), log_probs, padded, [2, 7, 6], lengths, reduction="none"
    )[0]
    assert np.isnan(gradient[:2, 0]).all() and not np.isnan(gradient[2:]).any()
    near(reference.ctc_loss(log_probs, padded, [7, 7, 6], lengths), np.mean(calls[0] / lengths))


def test_alignments_of_few_steps():
    """No step, one, and two, which are too few for a label twice."""
    log_probs = np.log(RNG.dirichlet(np.ones(3), (2, 5)))
    targets, lengths = np.array([[0, 0], [1, 0], [1, 0], [1, 1], [1, 2]]), [0, 1, 1, 2, 2]
    steps = np.array([0, 0, 1, 2, 2])
    given = (log_probs, targets, steps, lengths)
    losses = reference.ctc_loss(*given, reduction="none")
    certain = -log_probs[0, 4, 1] - log_probs[1, 4, 2]
    assert losses[[0, 1, 3]].tolist() == [0, np.inf, np.inf] and np.signbit(losses[0])
    near(losses[[2, 4]], [-log_probs[0, 2, 1], certain])
    gradient = np.zeros((2, 5, 3))
    gradient[0, 2, 1] = gradient[0, 4, 1] = gradient[1, 4, 2] = -1
    for zero_infinity, lost in ((False, np.nan), (True, 0.0)):
        gradient[:, 3] = lost
        own = reference.ctc_loss_backward(np.ones(5), *given, reduction="none", zero_infinity=zero_infinity)
        near(np.nan_to_num(own[0], nan=9.0), np.nan_to_num(gradient, nan=9.0))
        layer = reference.CTCLoss(reduction="none", zero_infinity=zero_infinity)
        for contract in (strictest("float64"), Contract("float64", "float64", algorithm=GRADIENT_OF_LOGITS)):
            bounded = layer.bounded(contract, given, (np.ones(5),))  # raises where it has other values
            within(bounded["output"].error, np.zeros(5), 2.0**-44)
    one = reference.CTCLoss(reduction="none").bounded(
        strictest("float64"), (log_probs[:1], targets, np.minimum(steps, 1), lengths), (np.ones(5),)
    )
    assert np.isinf(one["output"].value).tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("time", range(4))
def test_alignments_of_what_is_no_number(time, place):
    """A NaN that is on a path stays; no path begins with the second of two labels or ends with the first."""
    log_probs = np.full((4, 1, 3), -math.log(3))
    whole = reference.ctc_loss(log_probs, np.array([[1, 2]]), [4], [2], reduction="none")
    log_probs[time, 0, place] = np.nan
    given = log_probs, np.array([[1, 2]]), np.array([4]), np.array([2])
    layer = reference.CTCLoss(reduction="none")
    loss, nowhere = layer(*given), np.isnan(layer.backward(np.ones(1))[0])
    assert nowhere[time, 0, place]
    if (time, place) in ((0, 2), (3, 1)):
        assert loss == whole and nowhere.sum() == 1
    else:
        assert np.isnan(loss).all()
    layer.bounded(strictest("float64"), given, (np.ones(1),))  # raises where it has other values


def test_a_blank_that_no_path_has_time_for_may_be_no_number():
    log_probs = np.full((2, 1, 3), -math.log(3))
    log_probs[0, 0, 0] = np.nan
    layer = reference.CTCLoss(reduction="sum")
    near(layer(log_probs, np.array([[1, 2]]), [2], [2]), 2 * math.log(3))
    near(layer.backward(1.0)[0][[0, 1], 0, [1, 2]], [-1, -1])


def test_alignments_refuse_what_does_not_fit():
    log_probs, padded = np.zeros((4, 2, 3)), np.array([[1, 2], [2, 0]])
    good = {"log_probs": log_probs, "targets": padded, "input_lengths": [4, 4], "target_lengths": [2, 1]}
    reference.ctc_loss(**good)
    reference.ctc_loss(**good | {"targets": np.array([1, 2, 2])}, blank=0)
    reference.ctc_loss(**good | {"targets": np.zeros((2, 7), dtype=int)}, blank=2)
    for wrong, match in (
        ({"blank": 3}, "blank is 3"),
        ({"blank": -1}, "blank is -1"),
        ({"targets": np.array([1, 2])}, "targets has shape"),
        ({"targets": np.array([1, 2, 2, 1])}, "targets has shape"),
        ({"targets": padded[:, :1]}, "targets has shape"),
        ({"targets": padded[:1]}, "targets has shape"),
        ({"targets": padded[[0, 1, 1]]}, "targets has shape"),
        ({"targets": padded[None]}, "targets has shape"),
        ({"targets": padded + 1}, "targets 0 to 3"),
        ({"targets": padded - 3}, "targets -2 to 0"),
        ({"input_lengths": [5, 4]}, "input_lengths is"),
        ({"input_lengths": [4, -1]}, "input_lengths is"),
        ({"target_lengths": [2]}, "target_lengths has shape"),
        ({"log_probs": log_probs[:0]}, "not empty"),
        ({"log_probs": log_probs[None]}, "log_probs has shape"),
    ):
        with pytest.raises(RuntimeError, match=match):
            reference.ctc_loss(**good | wrong)


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


def test_exact_likelihood():
    x = fractions(np.random.default_rng(4), 4, 5)
    losses = reference.nll_loss(x, CLASSES, reduction="none")
    assert losses.tolist() == [-x[n, c] for n, c in enumerate(CLASSES)]
    assert reference.nll_loss(x, CLASSES)[()] == sum(losses) / 4


def test_ignored_targets_are_left_out():
    kept = CLASSES != 3
    for name in ("nll_loss", "cross_entropy"):
        function = getattr(reference, name)
        near(function(X, CLASSES, WEIGHT, ignore_index=3), function(X[kept], CLASSES[kept], WEIGHT))
        assert np.isnan(function(X, np.full(4, 3), ignore_index=3))
        assert (getattr(reference, f"{name}_backward")(1.0, X, np.full(4, 3), ignore_index=3)[0] == 0).all()


def test_an_index_is_a_probability_of_one():
    one_hot = np.eye(5)[CLASSES]
    for smoothing in (0.0, 0.3):
        near(
            reference.cross_entropy(X, CLASSES, WEIGHT, reduction="none", label_smoothing=smoothing),
            reference.cross_entropy(X, one_hot, WEIGHT, reduction="none", label_smoothing=smoothing),
        )
    smoothed = 0.7 * one_hot + 0.3 / 5
    near(reference.cross_entropy(X, CLASSES, label_smoothing=0.3), reference.cross_entropy(X, smoothed))


def test_classes_stand_on_the_second_axis():
    images = RNG.standard_normal((2, 5, 3, 4))
    target = RNG.integers(0, 5, (2, 3, 4))
    rows = np.moveaxis(images, 1, -1).reshape(-1, 5)
    near(
        reference.cross_entropy(images, target, WEIGHT), reference.cross_entropy(rows, target.ravel(), WEIGHT)
    )
    near(reference.cross_entropy(X[0], np.array(2)), reference.cross_entropy(X[:1], [2]))


def test_linear_cross_entropy_is_cross_entropy_of_linear():
    weight, bias, target = (
        RNG.standard_normal((3, 2, 5)),
        RNG.standard_normal((3, 2)),
        RNG.integers(0, 3, (4, 2)),
    )
    logits = np.einsum("nf,cof->nco", X, weight) + bias
    near(
        reference.linear_cross_entropy(X, weight, target, linear_bias=bias),
        reference.cross_entropy(logits, target),
    )
    up = reference.cross_entropy_backward(1.0, logits, target)[0]
    gradients = reference.linear_cross_entropy_backward(1.0, X, weight, target, linear_bias=bias)
    expected = np.einsum("nco,cof->nf", up, weight), np.einsum("nco,nf->cof", up, X), up.sum(0)
    for own, wanted in zip((gradients[0], gradients[1], gradients[3]), expected, strict=True):
        near(own, wanted)


def test_linear_cross_entropy_refuses_what_does_not_fit():
    weight = RNG.standard_normal((3, 2, 5))
    classes, shares = np.zeros(4, dtype=int), np.full((4, 3, 2), 1 / 6)
    for input, own, target in (
        (X[None], weight[:, 0], classes),  # a third axis
        (X, weight[0, 0], classes),  # no axis of classes
        (X[:, :4], weight[:, 0], classes),  # other features
        (X[None], weight[0, 0], classes),
        (X[:, :4], weight[0, 0], classes),
    ):
        with pytest.raises(RuntimeError, match=r"needed are.*features, F"):
            reference.linear_cross_entropy(input, own, target)
    for input, own, target in ((X, weight, shares), (X[0], weight[:, 0], shares[0, :, 0])):
        reference.linear_cross_entropy(input, own, target)
        with pytest.raises(RuntimeError, match="ignore_index beside probabilities"):
            reference.linear_cross_entropy(input, own, target, ignore_index=0)
    near(
        reference.linear_cross_entropy(X, weight[:, 0], [0, 1, 2, 1], ignore_index=1),
        reference.cross_entropy(X @ weight[:, 0].T, [0, 1, 2, 1], ignore_index=1),
    )


def test_weighted_means():
    """Those of distances divide by the weights, that of Huber by their number."""
    operands, weight = ([1.0, 2.0], [0.0, 0.0]), np.array([1.0, 3.0])
    assert reference.l1_loss(*operands, weight=weight) == 7 / 4
    assert reference.mse_loss(*operands, weight=weight) == 13 / 4
    assert reference.huber_loss(*operands, weight=weight) == 5 / 2


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


def test_functions_are_described():
    def _some(first, second=2):
        """What it does."""

    function, backward = functions(_some)
    assert (function.__name__, backward.__qualname__) == ("some", "some_backward")
    assert str(inspect.signature(function)) == "(first, second=2)"
    assert str(inspect.signature(backward)) == "(grad_output, first, second=2)"
    assert function.__doc__ == "What it does." and "sum(grad_output * some(...))" in backward.__doc__


def test_margins_of_one_sample_and_of_what_is_no_class():
    sample, label = np.array([0.5, 0.25]), np.array([0])
    assert reference.multi_margin_loss(sample, label, reduction="none").tolist() == [0.375]
    assert reference.multi_margin_loss(sample, label[0], reduction="none").tolist() == 0.375
    for wrong in (np.zeros(2, dtype=int), np.zeros(0, dtype=int), np.array([2]), np.array([-1])):
        with pytest.raises(RuntimeError, match="target"):
            reference.multi_margin_loss(sample, wrong)
    with pytest.raises(RuntimeError, match="target"):
        reference.multi_margin_loss(X, label)
    for wrong in (-2, 2):
        with pytest.raises(RuntimeError, match="needed is -1 to 1"):
            reference.multilabel_margin_loss(sample, np.array([wrong, -1]))
    assert len(reference.multilabel_margin_loss_backward(1.0, sample, np.array([0, -1]))) == 2
    assert len(reference.multi_margin_loss_backward(1.0, sample, label)) == 3
    assert reference.multi_margin_loss([[1.0, 0.0]], label, weight=[np.inf, 1.0]) == 0  # a margin just kept
    for weight in (3.0, np.ones((2, 1))):
        with pytest.raises(ValueError, match="needed is one axis"):
            reference.MultiMarginLoss(weight=weight)
    with pytest.raises(RuntimeError, match="needed is one for each"):
        reference.multi_margin_loss(sample, label, weight=np.ones(3))


def test_labels_of_cosines():
    cosine = reference.cosine_embedding_loss
    assert cosine(X, Y, [1]) == cosine(X, Y, np.ones(4))
    for arrays in ((X, Y, np.ones(3)), (X[None], Y[None], np.ones((1, 4))), (X[0], Y[0], [1]), (X, Y, 1)):
        with pytest.raises(RuntimeError, match="target"):
            cosine(*arrays)


def test_a_triplet_just_at_its_margin_is_active():
    operands = tuple(np.array([[x]]) for x in (0.0, 1.0, 2.0))
    layer = reference.TripletMarginLoss(eps=0.0)
    assert layer(*operands) == 0
    assert [gradient.item() for gradient in layer.backward(1.0)] == [0, 1, -1]
    bounded = layer.bounded(strictest("float32"), operands, (np.array(1.0),))
    assert 1 <= bounded["grad_input1"].error <= 1 + 2.0**-20, "there is a gradient of 1, or none"


@dataclass
class Fixed:
    """A distance that is what it is told, with its error."""

    value: float
    error: float
    shape: tuple = (1,)

    def losses(self):
        return np.array([self.value])

    def bounded_losses(self, contract):
        return Bounded(self.losses(), np.array([self.error]), contract)

    def bounded_slopes(self, factor):
        return factor, -factor


@pytest.mark.parametrize(
    ("far", "between", "free"),
    [
        ((2.0, 0.0), (2.0, 0.0), False),  # a tie that every implementation finds
        ((outward(0.25), 0.25), (0.0, 0.0), True),
        ((0.25 + 2.0**-40, 0.25), (0.0, 0.0), False),
        ((2.0, 0.25), (2.0, 0.25), True),
    ],
)
def test_a_swap_is_free_as_far_as_the_errors_reach(far, between, free):
    distances = iter((Fixed(9.0, 0.0), Fixed(*far), Fixed(*between)))
    triplet = Triplet(0, 0, 0, 1.0, True, "none", lambda *pair: next(distances), stores=False)
    contract = strictest("float32")
    negative = triplet.bounded_slopes(contract.exact([1.0]))[2]
    assert (negative.error >= 1) == free


def test_what_is_ignored_and_what_is_no_class():
    ignored = np.array([-100, 3, -100, 1])
    kept = ignored >= 0
    assert reference.nll_loss(X, ignored) == reference.nll_loss(X[kept], ignored[kept])
    near(reference.cross_entropy(X, ignored), reference.cross_entropy(X[kept], ignored[kept]))
    linear = reference.linear_cross_entropy
    near(linear(X, np.eye(5), ignored), linear(X[kept], np.eye(5), ignored[kept]))
    for wrong in (-1, -99, -101, 5, 100):
        for function in (reference.nll_loss, reference.cross_entropy):
            with pytest.raises(IndexError, match="needed are 0 to 4"):
                function(X, np.array([0, 1, 2, wrong]))


def test_shapes_of_targets():
    images = np.zeros((2, 5, 3))
    for input, target, exception in (
        (X, np.zeros(3, dtype=int), ValueError),
        (X, np.zeros((4, 1), dtype=int), RuntimeError),
        (X[0], np.zeros(1, dtype=int), ValueError),
        (images, np.zeros((2, 4), dtype=int), RuntimeError),
        (images, np.zeros(2, dtype=int), RuntimeError),
        (images, np.zeros((3, 2), dtype=int), ValueError),
        (X, np.zeros(4), RuntimeError),
    ):
        with pytest.raises(exception, match="target"):
            reference.nll_loss(input, target)


def test_probabilities_outside_their_range():
    half = np.full(2, 0.5)
    for wrong in ([0.5, 1.5], [-0.5, 0.5], [0.5, np.nan]):
        for arrays in ((wrong, half), (half, wrong)):
            with pytest.raises(RuntimeError, match="outside"):
                reference.binary_cross_entropy(*arrays)


def test_the_gradient_of_probabilities_has_two_roundings():
    """Nothing more is multiplied where there is no smoothing."""
    contract = strictest("float32")
    call = Classes("cross_entropy", X, PROBABILITIES, None, -100, "sum", logits=True)
    own = call.bounded_slopes(contract.exact(np.full(4, 3.0)))[1]
    logarithm = call._bounded_logarithm(contract).reshape(4, 5)
    assert (own.error == (contract.exact(np.full((4, 5), -3.0)) * logarithm).error).all()


def test_entropies_agree():
    """Two classes: the cross entropy of (0, x) is the binary one of x."""
    pairs = np.stack([np.zeros(4), X[:, 0]], 1)
    target = (SIGNS[:, 0] > 0).astype(int)
    binary = reference.binary_cross_entropy_with_logits(X[:, 0], target)
    near(reference.cross_entropy(pairs, target), binary)
    near(reference.binary_cross_entropy(1 / (1 + np.exp(-X[:, 0])), target.astype(float)), binary)
    near(reference.soft_margin_loss(X[:, 0], 2 * target - 1), binary)
    near(reference.multilabel_soft_margin_loss(X[:, :1], target[:, None]), binary)


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


@pytest.mark.skipif(not compiler_present(), reason="numba is not installed")
@pytest.mark.parametrize("call", [*CALLS, *DISTANCES])
def test_compiled_and_interpreted_are_the_same(call):
    name, arrays, more = (CALLS | DISTANCES)[call]
    results = []
    for mode in ("interpreted", "compiled"):
        with execution(mode):
            results.append(called(name, arrays, more))
    assert (results[0] == results[1]).all()


LAYERS = {
    "MSELoss": ((), (X, Y)),
    "KLDivLoss": ((), (X, TARGETS)),
    "SoftMarginLoss": ((), (X, SIGNS)),
    "BCEWithLogitsLoss": ((WEIGHT,), (X, TARGETS)),
    "CrossEntropyLoss": ((WEIGHT,), (X, CLASSES)),
    "MultiMarginLoss": ((), (X, CLASSES)),
    "CosineSimilarity": ((), (X, Y)),
    "PairwiseDistance": ((), (X, Y)),
    "TripletMarginLoss": ((), (X, Y, Z)),
    "GaussianNLLLoss": ((), (X, Y, PROBABILITIES)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_bounds_hold_around_the_loops(layer, dtype):
    """The bounded formula has the loops' values, finite bounds, and narrower ones for wider types."""
    arguments, inputs = LAYERS[layer]
    module = getattr(reference, layer)(*arguments)
    upstream = np.random.default_rng(9).standard_normal(module(*inputs).shape)
    bounded = module.bounded(strictest(dtype), inputs, (upstream,))
    gradients = module.backward(upstream)
    assert (bounded["output"].value == module(*inputs)).all()
    for index, gradient in enumerate(gradients):
        if f"grad_input{index}" in bounded:
            assert (bounded[f"grad_input{index}"].value == gradient).all()
    scale = {"float64": 2.0**-44, "float32": 2.0**-15, "float16": 2.0**-8, "bfloat16": 2.0**-5}[dtype]
    for result in bounded.values():
        within(result.error, np.zeros(result.error.shape), scale * max(1.0, np.abs(result.value).max()))


OPTIONS = [
    *(("MultiMarginLoss", {"p": p, "margin": m, "weight": w}, (X, CLASSES))
      for p in (1, 2) for m in (0.5, 2.0) for w in (None, WEIGHT)),
    *(("PoissonNLLLoss", {"log_input": log_input, "full": full}, (PROBABILITIES, 3 * TARGETS))
      for log_input in (False, True) for full in (False, True)),
    *(("GaussianNLLLoss", {"full": full}, (X, Y, var))
      for full in (False, True) for var in (PROBABILITIES, PROBABILITIES[:, 0], PROBABILITIES[:, :1])),
    *(("CrossEntropyLoss", {"weight": w, "label_smoothing": s}, (X, target))
      for w in (None, WEIGHT) for s in (0.0, 0.3) for target in (CLASSES, PROBABILITIES)),
    ("NLLLoss", {"weight": WEIGHT, "ignore_index": 3}, (X, CLASSES)),
    ("KLDivLoss", {"log_target": True}, (X, Y)),
    ("SmoothL1Loss", {"beta": 0.7}, (X, Y)),
    ("HuberLoss", {"delta": 0.7}, (X, Y)),
    ("BCELoss", {"weight": WEIGHT}, (PROBABILITIES, TARGETS)),
    ("BCEWithLogitsLoss", {"weight": WEIGHT, "pos_weight": 2 * WEIGHT}, (X, TARGETS)),
    ("MultiLabelSoftMarginLoss", {"weight": WEIGHT}, (X, TARGETS)),
    ("MultiLabelMarginLoss", {}, (X, LISTS)),
    ("HingeEmbeddingLoss", {"margin": 0.7}, (X, SIGNS)),
    ("MarginRankingLoss", {"margin": 0.3}, (X, Y, SIGNS)),
    ("CosineEmbeddingLoss", {"margin": -0.9}, (X, Y, np.array([1, -1, 1, -1]))),
    *(("TripletMarginLoss", {"p": p, "swap": swap}, (X, Y, Z))
      for p in (1, 2.0, 3) for swap in (False, True)),
]  # fmt: skip


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("layer", "options", "inputs"), OPTIONS)
def test_bounds_are_around_the_loops_for_every_option(layer, options, inputs, reduction):
    """`bounded` raises where formula and loops differ by more than the bound, which is to be narrow."""
    module = getattr(reference, layer)(**options, reduction=reduction)
    bounded = module.bounded(strictest("float64"), inputs, (np.full(module(*inputs).shape, 1.5),))
    for result in bounded.values():
        within(result.error, np.zeros(result.error.shape), 2.0**-44 * max(1.0, np.abs(result.value).max()))

"""Losses of classes: targets that are indices, probabilities, lists or ignored, smoothing, margins, and the
cross entropy of a linear layer."""

import numpy as np
import pytest

from parity_tests.selftest.laws import fractions
from parity_tests.selftest.loss_settings import CLASSES, SIGNS, WEIGHT, X, near
from refimpl import loss as reference

RNG = np.random.default_rng(31)


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


def test_entropies_agree():
    """Two classes: the cross entropy of (0, x) is the binary one of x."""
    pairs = np.stack([np.zeros(4), X[:, 0]], 1)
    target = (SIGNS[:, 0] > 0).astype(int)
    binary = reference.binary_cross_entropy_with_logits(X[:, 0], target)
    near(reference.cross_entropy(pairs, target), binary)
    near(reference.binary_cross_entropy(1 / (1 + np.exp(-X[:, 0])), target.astype(float)), binary)
    near(reference.soft_margin_loss(X[:, 0], 2 * target - 1), binary)
    near(reference.multilabel_soft_margin_loss(X[:, :1], target[:, None]), binary)


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


def test_margins_of_the_documented_sample():
    """torch.nn.MultiLabelMarginLoss's example: 0.25 ((1-(0.1-0.2)) + (1-(0.1-0.4)) + (1-(0.8-0.2)) +
    (1-(0.8-0.4)))."""
    loss = reference.multilabel_margin_loss([[0.1, 0.2, 0.4, 0.8]], np.array([[3, 0, -1, 1]]))
    near(loss, 0.25 * (1.1 + 1.3 + 0.4 + 0.6))
    near(reference.multi_margin_loss([0.1, 0.2, 0.4, 0.8], np.array(3)), (0.3 + 0.4 + 0.6) / 4)


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

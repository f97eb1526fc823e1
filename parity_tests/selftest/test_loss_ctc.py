"""The CTC loss against alignments that are enumerated, at few steps, and beside what is no number."""

import itertools
import math

import numpy as np
import pytest

from parity_tests.selftest.laws import within
from parity_tests.selftest.loss_settings import near
from refimpl import loss as reference
from refimpl.error_bounds import Contract, strictest
from refimpl.loss_ctc import GRADIENT_OF_LOGITS

RNG = np.random.default_rng(31)


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

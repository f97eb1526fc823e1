"""Reductions of losses, in all the ways that torch names them, and the weights that enter them."""

import inspect

import numpy as np
import pytest

from parity_tests.selftest.laws import finite_difference, within
from parity_tests.selftest.loss_settings import CALLS, PROBABILITIES, TARGETS, X, Y, called, near
from refimpl import loss as reference
from refimpl.error_bounds import strictest
from refimpl.loss_reduction import functions


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


def test_batchmean_divides_by_the_first_size():
    for input, target in ((X, Y), (X, Y[:1]), (X[0], Y[0]), (X[0, 0], Y[0, 0]), (X[0, 0], Y[0])):
        total = reference.kl_div(input, target, reduction="sum", log_target=True)
        count = len(input) if np.ndim(input) else 1
        assert reference.kl_div(input, target, reduction="batchmean", log_target=True) == total / count
        layer = reference.KLDivLoss(reduction="batchmean", log_target=True)
        bounded = layer.bounded(strictest("float64"), (input, target), (np.array(1.0),))
        assert bounded["output"].value == total / count


def test_weighted_means():
    """Those of distances divide by the weights, that of Huber by their number."""
    operands, weight = ([1.0, 2.0], [0.0, 0.0]), np.array([1.0, 3.0])
    assert reference.l1_loss(*operands, weight=weight) == 7 / 4
    assert reference.mse_loss(*operands, weight=weight) == 13 / 4
    assert reference.huber_loss(*operands, weight=weight) == 5 / 2


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


def test_functions_are_described():
    def _some(first, second=2):
        """What it does."""

    function, backward = functions(_some)
    assert (function.__name__, backward.__qualname__) == ("some", "some_backward")
    assert str(inspect.signature(function)) == "(first, second=2)"
    assert str(inspect.signature(backward)) == "(grad_output, first, second=2)"
    assert function.__doc__ == "What it does." and "sum(grad_output * some(...))" in backward.__doc__

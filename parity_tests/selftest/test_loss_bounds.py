"""Bounds of losses hold for each order in which an implementation may multiply: candidates that underflow."""

import numpy as np

from refimpl import loss
from refimpl.error_bounds import Contract, round_to
from refimpl.loss_bounds import AnyOrder, put, sum_of

HALF = Contract("float16", "float16")
COUNT = 333


def stored(x):
    return round_to("float16", x)


def test_the_gradient_of_a_mean_may_underflow_before_upstream_multiplies_it():
    """(d / N) g, where d / N is subnormal."""
    difference, upstream = stored(np.linspace(1e-4, 1e-2, COUNT)), 7.5
    bound = loss.HuberLoss().bounded(HALF, (difference, np.zeros(COUNT)), (np.array(upstream),))[
        "grad_input0"
    ]
    found = stored(stored(difference * stored(1.0 / COUNT)) * upstream)
    error = np.abs(found - bound.value)
    assert (error <= bound.error).all() and (error > bound.error - HALF.eta / 2 * upstream).any()


def test_the_divergence_may_be_differentiated_operation_by_operation():
    """d/dt of t log(t) is log(t) + t / t, and (g t) / t is not g where g t is subnormal."""
    target, input = stored(np.geomspace(1e-3, 1.0, COUNT)), np.zeros(COUNT)
    share = stored(1.0 / COUNT)
    found = stored(stored(share * stored(np.log(target))) + stored(stored(share * target) / target))
    bound = loss.KLDivLoss().bounded(HALF, (input, target), (np.array(1.0),))["grad_input1"]
    contract = AnyOrder.of(HALF)
    g, t = contract.exact(share), contract.exact(target)
    at_once = put(sum_of(g * t.log(), g))
    assert (np.abs(found - bound.value) <= bound.error).all()
    assert (np.abs(found - at_once.value) > at_once.error).any()

"""The bounded formulas of losses beside the loops: the same values, whether compiled or interpreted, within
narrow bounds, and gradients of either side only where rounding decides."""

from dataclasses import dataclass

import numpy as np
import pytest

from parity_tests.selftest.laws import within
from parity_tests.selftest.loss_settings import (
    CALLS,
    CLASSES,
    DISTANCES,
    LISTS,
    PROBABILITIES,
    SIGNS,
    TARGETS,
    WEIGHT,
    X,
    Y,
    Z,
    called,
)
from refimpl import execution
from refimpl import loss as reference
from refimpl.error_bounds import Bounded, strictest
from refimpl.floats import outward
from refimpl.loss_classification import Classes
from refimpl.loss_distance import Triplet
from refimpl.taps import compiler_present


@pytest.mark.skipif(not compiler_present(), reason="numba is not installed")
@pytest.mark.parametrize("call", [*CALLS, *DISTANCES])
def test_compiled_and_interpreted_are_the_same(call):
    name, arrays, more = (CALLS | DISTANCES)[call]
    results = []
    for mode in ("interpreted", "compiled"):
        with execution(mode):
            results.append(called(name, arrays, more))
    assert (results[0] == results[1]).all()


def test_readings_with_arguments_are_not_inlined():
    """numba refuses to."""
    from refimpl.loss_pointwise import _FORWARD, _SLOPES

    assert reference.mse_loss(X, X) == 0
    assert {kernel.inline for kernel in (*_FORWARD.values(), *_SLOPES.values())} == {"never"}


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


def test_the_gradient_of_probabilities_has_two_roundings():
    """Nothing more is multiplied where there is no smoothing."""
    contract = strictest("float32")
    call = Classes("cross_entropy", X, PROBABILITIES, None, -100, "sum", logits=True)
    own = call.bounded_slopes(contract.exact(np.full(4, 3.0)))[1]
    logarithm = call._bounded_logarithm(contract).reshape(4, 5)
    assert (own.error == (contract.exact(np.full((4, 5), -3.0)) * logarithm).error).all()


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

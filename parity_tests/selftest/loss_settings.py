"""The losses and distances that self-tests look at: arrays of every kind, and calls of every function."""

import inspect
import math

import numpy as np

from parity_tests.selftest.laws import UNIT, within
from refimpl import loss as reference

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

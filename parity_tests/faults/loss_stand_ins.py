"""Which function each loss and distance calls, and stand-ins that are torch's own with other arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from parity_tests.faults.fault import Fault

functional = torch.nn.functional
POINTWISE = {
    "L1Loss": "l1_loss",
    "MSELoss": "mse_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "KLDivLoss": "kl_div",
    "PoissonNLLLoss": "poisson_nll_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "MarginRankingLoss": "margin_ranking_loss",
}
WEIGHTED = {
    "BCELoss": "binary_cross_entropy",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "NLLLoss": "nll_loss",
    "CrossEntropyLoss": "cross_entropy",
    "MultiMarginLoss": "multi_margin_loss",
}
LOSSES = {
    **POINTWISE,
    **WEIGHTED,
    "GaussianNLLLoss": "gaussian_nll_loss",
    "MultiLabelMarginLoss": "multilabel_margin_loss",
    "LinearCrossEntropyLoss": "linear_cross_entropy",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "TripletMarginLoss": "triplet_margin_loss",
    "TripletMarginWithDistanceLoss": "triplet_margin_with_distance_loss",
    "CTCLoss": "ctc_loss",
}
LOSSES = {layer: name for layer, name in LOSSES.items() if hasattr(functional, name)}
DISTANCES = {"CosineSimilarity": "cosine_similarity", "PairwiseDistance": "pairwise_distance"}
ALL = {**LOSSES, **DISTANCES}
NO_HALF = (
    "MultiMarginLoss",
    "MultiLabelMarginLoss",
    "CTCLoss",
)  # on the CPU torch has no kernels for half types
HALF_TYPES = tuple(layer for layer in ALL if layer not in NO_HALF)

_SIGNATURES: Mapping[str, Callable] = {
    "cosine_similarity": lambda x1, x2, dim=1, eps=1e-8: None,
    "pairwise_distance": lambda x1, x2, p=2.0, eps=1e-6, keepdim=False: None,
}


def named(name: str, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call of a functional by name."""
    bound = inspect.signature(_SIGNATURES.get(name, getattr(functional, name))).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def altered(name: str, **changes: Any) -> Callable[..., Any]:
    """torch's function with some arguments replaced; a change that is a function gets all arguments."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        given = named(name, args, kwargs)
        new = {key: change(given) if callable(change) else change for key, change in changes.items()}
        return getattr(functional, name)(**{**given, **new})

    return stand_in


def everywhere(make: Callable[[str], Callable], functions: Mapping[str, str] = ALL) -> dict[str, Callable]:
    return {name: make(name) for name in functions.values()}


def reduction_instead(**instead: str) -> Callable[[str], Callable]:
    """Some reductions taken for others."""
    return lambda name: altered(
        name, reduction=lambda given: instead.get(given["reduction"], given["reduction"])
    )


def original(name: str) -> Callable[..., Any]:
    """torch's own function."""
    return getattr(functional, name)


def fault(name: str, sentence: str, layer: str, stand_in: Callable, check: str = "forward") -> Fault:
    return Fault(name, sentence, {ALL[layer]: stand_in}, check, (layer,))


def without(layer: str, **changes: Any) -> Fault:
    """A fault that ignores an argument: it always has the value given."""
    ((argument, value),) = changes.items()
    return fault(
        f"{ALL[layer]}_{argument}_ignored",
        f"{argument} is always {value}",
        layer,
        altered(ALL[layer], **changes),
    )

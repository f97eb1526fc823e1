"""Margins between distances: cosine embedding and triplet losses.

    cosine_embedding = 1 - cos(x1, x2) if target = 1, max(0, cos(x1, x2) - margin) if target = -1
    triplet = max(0, margin + distance(anchor, positive) - distance(anchor, negative))

Source: torch.nn.CosineEmbeddingLoss, torch.nn.TripletMarginLoss, torch.nn.TripletMarginWithDistanceLoss.
"""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from refimpl.activation_bounds import zero
from refimpl.distance import Cosine, Distance
from refimpl.error_bounds import Bounded, Contract, where
from refimpl.loss_bounds import branch, put, ramp
from refimpl.loss_reduction import Call, Loss, functions, named_reduction
from refimpl.loss_terms import EPSILON

__all__ = [
    "CosineEmbeddingLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
    "cosine_embedding_loss",
    "cosine_embedding_loss_backward",
    "triplet_margin_loss",
    "triplet_margin_loss_backward",
    "triplet_margin_with_distance_loss",
    "triplet_margin_with_distance_loss_backward",
]

# Added to squared norms by torch, as the documented cosine does not exist for a vector of zeros.
ADDED = EPSILON


class CosineEmbedding(Call):
    """One call: cosines of pairs of vectors and their labels; another label than 1 or -1 counts as
    nothing."""

    def __init__(self, input1: Any, input2: Any, target: Any, margin: Any, reduction: str):
        self.cosine = Cosine("cosine_embedding_loss", input1, input2, -1, 0.0, ADDED)
        self.shape, self.reduction, self.margin = self.cosine.shape, reduction, float(margin)
        target = np.asarray(target, dtype=np.float64)
        if target.shape not in (self.shape, (1,) * len(self.shape)):
            raise RuntimeError(
                f"cosine_embedding_loss: target has shape {target.shape}; needed is {self.shape}"
            )
        self.target = np.broadcast_to(target, self.shape)

    def losses(self) -> np.ndarray:
        cosine = self.cosine.losses()
        excess = cosine - self.margin
        return np.where(
            self.target == 1, 1 - cosine, np.where(self.target == -1, np.where(excess < 0, 0.0, excess), 0.0)
        )

    def slopes(self, upstream: np.ndarray) -> tuple:
        active = self.cosine.losses() - self.margin >= 0
        factor = np.where(self.target == 1, -1.0, np.where((self.target == -1) & active, 1.0, 0.0))
        return (*self.cosine.slopes(upstream * factor), None)

    def bounded_losses(self, contract: Contract) -> Bounded:
        cosine = self.cosine.bounded_losses(contract)
        hinge = ramp(cosine - self.margin)
        return where(self.target == 1, 1.0 - cosine, where(self.target == -1, hinge, zero(cosine)))

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        excess = self.cosine.bounded_losses(upstream.contract) - self.margin
        active = branch(excess.value >= 0, excess, upstream, zero(upstream))
        of_cosine = where(self.target == 1, -upstream, where(self.target == -1, active, zero(upstream)))
        return (*self.cosine.bounded_slopes(of_cosine), None)


class Triplet(Call):
    """One call: distances of an anchor to a positive and a negative example, made by `distance(x1, x2)` ->
    Call.

    swap     the distance of the two examples takes the place of that to the negative one where it is smaller
    stores   the distances, their gradients and the parts of the anchor's gradient are tensors of their own"""

    def __init__(
        self,
        anchor: Any,
        positive: Any,
        negative: Any,
        margin: float,
        swap: bool,
        reduction: str,
        distance: Any,
        stores: bool,
    ):
        self.margin, self.swap, self.reduction, self.stores = float(margin), swap, reduction, stores
        pairs = [(anchor, positive), (anchor, negative), *([(positive, negative)] if swap else [])]
        self.distances = [distance(*pair) for pair in pairs]
        self.shape = np.broadcast_shapes(*(call.shape for call in self.distances))

    def _shares(self, far: np.ndarray, between: np.ndarray) -> np.ndarray:
        """How much of a gradient goes to the distance to the negative example: all, none, or half of it in a
        tie."""
        return np.where(far < between, 1.0, np.where(far > between, 0.0, 0.5))

    def losses(self) -> np.ndarray:
        near, far, *between = (call.losses() for call in self.distances)
        far = np.minimum(far, between[0]) if self.swap else far
        z = self.margin + near - far
        return np.where(z < 0, 0.0, z)

    def slopes(self, upstream: np.ndarray) -> tuple:
        near, far, *between = (call.losses() for call in self.distances)
        least = np.minimum(far, between[0]) if self.swap else far
        active = np.where(self.margin + near - least >= 0, upstream, 0.0)
        share = self._shares(far, between[0]) if self.swap else 1.0
        factors = [active, -active * share, *([-active * (1 - share)] if self.swap else [])]
        parts = [call.slopes(factor) for call, factor in zip(self.distances, factors, strict=True)]
        return self._joined(parts, lambda first, second: first + second)

    @staticmethod
    def _joined(parts: list, add: Any) -> tuple:
        """Gradients of anchor, positive and negative from those of the pairs."""
        (anchor, positive), (also_anchor, negative), *between = parts
        if between:
            positive, negative = add(positive, between[0][0]), add(negative, between[0][1])
        return add(anchor, also_anchor), positive, negative

    def _stored(self, x: Bounded) -> Bounded:
        return put(x) if self.stores else x

    def _bounded_distances(self, contract: Contract) -> tuple[list[Bounded], Bounded, Bounded]:
        """All distances, the one that counts for the negative example, and what the margin is missed by."""
        distances = [self._stored(call.bounded_losses(contract)) for call in self.distances]
        least = distances[1]
        if self.swap:
            least = Bounded(
                np.minimum(least.value, distances[2].value),
                np.maximum(least.error, distances[2].error),
                contract,
            )
        return distances, least, distances[0] + self.margin - least

    def bounded_losses(self, contract: Contract) -> Bounded:
        return ramp(self._bounded_distances(contract)[2])

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        distances, _, z = self._bounded_distances(upstream.contract)
        active = self._stored(branch(z.value >= 0, z, upstream, zero(upstream)))
        factors = [active, -active]
        if self.swap:
            apart = distances[1] - distances[2]
            shares = self._shares(distances[1].value, distances[2].value)
            open_choice = (apart.error > 0) & (np.abs(apart.value) <= apart.error)
            factors = [
                active,
                *(
                    Bounded(
                        -active.value * share,
                        np.where(open_choice, np.abs(active.value), 0.0) + active.error,
                        active.contract,
                    )
                    for share in (shares, 1 - shares)
                ),
            ]
        parts = [
            tuple(self._stored(part) for part in call.bounded_slopes(factor))
            for call, factor in zip(self.distances, factors, strict=True)
        ]
        return self._joined(parts, lambda first, second: first + second)


def _cosine_embedding_loss(
    input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"
):
    """How far the cosine of two vectors is from 1 if they belong together, by how much it exceeds a margin if
    not.

        losses = 1 - cos if target = 1, max(0, cos - margin) if target = -1
        cos = input1 . input2 / sqrt((|input1|^2 + 1e-12) (|input2|^2 + 1e-12))

    input1 (N, D) or (D), input2 likewise, target (N) or () -> output like target for reduction 'none', else
    (). The documented cosine has no 1e-12 and none for vectors of zeros; torch adds it.
    Error: that of the cosine, about gamma(2 D), and those of the sum.
    Raises RuntimeError for shapes that do not fit, ValueError for another reduction.
    Source: torch.nn.functional.cosine_embedding_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    if not isinstance(margin, Real):
        raise TypeError(f"cosine_embedding_loss: margin is {margin!r}; needed is a number")
    ranks = {np.ndim(input1), np.ndim(input2)}
    if np.ndim(target) > 1 or ranks != {np.ndim(target) + 1}:
        raise RuntimeError(
            f"cosine_embedding_loss: inputs {np.shape(input1)}, {np.shape(input2)} and target "
            f"{np.shape(target)}; needed are (N, D), (N, D) and (N), or (D), (D) and ()"
        )
    return CosineEmbedding(input1, input2, target, margin, reduction)


def _triplet_margin_loss(
    anchor,
    positive,
    negative,
    margin=1.0,
    p=2,
    eps=1e-6,
    swap=False,
    size_average=None,
    reduce=None,
    reduction="mean",
):
    """By how much an anchor fails to be nearer to a positive example than to a negative one by a margin.

        losses = max(0, d(anchor, positive) - d(anchor, negative) + margin),  d = `pairwise_distance` with p
        and eps swap takes min(d(anchor, negative), d(positive, negative)) for the second distance

    anchor, positive, negative (N, D) or (D), broadcast to a common shape -> output (N) or () for reduction
    'none', else (). In a tie of the minimum both distances get half the gradient.
    Error: that of the distances, three roundings, and those of the sum.
    Raises ValueError for a margin <= 0 and another reduction, RuntimeError for different numbers of axes and
    shapes that do not broadcast.  Source: torch.nn.functional.triplet_margin_loss."""
    reduction = named_reduction(reduction, size_average, reduce)
    _check_triplet("triplet_margin_loss", margin, anchor, positive, negative)
    distance = partial(Distance, "triplet_margin_loss", p=p, eps=eps, stores=False)
    return Triplet(anchor, positive, negative, margin, swap, reduction, distance, stores=False)


def _triplet_margin_with_distance_loss(
    anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    """`triplet_margin_loss` with another distance, by default that of `pairwise_distance`.

    distance_function: a layer of two inputs of this package, such as PairwiseDistance(p=1) or
    CosineSimilarity(). Its results are tensors, so they and the gradients that it passes on are stored in T.
    Shapes, error, raises: otherwise as `triplet_margin_loss`.
    Source: torch.nn.functional.triplet_margin_with_distance_loss."""
    reduction = named_reduction(reduction)
    _check_triplet("triplet_margin_with_distance_loss", margin, anchor, positive, negative)
    if distance_function is None:
        distance = partial(Distance, "triplet_margin_with_distance_loss", stores=False)
        return Triplet(anchor, positive, negative, margin, swap, reduction, distance, stores=False)
    return Triplet(
        anchor, positive, negative, margin, swap, reduction, distance_function.call_on, stores=True
    )


def _check_triplet(name: str, margin: Any, *operands: Any) -> None:
    _check_margin(name, margin)
    if len({np.ndim(operand) for operand in operands}) > 1:
        shapes = ", ".join(str(np.shape(operand)) for operand in operands)
        raise RuntimeError(f"{name}: shapes {shapes}; needed is the same number of axes")


def _check_margin(name: str, margin: Any) -> None:
    if not isinstance(margin, Real):
        raise TypeError(f"{name}: margin is {margin!r}; needed is a number")
    if margin <= 0:
        raise ValueError(f"{name}: margin is {margin}; needed is a positive number")


cosine_embedding_loss, cosine_embedding_loss_backward = functions(_cosine_embedding_loss)
triplet_margin_loss, triplet_margin_loss_backward = functions(_triplet_margin_loss)
triplet_margin_with_distance_loss, triplet_margin_with_distance_loss_backward = functions(
    _triplet_margin_with_distance_loss
)


class CosineEmbeddingLoss(Loss):
    """`cosine_embedding_loss` as a layer.  Source: torch.nn.CosineEmbeddingLoss."""

    call = staticmethod(_cosine_embedding_loss)

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce, margin=margin)


class TripletMarginLoss(Loss):
    """`triplet_margin_loss` as a layer; a wrong margin is refused at once.  Source:
    torch.nn.TripletMarginLoss."""

    call = staticmethod(_triplet_margin_loss)

    def __init__(
        self, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"
    ):
        _check_margin("TripletMarginLoss", margin)
        super().__init__(reduction, size_average, reduce, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(Loss):
    """`triplet_margin_with_distance_loss` as a layer; a wrong margin is refused at once.

    Source: torch.nn.TripletMarginWithDistanceLoss."""

    call = staticmethod(_triplet_margin_with_distance_loss)

    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        _check_margin("TripletMarginWithDistanceLoss", margin)
        super().__init__(reduction, distance_function=distance_function, margin=margin, swap=swap)

"""Cosine similarity and p-norm distance of vectors along an axis.

    similarity = x1 . x2 / (max(|x1|, eps) max(|x2|, eps))        distance = sum(|x1 - x2 + eps|^p)^(1/p)

Both arguments are broadcast against each other.  Gradients of a maximum follow the formula: below eps a norm
is a constant.  Source: torch.nn.CosineSimilarity, torch.nn.PairwiseDistance.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from refimpl.activation_bounds import either, zero
from refimpl.activation_formulas import INF, OVERFLOW
from refimpl.error_bounds import Bounded, Contract, maximum, where
from refimpl.loss_bounds import branch, difference, signed, spread, sum_of
from refimpl.loss_reduction import Call, CallLayer, functions, gathered
from refimpl.loss_terms import sign
from refimpl.taps import Kernel, float_array

__all__ = [
    "CosineSimilarity",
    "PairwiseDistance",
    "cosine_similarity",
    "cosine_similarity_backward",
    "pairwise_distance",
    "pairwise_distance_backward",
]


def components(visit, arrays, scalars):
    """Every component d of both vectors of every row r."""
    rows, length = arrays[-1].shape
    for r in range(rows):
        for d in range(length):
            visit(arrays, scalars, r, d)


def power(base, exponent):
    """base^exponent for base >= 0, infinite where it overflows: Python's raises there, C's does not."""
    if base == 0:
        return INF if exponent < 0 else 0.0
    return INF if exponent * math.log(base) > OVERFLOW else base**exponent


def products(arrays, scalars, r, d):
    dot, squares1, squares2, x1, x2 = arrays
    dot[r] += x1[r, d] * x2[r, d]
    squares1[r] += x1[r, d] * x1[r, d]
    squares2[r] += x2[r, d] * x2[r, d]


def cosine_gradient(arrays, scalars, r, d):
    grad1, grad2, along, across1, across2, x1, x2 = arrays
    grad1[r, d] = along[r] * x2[r, d] - across1[r] * x1[r, d]
    grad2[r, d] = along[r] * x1[r, d] - across2[r] * x2[r, d]


def powers(arrays, scalars, r, d):
    total, x1, x2 = arrays
    p, eps = scalars
    size = abs(x1[r, d] - x2[r, d] + eps)
    if p == 0:
        total[r] += 0.0 if size == 0 else 1.0
    elif math.isinf(p):
        if size != size or (size > total[r] if p > 0 else size < total[r]):
            total[r] = size
    else:
        total[r] += size * size if p == 2 else power(size, p)


def ties(arrays, scalars, r, d):
    count, norm, x1, x2 = arrays
    _, eps = scalars
    count[r] += 1.0 if abs(x1[r, d] - x2[r, d] + eps) == norm[r] else 0.0


def norm_gradient(arrays, scalars, r, d):
    gradient, upstream, norm, count, x1, x2 = arrays
    p, eps = scalars
    gap = x1[r, d] - x2[r, d] + eps
    if p == 1:
        slope = sign(gap)
    elif math.isinf(p):
        slope = sign(gap) / count[r] if abs(gap) == norm[r] else 0.0
    elif p < 1:
        slope = 0.0 if gap == 0 or p == 0 else sign(gap) * power(abs(gap), p - 1) * power(norm[r], 1 - p)
    else:
        slope = 0.0 if norm[r] == 0 else sign(gap) * power(abs(gap), p - 1) / power(norm[r], p - 1)
    gradient[r, d] = upstream[r] * slope


_products, _cosine_gradient = Kernel(components, products), Kernel(components, cosine_gradient)
_powers, _ties, _norm_gradient = (Kernel(components, reading) for reading in (powers, ties, norm_gradient))


class Vectors(Call):
    """One call on two arrays of vectors along an axis: broadcast, the axis last, rows (R, D) ready.

    Its losses are the similarities or distances; they are not reduced unless a loss does."""

    reduction = "none"

    def __init__(self, name: str, x1: Any, x2: Any, dim: int):
        x1, x2 = float_array(x1), float_array(x2)
        self.given = (x1.shape, x2.shape)
        try:
            self.common = np.broadcast_shapes(*self.given)
        except ValueError:
            raise RuntimeError(
                f"{name}: shapes {x1.shape} and {x2.shape}; needed are shapes that broadcast"
            ) from None
        axes = max(1, len(self.common))
        if not -axes <= dim < axes:
            raise IndexError(
                f"{name}: dim is {dim}; vectors of shape {self.common} need {-axes} to {axes - 1}"
            )
        self.axis = dim % axes
        sizes = list(self.common or (1,))
        self.moved = (*sizes[: self.axis], *sizes[self.axis + 1 :], sizes[self.axis])
        self.shape: tuple[int, ...] = self.moved[:-1]
        self.x1, self.x2 = (self._rows(np.broadcast_to(x, self.common or (1,))) for x in (x1, x2))

    def _rows(self, array: np.ndarray) -> np.ndarray:
        rows = np.moveaxis(array, self.axis, -1)
        return np.ascontiguousarray(rows.reshape(math.prod(self.moved[:-1]), self.moved[-1]))

    def _back(self, gradient: Any, given: tuple[int, ...]) -> Any:
        """A gradient of rows in the shape of what was given: summed where that was broadcast."""
        if isinstance(gradient, Bounded):
            value, error = self._placed(gradient.value), self._placed(gradient.error)
            return gathered(Bounded(value, error, gradient.contract), given)
        return gathered(self._placed(gradient), given)

    def _placed(self, rows: np.ndarray) -> np.ndarray:
        return np.moveaxis(rows.reshape(self.moved), -1, self.axis).reshape(self.common)

    def _operands(self, contract: Contract) -> tuple[Bounded, Bounded]:
        return contract.exact(self.x1), contract.exact(self.x2)


class Cosine(Vectors):
    """Cosines of the angles between vectors; with m = max(sqrt(|x|^2 + added), eps) for each

    cosine = x1 . x2 / (m1 m2)      gradient of x1 = x2 / (m1 m2) - cosine x1 / m1^2, the last where m1 >
    eps"""

    def __init__(self, name: str, x1: Any, x2: Any, dim: Any, eps: Any, added: float = 0.0):
        super().__init__(name, x1, x2, dim)
        self.eps, self.added = float(eps), added

    def _sums(self) -> tuple[np.ndarray, ...]:
        sums = tuple(np.zeros(len(self.x1)) for _ in range(3))
        _products((*sums, self.x1, self.x2), (), self.x1.size)
        return sums[0], sums[1] + self.added, sums[2] + self.added

    def losses(self) -> np.ndarray:
        dot, squares1, squares2 = self._sums()
        return (dot / (self._size(squares1) * self._size(squares2))).reshape(self.shape)

    def _size(self, squares: np.ndarray) -> np.ndarray:
        return np.where(np.sqrt(squares) < self.eps, self.eps, np.sqrt(squares))

    def slopes(self, upstream: np.ndarray) -> tuple:
        dot, *squares = self._sums()
        sizes = [self._size(square) for square in squares]
        along = upstream.ravel() / (sizes[0] * sizes[1])
        across = [np.where(np.sqrt(square) < self.eps, 0.0, along * dot / square) for square in squares]
        gradients = np.zeros_like(self.x1), np.zeros_like(self.x2)
        _cosine_gradient((*gradients, along, *across, self.x1, self.x2), (), self.x1.size)
        return tuple(self._back(*pair) for pair in zip(gradients, self.given, strict=True))

    def _bounded_sums(self, contract: Contract) -> tuple[Bounded, list[Bounded], list[Bounded]]:
        """x1 . x2, the two |x|^2 + added, the two divisors."""
        x1, x2 = self._operands(contract)
        squares = [(x * x).sum(1) + self.added for x in (x1, x2)]
        least = contract.constant(self.eps)
        sizes = [maximum(square.sqrt(), spread(least, square.value.shape)) for square in squares]
        return (x1 * x2).sum(1), squares, sizes

    def bounded_losses(self, contract: Contract) -> Bounded:
        """The quotient of the sums, or the sum of the products of unit vectors."""
        dot, _, (size1, size2) = self._bounded_sums(contract)
        x1, x2 = self._operands(contract)
        units = x1 / size1[:, None] * (x2 / size2[:, None])
        return either(dot / (size1 * size2), units.sum(1)).reshape(self.shape)

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        dot, squares, sizes = self._bounded_sums(upstream.contract)
        along = upstream.reshape(len(self.x1)) / (sizes[0] * sizes[1])
        operands, results = self._operands(upstream.contract), []
        for i, given in enumerate(self.given):
            root = squares[i].sqrt()
            across = along * dot / squares[i]
            across = branch(root.value < self.eps, root - self.eps, zero(across), across)
            gradient = sum_of(along[:, None] * operands[1 - i], -(across[:, None] * operands[i]))
            results.append(self._back(gradient, given))
        return tuple(results)


class Distance(Vectors):
    """p-norms of differences along the last axis.  In a gradient, 0 where the norm is 0 and the slope of
    |d|^p would not be finite; the largest components of an infinite norm share it evenly.

    `stores`: the norm that a gradient is made of has been stored in T, as an output is."""

    def __init__(
        self,
        name: str,
        x1: Any,
        x2: Any,
        p: Any = 2.0,
        eps: Any = 1e-6,
        keepdim: bool = False,
        stores: bool = True,
    ):
        for scalar in (p, eps):
            if not isinstance(scalar, Real):
                raise TypeError(f"{name}: a scalar argument is {scalar!r}; needed is a number")
        super().__init__(name, x1, x2, -1)
        self.scalars, self.stores = (float(p), float(eps)), stores
        if math.isinf(p) and self.x1.shape[1] == 0:
            raise RuntimeError(f"{name}: vectors without components have no norm of order {p}")
        self.rows = self.shape
        self.shape = (*self.shape, 1) if keepdim else self.shape

    def losses(self) -> np.ndarray:
        total = np.full(len(self.x1), math.inf if self.scalars[0] == -math.inf else 0.0)
        _powers((total, self.x1, self.x2), self.scalars, self.x1.size)
        p = self.scalars[0]
        if p == 2:
            total = np.sqrt(total)
        elif p != 0 and not math.isinf(p):
            total = np.array([power(value, 1 / p) for value in total])
        return total.reshape(self.shape)

    def slopes(self, upstream: np.ndarray) -> tuple:
        norm, count, gradient = self.losses().ravel(), np.zeros(len(self.x1)), np.zeros_like(self.x1)
        _ties((count, norm, self.x1, self.x2), self.scalars, self.x1.size)
        upstream = np.array(upstream.ravel())
        _norm_gradient((gradient, upstream, norm, count, self.x1, self.x2), self.scalars, self.x1.size)
        return self._back(gradient, self.given[0]), self._back(-gradient, self.given[1])

    def _gap(self, contract: Contract) -> Bounded:
        return difference(*self._operands(contract)) + self.scalars[1]

    def bounded_losses(self, contract: Contract) -> Bounded:
        gap, p = abs(self._gap(contract)), self.scalars[0]
        if p == 0:
            norm = contract.exact(self.losses())
        elif math.isinf(p):
            extreme = np.max if p > 0 else np.min
            value = extreme(gap.value, axis=1)
            error = np.maximum(
                extreme(gap.value + gap.error, axis=1) - value, value - extreme(gap.value - gap.error, axis=1)
            )
            norm = Bounded(value, np.where(np.isfinite(value), error, 0.0), contract)
        elif p == 1:
            norm = gap.sum(1)
        else:
            norm = (gap * gap).sum(1).sqrt() if p == 2 else bounded_power(bounded_power(gap, p).sum(1), 1 / p)
        return norm.reshape(self.shape)

    def bounded_slopes(self, upstream: Bounded) -> tuple:
        contract, p = upstream.contract, self.scalars[0]
        if p == 0:
            return None, None  # a constant
        column = (len(self.x1), 1)
        gap, upstream = self._gap(contract), spread(upstream.reshape(*column), self.x1.shape)
        norm = self.bounded_losses(contract).reshape(*column)
        norm = spread(norm.store() if self.stores else norm, self.x1.shape)
        gradient = (
            upstream * self._bounded_slope(gap, norm)
            if p not in (1, math.inf, -math.inf)
            else (signed(upstream, gap) if p == 1 else self._shared(upstream, gap))
        )
        return self._back(gradient, self.given[0]), self._back(-gradient, self.given[1])

    def _bounded_slope(self, gap: Bounded, norm: Bounded) -> Bounded:
        p = self.scalars[0]
        if p == 2:
            slope = gap / norm
        elif p < 1:
            slope = signed(bounded_power(abs(gap), p - 1) * bounded_power(norm, 1 - p), gap)
        else:
            slope = signed(bounded_power(abs(gap), p - 1) / bounded_power(norm, p - 1), gap)
        return where(gap.value == 0 if p < 1 else norm.value == 0, zero(gap), slope)

    def _shared(self, upstream: Bounded, gap: Bounded) -> Bounded:
        """An infinite norm's gradient: to its largest (or smallest) components, evenly; to any of them where
        rounding decides which they are."""
        size, p = abs(gap), self.scalars[0]
        direction = math.copysign(1.0, p)
        reach = direction * size.value
        best = (reach - size.error).max(axis=1, keepdims=True)
        near = reach + size.error >= best
        chosen = reach == reach.max(axis=1, keepdims=True)
        count = chosen.sum(axis=1, keepdims=True)
        share = signed(
            upstream
            * (1.0 / upstream.contract.exact(np.broadcast_to(np.maximum(count, 1.0), size.value.shape))),
            gap,
        )
        open_choice = (near.sum(axis=1, keepdims=True) > count) | (
            (near & (size.error > 0)).any(axis=1, keepdims=True) & (count > 1)
        )
        error = np.where(
            near & open_choice, 2 * np.abs(upstream.value) + share.error, np.where(chosen, share.error, 0.0)
        )
        value = np.where(chosen, share.value, 0.0 * upstream.value)
        return Bounded(value, error, upstream.contract)


def bounded_power(base: Bounded, exponent: float) -> Bounded:
    """base^exponent for base >= 0, the exponent held in A."""
    with np.errstate(all="ignore"):
        result = base.apply(
            lambda value: np.power(np.maximum(value, 0.0), exponent), base.contract.library("pow")
        )
        moved = np.abs(np.log(base.value)) * base.contract.constant(exponent).error * np.abs(result.value)
    return Bounded(result.value, result.error + np.where(np.isfinite(moved), moved, 0.0), base.contract)


def _cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along `dim`.

        output = x1 . x2 / (max(|x1|, eps) max(|x2|, eps))

    x1 (*), x2 (*), broadcast to a common shape -> output that shape without axis `dim`.
    Gradients: a norm below eps is a constant.  Error: about gamma(3 length) |x1| . |x2| / (|x1| |x2|).
    Raises IndexError for a dim out of range, RuntimeError for shapes that do not broadcast and a negative
    eps, TypeError for a dim that is no int.  Source: torch.nn.functional.cosine_similarity."""
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or not isinstance(eps, Real):
        raise TypeError(f"cosine_similarity: dim is {dim!r}, eps {eps!r}; needed are an int and a number")
    call = Cosine("cosine_similarity", x1, x2, dim, eps)
    if eps < 0:
        raise RuntimeError(f"cosine_similarity: eps is {eps}; needed is at least 0")
    return call


def _pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last axis.

        output = sum(|x1 - x2 + eps|^p)^(1/p);  p 0 counts what is not 0, p inf takes the largest, -inf the
        smallest

    x1 (*, D), x2 (*, D), broadcast to a common shape -> output (*), with keepdim (*, 1).
    Error: about gamma(D) of the norm, and 4 ulps of each power.
    Raises RuntimeError for shapes that do not broadcast and an infinite norm of nothing, TypeError for p or
    eps that is no number.  Source: torch.nn.functional.pairwise_distance."""
    return Distance("pairwise_distance", x1, x2, p, eps, keepdim)


cosine_similarity, cosine_similarity_backward = functions(_cosine_similarity)
pairwise_distance, pairwise_distance_backward = functions(_pairwise_distance)


class CosineSimilarity(CallLayer):
    """`cosine_similarity` as a layer.  Source: torch.nn.CosineSimilarity."""

    call = staticmethod(_cosine_similarity)

    def __init__(self, dim=1, eps=1e-8):
        super().__init__(dim=dim, eps=eps)


class PairwiseDistance(CallLayer):
    """`pairwise_distance` as a layer; `p` is kept as `norm`.  Source: torch.nn.PairwiseDistance."""

    call = staticmethod(_pairwise_distance)

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__(p=p, eps=eps, keepdim=keepdim)
        self.norm = p

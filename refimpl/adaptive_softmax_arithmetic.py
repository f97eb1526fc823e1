"""Two arithmetics for log-softmax of linear maps, for arrays whose rows are samples: loops, and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.attention_arithmetic import Bounds, Loops
from refimpl.bounded import finite_where
from refimpl.error_bounds import FLOATS, Bounded
from refimpl.floats import outward
from refimpl.loss_bounds import AnyOrder, put, sum_of
from refimpl.softmax import STORED_LOGARITHM, log_softmax, log_softmax_backward


class Rows(Loops):
    """The references of the parts."""

    def log_softmax(self, input: Any) -> Any:
        return log_softmax(input, 1)

    def log_softmax_gradient(self, grad_output: Any, input: Any, output: Any) -> Any:
        return log_softmax_backward(grad_output, input, 1)[0]

    def joined(self, move: Callable, *operands: Any) -> Any:
        """What `move` makes of several arrays at once."""
        return move(*operands)

    def row_sums(self, operand: Any) -> Any:
        return operand.sum(axis=1)

    def share(self, operand: Any, count: int) -> Any:
        """Divided by a count."""
        return operand / np.float64(count)

    def total_of(self, operand: Any) -> Any:
        """The sum of a vector."""
        return operand.sum()


class BoundedRows(Bounds):
    """The same in Bounded arithmetic; the result of every operation is stored."""

    def log_softmax(self, input: Bounded) -> Bounded:
        """distance - log(sum(exp(distance))), from the row's largest element, whichever of those near it that
        is: it has no error of its own, but the roundings are those of a distance that much larger.

        Of a single class the distance is 0, and so are its logarithm and its gradient, without a rounding."""
        if input.value.shape[1] == 1:
            return self.exact(input.value - input.value)
        loose = AnyOrder.of(self.contract)
        distance = Bounded(input.value, input.error, loose) - loose.exact(largest(input.value, -np.inf))
        farthest = largest(distance.error, 0.0)
        logarithm = self._logarithm_of_sum(distance, farthest)
        result = distance - logarithm
        error = result.error + 4 * loose.u * farthest
        return put(Bounded(result.value, finite_where(result.value, outward(error)), self.contract))

    def _logarithm_of_sum(self, distance: Bounded, farthest: np.ndarray) -> Bounded:
        """Off by what the sum's error does to it, but by no more than the largest error of a distance.

        log(sum(exp(d))) changes by at most max|change of d|; to that come the roundings."""
        total = distance.exp().sum(1, keepdims=True)
        exact = distance.contract.exact(distance.value).exp().sum(1, keepdims=True)
        if self.contract.algorithm == STORED_LOGARITHM:
            total, exact = put(total), put(exact)
        through, most = total.log(), exact.log()
        error = outward(most.error + farthest + 4 * distance.contract.u * farthest)
        error = np.where(through.error < error, through.error, error)
        logarithm = Bounded(through.value, finite_where(through.value, error), distance.contract)
        return put(logarithm) if self.contract.algorithm == STORED_LOGARITHM else logarithm

    def log_softmax_gradient(self, grad_output: Bounded, input: Bounded, output: Bounded) -> Bounded:
        if input.value.shape[1] == 1:
            return self.exact(grad_output.value * output.value)
        return put(grad_output - output.exp() * grad_output.sum(1, keepdims=True))

    def joined(self, move: Callable, *operands: Bounded) -> Bounded:
        value, error = (move(*(getattr(x, name) for x in operands)) for name in ("value", "error"))
        return Bounded(value, error, self.contract)

    def row_sums(self, operand: Bounded) -> Bounded:
        return put(operand.sum(1))

    def share(self, operand: Bounded, count: int) -> Bounded:
        """Multiplied by the reciprocal, which is one rounding more than a division."""
        return put(operand * (1.0 / self.exact(float(count))))

    def total_of(self, operand: Bounded) -> Bounded:
        return operand.sum()

    def add(self, *operands: Bounded) -> Bounded:
        """In any order, each partial sum stored."""
        total = sum_of(*operands)
        size = sum(np.abs(x.value) + x.error for x in operands)
        stores = (len(operands) - 1) * FLOATS[self.contract.store].half_spacing(outward(size))
        return replace(total, error=finite_where(total.value, outward(total.error + stores)))


def largest(values: np.ndarray, least: float) -> np.ndarray:
    """The largest number of each row."""
    return values.max(axis=1, keepdims=True, initial=least)

"""How far a correct layer normalization of numbers that are off themselves may be from the exact one.

    hat = (x - mean) s,  s = 1 / sqrt(variance + eps);   output = hat weight + bias
    d hat = s P d,   P = I - 1 1'/n - hat hat'/n;   grad = s P p,   p = grad_output weight

Two things are added: what the errors d of x (and e of p) can do to the exact result, and what an
implementation's roundings can do to any x within d.  Bounded arithmetic adds them up operation by operation,
which forgets that mean and deviation move along with x: that costs a factor of 3 a normalization forward and
of 6 backward, and nothing would be left after a few layers.  With P, the derivative, it is less than 2.

d.  |sqrt(variance + eps)| changes by at most rms(d), so s is at most V = 1 / (1 / s - rms(d)), and hat by at
    most r.  At each point between, |P_ij| is at most |P_ij| + (|hat_i| r_j + r_i |hat_j| + r_i r_j) / n.
e.  s P p changes by at most V |P| e.
Roundings.  The formula in Bounded arithmetic on the largest magnitudes that operands can have, differences
    replaced by sums: an error there depends on nothing else.
"""

from __future__ import annotations

import math

import numpy as np

from refimpl.bounded import finite_where
from refimpl.error_bounds import Bounded, inverse_deviation
from refimpl.floats import gamma, outward


class LayerNormBounds:
    """Normalization over the last axis of `input`."""

    def __init__(self, input: Bounded, eps: float):
        self.contract, self.input = input.contract, input
        value, off = input.value, input.error
        self.count = value.shape[-1]
        roundings = self.count + 4 * (1 + math.ceil(math.log2(self.count)))
        self.mean = value.mean(-1, keepdims=True)
        centered = value - self.mean
        deviation = np.sqrt(np.square(centered).mean(-1, keepdims=True))
        self.slope = 1.0 / np.sqrt(np.square(deviation) + eps)
        self.hat, self.off = centered * self.slope, off
        self.far = np.sqrt(np.square(off).mean(-1, keepdims=True))
        self.steepest = 1.0 / np.maximum(1.0 / self.slope - self.far, math.sqrt(eps))
        self._statistics(np.abs(centered), deviation, roundings, eps)
        self._movement()

    def _statistics(self, size: np.ndarray, deviation: np.ndarray, roundings: int, eps: float) -> None:
        """Largest |x - mean| and s of what a candidate may have, with its roundings: as
        `statistics_bounds.statistics`, whose e and P are taken for the largest numbers."""
        contract, eta = self.contract, self.count * self.contract.eta
        self.size = np.abs(self.input.value) + self.off
        own = gamma(roundings, contract.u) * self.size.mean(-1, keepdims=True) + eta
        size = size + self.off + self.off.mean(-1, keepdims=True)
        self.centre = Bounded(size, self._outward(own + contract.rounding(size + own)), contract)
        largest, least = deviation + self.far, np.maximum(deviation - self.far, 0.0)
        moved = own**2 + (1 + math.sqrt(2)) * own * largest
        spread = moved + gamma(roundings + 4, contract.u) * (largest**2 + moved) + eta
        variance = Bounded(np.square(least), self._outward(spread), contract)
        self.inverse = inverse_deviation(variance, eps)

    def _movement(self) -> None:
        """How much `hat` may differ, and its derivative anywhere between."""
        off, size = self.off, np.abs(self.hat)
        rough = self.steepest * (off + off.mean(-1, keepdims=True) + size * self.far)
        self.projection = np.abs(
            np.eye(self.count) - (1.0 + self.hat[..., :, None] * self.hat[..., None, :]) / self.count
        )
        self.moved = rough
        self.moved_by = self.steepest * self._projected(off)
        self.moved = np.minimum(rough, self.moved_by)
        self.largest = size + self.moved

    def _projected(self, off: np.ndarray) -> np.ndarray:
        """|P| off, with the P of any point between."""
        direct = (self.projection @ off[..., None])[..., 0]
        size, moved = np.abs(self.hat), self.moved
        inner, outer = (moved * off).mean(-1, keepdims=True), (size * off).mean(-1, keepdims=True)
        return direct + size * inner + moved * (outer + inner)

    def _bounded(self, value: np.ndarray, moved: np.ndarray, roundings: Bounded) -> Bounded:
        error = self._outward(moved + roundings.error)
        return Bounded(value, finite_where(value, error), self.contract)

    def _outward(self, bound: np.ndarray) -> np.ndarray:
        """With the roundings of all that is evaluated here, of which most are those of sums over a row."""
        return outward(bound, 8 * self.count + 64)

    def normalized(self) -> Bounded:
        """`hat` as a candidate may have it."""
        return self._bounded(self.hat, self.moved, self.centre * self.inverse)

    def output(self, weight: Bounded, bias: Bounded | None) -> Bounded:
        result = self.normalized() * weight
        result = result if bias is None else result + bias
        size = (self.size + np.abs(self.mean)) * self._steep() * np.abs(weight.value)
        return self._expanded(result, size if bias is None else size + np.abs(bias.value), 6)

    def input_gradient(self, grad_output: Bounded, weight: Bounded) -> Bounded:
        up, off = grad_output.value * weight.value, grad_output.error * np.abs(weight.value)
        straight = up - up.mean(-1, keepdims=True)
        share = (up * self.hat).mean(-1, keepdims=True)
        apart = (np.abs(up) * self.moved).mean(-1, keepdims=True)
        largest = np.abs(straight - self.hat * share) + np.abs(self.hat) * apart
        largest = self.steepest * (largest + self.moved * (np.abs(share) + apart))
        moved = largest * (self.largest * self.off).mean(-1, keepdims=True)
        moved = moved + self.largest * (largest * self.off).mean(-1, keepdims=True)
        moved = moved + self.moved_by * (np.abs(share) + apart) + self._projected(off)
        value = (straight - self.hat * share) * self.slope
        size = Bounded(np.abs(grad_output.value) + grad_output.error, np.zeros_like(up), self.contract)
        rounded = self._rounded_gradient(size * abs(weight))
        return self._expanded(
            self._bounded(value, self.steepest * moved, rounded),
            self._size(size * abs(weight)),
            self.count + 12,
        )

    def _rounded_gradient(self, up: Bounded) -> Bounded:
        """The formula on magnitudes: (up - mean(up) - (x - mean) mean(up (x - mean)) s^2) s."""
        share = (up * self.centre).sum(-1, keepdims=True) * self.inverse * self.inverse / self.count
        return (up + up.sum(-1, keepdims=True) / self.count + self.centre * share) * self.inverse

    def weight_gradient(self, grad_output: Bounded) -> Bounded:
        result = (grad_output * self.normalized()).reshape(-1, self.count)
        size = (
            (np.abs(grad_output.value) + grad_output.error) * (self.size + np.abs(self.mean)) * self._steep()
        )
        size = size.reshape(result.value.shape)
        return self._expanded(result.sum(0), size.sum(0), len(size) + 6)

    def _size(self, up: Bounded) -> np.ndarray:
        """Magnitudes where the gradient is taken as a multiple of x, one of grad_output and a constant."""
        far, size = self.size + np.abs(self.mean), up.value + up.error
        slope = (size * far).mean(-1, keepdims=True) * self._steep() ** 2
        return (size + slope * far + size.mean(-1, keepdims=True)) * self._steep()

    def _steep(self) -> np.ndarray:
        return self.inverse.value + self.inverse.error

    def _expanded(self, result: Bounded, size: np.ndarray, roundings: int) -> Bounded:
        """As implementations do that multiply the input and its mean with the slope one by one."""
        more = gamma(roundings, self.contract.u) * size + roundings * self.contract.eta
        more = np.where(size == 0, 0.0, more)  # nothing is added up in an empty batch
        return Bounded(result.value, finite_where(result.value, outward(result.error + more)), self.contract)

"""Where an output element of an interpolation reads along one axis, with what weights, and how certain those
are.

Output y of P reads around the source coordinate s of an axis of L elements, r = L / P or 1 / scale_factor:

    s = r y                       nearest; and align_corners, with r = (L - 1) / (P - 1)
    s = r (y + 1/2)               nearest-exact; and the centre of an antialiased window
    s = r (y + 1/2) - 1/2         linear, cubic

Coordinates are exact here (integers over a common denominator).  An implementation rounds r once, the
product once and the difference once, so its coordinate is off by a `slack`; its weights differ by the slope
of the interpolation kernel times that.  The weights of a coordinate add up to 1 wherever it is, so what
these differences do to an output is relative to how far the elements read are from each other (`drift`); the
rounding of the weights themselves is not (`loose`). Where the slack reaches over an element, a neighbour may
be read: its weight is 0 here, its drift is not.  Nearest modes read one element, another one a rounding
further on: there each order of evaluation counts, not the largest slack.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from refimpl.error_bounds import FLOATS, Contract, gamma, round_to

STORED_WEIGHTS = "stored weights"
_CUBIC = {False: Fraction(-3, 4), True: Fraction(-1, 2)}  # the kernel's parameter, without and with antialias


@dataclass(frozen=True)
class Taps:
    """Taps of an axis, each array (outputs, taps): `index` -1 where there is none."""

    index: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Table(Taps):
    """Taps of an axis with what a candidate's weights may differ: none but those that may have a weight.

    exact   whether every implementation has these weights without any rounding"""

    drift: np.ndarray
    loose: np.ndarray
    exact: bool

    @property
    def present(self) -> np.ndarray:
        """Taps that a candidate may have with a weight that is not 0."""
        return self.index >= 0


@dataclass(frozen=True)
class Axis:
    """An axis of `size` elements resampled to `outputs`; kind 'nearest', 'nearest-exact', 'linear' or
    'cubic'."""

    size: int
    outputs: int
    ratio: Fraction
    kind: str
    corners: bool = False
    antialias: bool = False

    @property
    def shifted(self) -> bool:
        return self.kind in ("linear", "cubic") and not self.corners and not self.antialias

    def _product(self) -> tuple[np.ndarray, int]:
        """r y or r (y + 1/2), numerators and denominator, as integers of any size."""
        whole = self.kind == "nearest" or (self.corners and not self.antialias)
        places = np.array([2 * y + (not whole) for y in range(self.outputs)], dtype=object)
        return places * self.ratio.numerator, 2 * self.ratio.denominator

    def _coordinate(self) -> tuple[np.ndarray, int]:
        numerators, denominator = self._product()
        return (numerators - denominator // 2 if self.shifted else numerators), denominator

    def slack(self, contract: Contract) -> np.ndarray:
        """How far a candidate's coordinate may be off: one rounding of r, of the product and of the
        difference."""
        product, denominator = self._product()
        coordinate, _ = self._coordinate()
        held = _held(np.array([self.ratio.numerator], dtype=object), self.ratio.denominator, contract)
        held_product = held & _held(product, denominator, contract)
        error = np.where(held_product, 0.0, gamma(2, contract.u) * np.abs(_quotient(product, denominator)))
        if not self.shifted:
            return error
        size = np.abs(_quotient(coordinate, denominator)) + error
        exact = held_product & _held(coordinate, denominator, contract)
        return error + np.where(exact, 0.0, contract.u * size)

    @lru_cache(maxsize=1024)  # noqa: B019  (an axis is a few numbers; the cache lives as long as the process)
    def table(self, kind: type = np.float64) -> Taps:
        """The exact weights, as float64 or as fractions (`object`)."""
        index, weight = (np.stack(columns, axis=1) for columns in self._taps(kind, None))
        return Taps(*_columns(index >= 0, index, weight))

    def within(self, contract: Contract) -> Table:
        """The weights with what a candidate's may differ under a contract; of its storage type they depend
        only where they are stored."""
        stored = contract.algorithm == STORED_WEIGHTS
        return self._within(contract if stored else replace(contract, store=contract.accumulate))

    @lru_cache(maxsize=1024)  # noqa: B019
    def _within(self, contract: Contract) -> Table:
        index, weight, drift, loose, exact = self._taps(np.float64, contract)
        index, weight, drift, loose = (np.stack(columns, axis=1) for columns in (index, weight, drift, loose))
        if contract.algorithm == STORED_WEIGHTS:
            loose, exact = loose + FLOATS[contract.store].roundoff, False
        index, weight, drift, loose = _columns((weight != 0) | (drift > 0), index, weight, drift, loose)
        return Table(index, weight, drift, loose, exact)

    def _taps(self, kind: type, contract: Contract | None) -> tuple:
        """Columns of index and weight; under a contract drift and loose as well, and whether it is exact."""
        of_kind = {"linear": _linear, "cubic": _cubic}.get(self.kind, _nearest)
        return (_antialiased if self.antialias else of_kind)(self, kind, contract)

    def unsettled(self, contract: Contract) -> np.ndarray:
        """Elements that a candidate may read or not: NaN or infinity there decides nothing.  Their weight is
        0, or so small that rounding may make it 0."""
        plain, table = self.table(), self.within(contract)
        doubtful = np.zeros(self.size, dtype=bool)
        doubtful[plain.index[(plain.index >= 0) & (plain.weight == 0)]] = True
        doubtful[table.index[(table.index >= 0) & (np.abs(table.weight) <= table.drift + table.loose)]] = True
        return doubtful


def _columns(used: np.ndarray, index: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The taps that are used, without columns that none uses."""
    keep = used.any(axis=0)
    index = np.where(used, index, -1).astype(np.int64)
    return [np.ascontiguousarray(array[:, keep]) for array in (index, *arrays)]


def _quotient(numerators: np.ndarray, denominator: int) -> np.ndarray:
    """Integers of any size divided, each rounded once."""
    return np.array([int(n) / denominator for n in numerators], dtype=np.float64)


def _held(numerators: np.ndarray, denominator: int, contract: Contract) -> np.ndarray:
    """Which of the quotients A holds exactly."""
    values = _quotient(numerators, denominator)
    whole = np.array(
        [Fraction(float(v)) * denominator == n for v, n in zip(values, numerators, strict=True)], dtype=bool
    )
    return whole & (round_to(contract.accumulate, values) == values)


def _parts(axis: Axis, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Whole part and fraction of the coordinates; clamped at the first element for linear interpolation."""
    numerators, denominator = axis._coordinate()
    numerators = np.maximum(numerators, 0) if axis.kind == "linear" else numerators
    floor = numerators // denominator
    rest = numerators - floor * denominator
    if kind is object:
        fraction = np.array([Fraction(int(n), denominator) for n in rest], dtype=object)
    else:
        fraction = _quotient(rest, denominator)
    return floor.astype(np.int64), fraction


def _nearest(axis: Axis, kind: type, contract: Contract | None) -> tuple:
    """One tap.  Where rounding can move the coordinate over a whole number either neighbour is right: drift
    1.  P <= L / r, so no coordinate lies beyond the last element, but a rounded one may."""
    floor, _ = _parts(axis, kind)
    one: np.ndarray = np.ones(axis.outputs, dtype=kind)
    if contract is None:
        return [floor], [one]
    found = [np.minimum(np.floor(value), axis.size - 1) for value in _evaluations(axis, contract)]
    down, up = np.minimum.reduce(found) < floor, np.maximum.reduce(found) > floor
    drift, zero = [doubt.astype(np.float64) for doubt in (down | up, down, up)], np.zeros(axis.outputs)
    return [floor, floor - 1, floor + 1], [one, zero, zero], drift, [zero] * 3, not (down | up).any()


def _evaluations(axis: Axis, contract: Contract) -> list[np.ndarray]:
    """The coordinate of a nearest mode as it comes out in A or in float64, in each order in which it can be
    evaluated: place times rounded r, place divided by rounded 1 / r, the exact product divided, and with 1/2
    taken off and added."""
    numerators, denominator = axis._coordinate()
    places = np.arange(axis.outputs) + (0.5 if axis.kind == "nearest-exact" else 0.0)
    values = []
    for dtype in (contract.accumulate, "float64"):
        ratio, inverse = (round_to(dtype, float(number)) for number in (axis.ratio, 1 / axis.ratio))
        product = round_to(dtype, places * ratio)
        values += [
            product,
            round_to(dtype, places / inverse),
            round_to(dtype, _quotient(numerators, denominator)),
        ]
        if axis.kind == "nearest-exact":
            values += [round_to(dtype, round_to(dtype, product - 0.5) + 0.5)]
    return values


def _linear(axis: Axis, kind: type, contract: Contract | None) -> tuple:
    """1 - f and f, the fraction of the coordinate.

    x0 + f (x1 - x0) rounds the difference and its product with f, relative to the difference.  Before the
    first element either the coordinate is clamped or both indices are: weights that add up to 1, rounded."""
    floor, fraction = _parts(axis, kind)
    if contract is None:
        return [np.minimum(floor + k, axis.size - 1) for k in (0, 1)], [1 - fraction, fraction]
    slack, u = axis.slack(contract), contract.u
    numerators, denominator = axis._coordinate()
    outside = _quotient(numerators, denominator)
    slack = np.where(outside + slack < 0, 0.0, slack)  # clamped for certain
    index = [np.minimum(floor + k, axis.size - 1) for k in (0, 1, -1, 2)]
    zero, lerp = np.zeros(axis.outputs), gamma(2, u) * fraction
    crossing = (
        np.where((fraction - slack < 0) & (floor > 0), slack, 0.0),
        np.where(fraction + slack >= 1, slack, 0.0),
    )
    drift = [slack + lerp, slack + lerp, *crossing]
    rounded = np.where((slack == 0) & (fraction == 0), 0.0, u * (1 - fraction + slack))
    rounded = np.where(outside < 0, gamma(4, u), rounded)
    exact = not slack.any() and bool(_held_sums(fraction, contract).all())
    return index, [1 - fraction, fraction, zero, zero], drift, [rounded, zero, zero, zero], exact


def _held_sums(fraction: np.ndarray, contract: Contract) -> np.ndarray:
    """Where A holds 1 - f exactly."""
    return round_to(contract.accumulate, 1 - fraction) == 1 - fraction


def near(distance: Any, a: Any) -> Any:
    """Cubic convolution kernel up to distance 1."""
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1


def far(distance: Any, a: Any) -> Any:
    """Cubic convolution kernel from distance 1 to 2."""
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a


def _cubic_change(distance: np.ndarray, slack: np.ndarray, a: Any) -> np.ndarray:
    """How much the kernel can change within `slack`: slope times slack, and half the largest
    curvature, a + 3."""
    inner = np.abs((3 * (a + 2) * distance - 2 * (a + 3)) * distance)
    outer = np.abs((3 * a * distance - 10 * a) * distance + 8 * a)
    slope = np.where(distance <= 1, inner, np.where(distance < 2, outer, 0.0))
    return slope * slack + (a + 3) * slack**2


def _cubic(axis: Axis, kind: type, contract: Contract | None) -> tuple:
    """Keys' kernel with a = -3/4 at the four elements around the coordinate, indices clamped to the axis."""
    floor, fraction = _parts(axis, kind)
    a = _CUBIC[False] if kind is object else float(_CUBIC[False])
    distances: list[tuple[Callable, Any]] = [
        (far, fraction + 1),
        (near, fraction),
        (near, 1 - fraction),
        (far, 1 - fraction + 1),
    ]
    weight = [kernel(distance, a) for kernel, distance in distances]
    index = [(floor + k).clip(0, axis.size - 1) for k in (-1, 0, 1, 2)]
    zero = np.zeros(axis.outputs)
    if contract is None:
        return index, weight
    slack, t = axis.slack(contract), contract.exact(fraction)
    evaluated = [far(t + 1.0, a), near(t, a), near(1.0 - t, a), far(1.0 - t + 1.0, a)]
    few_bits = (fraction * 64 == np.rint(fraction * 64)) & (slack == 0)  # all steps fit into 24 bits
    loose = [np.where(few_bits, 0.0, value.error) for value in evaluated]
    drift = [_cubic_change(np.asarray(distance), slack, a) for _, distance in distances]
    edge = far(contract.exact(np.array([2.0])), a).error
    for k, crossed in ((-2, fraction - slack < 0), (3, fraction + slack >= 1)):
        index.append((floor + k).clip(0, axis.size - 1))
        weight.append(zero)
        drift.append(np.where(crossed, (a + 3) * slack**2 + edge, 0.0))
        loose.append(zero)
    return index, weight, drift, loose, bool(few_bits.all())


def _antialiased(axis: Axis, kind: type, contract: Contract | None) -> tuple:
    """The kernel stretched over max(1, r) elements an output, over the elements that there are, divided by
    its sum."""
    radius, stretch = (1 if axis.kind == "linear" else 2), max(Fraction(1), axis.ratio)
    numerators, denominator = axis._coordinate()
    reach, spare = radius * stretch, 2
    first = np.array([math.floor(Fraction(int(n), denominator) - reach - Fraction(1, 2)) for n in numerators])
    index, arguments = [], []
    for k in range(-1, math.ceil(2 * reach) + spare):
        place = (first + k).astype(object)
        over = ((2 * place + 1) * denominator - 2 * numerators) * stretch.denominator
        under = 2 * denominator * stretch.numerator
        fractions = np.array([Fraction(int(n), under) for n in over], dtype=object)
        arguments.append(np.abs(fractions if kind is object else fractions.astype(np.float64)))
        index.append(np.where((first + k >= 0) & (first + k < axis.size), first + k, -1))
    a = _CUBIC[True] if kind is object else float(_CUBIC[True])
    bare = [
        np.where(place >= 0, _kernel(axis.kind, argument, a), 0)
        for place, argument in zip(index, arguments, strict=True)
    ]
    total = sum(bare)
    weight = [value / total for value in bare]
    if contract is None:
        return [np.where(value != 0, place, -1) for place, value in zip(index, bare, strict=True)], weight
    change = [
        np.where(place >= 0, _bare_error(axis, contract, argument, a, float(stretch)), 0.0)
        for place, argument in zip(index, arguments, strict=True)
    ]
    all_change, size = sum(change), sum(np.abs(value) for value in bare)
    drift = [
        (own + np.abs(value) * all_change) / (total - all_change)
        for own, value in zip(change, weight, strict=True)
    ]
    summed = gamma(2, contract.u) + gamma(len(bare), contract.u) * size / (total - all_change)
    return index, weight, drift, [np.abs(value) * summed for value in weight], False


def _kernel(kind: str, distance: np.ndarray, a: Any) -> np.ndarray:
    if kind == "linear":
        return np.maximum(1 - distance, 0)
    return np.where(distance < 1, near(distance, a), np.where(distance < 2, far(distance, a), 0))


def _bare_error(axis: Axis, contract: Contract, argument: np.ndarray, a: Any, stretch: float) -> np.ndarray:
    """Error of one weight before the division by the sum.

    The argument (x + 1/2 - centre) / stretch: the centre's slack and two roundings of the difference, then
    one of the stretch, of its reciprocal and of the product; none where all of these are exact.  Then the
    kernel's own."""
    off = (axis.slack(contract) + gamma(2, contract.u) * (argument * stretch + 1)) / stretch
    off = off + gamma(3, contract.u) * (argument + off)
    radius = 1 if axis.kind == "linear" else 2
    if axis.kind == "linear":
        error = off + contract.u * (np.maximum(1 - argument, 0) + off)
    else:
        inside = contract.exact(np.minimum(argument, 2.0))
        rounding = np.where(argument < 1, near(inside, a).error, far(inside, a).error)
        error = _cubic_change(argument, off, a) + rounding
    return np.where(argument - off < radius, error, 0.0)

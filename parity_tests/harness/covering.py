"""Covering arrays: few rows in which any three values that can meet do meet.

Source: the greedy algorithm of Cohen, Dalal, Fredman and Patton, "The AETG System", IEEE TSE 23(7), 1997: try
many rows, give each axis the value that covers most, keep the best row. Its deterministic relative: Bryce and
Colbourn, "A density-based greedy algorithm for higher strength covering arrays", STVR 19(1), 2009.
Why not a package: none takes full-factorial seed rows with constraints and proves triples infeasible, and
coverage is to be counted, not trusted: allpairspy 2.5 with n=3 covered 52 % of the triples when measured.

Inside, values are indices (True equals 1, their indices differ). A *seed* maps some axes to indices; in a row
the number of values of an axis stands for "open"; a *flat* index numbers the values of all axes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from parity_tests.harness.kept import fingerprint, kept

Axes = Mapping[str, Sequence[Any]]
CANDIDATES = 40  # tried for each row kept; 12 axes of 4 values: 20 give 170 rows, 40 166, 100 170


@dataclass(frozen=True)
class Constraint:
    """A reason why some combinations of values cannot be."""

    axes: tuple[str, ...]  # the axes the predicate looks at
    holds: Callable[..., bool]  # called with the values of those axes, in that order; True = possible
    reason: str


@dataclass(frozen=True)
class CoveringArray:
    """Rows and what they cover; at strength 2 read "pair" for "triple", at strength 1 "value"."""

    rows: tuple[dict[str, Any], ...]  # full assignments axis -> value, all feasible, no duplicates
    triples: int  # feasible triples of (axis, value) on three different axes
    covered: int  # how many of them the rows cover, counted from the rows
    infeasible: int  # triples that no feasible row can hold, each proved by search
    dropped: Mapping[str, int]  # reason -> number of infeasible combinations of the factorial axes


def covering_array(
    axes: Axes, factorial: Sequence[str] = (), constraints: Sequence[Constraint] = (), strength: int = 3
) -> CoveringArray:
    """Rows with all feasible combinations of the `factorial` axes and all feasible triples on all axes.

    First a row for each factorial combination, then what the triples still need. The first value of an axis
    is its default; the first row is all defaults if that is feasible. Same arguments, same rows.
    Raises ValueError for an axis without values or with equal ones, unknown names, or no feasible row.
    """
    _check_arguments(axes, factorial, constraints, strength)
    tables = [_Table(axes, constraint) for constraint in constraints]
    sizes = [len(values) for values in axes.values()]
    factorial_axes = [axis for axis, name in enumerate(axes) if name in factorial]
    problem = [(table.axes, table.reason) for table in tables]
    name = fingerprint(__file__, sizes, factorial_axes, strength, problem, *(table.holds for table in tables))
    found = kept(f"covering-{name}", lambda: _find(sizes, factorial_axes, tables, strength))
    dropped = dict(zip(found["reasons"].tolist(), found["dropped"].tolist(), strict=True))
    rows = [
        {name: values[index] for (name, values), index in zip(axes.items(), row, strict=True)}
        for row in found["rows"].tolist()
    ]
    if not rows:
        raise ValueError(f"no row of the axes {list(axes)} is feasible, need at least one: {dropped}")
    triples, covered, infeasible = found["counts"].tolist()
    return CoveringArray(tuple(rows), triples, covered, infeasible, MappingProxyType(dropped))


def _find(
    sizes: list[int], factorial_axes: list[int], tables: list[_Table], strength: int
) -> dict[str, np.ndarray]:
    """The rows as indices, how many triples there are, are covered, are infeasible, and what was dropped."""
    feasibility = _Feasibility(sizes, tables)
    cover = _Cover(sizes, feasibility, min(strength, len(sizes)))
    dropped: Counter[str] = Counter()
    default = dict.fromkeys(range(len(sizes)), 0)
    if feasibility.complete(default):
        cover.add_row(default)
    for combination in itertools.product(*(range(sizes[axis]) for axis in factorial_axes)):
        seed = dict(zip(factorial_axes, combination, strict=True))
        if not feasibility.complete(seed):
            dropped[feasibility.conflict(seed)] += 1
        elif any(combination) or not cover.rows:  # else the default row is the one for this combination
            cover.add_row(seed)
    while cover.rows and (seed := cover.first_uncovered()):
        if feasibility.complete(seed):
            cover.add_row(seed)
        else:
            cover.rule_out(seed)
    rows = np.array(cover.rows, np.int16).reshape(len(cover.rows), len(cover.sizes))[:, : len(sizes)]
    covered = _held(rows, strength).shape[1] if len(rows) else 0
    return {
        "rows": rows,
        "counts": np.array([cover.total - cover.infeasible, covered, cover.infeasible]),
        "reasons": np.array(list(dropped), dtype=str),
        "dropped": np.array(list(dropped.values()), dtype=int),
    }


def covered(rows: Sequence[Mapping[str, Any]], strength: int = 3) -> int:
    """How many triples of values some of the rows hold."""
    if not rows:
        return 0
    columns = _columns(rows, list(rows[0])).T
    groups = itertools.combinations(columns, min(strength, len(columns)))
    return sum(len(np.unique(_code(group))) for group in groups)


def prefix(
    axes: Axes, rows: Sequence[dict[str, Any]], cases: int, strength: int = 2
) -> tuple[dict[str, Any], ...]:
    """About `cases` of the `rows`, in their order, that together hold every pair of values that `rows` hold.

    Greedy: always the row with most missing pairs, the earlier of equals; then the first of the other rows,
    up to `cases`. Pairs win: where they need more rows than `cases`, more are returned.
    """
    if not rows:
        return ()
    held = _held(_columns(rows, list(axes)), strength).astype(np.float32)  # for BLAS; counts are exact
    missing = np.ones(held.shape[1], np.float32)
    picked = np.zeros(len(rows), bool)
    while missing.any():
        best = np.argmax(held @ missing)
        picked[best] = True
        missing[held[best] == 1] = 0
    picked[np.flatnonzero(~picked)[: max(0, cases - picked.sum())]] = True
    return tuple(itertools.compress(rows, picked))


def _columns(rows: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> np.ndarray:
    """[row, axis]: values as the indices of those that the rows have."""
    columns = [np.unique([repr(row[name]) for row in rows], return_inverse=True)[1] for name in axes]
    return np.stack(columns, axis=1)


def _code(group: Sequence[np.ndarray]) -> np.ndarray:
    """One number for the combination of values that each row has on a few axes."""
    return np.ravel_multi_index(tuple(group), [column.max() + 1 for column in group])


def _held(rows: np.ndarray, strength: int) -> np.ndarray:
    """held[row, combination] for every combination of values on `strength` axes that is in some row."""
    held = []
    for group in itertools.combinations(rows.T, min(strength, rows.shape[1])):
        code = _code(group)
        held.append(code[:, None] == np.unique(code))
    return np.concatenate(held, axis=1)


def _check_arguments(
    axes: Axes, factorial: Sequence[str], constraints: Sequence[Constraint], strength: int
) -> None:
    if not axes or strength not in {1, 2, 3}:
        raise ValueError(f"got {len(axes)} axes and strength {strength}, need an axis and strength 1, 2 or 3")
    for name, values in axes.items():
        if not 0 < len(values) == len({repr(value) for value in values}):
            raise ValueError(f"axis {name!r} has the values {values!r}, need one or more, all different")
    for user, names in [("factorial", factorial), *((c.reason, c.axes) for c in constraints)]:
        if unknown := [name for name in names if name not in axes]:
            raise ValueError(f"{user!r} names the axes {unknown}, need some of {list(axes)}")


class _Table:
    """A constraint as booleans over the indices of its axes; "open" is true where any value would be."""

    def __init__(self, axes: Axes, constraint: Constraint) -> None:
        self.reason = constraint.reason
        self.axes = [list(axes).index(name) for name in constraint.axes]
        values = [axes[name] for name in constraint.axes]
        holds = [bool(constraint.holds(*combination)) for combination in itertools.product(*values)]
        self.holds = np.array(holds).reshape([len(axis_values) for axis_values in values])
        for axis in range(len(values)):
            self.holds = np.concatenate([self.holds, self.holds.any(axis, keepdims=True)], axis)

    def allows(self, row: Sequence[Any]) -> Any:
        """Whether this constraint alone can still hold; `row[axis]` is an index or an array of indices."""
        return self.holds[tuple([row[axis] for axis in self.axes])]


class _Feasibility:
    """Decides exactly, by backtracking, which seeds are part of a feasible row."""

    def __init__(self, sizes: list[int], tables: list[_Table]) -> None:
        self.sizes, self.tables = sizes, tables
        self.tables_of = [[table for table in tables if axis in table.axes] for axis in range(len(sizes))]
        # Axes linked by constraints. Groups are searched apart, as the time is exponential in their size.
        self.groups: list[set[int]] = []
        for table in tables:
            linked = [group for group in self.groups if group & set(table.axes)]
            apart = [group for group in self.groups if group not in linked]
            self.groups = [*apart, set(table.axes).union(*linked)]

    def row(self, seed: Mapping[int, int]) -> list[int]:
        return [seed.get(axis, size) for axis, size in enumerate(self.sizes)]

    def complete(self, seed: Mapping[int, int]) -> list[int] | None:
        """A row with this seed and feasible values on all constrained axes, or None: there is none."""
        row = self.row(seed)
        feasible = all(table.allows(row) for table in self.tables) and all(
            self._search(row, [axis for axis in sorted(group) if axis not in seed]) for group in self.groups
        )
        return row if feasible else None

    def _search(self, row: list[int], axes: list[int]) -> bool:
        if not axes:
            return True
        axis, *others = axes
        for value in range(self.sizes[axis]):
            row[axis] = value
            if all(table.allows(row) for table in self.tables_of[axis]) and self._search(row, others):
                return True
        row[axis] = self.sizes[axis]
        return False

    def conflict(self, seed: Mapping[int, int]) -> str:
        """Why a seed is infeasible: the first constraint that alone forbids it, or else a minimal set."""
        row = self.row(seed)
        needed = next(([table] for table in self.tables if not table.allows(row)), self.tables)
        for table in reversed(needed):
            fewer = [other for other in needed if other is not table]
            needed = needed if _Feasibility(self.sizes, fewer).complete(seed) else fewer
        return "; ".join(table.reason for table in needed)


class _Cover:
    """The rows found so far and the triples that they do not cover."""

    def __init__(self, sizes: list[int], feasibility: _Feasibility, strength: int) -> None:
        self.rows: list[list[int]] = []
        self.feasibility = feasibility
        # Strength 2 is strength 3 with a dummy axis of one value, where only triples with the dummy count.
        self.sizes = sizes + [1] * (3 - strength)
        self.dummies = dict.fromkeys(range(len(sizes), len(self.sizes)), 0)
        self.offsets = np.cumsum([0, *self.sizes[:-1]])
        self.axis_of = np.repeat(np.arange(len(self.sizes)), self.sizes)
        differ = self.axis_of[:, None] != self.axis_of
        dummy = np.where(self.axis_of < len(sizes), 0, 1)
        counts = dummy[:, None, None] + dummy[:, None] + dummy == len(self.dummies)
        # [flat, flat, flat], symmetric; float32 for BLAS, and exact, so every machine finds the same rows.
        self.uncovered = (differ[:, :, None] & differ[:, None] & differ & counts).astype(np.float32)
        self.total = int(np.count_nonzero(self.uncovered)) // 6  # a triple is there in six orders
        self.infeasible = 0
        self.random = np.random.RandomState(0)  # its stream is frozen (NEP 19), that of Generator is not

    def first_uncovered(self) -> dict[int, int]:
        flats = np.unravel_index(self.uncovered.argmax(), self.uncovered.shape)
        found = flats if self.uncovered[flats] else ()
        return {int(self.axis_of[flat]): int(flat - self.offsets[self.axis_of[flat]]) for flat in found}

    def rule_out(self, triple: Mapping[int, int]) -> None:
        """Strike out every triple that has the same smallest infeasible part as this one."""
        parts = [part for length in (1, 2, 3) for part in itertools.combinations(triple.items(), length)]
        smallest = next(part for part in parts if not self.feasibility.complete(dict(part)))
        flats = [self.offsets[axis] + value for axis, value in smallest]
        before = np.count_nonzero(self.uncovered)
        for places in itertools.permutations([*flats, *[slice(None)] * (3 - len(flats))]):
            self.uncovered[places] = 0
        self.infeasible += int(before - np.count_nonzero(self.uncovered)) // 6

    def add_row(self, seed: Mapping[int, int]) -> None:
        """Add the best row found that extends a feasible seed."""
        row = self._extend(seed)
        if row is None:  # every candidate met a dead end; with all constrained axes set there is none
            completed = enumerate(self.feasibility.complete(seed) or ())
            row = self._extend({axis: value for axis, value in completed if value < self.sizes[axis]})
        assert row is not None
        flats = self.offsets + row
        self.uncovered[np.ix_(flats, flats, flats)] = 0
        self.rows.append(row)

    def _extend(self, seed: Mapping[int, int]) -> list[int] | None:
        """Extend a seed to CANDIDATES rows side by side, one axis at a time, and return the best."""
        candidates = np.arange(CANDIDATES)
        rows = np.repeat(np.array(self.sizes)[:, None], CANDIDATES, axis=1)  # [axis, candidate], all open
        chosen = np.zeros((len(self.axis_of), CANDIDATES), np.float32)  # [flat, candidate], rows as 0 and 1
        score = np.zeros(CANDIDATES)
        fixed = {**seed, **self.dummies}
        for axis, value in fixed.items():
            rows[axis] = value
            chosen[self.offsets[axis] + value] = 1
        for axis in self.random.permutation([axis for axis in range(len(self.sizes)) if axis not in fixed]):
            size, offset = self.sizes[axis], self.offsets[axis]
            touched = self.uncovered[offset : offset + size] @ chosen  # one small product a value: no threads
            # gain[value, candidate]: the triples that the value would newly cover with those chosen, twice
            gain = np.einsum("vfc,fc->vc", touched, chosen)
            choices = [*rows[:axis], np.arange(size)[:, None], *rows[axis + 1 :]]
            for table in self.feasibility.tables_of[axis]:
                gain = np.where(table.allows(choices), gain, -np.inf)
            best = np.argmax(gain + self.random.random_sample(gain.shape), axis=0)  # ties: at random
            score += gain[best, candidates]
            rows[axis] = best
            chosen[offset + best, candidates] = 1
        winner = np.argmax(score)
        return [int(value) for value in rows[:, winner]] if score[winner] >= 0 else None

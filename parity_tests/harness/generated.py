"""Cases that no sweep lists: drawn by Hypothesis from the same specifications, and shrunk by it.

A row takes listed values of the axes or, where an axis holds numbers or tuples of them, others between and
just beyond; then the sizes of the tensors are exchanged for others.  The constraints hold, and what the
reference refuses is no case.  Everything is drawn so that Hypothesis shrinks towards the default row and
towards sizes of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from parity_tests.harness.cases import Case, case_of
from parity_tests.harness.covering import Constraint
from parity_tests.specs.spec import Drawn, LayerSpec

LARGEST = 2_000  # elements of all inputs together; a case is to take milliseconds
BEYOND = 2  # how far past the largest listed integer

Row = dict[str, Any]


@st.composite
def generated(draw: st.DrawFn, spec: LayerSpec, dtype: str | None = None, seed: int = 0) -> tuple[Case, ...]:
    """A case in the ways in which it may make sense, the likeliest first: sizes exchanged in the arguments
    too (channels, features), or in the tensors alone."""
    row: Row = {}
    for axis, values in spec.axes.items():
        row[axis] = _value(draw, spec, row, axis, _wanted(axis, values, dtype))
    try:
        built = spec.build(row)
    except (KeyError, ValueError, TypeError, IndexError):  # a value of which the specification knows nothing
        reject()
    case = case_of(spec, row, built, seed=seed)
    sizes = sorted({size for shape in case.shapes for size in shape if size > 0})
    exchange = {size: draw(st.sampled_from(_sizes(size))) for size in sizes}
    ways = (_resized(case, exchange, everywhere=True), _resized(case, exchange, everywhere=False))
    small = tuple(way for way in ways if sum(map(math.prod, way.shapes)) <= LARGEST)
    return tuple(dict.fromkeys(small)) or (case,)


def _wanted(axis: str, values: Sequence[Any], dtype: str | None) -> Sequence[Any]:
    return (dtype,) if axis == "dtype" and dtype is not None else values


def _value(draw: st.DrawFn, spec: LayerSpec, row: Row, axis: str, values: Sequence[Any]) -> Any:
    """A listed value that the constraints allow beside those drawn so far, or another like it."""
    known = {*row, axis}
    judges = [c for c in spec.constraints if axis in c.axes and known.issuperset(c.axes)]
    allowed = [value for value in values if _possible(judges, row | {axis: value})]
    if not allowed:
        reject()
    # One draw of the same range whatever is allowed: Hypothesis takes what needs fewer draws for simpler.
    value = allowed[draw(st.integers(0, len(values) - 1)) % len(allowed)]
    others = _others(values, value)
    if others is not None and draw(st.booleans()):
        other = draw(others)
        value = other if _possible(judges, row | {axis: other}) else value
    return value


def _possible(judges: Sequence[Constraint], row: Mapping[str, Any]) -> bool:
    """Whether the constraints hold; one that cannot judge a value forbids it."""
    try:
        return all(constraint.holds(*(row[axis] for axis in constraint.axes)) for constraint in judges)
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return False


def _others(values: Sequence[Any], value: Any) -> st.SearchStrategy[Any] | None:
    """Values like this one and not listed; None where there are only the listed ones."""
    if isinstance(value, tuple) and value and all(_is_number(item) for item in value):
        entries = [item for tuple_ in values if isinstance(tuple_, tuple) for item in tuple_]
        found = [_others([item for item in entries if _is_number(item)], item) for item in value]
        return st.tuples(*found) if all(one is not None for one in found) else None
    if not _is_number(value) or not math.isfinite(value):
        return None
    numbers = [item for item in values if _is_number(item) and math.isfinite(item)]
    least, most = min(numbers), max(numbers)
    if isinstance(value, int):
        return st.integers(math.ceil(least), math.floor(most) + BEYOND)
    return st.integers(0, 16).map(lambda step: round(least + (most - least) * step / 16, 6))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _sizes(size: int) -> list[int]:
    """Small ones, a vector and a tail, multiples, which keep what groups divide; often the same."""
    return sorted([*range(1, 13), 17, 33, 2 * size, 3 * size, *[size] * 10])


def _resized(case: Case, exchange: Mapping[int, int], everywhere: bool) -> Case:
    def exchanged(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(exchanged(item) for item in value)
        if isinstance(value, Drawn):
            return replace(value, shape=exchanged(value.shape))
        whole = isinstance(value, int) and not isinstance(value, bool)
        return exchange.get(value, value) if whole else value

    shapes = tuple(exchanged(shape) for shape in case.shapes)
    if not everywhere:
        return replace(case, shapes=shapes)
    # Of many layers upon each other the bound is too wide to tell anything.
    arguments, call = (
        tuple((name, value if name.endswith("layers") else exchanged(value)) for name, value in pairs)
        for pairs in (case.arguments, case.call)
    )
    return replace(case, shapes=shapes, arguments=arguments, call=call)

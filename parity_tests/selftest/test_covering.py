"""Covering arrays against brute force: every claim of the builder is counted again with itertools."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity_tests.harness import covering
from parity_tests.harness.covering import Constraint, covering_array, prefix

TWELVE_BY_FOUR = {f"axis{number}": ("a", "b", "c", "d") for number in range(12)}


def random_system(seed):
    """Five or six axes, some of their values equal, and constraints that each forbid about half."""
    random = np.random.RandomState(seed)
    values = (1, True, None, (1, 2), "same")
    axes = {name: values[: random.randint(2, 5)] for name in "uvwxyz"[: random.randint(5, 7)]}
    constraints = []
    for number in range(random.randint(1, 5)):
        names = tuple(str(name) for name in random.permutation(list(axes))[: random.randint(1, 4)])
        combinations = itertools.product(*(axes[name] for name in names))
        possible = {repr(combination) for combination in combinations if random.random_sample() < 0.5}
        possible.add(repr(tuple(axes[name][-1] for name in names)))  # so that some row is feasible

        def holds(*values, possible=frozenset(possible)):
            return repr(values) in possible

        constraints.append(Constraint(names, holds, f"reason {number}"))
    return axes, constraints


def feasible_rows(axes, constraints):
    rows = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    return [row for row in rows if all(c.holds(*(row[name] for name in c.axes)) for c in constraints)]


def held(rows, names, strength):
    """The combinations of values on `strength` of the axes in some row; repr, as True equals 1."""
    groups = list(itertools.combinations(names, strength))
    return {tuple((name, repr(row[name])) for name in group) for row in rows for group in groups}


@pytest.mark.parametrize("strength", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_counts_equal_brute_force(seed, strength):
    axes, constraints = random_system(seed)
    array = covering_array(axes, tuple(axes)[1:3], constraints, strength)
    feasible = held(feasible_rows(axes, constraints), axes, strength)
    groups = itertools.combinations(axes.values(), strength)
    assert held(array.rows, axes, strength) == feasible
    assert array.triples == array.covered == len(feasible)
    assert array.infeasible == sum(math.prod(map(len, group)) for group in groups) - len(feasible)


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_feasible_different_and_full_factorial(seed):
    axes, constraints = random_system(seed)
    factorial = tuple(axes)[::2]
    array = covering_array(axes, factorial, constraints)
    everything = feasible_rows(axes, constraints)
    assert held(array.rows, axes, len(axes)) <= held(everything, axes, len(axes))
    assert len(held(array.rows, axes, len(axes))) == len(array.rows)
    combinations = held(everything, factorial, len(factorial))
    assert held(array.rows, factorial, len(factorial)) == combinations
    assert sum(array.dropped.values()) == math.prod(len(axes[name]) for name in factorial) - len(combinations)


def test_the_systems_have_infeasible_triples_dropped_combinations_and_equal_values():
    systems = [random_system(seed) for seed in range(12)]
    arrays = [covering_array(axes, tuple(axes)[::2], constraints) for axes, constraints in systems]
    assert sum(array.infeasible > 0 for array in arrays) > 6
    assert sum(len(array.dropped) > 0 for array in arrays) > 6
    assert held(arrays[0].rows, "u", 1) >= {(("u", "1"),), (("u", "True"),)}


def test_without_its_last_row_an_array_covers_less():
    array = covering_array(TWELVE_BY_FOUR)
    assert len(held(array.rows[:-1], TWELVE_BY_FOUR, 3)) < array.covered == array.triples == 220 * 64


@pytest.mark.parametrize(("strength", "most"), [(1, 4), (2, 36), (3, 210)])
def test_twelve_axes_of_four_values_need_few_rows(strength, most):
    assert len(covering_array(TWELVE_BY_FOUR, strength=strength).rows) <= most


def test_the_default_row_comes_first_if_it_is_feasible():
    axes = {"p": (0, 1), "q": (0, 1), "r": (0, 1)}
    default = {"p": 0, "q": 0, "r": 0}
    not_default = Constraint(("p", "q", "r"), lambda p, q, r: p + q + r > 0, "zero")
    assert covering_array(axes, ("q",)).rows[0] == default
    assert default not in covering_array(axes, ("q",), [not_default]).rows


def test_dead_ends_that_no_single_constraint_shows():
    axes = {name: range(4) for name in "abcdefgh"}
    neighbours = [Constraint(pair, lambda x, y: x == y, "all equal") for pair in itertools.pairwise(axes)]
    array = covering_array(axes, ("d",), neighbours)
    assert array.rows == tuple(dict.fromkeys(axes, value) for value in range(4))
    assert (array.covered, array.infeasible) == (56 * 4, 56 * 60)


def test_dropped_names_the_first_sufficient_reason_or_all_that_are_needed_together():
    axes = {"stride": (1, 2), "padding": (0, 1), "kernel": (1, 2, 3)}
    constraints = [
        Constraint(("stride",), lambda stride: stride != 3, "never"),
        Constraint(("stride", "kernel"), lambda stride, kernel: stride == 1 or kernel == 1, "big"),
        Constraint(("padding", "kernel"), lambda padding, kernel: padding == 0 or kernel == 2, "small"),
    ]
    alone = Constraint(("padding", "stride"), lambda padding, stride: padding + stride < 3, "alone")
    assert covering_array(axes, ("stride", "padding"), constraints).dropped == {"big; small": 1}
    assert covering_array(axes, ("stride", "padding"), [*constraints, alone]).dropped == {"alone": 1}


def test_the_same_arguments_give_the_same_rows_in_every_process():
    call = f"covering_array({TWELVE_BY_FOUR}, ('axis3',)).rows"
    code = f"from parity_tests.harness.covering import covering_array; print({call})"
    for hash_seed in "12":
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(covering.__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert printed.strip() == str(covering_array(TWELVE_BY_FOUR, ("axis3",)).rows)


@pytest.mark.parametrize("cases", [0, 1, 60, 10_000])
def test_prefix_keeps_pairs_and_order(cases):
    rows = covering_array(TWELVE_BY_FOUR).rows
    kept = prefix(TWELVE_BY_FOUR, rows, cases)
    numbers = [rows.index(row) for row in kept]
    assert held(kept, TWELVE_BY_FOUR, 2) == held(rows, TWELVE_BY_FOUR, 2)
    assert numbers == sorted(set(numbers))
    assert len(kept) == min(cases, len(rows)) or cases < len(kept) < 60


def test_prefix_of_other_strengths_and_equal_values():
    axes = {"p": (1, True, 1.0), "q": (0, False), "r": (None, 1)}
    rows = covering_array(axes).rows
    assert [len(prefix(axes, rows, 0, strength)) for strength in (1, 2, 3)] == [3, 6, 12]
    assert prefix(axes, (), 5) == ()


def test_fewer_axes_than_strength_give_all_combinations():
    assert covering_array({"p": (0, 1), "q": (0, 1, 2)}).covered == 6
    assert covering_array({"p": (0, 1)}).rows == ({"p": 0}, {"p": 1})


NEVER = Constraint(("p",), lambda p: False, "never")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "got 0 axes"),
        (({"p": (1, 2)}, (), (), 4), "strength 4"),
        (({"p": ()},), "'p' has the values"),
        (({"p": (1, 2, 1)},), "'p' has the values"),
        (({"p": (1, 2)}, ("q",)), r"'factorial' names the axes \['q'\]"),
        (({"q": (1, 2)}, (), (NEVER,)), r"'never' names the axes \['p'\]"),
        (({"p": (1, 2)}, ("p",), (NEVER,)), "no row .* is feasible, need at least one: {'never': 2}"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        covering_array(*arguments)

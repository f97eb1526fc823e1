"""The table of an embedding: indices and sizes at their edges, what is looked up and what is made of it."""

from fractions import Fraction

import numpy as np
import pytest

from refimpl.error_bounds import strictest
from refimpl.lookup import Lookup, divided, ones_like_kind
from refimpl.table import check_indices, initial_weight, padding_row


class Outside(Exception):
    pass


@pytest.mark.parametrize(("indices", "rows"), [([], 0), ([], 3), ([0], 1), ([0, 2, 1], 3)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_indices_of_a_table(indices, rows, dtype):
    found = check_indices("layer", np.array(indices, dtype=dtype), rows, Outside)
    assert found.dtype == np.int64 and found.tolist() == indices


@pytest.mark.parametrize(
    ("indices", "rows", "exception", "told"),
    [
        ([3, 0], 3, Outside, "layer: index 3 is outside of the table; needed are 0 to 2"),
        ([0, -1], 3, Outside, "layer: index -1 is outside"),
        ([1], 1, Outside, "index 1 is outside of the table; needed are 0 to 0"),
        ([0], 0, RuntimeError, "layer: the table has no rows to look up"),
        ([0, 1], 0, RuntimeError, "layer: the table has no rows to look up"),
        ([0.0], 3, RuntimeError, "layer: indices have type float64"),
        ([True], 3, RuntimeError, "layer: indices have type bool"),
    ],
)
def test_indices_that_are_none(indices, rows, exception, told):
    with pytest.raises(exception, match=told):
        check_indices("layer", np.array(indices), rows, Outside)


@pytest.mark.parametrize(
    ("index", "rows", "row"),
    [
        (None, 3, -1),
        (0, 3, 0),
        (1, 3, 1),
        (2, 3, 2),
        (-1, 3, 2),
        (-3, 3, 0),
        (0, 0, 0),
        (0, 1, 0),
        (-1, 1, 0),
    ],
)
def test_padding_is_counted_from_the_front(index, rows, row):
    assert padding_row(index, rows, Outside) == row


@pytest.mark.parametrize(("index", "rows"), [(3, 3), (-4, 3), (1, 1), (1, 0), (-1, 0), (-2, 1)])
def test_padding_outside_of_the_table(index, rows):
    with pytest.raises(Outside, match=f"padding_idx is {index}; needed is a row of the table"):
        padding_row(index, rows, Outside)
    with pytest.raises(AssertionError):
        padding_row(index, rows)


@pytest.mark.parametrize(("rows", "length"), [(3, 2), (0, 2), (3, 0), (np.int64(2), 2)])
def test_a_table_begins_with_normal_numbers(rows, length):
    weight, padding = initial_weight(rows, length, None, None)
    assert weight.shape == (rows, length) and weight.all() and padding is None


def test_the_row_of_the_padding_begins_with_zeros():
    for index in (1, -2):
        weight, padding = initial_weight(3, 4, index, None)
        assert padding == 1 and not weight[1].any() and weight[[0, 2]].all()
    given = np.ones((3, 4), dtype=np.float32)
    weight, padding = initial_weight(3, 4, -1, given)
    given[0] = 0
    assert padding == 2 and weight.all() and weight.dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "exception"),
    [
        ((3.0, 2, None, None), TypeError),
        ((3, "2", None, None), TypeError),
        ((-1, 2, None, None), RuntimeError),
        ((2, -1, None, None), RuntimeError),
        ((3, 2, 3, None), AssertionError),
        ((3, 2, 1.0, None), IndexError),
        ((0, 2, 0, None), IndexError),
        ((3, 2, None, np.ones((2, 3))), AssertionError),
    ],
)
def test_tables_that_cannot_be(arguments, exception):
    with pytest.raises(exception):
        initial_weight(*arguments)


def test_an_empty_table_has_no_row_for_the_padding():
    with pytest.raises(IndexError, match="padding_idx is 0; needed is a row of 0"):
        initial_weight(0, 2, 0, None)


# Rows 0, 0, 2, 1 of a table of 4 rows go into bags 0, 2, 2 and 0 of 4.
WEIGHT = np.array([[5.0, 1, 2], [3, 1, 7], [4, 9, 2], [8, 8, 8]])
LOOKUP = Lookup(np.array([0, 0, 2, 1]), np.array([0, 2, 2, 0]), (4, 3), 4)


def test_sums_of_bags_rows_and_factors():
    factors = np.array([1.0, 10, 2, -1])
    assert LOOKUP.sums(WEIGHT, factors).tolist() == [[2, 0, -5], [0] * 3, [58, 28, 24], [0] * 3]
    up = np.array([[1.0, 2, 3], [9, 9, 9], [0, 1, 0], [9, 9, 9]])
    assert LOOKUP.row_sums(up, factors).tolist() == [[1, 12, 3], [-1, -2, -3], [0, 2, 0], [0, 0, 0]]
    assert LOOKUP.factor_sums(up, WEIGHT).tolist() == [13, 1, 9, 26]
    assert (LOOKUP.sizes.tolist(), LOOKUP.uses.tolist()) == ([2, 0, 2, 0], [2, 1, 1, 0])


def test_largest_elements_and_where_they_come_from():
    """The first of equal ones; of an empty bag -1."""
    output, rows = LOOKUP.largest(WEIGHT)
    assert output.tolist() == [[5, 1, 7], [0, 0, 0], [5, 9, 2], [0, 0, 0]]
    assert rows.tolist() == [[0, 0, 1], [-1] * 3, [0, 2, 0], [-1] * 3]
    below, _ = LOOKUP.largest(-WEIGHT)
    assert below.tolist() == [[-3, -1, -2], [0, 0, 0], [-4, -1, -2], [0, 0, 0]]


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_the_table_with_what_its_bound_needs(weighted):
    """Row 0 is divided by 2, row 2 not, row 3 by 3, row 4 by 4; rows 1 and 5 are read by nobody."""
    lookup = Lookup(np.array([0, 0, 2, 3, 4, 4, 4]), np.arange(7), (6, 2), 7)
    assert lookup.output_shape == (7, 2)
    divisors, up = np.array([2, 2, 1, 3, 4, 4, 4]), np.array([[k, k + 0.5] for k in range(1, 8)])
    factors = np.array([0.25, 1, 3, 6, 1, 1, 2]) if weighted else np.ones(7)
    found = lookup.row_products(-up, factors, divisors, weighted)
    products = up * (factors / divisors)[:, None]
    groups = [[0, 1], [], [2], [3], [4, 5, 6], []]
    assert found.value.tolist() == [(-products[group]).sum(0).tolist() for group in groups]
    assert found.magnitude.tolist() == (-found.value).tolist()
    assert found.squares().tolist() == [
        sum((products[i] ** 2 for i in group), np.zeros(2)).tolist() for group in groups
    ]
    terms = np.array([1 + 1, 0, 0, 0 + 2, 2 + 1, 0]) + weighted * np.array([1, 0, 1, 1, 1, 0])
    unit = np.array([0.25, 0.5, 0.5, 0.0, 0.125, 0.5]) * (0.25 if weighted else 1.0)
    assert found.terms.tolist() == terms[:, None].tolist() and found.unit.tolist() == unit[:, None].tolist()


def test_a_unit_that_is_not_known():
    """Of zeros anything is one, of what is not finite nothing, and of a third nothing."""
    lookup = Lookup(np.array([0, 1]), np.arange(2), (2, 1), 2)
    for up, factor, known in ((0.0, 1.0, True), (1.0, np.inf, False), (0.0, np.inf, False), (1.0, 3.0, True)):
        with np.errstate(invalid="ignore"):
            products = lookup.row_products(np.full((2, 1), up), np.full(2, factor), np.array([1, 3]), True)
        assert (products.unit > 0).tolist() == [[known], [False]]
    nothing = lookup.row_products(np.zeros((2, 1)), np.ones(2), np.array([1, 3]), False)
    assert not nothing.bounded(strictest("float32")).error.any()


def test_exact_numbers_stay_exact():
    third = np.array([1, Fraction(1, 3)], dtype=object)
    found = divided(third, np.array([2, 3]))
    assert found.tolist() == [Fraction(1, 2), Fraction(1, 9)] and all(type(x) is Fraction for x in found)
    assert divided(np.array([1.0, 3.0]), np.array([2, 4])).tolist() == [0.5, 0.75]
    ones = ones_like_kind((2,), third)
    assert ones.tolist() == [1, 1] and all(type(x) is Fraction for x in ones)
    assert ones_like_kind((2, 1), np.ones(1)).tolist() == [[1.0], [1.0]]

"""The bilinear map: what its walk visits, its roundings counted, and products that are stored one by one."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.selftest.laws import within
from refimpl.bilinear import STORED, BilinearFunction, BilinearMap, Geometry, taps
from refimpl.error_bounds import strictest
from refimpl.shape import Bilinear, bilinear


def test_walk_visits_every_product_once():
    geometry, visits = Geometry(2, 3, 5, 7), []
    taps(lambda arrays, *indices: visits.append(indices), (), geometry)
    assert len(visits) == len(set(visits)) == 2 * 3 * 5 * 7
    assert max(visits) == ((1, 6), (1, 2), (1, 4), (6, 2, 4))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_roundings_of_the_sums(rows):
    """n products of three factors round n + 1 times, with a bias once more; n numbers n - 1 times."""
    x1, x2, w, b = (np.ones(shape) for shape in ((rows, 2), (rows, 4), (5, 2, 4), (5,)))
    products = BilinearMap(x1, x2, w, b).products(np.ones((rows, 5)))
    roundings = {name: sums.terms for name, sums in products.items()}
    assert roundings == {
        "output": 2 * 4 + 2,
        "input1": 5 * 4 + 1,
        "input2": 5 * 2 + 1,
        "weight": rows + 1,
        "bias": max(0, rows - 1),
    }
    assert "bias" not in BilinearMap(x1, x2, w).products(np.ones((rows, 5)))


def rounded_one_by_one(x1, x2, w, b, g):
    """Output and gradients in float16, every product and sum over the outputs stored, sums in float32."""

    def store(values):
        return values.astype(np.float16).astype(np.float32)

    x1, x2, w, b, g = (array.astype(np.float32) for array in (x1, x2, w, b, g))
    inner = store((x1[:, None, :, None] * w).sum(2))  # (n, o, j)
    upstream = g[:, :, None, None]
    parts1 = store((store(upstream * w) * x2[:, None, None]).sum(3))  # (n, o, i)
    parts2 = store(inner * g[:, :, None])  # (n, o, j)
    totals = []
    for parts in (parts1, parts2):
        total = parts[:, 0]
        for o in range(1, parts.shape[1]):
            total = store(total + parts[:, o])
        totals.append(total)
    return {
        "output": store(store((inner * x2[:, None]).sum(2)) + b),
        "grad_input0": totals[0],
        "grad_input1": totals[1],
        "grad_input2": store((store(x1[:, None, :, None] * upstream) * x2[:, None, None]).sum(0)),
    }


@pytest.mark.parametrize("with_bias", [True, False])
def test_products_stored_one_by_one_keep_their_contract_and_no_stricter_one(with_bias):
    rng = np.random.default_rng(35)
    shapes = ((4, 6), (4, 5), (3, 6, 5), (3,), (4, 3))
    x1, x2, w, b, g = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    b = b if with_bias else 0 * b
    inputs = (x1, x2, w, b)[: 3 + with_bias]
    strict = strictest("float16")
    weak = BilinearFunction().bounded(replace(strict, algorithm=STORED), inputs, (g,))
    narrow = BilinearFunction().bounded(strict, inputs, (g,))
    beyond = []
    for name, value in rounded_one_by_one(x1, x2, w, b, g).items():
        within(value.astype(np.float64), weak[name].value, weak[name].error)
        beyond.append((np.abs(value - narrow[name].value) > narrow[name].error).any())
    assert all(beyond) and set(weak) == set(narrow)
    if with_bias:  # a sum of numbers is as it was
        assert (weak["grad_input3"].error == narrow["grad_input3"].error).all()


def test_products_stored_one_by_one_are_exact_where_every_step_is():
    """Small whole numbers: all that is stored is in float16."""
    x1, x2, w = np.array([[1.0, 2], [3, 1]]), np.array([[2.0, 1], [1, 4]]), np.ones((3, 2, 2))
    contract = replace(strictest("float64"), algorithm=STORED)
    found = BilinearFunction().bounded(contract, (x1, x2, w, np.ones(3)), (np.ones((2, 3)),))
    assert found["output"].value.tolist() == [[10] * 3, [21] * 3]
    assert found["grad_input0"].value.tolist() == [[9, 9], [15, 15]]
    assert found["grad_input1"].value.tolist() == [[9, 9], [12, 12]]
    assert found["grad_input2"].value.tolist() == [[[5, 13], [5, 6]]] * 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 0, 3), RuntimeError), ((4, 2, 0), RuntimeError), ((4, 0, 0), RuntimeError), ((0, 2, 3), (5, 0))],
)
def test_features_are_needed_and_outputs_are_not(shape, expected):
    """As torch has it."""
    arrays = np.zeros((5, shape[1])), np.zeros((5, shape[2])), np.zeros(shape)
    if expected is RuntimeError:
        with pytest.raises(RuntimeError, match="without features"):
            bilinear(*arrays)
    else:
        assert bilinear(*arrays).shape == expected


def test_layers_without_outputs_or_second_features_are_made():
    assert Bilinear(2, 3, 0).weight.shape == (0, 2, 3) and Bilinear(2, 0, 3).weight.shape == (3, 2, 0)
    assert Bilinear(2, 3, 0)(np.zeros((4, 2)), np.zeros((4, 3))).shape == (4, 0)

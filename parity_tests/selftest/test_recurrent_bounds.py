"""The bounded arithmetic of recurrent cells: sums in any order, what is surely 0, and what rounding makes
larger."""

import numpy as np
import pytest

from refimpl import recurrent_arithmetic
from refimpl.error_bounds import Bounded, strictest
from refimpl.floats import gamma, outward
from refimpl.recurrent_arithmetic import Plain, Sum, Tracked


def in_turn(*terms):
    """Added one after the other in float32."""
    return sum(map(np.float32, terms), start=np.float32(0.0))


BIAS = 0.75
ORDERS = {
    "to the biases": lambda x, h: in_turn(BIAS, *x) + in_turn(-BIAS, *h),
    "of the hidden state to the input's sum": lambda x, h: in_turn(in_turn(*x) + BIAS, *h, -BIAS),
    "all to one bias": lambda x, h: in_turn(BIAS, *h, *x, -BIAS),
}


@pytest.mark.parametrize("order", ORDERS)
def test_terms_of_a_gate_may_be_added_in_any_order(order):
    """Each product rounds what it is added to: 0.6 units in the last place of a bias that then cancels."""
    ops, products = Tracked(strictest("float32")), np.full(40, np.float32(0.6 * 2.0**-24))
    operands = ops.operand(products[None]), ops.operand(np.ones((1, 40)))
    biases = [ops.operand(np.array([bias])) for bias in (BIAS, -BIAS)]
    bound = ops.gates(*(ops.affine(*operands, bias, "") for bias in biases))
    biases_last = (bare := ops.affine(*operands, None, "")) + biases[0] + (bare + biases[1])
    error = abs(float(ORDERS[order](products, products)) - 80 * float(products[0]))
    assert bound.value == 80 * float(products[0]) and biases_last.error < error <= bound.error


def test_relu_is_certain_where_its_input_is():
    """Inputs surely 0 or below, surely above, and either; where one may be 0 its gradient is either."""
    contract = strictest("float32")
    values, errors = [-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 2.0], [0.25, 0.5, 0.0, 0.5, 0.5, 0.25, 0.0]
    input, ops = Bounded(np.array(values), np.array(errors), contract), Tracked(contract)
    output = ops.relu(input)
    assert output.value.tolist() == Plain().relu(input.value).tolist() == [0, 0, 0, 0, 0.5, 0.5, 2]
    assert output.error.tolist() == [0, 0, 0, 0.5, 0.5, 0.25, 0]
    upstream = Bounded(np.full(7, -3.0), np.full(7, 0.125), contract)
    gradient, plain = ops.relu_gradient(upstream, input), Plain().relu_gradient(upstream.value, input.value)
    assert gradient.value.tolist() == plain.tolist() == [0, 0, 0, 0, -3, -3, -3]
    assert gradient.error.tolist() == [0, 3.125, 0, 3.125, 3.125, 0.125, 0.125]


def test_a_sum_with_0_is_stored_already():
    contract = strictest("float16")
    ops, zero = Tracked(contract), contract.exact(np.zeros(2))
    other = Bounded(np.array([1.0, 0.0]), np.array([2.0**-20, 2.0**-30]), contract)
    for total in (ops.total(zero, other), ops.total(other, zero)):
        assert total.value.tolist() == [1, 0] and total.error.tolist() == other.error.tolist()
    assert (ops.total(other, other).error > 2 * other.error).all()


def test_the_bound_of_a_gate_is_that_of_the_worst_order_of_its_terms():
    """Both sums at once, the second term by term onto the first, and the other way round: each the worst of
    one column; where nothing but the smallest numbers is left, too."""
    contract = strictest("float32")
    u, eta = contract.u, contract.eta
    columns = {
        "value": ([3.0, 3.0, 2.0, 0.0, 0.0, 0.0], [-2.0, 2.0, -3.0, 0.0, 0.0, 0.0]),
        "error": ([0.0, 0.5, 0.0, 0.0, 40 * eta, 0.0], [0.0, 0.0, 0.5, 0.0, 0.0, 40 * eta]),
        "inherited": ([2.0**-30, 2.0**-30, 2.0**-9, 0, 0, 0], [2.0**-31, 2.0**-8, 2.0**-31, 0, 0, 0]),
        "size": ([4.0, 4.0, 5.0, 1e-300, 1e-300, 1e-300], [6.0, 7.0, 6.0, 1e-300, 1e-300, 1e-300]),
        "terms": ([3, 3, 4, 3, 3, 3], [5, 6, 5, 5, 5, 5]),
    }
    one, two = (
        Sum(contract=contract, **{name: np.array(both[i]) for name, both in columns.items()}) for i in (0, 1)
    )
    terms, size = one.terms + two.terms + 1, one.size + two.size
    orders = [one.inherited + two.inherited + gamma(terms, u) * size + terms * eta]
    for first, more in ((one, two), (two, one)):
        onto = gamma(more.terms + 1, u) * (np.abs(first.value) + first.error + more.size) + more.terms * eta
        orders.append(first.error + more.inherited + onto)
    assert np.argmax(orders, axis=0).tolist() == [0, 1, 2, 0, 1, 2]
    gate = Tracked(contract).gates(one, two)
    assert gate.value.tolist() == (one.value + two.value).tolist()
    assert gate.error.tolist() == outward(np.max(orders, axis=0), 32).tolist()


def test_a_blend_charges_the_rounding_of_what_rounding_made_larger():
    """Just below 2 numbers are half as far apart as what their own roundings bring them to."""
    contract, below = strictest("float32"), 2.0 - 2.0**-52
    zero, number = (contract.exact(np.array([x])) for x in (0.0, below))

    def rounding(size):
        return contract.rounding(outward(np.array([size]), 32)).item()

    own = rounding(1.0) * below
    rest = Tracked(contract).rest(zero, number)
    assert rest.error.tolist() == [outward(own + rounding(below + own), 32)]
    own = own + rounding(below + own) + rounding(0.0)
    blend = Tracked(contract).blend(zero, number, zero)
    assert blend.error.tolist() == [outward(own + rounding(below + own), 32)]
    assert rest.value.tolist() == blend.value.tolist() == [below]


def test_what_is_surely_0_stays_0():
    contract = strictest("float32")
    ops, zero, gate = Tracked(contract), contract.exact(np.zeros(1)), contract.exact(np.array([0.3]))
    for result in (ops.blend(gate, zero, zero), ops.rest(gate, zero), ops.slope(zero)):
        assert result.value.tolist() == result.error.tolist() == [0]


def test_a_bias_hands_its_error_on():
    contract = strictest("float32")
    one, bias = contract.exact(np.ones((1, 1))), Bounded(np.ones(1), np.full(1, 0.25), contract)
    assert Tracked(contract).affine(one, one, bias, "").inherited.tolist() == [[outward(0.25, 33)]]


def test_its_own_arithmetic_is_charged_by_the_terms_of_its_sums():
    assert recurrent_arithmetic._outward(3.0) == outward(3.0, 32)
    assert recurrent_arithmetic._outward(3.0, 5) == outward(3.0, 37)


def test_a_gate_without_a_hidden_state_is_off_by_what_its_input_is():
    ops = Tracked(strictest("float32"))
    weight, bias = ops.operand(np.full((2, 3), 0.1)), ops.operand(np.array([0.0, 0.3]))
    sum_, nothing = (
        ops.affine(ops.operand(x), weight, b, "")
        for x, b in ((np.ones((1, 3)), bias), (np.zeros((1, 3)), None))
    )
    for pair in ((sum_, nothing), (nothing, sum_)):
        assert (ops.gates(*pair).error <= sum_.error * (1 + 1e-12)).all()

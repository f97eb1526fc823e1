"""How an activation is made of its formula: arguments, kernels, bounds, documentation, and its checks at
their edges."""

import inspect

import numpy as np
import pytest

import refimpl
from refimpl import activation_bounds, activation_formulas
from refimpl.elementwise import Elementwise, ElementwiseLayer, activation
from refimpl.error_bounds import strictest

X = np.array([[-2.0, -0.5, 0.0], [0.25, 1.0, 3.0]])


@pytest.mark.parametrize(
    ("name", "scalars"),
    [
        ("relu", []),
        ("elu", ["alpha"]),
        ("softplus", ["beta", "threshold"]),
        ("threshold", ["threshold", "value"]),
    ],
)
def test_scalars_are_those_of_the_formula(name, scalars):
    made = Elementwise(name)
    assert [parameter.name for parameter in made.scalars] == scalars
    assert made._forward.inline == made._gradient.inline == "never"  # numba refuses to, with *arguments
    assert made._forward.reading is getattr(activation_formulas, name)
    assert made._gradient.reading is getattr(activation_formulas, f"{name}_gradient")


@pytest.mark.parametrize("name", ["relu", "elu", "selu", "celu", "tanh", "hardtanh"])
def test_bounds_are_found_by_name(name):
    """In place that of a gradient from the output, where there is one."""
    made = Elementwise(name)
    beside = getattr(activation_bounds, f"{name}_gradient", None)
    in_place = getattr(activation_bounds, f"{name}_gradient_in_place", None)
    assert made._bound is getattr(activation_bounds, name, None)
    assert made._gradient_bounds == {False: beside, True: in_place if in_place is not None else beside}
    assert (in_place is not None) is (name in ("elu", "selu", "celu"))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_function_its_backward_and_its_class(inplace):
    function, backward, layer = activation("elu", "ELU", inplace)
    more = ["inplace"] if inplace else []
    for made, names in (
        (function, ["input", "alpha"]),
        (backward, ["grad_output", "input", "alpha"]),
        (layer.__init__, ["self", "alpha"]),
    ):
        parameters = inspect.signature(made).parameters
        assert list(parameters) == [*names, *more] and parameters["alpha"].default == 1.0
        assert not inplace or parameters["inplace"].default is False
    assert (function.__name__, backward.__name__, layer.__name__) == ("elu", "elu_backward", "ELU")
    expected = np.where(X > 0, X, 2 * np.expm1(X))
    assert np.array_equal(function(X, 2.0), expected) and np.array_equal(layer(2.0)(X), expected)
    assert np.array_equal(function(X), np.where(X > 0, X, np.expm1(X)))
    assert np.array_equal(backward(3 * X, X, 2.0)[0], 3 * X * np.where(X > 0, 1.0, 2 * np.exp(X)))
    assert layer().inplace is False and layer(2.0).scalars == (2.0,)
    called = layer(2.0)
    called(X)
    assert np.array_equal(called.backward(3 * X), backward(3 * X, X, 2.0)[0])
    if inplace:
        assert layer(2.0, True).inplace is True and layer(inplace=True).inplace is True
        assert np.array_equal(function(X, 2.0, True), expected)
    else:
        with pytest.raises(TypeError):
            function(X, 2.0, True)


def test_layers_by_themselves_are_not_in_place():
    assert ElementwiseLayer().inplace is False and refimpl.GELU().inplace is False


def test_bounds_in_place_are_wider():
    """A gradient from the output forgets what the output has lost."""
    up, contract = np.ones_like(X), strictest("float16")
    widths = [
        refimpl.ELU(2.0, inplace).bounded(contract, (X,), (up,))["grad_input"].error
        for inplace in (False, True)
    ]
    assert (widths[1] >= widths[0]).all() and (widths[1] > widths[0]).any()


def test_documentation_says_where_the_error_is_from():
    for name, error in (
        ("relu", "Error: none, values are copied."),
        ("tanh", "Error: refimpl.activation_bounds.tanh."),
    ):
        function, _, layer = activation(name, "Layer", False)
        assert error in function.__doc__ and error in layer.__doc__
        assert (
            f"Source: torch.nn.functional.{name}." in function.__doc__
            and "Source: torch.nn.Layer." in layer.__doc__
        )


def test_arguments_at_the_edge_of_what_is_refused():
    softshrink, hardtanh, celu, rrelu = refimpl.softshrink, refimpl.hardtanh, refimpl.celu, refimpl.rrelu
    assert np.array_equal(softshrink(X, 0.0), X) and np.array_equal(softshrink(X, 0.5)[0], [-1.5, 0.0, 0.0])
    assert np.array_equal(hardtanh(X, 1.0, 1.0), np.ones_like(X))
    assert np.array_equal(celu(X, 1.0), refimpl.elu(X)) and np.isfinite(celu(X, -1.0)).all()
    assert np.array_equal(rrelu(X, 0.5, 0.5), np.where(X > 0, X, X / 2))
    assert np.array_equal(rrelu(X, -1e308, 1e308 / 2)[1], X[1])
    for call, exception in (
        (lambda: softshrink(X, -1e-9), RuntimeError),
        (lambda: softshrink(X, np.nan), RuntimeError),
        (lambda: celu(X, 0.0), RuntimeError),
        (lambda: hardtanh(X, 1.0, 0.5), ValueError),
        (lambda: rrelu(X, 0.5, 0.25), RuntimeError),
        (lambda: rrelu(X, np.nan, 0.25), RuntimeError),
        (lambda: rrelu(X, -np.inf, 0.25), RuntimeError),
        (lambda: rrelu(X, -1e308, 1e308), RuntimeError),
        (lambda: refimpl.elu(X, "1"), TypeError),
        (lambda: refimpl.elu_backward(X[0], X), RuntimeError),
    ):
        with pytest.raises(exception):
            call()


def test_sizes():
    for shape in ((), (0,), (1,), (2, 0, 3), (2, 3, 4)):
        x = np.full(shape, -1.0)
        assert refimpl.relu(x).shape == refimpl.relu_backward(x, x)[0].shape == shape
        assert not refimpl.relu(x).any() and not refimpl.relu_backward(x, x)[0].any()

"""torch's names, arguments and defaults."""

import inspect
import re
import typing

import pytest

import refimpl

PUBLIC = sorted(
    name
    for name, thing in vars(refimpl).items()
    if (inspect.isfunction(thing) or inspect.isclass(thing)) and name not in refimpl.__all__
)
FUNCTIONS = [
    name for name in PUBLIC if inspect.isfunction(getattr(refimpl, name)) and not name.endswith("_backward")
]
BACKWARDS = [name for name in PUBLIC if name.endswith("_backward")]
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(refimpl, name))]

# Where the reference's signature is not torch's, and why.
OTHER_SIGNATURES = {
    "Hardtanh": "torch still takes min_value and max_value, deprecated names that only warn",
}


def parameters(signature: inspect.Signature) -> list[tuple]:
    """Names and defaults, of a default that is a function its name: "relu" is torch's `relu`."""
    return [
        (p.name, p.default.__name__ if inspect.isfunction(p.default) else p.default)
        for p in signature.parameters.values()
        if p.name not in ("device", "dtype", "self")
    ]


def torchs(name: str):
    """torch's own, None where it has none; of the poolings, which choose between two functions, the one whose
    signature is written down."""
    torch = pytest.importorskip("torch")
    space = torch.nn if name in CLASSES else torch.nn.functional
    return getattr(space, f"{name}_with_indices", None) or getattr(space, name, None)


def signature_of(thing) -> inspect.Signature | None:
    """torch's signature of a function or class, from its docstring where Python knows none; None without
    either."""
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        base = next(base for base in thing.__mro__ if "__init__" in vars(base))
        return inspect.Signature() if base.__name__ == "Module" else inspect.signature(base)
    try:
        signature = inspect.signature(thing)
    except ValueError:
        signature = None
    overloads = typing.get_overloads(thing.__init__) if inspect.isclass(thing) else []
    if overloads:
        return inspect.signature(overloads[0])
    if signature is None or {"args", "kwargs"} <= set(signature.parameters):
        documented = re.search(r"^\s*\w+\((.*?)\)\s*->", thing.__doc__ or "", re.MULTILINE | re.DOTALL)
        if documented is None:
            return None
        namespace: dict = {}
        exec(f"def documented({documented[1].replace('*, ', '')}): pass", namespace)
        signature = inspect.signature(namespace["documented"])
    return signature


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_signature_is_torchs(name, record_property):
    own = getattr(refimpl, name)
    theirs = torchs(name)
    if theirs is None:
        pytest.skip(f"{name} is not in this torch")
    signature = signature_of(theirs)
    if signature is None:
        pytest.skip(f"torch gives no signature of {name}, neither to Python nor in its docstring")
    expected, found = parameters(signature), parameters(inspect.signature(own))
    if name in OTHER_SIGNATURES:
        assert found != expected, f"{name}: {OTHER_SIGNATURES[name]}: no longer so"
        expected = expected[: len(found)]
    assert found == expected
    record_property("parameters", len(found))


# Arguments that functions of some ranks lack, and of which their docstrings then must not speak.
NOT_OF_EVERY_RANK = ("divisor_override", "_random_samples")


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_docstring_names_its_source(name):
    document = getattr(refimpl, name).__doc__
    taken = inspect.signature(getattr(refimpl, name)).parameters
    for argument in NOT_OF_EVERY_RANK if name in FUNCTIONS else ():
        assert (argument in document) == (argument in taken)
    assert re.search(rf"torch\.nn\.(functional\.)?{name}\b", document)
    assert not re.search(r"\{(rank|shapes|layer|function|name)\}", document), "a place was not filled in"


def test_most_signatures_can_be_compared():
    theirs = [torchs(name) for name in [*FUNCTIONS, *CLASSES]]
    known = [own for own in theirs if own is not None and signature_of(own) is not None]
    print(f"signatures compared with torch's: {len(known)} of {len(FUNCTIONS) + len(CLASSES)}")
    assert len(known) > 60


@pytest.mark.parametrize("name", BACKWARDS)
def test_a_backward_takes_the_gradient_and_then_its_functions_arguments(name):
    """`inplace` and `return_indices` change no gradient; what the call drew or found (None by default) may
    follow."""
    of_function = parameters(inspect.signature(getattr(refimpl, name.removesuffix("_backward"))))
    first, *found = parameters(inspect.signature(getattr(refimpl, name)))
    shared = [p for p in of_function if p[0] not in ("return_indices", "inplace")]
    assert first[0] == "grad_output"
    assert [p for p in found if p[0] != "inplace"][: len(shared)] == shared
    assert all(p in of_function or p[1] is None for p in found)


def test_every_function_has_its_backward():
    assert set(FUNCTIONS) == {name.removesuffix("_backward") for name in BACKWARDS}

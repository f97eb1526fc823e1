"""What a layer is made with: parameters and buffers are drawn as torch.nn draws them.

Constants must be equal.  Of what is drawn, the root of the mean square and the mean are compared within six
standard errors: a fan-in of another axis, or another distribution of the same bound, is off by more.
"""

import math

import numpy as np
import pytest

from parity_tests.harness.candidates import quiet
from parity_tests.harness.cases import sweep_of
from parity_tests.harness.data import constructor_arguments
from parity_tests.harness.options import RunOptions
from parity_tests.specs import all_specs

torch = pytest.importorskip("torch")

ENOUGH = 1_500  # elements: a standard error of the root of a mean square is at most 1 / sqrt(2 * ENOUGH)
CASES = 3  # of other arguments, for each layer


def made_of(layer) -> dict[str, np.ndarray]:
    """The parameters and buffers of a layer of torch's or of a reference."""
    return {
        name: np.asarray(value if isinstance(value, np.ndarray) else value.numpy())
        for name, value in layer.state_dict().items()
        if value is not None
    }


def layers_with_state():
    for spec in all_specs():
        if spec.is_function or not hasattr(torch.nn, spec.name):
            continue
        seen = set()
        for case in sweep_of(spec, RunOptions(sweep="quick")).cases:
            if not case.rejects and case.arguments not in seen and len(seen) < CASES:
                seen.add(case.arguments)
                with quiet():
                    try:
                        made = getattr(torch.nn, spec.name)(**constructor_arguments(spec, case))
                    except (TypeError, AttributeError):  # takes other layers, which have tests of their own
                        break
                if any(value.size for value in made_of(made).values()):
                    yield pytest.param(spec, case, id=case.id)


@pytest.mark.parametrize(("spec", "case"), list(layers_with_state()))
def test_a_layer_begins_as_torchs(spec, case, monkeypatch):
    generator = np.random.default_rng(20)
    monkeypatch.setattr(np.random, "default_rng", lambda: generator)
    torch.manual_seed(20)
    arguments = constructor_arguments(spec, case)
    with quiet():
        theirs = {name: [value] for name, value in made_of(getattr(torch.nn, spec.name)(**arguments)).items()}
        own = {name: [value] for name, value in made_of(spec.reference(**arguments)).items()}
        assert sorted(own) == sorted(theirs)
        size = min((found[0].size for found in theirs.values() if found[0].size > 0), default=1)
        for _ in range(math.ceil(ENOUGH / size)):
            for name, value in made_of(getattr(torch.nn, spec.name)(**arguments)).items():
                theirs[name].append(value)
            for name, value in made_of(spec.reference(**arguments)).items():
                own[name].append(value)
    for name, expected in theirs.items():
        agree(name, np.stack(own[name]), np.stack(expected))


def agree(name: str, own: np.ndarray, expected: np.ndarray) -> None:
    assert own.shape == expected.shape, name
    if np.ptp(expected, axis=0).max(initial=0) == 0:  # a constant
        assert np.array_equal(own, expected), f"{name} begins as {own[0]}, torch's as {expected[0]}"
        return
    scale = root_mean_square(expected)
    standard_error = scale / math.sqrt(own.size)
    assert abs(root_mean_square(own) - scale) <= 6 * standard_error, name
    assert abs(own.mean()) <= 6 * standard_error, name


def root_mean_square(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))

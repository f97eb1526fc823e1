"""Every case of the activation layers, with every check; RReLU in training by the law of its slopes."""

import pytest

from parity_tests.harness.items import Cases
from parity_tests.harness.plugin import RUN
from parity_tests.harness.rrelu_law import check_rrelu_training, training_case
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES

test_parity = Cases("activation")


@pytest.mark.parametrize("limits", [(1 / 8, 1 / 3), (-0.5, 0.75)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rrelu_training(request, dtype, limits):
    run, spec = request.config.stash[RUN], spec_named("RReLU")
    case = training_case(*limits, dtype)
    able = [candidate for candidate in run.candidates if candidate.gradients]
    reached = [candidate for candidate in able if candidate.reaches(spec, case)]
    if not reached or run.options.dtype not in (None, dtype):
        pytest.skip("RReLU in this dtype is not part of the run")
    for candidate in reached:
        try:
            assert check_rrelu_training(spec, case, candidate) > 0
        except NotImplementedError as error:
            pytest.skip(f"{candidate.name} on {candidate.device}: {error}")

"""Every case of the dropouts that leaves nothing to chance, with every check; the rest by its law."""

import pytest

from parity_tests.harness.dropout_law import PROBABILITIES, check_dropout_training, training_case
from parity_tests.harness.items import Cases
from parity_tests.harness.plugin import RUN
from parity_tests.specs import family
from parity_tests.specs.spec import DTYPES

test_parity = Cases("dropout")


@pytest.mark.parametrize("p", PROBABILITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", family("dropout"), ids=lambda spec: spec.name)
def test_dropout_training(request, spec, dtype, p):
    run, case = request.config.stash[RUN], training_case(spec.name, p, dtype)
    able = [candidate for candidate in run.candidates if candidate.gradients]
    reached = [candidate for candidate in able if candidate.reaches(spec, case)]
    if not reached or run.options.dtype not in (None, dtype):
        pytest.skip(f"{spec.name} in this dtype is not part of the run")
    for candidate in reached:
        try:
            assert check_dropout_training(spec, case, candidate) > 0
        except NotImplementedError as error:
            pytest.skip(f"{candidate.name} on {candidate.device}: {error}")

"""Every case of the window layers, with every check; fractional pooling that draws its windows by its law."""

import pytest

from parity_tests.harness.fractional_law import CALLS, LAYERS, check_fractional_law, law_case
from parity_tests.harness.items import Cases
from parity_tests.harness.plugin import RUN
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES

test_parity = Cases("window")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_fractional_windows(request, layer, dtype, call):
    run, spec, case = request.config.stash[RUN], spec_named(layer), law_case(layer, call, dtype)
    able = [candidate for candidate in run.candidates if candidate.gradients]
    reached = [candidate for candidate in able if candidate.reaches(spec, case)]
    if not reached or run.options.dtype not in (None, dtype):
        pytest.skip(f"{layer} in this dtype is not part of the run")
    for candidate in reached:
        try:
            assert check_fractional_law(spec, case, candidate) > 0
        except NotImplementedError as error:
            pytest.skip(f"{candidate.name} on {candidate.device}: {error}")

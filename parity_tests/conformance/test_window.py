"""Every case of the window layers, with every check; fractional pooling that draws its windows by its law."""

import pytest

from parity_tests.harness.fractional_law import CALLS, LAYERS, check_fractional_law, law_case
from parity_tests.harness.items import Cases, try_law
from parity_tests.harness.plugin import RUN
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES

test_parity = Cases("window")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_fractional_windows(request, layer, dtype, call):
    case = law_case(layer, call, dtype)
    try_law(request.config.stash[RUN], spec_named(layer), case, check_fractional_law)

"""Every case of the dropouts that leaves nothing to chance, with every check; the rest by its law."""

import pytest

from parity_tests.harness.dropout_law import PROBABILITIES, check_dropout_training, training_case
from parity_tests.harness.items import Cases, try_law
from parity_tests.harness.plugin import RUN
from parity_tests.specs import family
from parity_tests.specs.spec import DTYPES

test_parity = Cases("dropout")


@pytest.mark.parametrize("p", PROBABILITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", family("dropout"), ids=lambda spec: spec.name)
def test_dropout_training(request, spec, dtype, p):
    try_law(request.config.stash[RUN], spec, training_case(spec.name, p, dtype), check_dropout_training)

"""Every case of the activation layers, with every check; RReLU in training by the law of its slopes."""

import pytest

from parity_tests.harness.items import Cases, try_law
from parity_tests.harness.plugin import RUN
from parity_tests.harness.rrelu_law import check_rrelu_training, training_case
from parity_tests.specs import spec_named
from parity_tests.specs.spec import DTYPES

test_parity = Cases("activation")


@pytest.mark.parametrize("limits", [(1 / 8, 1 / 3), (-0.5, 0.75)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rrelu_training(request, dtype, limits):
    case = training_case(*limits, dtype)
    try_law(request.config.stash[RUN], spec_named("RReLU"), case, check_rrelu_training)

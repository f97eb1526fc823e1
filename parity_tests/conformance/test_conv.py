"""Every case of the conv layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("conv")

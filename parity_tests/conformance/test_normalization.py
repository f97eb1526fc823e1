"""Every case of the normalization layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("normalization")

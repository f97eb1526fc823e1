"""Every case of the linear layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("linear")

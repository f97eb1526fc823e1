"""Every case of the pooling layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("pooling")

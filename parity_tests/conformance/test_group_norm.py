"""Every case of the normalizations within a sample, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("group_norm")

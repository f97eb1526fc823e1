"""Every case of the padding layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("padding")

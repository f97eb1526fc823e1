"""Every case of the vision layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("vision")

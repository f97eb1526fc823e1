"""Every case of the attention layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("attention")

"""Every case of the recurrent layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("recurrent")

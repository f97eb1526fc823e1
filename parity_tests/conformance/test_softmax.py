"""Every case of the softmax layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("softmax")

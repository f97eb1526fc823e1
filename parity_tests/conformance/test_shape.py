"""Every case of the layers that reshape and of the bilinear ones, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("shape")

"""Every case of the loss layers, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("loss")

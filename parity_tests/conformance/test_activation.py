"""Every case of the activation layers, with every check; RReLU in training by the law of its slopes."""

from parity_tests.harness.items import Cases

test_parity = Cases("activation")

"""Every case of the dropouts that leaves nothing to chance, with every check; the rest by its law."""

from parity_tests.harness.items import Cases

test_parity = Cases("dropout")

"""Every case of the embeddings, with every check."""

from parity_tests.harness.items import Cases

test_parity = Cases("sparse")

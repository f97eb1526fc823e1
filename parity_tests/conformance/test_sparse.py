"""Every case of the embeddings, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "sparse"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

"""Every case of the attention layers, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "attention"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

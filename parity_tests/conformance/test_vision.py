"""Every case of the vision layers, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "vision"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

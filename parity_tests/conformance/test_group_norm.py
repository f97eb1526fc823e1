"""Every case of the normalizations within a sample, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "group_norm"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

"""Every case of the recurrent layers, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "recurrent"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

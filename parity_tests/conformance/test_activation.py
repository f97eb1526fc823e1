"""Every case of the activation layers, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "activation"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

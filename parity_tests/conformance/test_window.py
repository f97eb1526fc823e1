"""Every case of the window layers, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "window"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

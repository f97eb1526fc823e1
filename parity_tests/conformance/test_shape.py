"""Every case of the layers that reshape and of the bilinear ones, with every check."""

from parity_tests.harness.plugin import try_case

FAMILY = "shape"


def test_parity(parity_trial, record_property):
    try_case(parity_trial, record_property)

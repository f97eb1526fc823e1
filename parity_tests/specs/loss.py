"""Specifications of the losses and distances, in the order of the table."""

from parity_tests.specs import (
    loss_binary,
    loss_classes,
    loss_ctc,
    loss_linear,
    loss_margins,
    loss_regression,
    loss_vectors,
)

SPECS = (
    *loss_regression.SPECS,
    *loss_binary.SPECS,
    *loss_classes.SPECS,
    *loss_linear.SPECS,
    *loss_margins.SPECS,
    *loss_vectors.SPECS,
    *loss_ctc.SPECS,
)

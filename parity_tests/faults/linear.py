"""Not written yet."""

FAULTS = ()
CONTROLS = ()

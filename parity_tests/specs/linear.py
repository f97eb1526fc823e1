"""Not written yet."""

SPECS = ()

"""Wrong window layers: each is the plain one with one thing changed."""

from parity_tests.faults import window_blocks, window_powers, window_regions

_KINDS = (window_blocks, window_regions, window_powers)
FAULTS = tuple(fault for kind in _KINDS for fault in kind.FAULTS)
CONTROLS = tuple(control for kind in _KINDS for control in kind.CONTROLS)

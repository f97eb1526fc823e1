"""Specifications of the window layers: unfolding, unpooling, power, adaptive and fractional pooling."""

from parity_tests.specs.window_blocks import BLOCKS
from parity_tests.specs.window_powers import POWERS
from parity_tests.specs.window_regions import REGIONS
from parity_tests.specs.window_unpooling import UNPOOLINGS

SPECS = (*BLOCKS, *UNPOOLINGS, *POWERS, *REGIONS)

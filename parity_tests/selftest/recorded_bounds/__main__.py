"""See the package's docstring."""

import sys

from parity_tests.selftest.recorded_bounds import families, write

for name in families(sys.argv[1:]):
    write(name)

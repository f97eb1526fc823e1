"""Makes the suite's options and cases known when pytest runs from a checkout."""

pytest_plugins = ["parity_tests.harness.plugin"]

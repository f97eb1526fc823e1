"""What the suite is worth: published bugs that it catches, and what others' tolerances make of them."""

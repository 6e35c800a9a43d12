"""One calibrated score per pair."""

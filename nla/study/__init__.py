"""Studies: compare methods over noise, imbalance and seeds, with statistical tests."""

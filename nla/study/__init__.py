"""Studies: methods side by side over noise, imbalance and seeds, and what the comparison proves."""

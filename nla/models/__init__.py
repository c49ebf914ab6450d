"""Networks, their initial weights, and trained models on disk."""

"""The network, its initial weights, and trained models on disk."""

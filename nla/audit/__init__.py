"""The audit of labels: which are probably wrong, which faces are ambiguous, and which images are poor or repeated."""

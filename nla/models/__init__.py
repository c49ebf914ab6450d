"""The network, its first weights, and what is kept of it."""

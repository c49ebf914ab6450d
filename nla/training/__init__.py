"""The training loop, alone or on Ray Train."""

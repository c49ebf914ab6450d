"""How long a test waits: only what hangs takes so long, even on a machine that does much else."""

PATIENCE = 600.0
"""Seconds."""

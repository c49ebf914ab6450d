"""The machine this process runs on: what it may use of it, and what it is."""

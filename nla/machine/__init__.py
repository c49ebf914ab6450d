"""The machine that this process runs on: its resources and its description."""

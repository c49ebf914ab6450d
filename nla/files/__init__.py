"""How files are written and told apart: whole or not at all, with the same bytes on every system."""

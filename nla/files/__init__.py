"""Files written atomically, with the same bytes on every system, and their hashes."""

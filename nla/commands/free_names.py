"""Names of written files that differ, also where the system does not tell upper from lower case."""

from __future__ import annotations

from pathlib import Path


class FreeNames:
    """Gives each file a name of its own: NAME.png, NAME-2.png, NAME-3.png."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: Path) -> Path:
        """`wanted` if it is free, or else with the first number that makes it so; taken from now on."""
        path, number = wanted, 1
        while str(path).casefold() in self._taken:
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        self._taken.add(str(path).casefold())
        return path

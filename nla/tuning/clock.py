"""How long a search has run, over all calls, and what is left of its time.

STORAGE/SEARCH/clock/ has a file a call: its name says when the call began, its text when it was last heard of. The time
between two calls is no time of the search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pyarrow.fs as pa_fs

WRITE_EVERY = 2.0
"""Seconds: what a killed driver may forget of its time."""


class Clock:
    """Of the search in `root`, a folder or URL, and of `minutes`; None is without end. `now` gives the Unix time."""

    def __init__(self, root: str, minutes: float | None = None, now: Callable[[], float] = time.time) -> None:
        self._filesystem, path = pa_fs.FileSystem.from_uri(root)
        self._folder = f"{path}/clock"
        self._budget = math.inf if minutes is None else 60 * minutes
        self._time = now
        self._earlier = _read(self._filesystem, self._folder)
        self._now: tuple[float, float] | None = None
        self._written = 0.0

    def tick(self) -> None:
        """The search runs; the first tick is its begin in this call."""
        now = round(self._time(), 3)  # as it is written
        self._now = (now if self._now is None else self._now[0], now)
        if now - self._written >= WRITE_EVERY:
            self.write()

    def write(self) -> None:
        """Keeps what has been counted for later calls."""
        if self._now is None:
            return
        begin, end = self._now
        self._filesystem.create_dir(self._folder)
        with self._filesystem.open_output_stream(f"{self._folder}/{begin:.3f}") as file:
            file.write(str(end).encode())
        self._written = end

    def spent(self, until: float = math.inf) -> float:
        """Seconds that the search has run, up to the Unix time `until`."""
        calls = self._earlier if self._now is None else [*self._earlier, self._now]
        return sum(max(0.0, min(end, until) - begin) for begin, end in calls)

    def left(self) -> float:
        """Seconds, at least 0; without end where there is no budget."""
        return max(0.0, self._budget - self.spent())


def _read(filesystem: pa_fs.FileSystem, folder: str) -> list[tuple[float, float]]:
    """(begin, end) of each call before this one; one whose file was never finished has no seconds."""
    found = []
    for entry in filesystem.get_file_info(pa_fs.FileSelector(folder, allow_not_found=True)):
        with filesystem.open_input_stream(entry.path) as file:
            text = file.readall().decode()
        begin = float(entry.base_name)
        found.append((begin, float(text) if text else begin))
    return found

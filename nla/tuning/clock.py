"""Measures how long a search has run over all calls, and how much of its time budget is left.

STORAGE/SEARCH/clock/ has one file per call: its name is the Unix time when the call began, its content the time when it
was last alive. Time between two calls does not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pyarrow.fs as pa_fs

WRITE_EVERY = 2.0
"""Seconds of its run time that a killed driver can lose."""


class Clock:
    """Run time of one search.

    Args:
        root: folder or URL of the search.
        minutes: time budget; None for no limit.
        now: returns the Unix time in seconds.
    """

    def __init__(self, root: str, minutes: float | None = None, now: Callable[[], float] = time.time) -> None:
        self._filesystem, path = pa_fs.FileSystem.from_uri(root)
        self._folder = f"{path}/clock"
        self._budget = math.inf if minutes is None else 60 * minutes
        self._time = now
        self._earlier = _read(self._filesystem, self._folder)
        self._now: tuple[float, float] | None = None
        self._written = 0.0

    def tick(self) -> None:
        """Records that the search is running; the first tick marks its start in this call."""
        now = round(self._time(), 3)  # rounded as in the file name
        self._now = (now if self._now is None else self._now[0], now)
        if now - self._written >= WRITE_EVERY:
            self.write()

    def write(self) -> None:
        """Saves the time counted so far for later calls."""
        if self._now is None:
            return
        begin, end = self._now
        self._filesystem.create_dir(self._folder)
        with self._filesystem.open_output_stream(f"{self._folder}/{begin:.3f}") as file:
            file.write(str(end).encode())
        self._written = end

    def spent(self, until: float = math.inf) -> float:
        """Seconds that the search has run, over all calls, up to the Unix time `until`."""
        calls = self._earlier if self._now is None else [*self._earlier, self._now]
        return sum(max(0.0, min(end, until) - begin) for begin, end in calls)

    def left(self) -> float:
        """Seconds left, at least 0; infinite without a budget."""
        return max(0.0, self._budget - self.spent())


def _read(filesystem: pa_fs.FileSystem, folder: str) -> list[tuple[float, float]]:
    """(begin, end) of each earlier call; a call that never wrote its end counts 0 seconds."""
    found = []
    for entry in filesystem.get_file_info(pa_fs.FileSelector(folder, allow_not_found=True)):
        with filesystem.open_input_stream(entry.path) as file:
            text = file.readall().decode()
        begin = float(entry.base_name)
        found.append((begin, float(text) if text else begin))
    return found

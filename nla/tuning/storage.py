"""What Ray saves of a search: STORAGE/SEARCH/FIRST-LAST/, one folder per batch of requested samples.

Measures how long a search has run over all calls, and how much of its time budget is left.

STORAGE/SEARCH/clock/ has one file per call: its name is the Unix time when the call began, its content the time when it
was last alive. Time between two calls does not count.
"""

from __future__ import annotations

import math
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
from ray.tune import Tuner

from nla.errors import ConfigError

STATE_FILE = re.compile(r"experiment_state-(.+)\.json")
"""Ray's state file of one call; Ray's other files of that call end in the same suffix."""


class Lost(Exception):
    """The state that Ray saved of a search is unreadable."""


def part_name(first: int, last: int) -> str:
    """Folder name of the samples `first` to `last` - 1."""
    return f"{first:05d}-{last:05d}"


def trial_folder(trial: Any) -> str:
    """Folder name of a trial; it sorts in the order of proposal, as Ray's own order changes when a search resumes."""
    return f"{int(trial.experiment_tag.split('_')[0]):05d}-{trial.trial_id}"


def parts(root: str) -> list[tuple[int, int]]:
    """(first sample, last + 1) of each resumable folder of the search in `root`, in order."""
    filesystem, path = pa_fs.FileSystem.from_uri(root)
    found = filesystem.get_file_info(pa_fs.FileSelector(path, allow_not_found=True))
    names = [entry.base_name for entry in found if entry.type == pa_fs.FileType.Directory]
    bounds = [tuple(map(int, name.split("-"))) for name in names if name.replace("-", "").isdigit()]
    return sorted((first, last) for first, last in bounds if Tuner.can_restore(f"{root}/{part_name(first, last)}"))


def restored(path: str, trainable: Any) -> Tuner:
    """A tuner that resumes the search of one folder.

    Raises:
        Lost: the state that Ray wrote last is unreadable.
        ConfigError: the search was started with single-worker trials and now has several workers each, or vice versa.
    """
    try:
        return Tuner.restore(path, trainable)
    except (EOFError, pickle.UnpicklingError):
        raise Lost from None
    except ValueError as error:  # raised for a different trainable
        raise ConfigError(
            f"ray.workers_per_trial was 1 where it is more now, or the other way round, when the search in {path} was "
            "begun: set it back, or begin anew with `dvc repro -sf tune`"
        ) from error


def forget_newest(path: str) -> bool:
    """Deletes the search state that Ray wrote in the last call; False, deleting nothing, if no earlier call has one."""
    filesystem, folder = pa_fs.FileSystem.from_uri(path)
    files = filesystem.get_file_info(pa_fs.FileSelector(folder))
    calls = sorted(match[1] for entry in files if (match := STATE_FILE.fullmatch(entry.base_name)))
    if len(calls) < 2:
        return False
    for entry in files:
        if Path(entry.base_name).stem.endswith(calls[-1]):
            filesystem.delete_file(entry.path)
    return True


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

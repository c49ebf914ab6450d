"""What is saved of a search in its folder, STORAGE/FINGERPRINT: Ray's state, and how long the search has run.

FIRST-LAST/   a batch: Ray Tune's folder of the samples FIRST to LAST - 1; each extension of a search adds one
clock/BEGIN   one file per call: its name is the Unix time at which the call began, its content when it last ran
"""

from __future__ import annotations

import logging
import math
import pickle
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from ray.tune import Tuner

from nla.errors import ConfigError

log = logging.getLogger(__name__)

STATE_FILE = re.compile(r"experiment_state-(.+)\.json")
"""Ray's state file of one call; Ray's other files of that call end in the same suffix."""
STAMP = "%Y-%m-%d_%H-%M-%S"
"""Time in these names, of the machine's time zone."""
CLOCK_INTERVAL_SECONDS = 2.0
"""Time between two writes of the clock; a killed driver loses at most this much of its run time."""


class UnreadableStateError(Exception):
    """The state that Ray saved of a search cannot be read."""


def batch_name(first: int, last: int) -> str:
    """Folder name of the samples `first` to `last` - 1."""
    return f"{first:05d}-{last:05d}"


def trial_folder(trial: Any) -> str:
    """Folder name of a trial; it sorts in the order of proposal, as Ray's own order changes when a search resumes."""
    return f"{int(trial.experiment_tag.split('_')[0]):05d}-{trial.trial_id}"


def saved_batches(root: str) -> list[tuple[int, int]]:
    """(first sample, last + 1) of each batch in `root` that Ray can resume, in order."""
    filesystem, path = pa_fs.FileSystem.from_uri(root)
    found = filesystem.get_file_info(pa_fs.FileSelector(path, allow_not_found=True))
    names = [entry.base_name for entry in found if entry.type == pa_fs.FileType.Directory]
    bounds = [tuple(map(int, name.split("-"))) for name in names if name.replace("-", "").isdigit()]
    return sorted((first, last) for first, last in bounds if Tuner.can_restore(f"{root}/{batch_name(first, last)}"))


def restore_tuner(path: str, trainable: Any) -> Tuner:
    """A tuner that resumes the batch in `path` from the state of its last call.

    Raises:
        UnreadableStateError: the state that Ray wrote last cannot be read.
        ConfigError: the search was started with single-worker trials and now has several workers each, or vice versa.
    """
    order_states(path)
    try:
        return Tuner.restore(path, trainable)
    except (EOFError, pickle.UnpicklingError):
        raise UnreadableStateError from None
    except ValueError as error:  # raised for a different trainable
        raise ConfigError(
            f"ray.workers_per_trial: the search in {path} was started with single-worker trials and cannot resume with "
            "several workers each, or vice versa. Set it back, or start over with `dvc repro -sf tune`."
        ) from error


def drop_newest_state(path: str) -> bool:
    """Deletes the state of the last call, so that Ray falls back to the call before; False if there is none before."""
    filesystem, files, calls = _saved_calls(path)
    if len(calls) < 2:
        return False
    for entry in files:
        if Path(entry.base_name).stem.endswith(calls[-1]):
            filesystem.delete_file(entry.path)
    return True


def order_states(path: str, now: float | None = None) -> None:
    """Renames the states of earlier calls if one has a later time than now, as after a clock was set back.

    Ray resumes from the latest by name, which has the time at which its call began.
    """
    filesystem, files, calls = _saved_calls(path)
    if not calls or calls[-1] < datetime.fromtimestamp(time.time() if now is None else now).strftime(STAMP):
        return
    for number, call in enumerate(calls):
        for entry in files:
            if Path(entry.base_name).stem.endswith(call):
                filesystem.move(entry.path, entry.path.replace(call, f"0000-{number:06d}"))  # before any time


def _saved_calls(path: str) -> tuple[pa_fs.FileSystem, list[pa_fs.FileInfo], list[str]]:
    """The file system and the files of a batch, and the times in the names of Ray's states, in order."""
    filesystem, folder = pa_fs.FileSystem.from_uri(path)
    files = filesystem.get_file_info(pa_fs.FileSelector(folder))
    calls = sorted(match[1] for entry in files if (match := STATE_FILE.fullmatch(entry.base_name)))
    return filesystem, files, calls


class CallTime(BaseModel):
    """When one call of a search ran, in Unix seconds."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    begin: float
    end: float

    @field_validator("end")
    @classmethod
    def _is_after_begin(cls, end: float, info: ValidationInfo) -> float:
        if "begin" in info.data and end < info.data["begin"]:
            raise ValueError(f"the end is before the begin {info.data['begin']}")
        return end

    def seconds(self, until: float = math.inf) -> float:
        """Length of the call up to the Unix time `until`, in seconds."""
        return max(0.0, min(self.end, until) - self.begin)


class Clock:
    """Run time of one search, including earlier runs; time between two runs does not count.

    Args:
        root: folder or URL of the search.
        minutes: time budget; None for no limit.
        now: returns the Unix time in seconds, at which the call began.
        elapsed: returns seconds that grow evenly, whatever is done to the clock of the machine.
    """

    def __init__(
        self,
        root: str,
        minutes: float | None = None,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._filesystem, path = pa_fs.FileSystem.from_uri(root)
        self._folder = f"{path}/clock"
        self._budget = math.inf if minutes is None else 60 * minutes
        self._now, self._elapsed = now, elapsed
        self._first_tick = 0.0
        self._earlier = _read_calls(self._filesystem, self._folder)
        self._this_call: CallTime | None = None
        self._written = -math.inf

    def tick(self) -> None:
        """Records that the search is running; the first tick marks the start of this call."""
        ticked = self._elapsed()
        if self._this_call is None:
            self._first_tick = ticked
            begin = round(self._now(), 3)  # as in the file name
        else:
            begin = self._this_call.begin
        self._this_call = CallTime(begin=begin, end=round(begin + ticked - self._first_tick, 3))
        if ticked - self._written >= CLOCK_INTERVAL_SECONDS:
            self._written = ticked
            self.write()

    def write(self) -> None:
        """Saves the time counted so far for later calls."""
        if self._this_call is None:
            return
        self._filesystem.create_dir(self._folder)
        with self._filesystem.open_output_stream(f"{self._folder}/{self._this_call.begin:.3f}") as file:
            file.write(str(self._this_call.end).encode())

    def spent(self, until: float = math.inf) -> float:
        """Seconds that the search has run, including earlier runs, up to the Unix time `until`."""
        calls = self._earlier if self._this_call is None else [*self._earlier, self._this_call]
        return sum(call.seconds(until) for call in calls)

    def left(self) -> float:
        """Seconds left, at least 0; infinite without a budget."""
        return max(0.0, self._budget - self.spent())


def _read_calls(filesystem: pa_fs.FileSystem, folder: str) -> list[CallTime]:
    """The earlier runs; a file that a killed driver left incomplete is skipped."""
    calls = []
    for entry in filesystem.get_file_info(pa_fs.FileSelector(folder, allow_not_found=True)):
        with filesystem.open_input_stream(entry.path) as file:
            content = file.readall()
        try:
            calls.append(CallTime.model_validate({"begin": entry.base_name, "end": content.decode()}))
        except ValueError as error:  # includes pydantic's ValidationError
            log.warning("%s is unreadable, so its time does not count for tune.time_budget: %s", entry.path, error)
    return calls

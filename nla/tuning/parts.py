"""What Ray saves of a search: STORAGE/SEARCH/FIRST-LAST/, one folder per batch of requested samples."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
from ray.tune import Tuner

from nla.errors import ConfigError
from nla.tuning.watch import Lost

STATE_FILE = re.compile(r"experiment_state-(.+)\.json")
"""Ray's state file of one call; Ray's other files of that call end in the same suffix."""


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

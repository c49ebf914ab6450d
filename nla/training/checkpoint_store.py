"""Where the checkpoints of a run are kept while it trains: in a folder, or in the storage of Ray Train or Ray Tune.

A store keeps the last two. If the last is damaged, the run resumes from the one before, and a warning says so.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pyarrow.fs as pa_fs

from nla.errors import Damaged
from nla.training.checkpoint import KEPT, STATE, check_files
from nla.training.epoch_report import EpochReport

Warn = Callable[[str], None]
"""Called with a sentence for the user."""


class CheckpointStore(Protocol):
    """Keeps the latest checkpoints of a run."""

    def latest(self, warn: Warn) -> AbstractContextManager[Path | None]:
        """The last complete and intact checkpoint as a local folder, or None without any.

        Raises:
            Damaged: there are checkpoints, but none is intact.
        """
        ...

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Keeps what `write` writes into an empty folder.

        Every process calls it; only the main one has a `write`.
        """
        ...


class FolderStore:
    """Keeps the checkpoints as FOLDER/epoch-NNNNN, for a single process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def latest(self, warn: Warn = lambda text: None) -> Iterator[Path | None]:
        """The last complete and intact checkpoint, or None without any."""
        complete = [path for path in self._folders() if (path / STATE).is_file()]
        with first_intact((contextlib.nullcontext(path) for path in reversed(complete)), warn) as folder:
            yield folder

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Adds a checkpoint atomically, and deletes all but the one before: one that cannot be written changes nothing.

        The oldest is deleted first, so that there is never room needed for more than two.
        """
        if write is None:
            return
        part, target = self.folder / "part", self.folder / _name(report.row["epoch"])
        shutil.rmtree(part, ignore_errors=True)
        before = [path for path in self._folders() if path < target]
        for path in {*self._folders()} - {*before[1 - KEPT :]}:  # a damaged one can have the epoch that is saved now
            shutil.rmtree(path)
        part.mkdir(parents=True)
        try:
            write(part)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)  # what could not be written would fill the disk

    def _folders(self) -> list[Path]:
        """Folders of checkpoints, in the order of their epochs."""
        return sorted(self.folder.glob("epoch-*"))


def _name(epoch: float) -> str:
    return f"epoch-{int(epoch):05d}"


class RayCheckpoint(Protocol):
    """The part of Ray's Checkpoint that `local_folder` uses; the loop itself does not import Ray."""

    path: str
    filesystem: pa_fs.FileSystem

    def as_directory(self) -> AbstractContextManager[str]:
        """A local folder, which may be a copy."""
        ...


@contextlib.contextmanager
def local_folder(checkpoint: RayCheckpoint | None, warn: Warn) -> Iterator[Path | None]:
    """A checkpoint of Ray as a local folder, or the one before it in the same storage if it is damaged; or None."""
    candidates = [] if checkpoint is None else [checkpoint, *_earlier(checkpoint)]
    with first_intact((candidate.as_directory() for candidate in candidates), warn) as folder:
        yield folder


def _earlier(checkpoint: Any) -> Iterator[RayCheckpoint]:
    """The complete checkpoints before `checkpoint` in its folder, the last one first."""
    path = Path(checkpoint.path)
    for folder in complete_checkpoints(checkpoint.filesystem, path.parent):
        if folder.name < path.name:
            yield type(checkpoint)(folder.as_posix(), checkpoint.filesystem)


def complete_checkpoints(filesystem: pa_fs.FileSystem, folder: Path) -> Iterator[Path]:
    """The checkpoints of Ray in a run's folder that have all files, the last one first: their names sort by epoch."""
    beside = [Path(entry.path) for entry in filesystem.get_file_info(pa_fs.FileSelector(folder.as_posix()))]
    for path in sorted(beside, reverse=True):
        if path.name.startswith("checkpoint_") and filesystem.get_file_info((path / STATE).as_posix()).is_file:
            yield path


@contextlib.contextmanager
def first_intact(folders: Iterable[AbstractContextManager[Path | str]], warn: Warn) -> Iterator[Path | None]:
    """The first folder with an intact checkpoint, or None without any folder. Raises Damaged if none is intact."""
    problem: Damaged | None = None
    for opened in folders:
        with opened as folder:
            try:
                check_files(Path(folder))
            except Damaged as error:
                problem = problem or error
                continue
            if problem is not None:
                warn(f"{problem} Resuming from the checkpoint before, {folder}.")
            yield Path(folder)
            return
    if problem is not None:
        raise problem
    yield None

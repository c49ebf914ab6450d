"""Checkpoints in the storage of Ray Train.

Ray's controller registers a checkpoint when it next looks at the workers, a moment after they have written it. If a
worker is lost in between, Ray would resume from the one before, and an epoch that the user has seen would be trained
again. So what counts is what the storage has.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow.fs as pa_fs
import ray.train
from ray.train import Checkpoint

from nla.errors import Damaged
from nla.io import naming
from nla.training.checkpoint import check_files
from nla.training.checkpoint_store import Warn, complete_checkpoints, local_folder
from nla.training.epoch_report import EpochReport


class RayTrainStore:
    """Checkpoint store of the worker that creates it."""

    def latest(self, warn: Warn) -> AbstractContextManager[Path | None]:
        """The last intact checkpoint, or None."""
        storage = ray.train.get_context().get_storage()
        return last_checkpoint(
            ray.train.get_checkpoint(), storage.storage_filesystem, Path(storage.experiment_fs_path), warn
        )

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Writes the checkpoint into the storage, and reports the epoch to Ray."""
        if write is None:
            ray.train.report(report.metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            # Ray's own names have the time, which may be set back; the id is for an epoch that is trained again.
            name = f"checkpoint_{int(report.row['epoch']):05d}_{uuid.uuid4().hex[:8]}"
            with naming("ray.storage_path"):
                ray.train.report(report.metrics, Checkpoint.from_directory(folder), checkpoint_dir_name=name)


@contextlib.contextmanager
def last_checkpoint(
    registered: Checkpoint | None, filesystem: pa_fs.FileSystem, run: Path, warn: Warn
) -> Iterator[Path | None]:
    """The last intact checkpoint of a run as a local folder, or None.

    Args:
        registered: the last one that Ray knows, if any. Later ones that are damaged were interrupted: they are ignored.
        filesystem: of the storage.
        run: folder of the run.
        warn: told if the registered one is damaged and an earlier one is used.

    Raises:
        Damaged: none that Ray knows is intact, nor a later one.
    """
    name = "" if registered is None else Path(registered.path).name
    for path in complete_checkpoints(filesystem, run):
        if path.name <= name:
            break
        with Checkpoint(path.as_posix(), filesystem).as_directory() as folder:
            if _is_intact(Path(folder)):
                yield Path(folder)
                return
    with local_folder(registered, warn) as last:
        yield last


def _is_intact(folder: Path) -> bool:
    try:
        check_files(folder)
    except Damaged:
        return False
    return True

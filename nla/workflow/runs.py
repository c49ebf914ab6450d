"""Locks the folder of a training or a search while a stage works on it.

Where Ray keeps the checkpoints of trainings and searches: a folder a fingerprint, in a folder or at a URL.

Folders of runs under way: `.runs/FINGERPRINT/`, outside every DVC out, so that DVC does not delete them.

.runs/FINGERPRINT/lock         held while it trains: only one training of the same thing at a time
.runs/FINGERPRINT/mlflow.json  the MLflow run of its curves, by store
.runs/FINGERPRINT/result/      the last checkpoint of a finished training
.runs/FINGERPRINT/here/        checkpoints of an unfinished training without Ray
.runs/FINGERPRINT/...          Ray's storage: checkpoints of an unfinished training
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from nla.config.ray import RayConfig
from nla.console import say
from nla.errors import DataError
from nla.io import read_json, write_json
from nla.workflow.dvc_process import forced
from nla.workflow.paths import project_root, without_credentials


class Held(NamedTuple):
    """Resources of a stage while it holds the lock."""

    run: Run
    storage: str
    """Folder or URL above the checkpoints that Ray keeps for it."""


@contextlib.contextmanager
def held(root: Path, fingerprint: str, ray: RayConfig) -> Iterator[Held]:
    """Locks the folder of `fingerprint` in the project `root`; under `dvc repro -f` its contents are deleted."""
    run = Run(root, fingerprint)
    storage = absolute(ray.storage_path or str(run.folder.parent))
    with run.lock(say):
        if forced():
            for place in {storage, str(run.folder.parent)}:
                forget(place, fingerprint)
        yield Held(run, storage)


def absolute(storage: str) -> str:
    """A folder for any working folder, a relative one being of the project; a URL as it is."""
    return storage if "://" in storage else str(project_root() / storage)


def forget(storage: str, name: str) -> None:
    """Removes what the folder `name` of `storage` holds, but its lock; Ray would go on from the checkpoints in it."""
    from pyarrow import fs as pa_fs  # slow, and most callers forget nothing

    filesystem, path = pa_fs.FileSystem.from_uri(absolute(storage))
    folder = f"{path}/{name}"
    if filesystem.get_file_info(folder).type == pa_fs.FileType.Directory:
        for entry in filesystem.get_file_info(pa_fs.FileSelector(folder)):
            if entry.type == pa_fs.FileType.Directory:
                filesystem.delete_dir(entry.path)
            elif entry.base_name != LOCK:
                filesystem.delete_file(entry.path)


RUNS, LOCK = ".runs", "lock"
IMAGES = ".runs/images"
"""Decoded images of data sets larger than memory."""


class Run:
    """The folder of one fingerprint."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.folder = root / RUNS / fingerprint
        self.result, self.under_way = self.folder / "result", self.folder / "here"

    @contextlib.contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """Locks the folder; while another process holds it, says so and waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process trains {self.fingerprint} already: waiting for it to end")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @property
    def finished(self) -> bool:
        """Whether a training has finished here."""
        return self.result.is_dir()

    def keep(self, checkpoint: Path) -> None:
        """Makes `checkpoint` the result, atomically, and deletes the checkpoints under way."""
        part = self.folder / "result.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(checkpoint, part)
        part.rename(self.result)
        for path in self.folder.iterdir():
            if path.is_dir() and path != self.result:
                shutil.rmtree(path)

    def mlflow_run_id(self, uri: str) -> str | None:
        """Id of this training's MLflow run in the store `uri`, else in another store: `uri` may get a copy of it."""
        known = self._tracked()
        return known.get(without_credentials(uri)) or next(iter(known.values()), None)

    def set_mlflow_run_id(self, uri: str, run_id: str) -> None:
        """Saves the id of the MLflow run in the store `uri`, beside those in other stores."""
        write_json(self._tracking, {**self._tracked(), without_credentials(uri): run_id})

    def _tracked(self) -> dict[str, str]:
        try:
            return read_json(self._tracking)
        except DataError:  # not written yet, or damaged: MLflow gets another run
            return {}

    @property
    def _tracking(self) -> Path:
        return self.folder / "mlflow.json"

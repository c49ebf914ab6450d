"""Folders of runs: one for each fingerprint, outside every DVC out, so that DVC does not delete it before a stage.

.runs/FINGERPRINT/lock         held by the stage that works on the run, so that nothing is trained twice at once
.runs/FINGERPRINT/mlflow.json  id of its MLflow run, by store
.runs/FINGERPRINT/result/      last checkpoint of a finished run
.runs/FINGERPRINT/local/       checkpoints of an unfinished run without Ray
.runs/FINGERPRINT/...          checkpoints of an unfinished run with Ray, unless `ray.storage_path` names another place
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
from nla.errors import DataError, TrainingError
from nla.io import read_json_as, write_json
from nla.workflow.dvc_process import forced
from nla.workflow.paths import project_root, without_credentials

RUNS = ".runs"
LOCK = "lock"
IMAGES = ".runs/images"
"""Decoded images of data sets larger than memory."""


class RunFolder:
    """The folder of one fingerprint in the project `root`."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.path = root / RUNS / fingerprint
        self.result = self.path / "result"
        self.local_checkpoints = self.path / "local"

    @contextlib.contextmanager
    def lock(self, report: Callable[[str], None]) -> Iterator[None]:
        """Locks the folder; while another process holds the lock, reports that and waits."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(f"{self.fingerprint} is already running in another process: waiting for it to end")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.result.is_dir()

    def save_result(self, checkpoint: Path) -> None:
        """Copies `checkpoint` to the result, atomically, and deletes all checkpoints in the folder.

        Raises:
            TrainingError: the result cannot be written, for example because the disk is full; the checkpoints stay.
        """
        part = self.path / "result.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(checkpoint, part)
            part.rename(self.result)
        except shutil.Error as error:  # a list of (source, target, reason)
            _, target, reason = error.args[0][0]
            raise TrainingError(
                f"{target}: cannot be written ({reason}). Free some space there, and run it again."
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)  # what could not be written would fill the disk
        for path in self.path.iterdir():
            if path.is_dir() and path != self.result:
                shutil.rmtree(path)

    def mlflow_run_id(self, uri: str) -> str | None:
        """Id of the MLflow run in the store `uri`, else in another store, of which `uri` may get a copy."""
        ids = self._mlflow_run_ids()
        return ids.get(without_credentials(uri)) or next(iter(ids.values()), None)

    def set_mlflow_run_id(self, uri: str, run_id: str) -> None:
        """Saves the id of the MLflow run in the store `uri`; the ids in other stores are kept."""
        write_json(self._mlflow_file, {**self._mlflow_run_ids(), without_credentials(uri): run_id}, sealed=True)

    def _mlflow_run_ids(self) -> dict[str, str]:
        """Run id by store, without credentials; {} if the file is missing, or damaged, which it says."""
        if not self._mlflow_file.exists():
            return {}
        try:
            return read_json_as(self._mlflow_file, dict[str, str], "MLflow gets another run.")
        except DataError as damage:
            say(str(damage))
            return {}

    @property
    def _mlflow_file(self) -> Path:
        return self.path / "mlflow.json"


class LockedRun(NamedTuple):
    """What a stage works with while it holds the lock of a run."""

    folder: RunFolder
    storage: str
    """Folder or URL in which Ray creates the run's folder of checkpoints."""


@contextlib.contextmanager
def run_lock(root: Path, fingerprint: str, ray: RayConfig) -> Iterator[LockedRun]:
    """Locks the run `fingerprint` of the project `root`. `dvc repro -f` deletes its result and checkpoints first."""
    folder = RunFolder(root, fingerprint)
    runs = str(folder.path.parent)
    storage = absolute_storage(ray.storage_path or runs)
    with folder.lock(say):
        if forced():
            for base in {storage, runs}:
                delete_run(base, fingerprint)
        yield LockedRun(folder, storage)


def absolute_storage(storage: str) -> str:
    """`storage` for use in any working directory: relative paths are relative to the project, URLs stay as they are."""
    return storage if "://" in storage else str(project_root() / storage)


def delete_run(storage: str, fingerprint: str) -> None:
    """Deletes the contents of a run's folder in `storage` except its lock; Ray would resume from its checkpoints."""
    from pyarrow import fs as pa_fs  # slow to import, and rarely needed

    filesystem, path = pa_fs.FileSystem.from_uri(absolute_storage(storage))
    folder = f"{path}/{fingerprint}"
    if filesystem.get_file_info(folder).type == pa_fs.FileType.Directory:
        for entry in filesystem.get_file_info(pa_fs.FileSelector(folder)):
            if entry.type == pa_fs.FileType.Directory:
                filesystem.delete_dir(entry.path)
            elif entry.base_name != LOCK:
                filesystem.delete_file(entry.path)

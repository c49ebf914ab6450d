"""Runs under way: one folder a fingerprint in `.runs/`, outside every DVC out, so that DVC does not delete it.

.runs/FINGERPRINT/lock         held while it trains: one training of the same thing at a time
.runs/FINGERPRINT/mlflow.json  the MLflow run that its curves go to
.runs/FINGERPRINT/result/      the last checkpoint of a finished training
.runs/FINGERPRINT/...          Ray's storage: checkpoints under way
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

RUNS = ".runs"


class Run:
    """The folder of one fingerprint."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.folder = root / RUNS / fingerprint
        self.result = self.folder / "result"

    @contextlib.contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """Holds the folder; waits, and says so, while another process does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
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
        """Whether a training ended here."""
        return self.result.is_dir()

    @property
    def started(self) -> bool:
        """Whether a training of it began here and is not finished."""
        return not self.finished and self._tracking.exists()

    def forget(self) -> None:
        """Removes everything but the lock: training starts afresh."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def keep(self, checkpoint: Path) -> None:
        """Makes `checkpoint` the result, whole or not at all, and drops the checkpoints under way."""
        part = self.folder / "result.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(checkpoint, part)
        part.rename(self.result)
        for path in self.folder.iterdir():
            if path.is_dir() and path != self.result:
                shutil.rmtree(path)

    def recall_tracking(self, uri: str) -> str | None:
        """The id of this training's MLflow run in the store `uri`, else in another one: `uri` may get its double."""
        try:
            known = json.loads(self._tracking.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return known.get(uri) or next(iter(known.values()), None)

    def remember_tracking(self, uri: str, run_id: str) -> None:
        """Keeps the id of the MLflow run."""
        self._tracking.write_text(json.dumps({uri: run_id}))

    @property
    def _tracking(self) -> Path:
        return self.folder / "mlflow.json"

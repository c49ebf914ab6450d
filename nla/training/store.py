"""Where checkpoints go while training runs. The loop cannot tell a folder from Ray's storage."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nla.training.checkpoint import STATE


class Store(Protocol):
    """Keeps the latest checkpoint."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """The last whole checkpoint as a local folder, or None."""
        ...

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        """Keeps what `write` puts into an empty folder; every worker calls it, the first alone has a `write`."""
        ...


class Fetchable(Protocol):
    """A checkpoint of Ray's, wherever it lies."""

    def as_directory(self) -> AbstractContextManager[str]:
        """A local folder, which may be a copy."""
        ...


@contextlib.contextmanager
def fetched(checkpoint: Fetchable | None) -> Iterator[Path | None]:
    """`checkpoint` as a local folder, or None."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


class FolderStore:
    """A folder of this machine, for one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        whole = [path for path in sorted(self.folder.glob("epoch-*")) if (path / STATE).is_file()]
        yield whole[-1] if whole else None

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        if write is None:
            return
        part = self.folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        before = list(self.folder.glob("epoch-*"))
        part.rename(self.folder / f"epoch-{int(row['epoch']):05d}")
        for path in before:
            shutil.rmtree(path)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nla.training.checkpoint import FolderStore, Progress, read_progress, write_checkpoint


def writer(epochs_done: int) -> Callable[[Path], None]:
    return lambda folder: write_checkpoint(folder, Progress("f", 9, epochs_done), {})


def latest(store: FolderStore) -> int | None:
    with store.latest() as folder:
        return None if folder is None else read_progress(folder).epochs_done


def test_keeps_the_last_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new")
    assert latest(store) is None
    for epoch in (9, 10, 11):
        store.save(writer(epoch), {"epoch": float(epoch)})
        assert latest(store) == epoch
    assert [path.name for path in store.folder.iterdir()] == ["epoch-00011"]


def test_a_write_that_breaks_leaves_the_one_before(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.save(writer(1), {"epoch": 1.0})

    def breaks(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.save(breaks, {"epoch": 2.0})
    assert latest(store) == 1
    store.save(writer(2), {"epoch": 2.0})
    assert latest(store) == 2


def test_a_folder_without_state_is_passed_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.save(writer(1), {"epoch": 1.0})
    (tmp_path / "epoch-00002").mkdir()
    assert latest(store) == 1


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    FolderStore(tmp_path).save(None, {"epoch": 1.0})
    assert list(tmp_path.iterdir()) == []

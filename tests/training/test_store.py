from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest
import torch
from ray.train import Checkpoint

from nla.errors import Damaged
from nla.training.checkpoint import STATE, Progress, read_progress, write_checkpoint
from nla.training.checkpoint_store import FolderStore, local_folder
from nla.training.epoch_report import EpochReport
from nla.training.ray_store import last_checkpoint


def writer(epochs_done: int) -> Callable[[Path], None]:
    history = [{"epoch": epoch + 1} for epoch in range(epochs_done)]
    weights = {"last": {"w": torch.full((8,), float(epochs_done))}}
    return lambda folder: write_checkpoint(folder, Progress("f", 19, epochs_done, history=history), weights)


def after(epoch: int) -> EpochReport:
    return EpochReport({"epoch": epoch}, {"epoch": epoch}, is_last=False)


def latest(store: FolderStore) -> int | None:
    with store.latest() as folder:
        return None if folder is None else read_progress(folder).epochs_done


def test_keeps_the_last_two(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new")
    assert latest(store) is None
    for epoch in (9, 10, 11):
        store.save(writer(epoch), after(epoch))
        assert latest(store) == epoch
    assert sorted(path.name for path in store.folder.iterdir()) == ["epoch-00010", "epoch-00011"]


def test_a_write_that_breaks_leaves_the_one_before(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.save(writer(1), after(1))

    def breaks(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.save(breaks, after(2))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001"], "half a checkpoint would fill the disk"
    store.save(writer(2), after(2))
    assert latest(store) == 2


def test_a_folder_without_state_is_passed_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.save(writer(1), after(1))
    (tmp_path / "epoch-00002").mkdir()
    assert latest(store) == 1


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    FolderStore(tmp_path).save(None, after(1))
    assert list(tmp_path.iterdir()) == []


def flip(path: Path, at: int = -2) -> None:
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("file", "at"), [("last.safetensors", -2), ("state.json", 20), ("state.json", -5)])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(tmp_path: Path, file: str, at: int) -> None:
    store, said = FolderStore(tmp_path), []
    for epoch in (1, 2, 3):
        store.save(writer(epoch), after(epoch))
    flip(tmp_path / "epoch-00003" / file, at)
    with store.latest(said.append) as folder:
        assert folder == tmp_path / "epoch-00002"
    (line,) = said
    assert line.startswith(f"{tmp_path / 'epoch-00003' / file}: ")
    assert line.endswith(f"Resuming from the checkpoint before, {folder}.")
    store.save(writer(3), after(3))
    assert latest(store) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002", "epoch-00003"]


def test_the_latest_is_that_of_the_last_epoch_whatever_the_files_times_say(tmp_path: Path) -> None:
    """As after a clock was set back between two epochs, or a copy that keeps no times."""
    store = FolderStore(tmp_path)
    for epoch in (1, 2):
        store.save(writer(epoch), after(epoch))
        for path in (tmp_path / f"epoch-0000{epoch}", *(tmp_path / f"epoch-0000{epoch}").iterdir()):
            os.utime(path, (4e9 - 1e9 * epoch,) * 2)
    assert latest(store) == 2
    store.save(writer(3), after(3))
    assert latest(store) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002", "epoch-00003"]


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for epoch in (1, 2):
        store.save(writer(epoch), after(epoch))
        flip(tmp_path / f"epoch-0000{epoch}/last.safetensors")
    with pytest.raises(Damaged, match=r"epoch-00002/last\.safetensors: .*sha256.*`dvc repro -sf train` retrains"):
        latest(store)


class CheckpointOfRay:
    """As `ray.train.Checkpoint` of a local storage, without importing Ray."""

    def __init__(self, path: str, filesystem: pa_fs.FileSystem) -> None:
        self.path, self.filesystem = path, filesystem

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        OPENED.append(Path(self.path).name)
        yield self.path


OPENED: list[str] = []
"""Names of the checkpoints of Ray that were fetched."""


def test_ray_falls_back_too(tmp_path: Path) -> None:
    names, said = [f"checkpoint_00000{number}" for number in range(4)], []
    for epoch, name in enumerate(names, 1):
        (tmp_path / name).mkdir()
        writer(epoch)(tmp_path / name)
    (tmp_path / names[2] / STATE).unlink()
    flip(tmp_path / names[3] / "last.safetensors")
    given = CheckpointOfRay(str(tmp_path / names[3]), pa_fs.LocalFileSystem())
    OPENED.clear()
    with local_folder(given, said.append) as folder:
        assert folder == tmp_path / names[1]
    assert [names[3], names[1]] == OPENED, "each is fetched once at most"
    assert len(said) == 1
    with local_folder(None, said.append) as folder:
        assert folder is None


@pytest.mark.parametrize(
    ("registered", "damaged", "expected"),
    [
        (None, [], 4),
        (2, [], 4),
        (2, [4], 3),
        (4, [], 4),
        (2, [3, 4], 2),
        (2, [2, 3, 4], 1),
        (None, [1, 2, 3, 4], None),
    ],
)
def test_a_checkpoint_that_ray_has_not_registered_counts_if_it_is_intact(
    tmp_path: Path, registered: int | None, damaged: list[int], expected: int | None
) -> None:
    paths, said = {epoch: tmp_path / f"checkpoint_{epoch:05d}_ab" for epoch in range(1, 5)}, []
    for epoch, path in paths.items():
        path.mkdir()
        writer(epoch)(path)
        if epoch in damaged:
            flip(path / "last.safetensors")
    (tmp_path / "checkpoint_00005_ab").mkdir()  # its state is not there yet
    filesystem = pa_fs.LocalFileSystem()
    given = None if registered is None else Checkpoint(str(paths[registered]), filesystem)
    with last_checkpoint(given, filesystem, tmp_path, said.append) as folder:
        assert folder == (None if expected is None else paths[expected])
    assert len(said) == (registered in damaged), "only a damaged one that Ray knows is worth a warning"

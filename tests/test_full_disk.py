"""A disk without room for a file: one line that names it, nothing half-written, and the next run goes on.

The limit of a process on the size of its files stands for the disk: the same calls fail, in the same places.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from training_parts import SINGLE, MakeSamples, checkpoint_of, content, make_job

from nla.config.data import DataConfig
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.samples import mapped
from nla.data.sources import open_source
from nla.errors import TrainingError, user_message
from nla.io import write_json, write_table
from nla.models.saved_model import save_model
from nla.tracking.store import store_errors
from nla.training.checkpoint_store import FolderStore
from nla.training.trainer import Split, Trainer
from nla.workflow.runs import RunFolder

resource = pytest.importorskip("resource")


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Lets this process write no file of more than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_training_goes_on_from_the_checkpoint_before(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    split, job = Split(tiny_samples(56), tiny_samples(31, seed=1)), make_job(epochs=3)

    def train(folder: str) -> int:
        return Trainer(job, split, SINGLE, FolderStore(tmp_path / folder)).fit().epochs_done

    class FullAfterOne(FolderStore):
        def save(self, *arguments: object) -> None:
            full = room_for(20_000) if [*tmp_path.glob("parts/epoch-*")] else contextlib.nullcontext()
            with full:
                super().save(*arguments)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="File too large") as raised:
        Trainer(job, split, SINGLE, FullAfterOne(tmp_path / "parts")).fit()
    line = user_message(raised.value)
    assert line.startswith(f"{tmp_path}/parts/part/") and ".safetensors: File too large. Free some space" in line
    assert "\n" not in line
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["epoch-00001"]
    assert train("parts") == train("whole") == 3
    assert content(checkpoint_of(tmp_path / "parts")) == content(checkpoint_of(tmp_path / "whole"))


def test_an_export_leaves_nothing_half_written(tmp_path: Path) -> None:
    network = make_job().build()
    with room_for(20_000), pytest.raises(OSError, match="File too large") as raised:
        card = {**network.describe(), "classes": ["a", "b", "c"]}
        save_model(tmp_path / "models/model.safetensors", network.backbone.state_dict(), card)
    assert raised.value.errno == errno.EFBIG
    assert not [*(tmp_path / "models").iterdir()]


def test_a_result_that_does_not_fit_leaves_the_checkpoints(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "f")
    checkpoint = run.local_checkpoints / "epoch-00001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "last.safetensors").write_bytes(bytes(30_000))
    with (
        room_for(20_000),
        pytest.raises(TrainingError, match=r"last\.safetensors: cannot be written .*Free"),
    ):
        run.save_result(checkpoint)
    assert not run.finished and [path.name for path in run.path.iterdir()] == ["local"]
    run.save_result(checkpoint)
    assert run.finished


@pytest.mark.parametrize("name", ["record.json", "table.parquet", "images.u8"])
def test_other_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, 60_000, np.uint8)
    write = {
        "record.json": lambda: write_json(path, {"a": "x" * 60_000}),
        "table.parquet": lambda: write_table(path, pa.table({"a": noise})),
        "images.u8": lambda: mapped(path, (60_000,), lambda images: images.fill(1)),
    }[name]
    with room_for(20_000), pytest.raises(OSError) as raised:
        write()
    line = user_message(raised.value)
    assert str(path) in line and "\n" not in line and len(line) < 500
    assert not path.exists() and not path.with_name(f"{name}.part").exists()
    write()
    assert path.exists()


def test_ingest_and_prepare_name_the_table_that_does_not_fit(tmp_path: Path) -> None:
    config = DataConfig.model_validate({"image_size": 32, "synthetic": dict.fromkeys(("train", "valid", "test"), 100)})
    faces, out = tmp_path / "faces.parquet", tmp_path / "data"

    steps: dict[str, Callable[[], object]] = {
        "faces.parquet": lambda: ingest(open_source(config, tmp_path), faces, on_bad="error"),
        ".train.parquet.part": lambda: prepare(faces, out, config),
    }
    for name, step in steps.items():
        with room_for(20_000), pytest.raises(OSError, match="File too large") as raised:
            step()
        line = user_message(raised.value)
        assert name in line.split(": ")[0] and "\n" not in line
        assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]
        step()
    assert sorted(path.name for path in out.iterdir()) == ["test.parquet", "train.parquet", "valid.parquet"]


def test_a_folder_that_cannot_be_written_to_has_its_remedy() -> None:
    error = OSError(errno.EROFS, "Read-only file system", "models/model.json.part")
    assert user_message(error) == ("models/model.json.part: Read-only file system. Make it writable, and run it again")


def test_the_files_of_a_store_are_named() -> None:
    with pytest.raises(OSError, match="No space") as raised, store_errors("sqlite:///a/mlflow.db"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert user_message(raised.value).startswith("MLflow store sqlite:///a/mlflow.db: No space left on device. Free")

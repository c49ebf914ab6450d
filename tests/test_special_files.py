"""A pipe, a socket or a device in place of a file is refused: reading it could wait forever."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow_parts import random_model, run_python

from nla.commands.compare import read_predictions
from nla.commands.image_inputs import StoredImage, read_image
from nla.config.base import read_params
from nla.config.data import DataConfig
from nla.data.arrays import make_samples
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.problems import Problem
from nla.data.schema import read_info
from nla.data.sources import open_source
from nla.errors import NLAError, user_message
from nla.io import atomic_write, read_json_as, regular, sha256
from nla.limits import ImageLimits
from nla.models.classifier import ImageSpec
from nla.models.weights import existing
from nla.serving.predictor import Predictor

READERS: dict[str, Callable[[Path], object]] = {
    "params.yaml": read_params,
    "model.json": lambda path: read_json_as(path, dict),
    "weights.pth": existing,
    "data": sha256,
    "test.parquet": read_info,
    "predictions.parquet": lambda path: read_predictions(str(path), "test"),
    "face.png": lambda path: make_samples([str(path)], [0]),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises((NLAError, OSError)) as raised:
        READERS[name](tmp_path / name)
    message = user_message(raised.value)  # type: ignore[arg-type]
    assert name in message and "a pipe, not a file. Put a regular file there" in message


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_no_model_is_read_from_a_pipe(tmp_path: Path, name: str) -> None:
    random_model(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="a pipe, not a file"):
        Predictor.load(tmp_path)


def test_no_writer_replaces_a_pipe_or_device(tmp_path: Path) -> None:
    """As root, `--out /dev/null` would have made a file of it, for every program of the machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name, kind in (("pipe", "a pipe"), ("device", "a device")):
        with pytest.raises(OSError, match=f"{kind}, not a file"), atomic_write(tmp_path / name) as part:
            part.write_text("x")
        assert {path.name for path in tmp_path.iterdir()} == {"pipe", "device"}
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "device").is_symlink()


def test_sockets_and_devices_are_named_and_links_to_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s.png")
        for name, target, kind in (("s", "s.png", "a socket"), ("zero", "/dev/zero", "a device")):
            Path(name).symlink_to(target)
            with pytest.raises(OSError, match=f"{kind}, not a file"):
                regular(Path(name))
    for name in ("missing", "."):
        assert regular(Path(name)) == Path(name)


@pytest.mark.parametrize("source", ["folder", "csv", "rafdb", "affectnet"])
def test_special_files_among_images_are_problems(tmp_path: Path, source: str) -> None:
    images = {
        "folder": [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in "ab" for i in (1, 2)],
        "csv": [f"{i}.png" for i in range(8)],
        "rafdb": [f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in (1, 7) for i in (1, 2)],
        "affectnet": [f"{folder}/images/{i}.jpg" for folder in ("train_set", "val_set") for i in range(4)],
    }[source]
    for i, path in enumerate(images):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(encode_png(np.full((16, 16), i, np.uint8)))
    for folder in ("train_set", "val_set") if source == "affectnet" else ():
        (tmp_path / folder / "annotations").mkdir()
        for i in range(4):
            np.save(tmp_path / folder / f"annotations/{i}_exp.npy", i)
    if source == "csv":
        lines = [f"{i}.png,{'train' if i < 4 else 'test'},{'ab'[i % 2]}" for i in range(8)]
        (tmp_path / "faces.csv").write_text("\n".join(["image,split,label", *lines, ""]))
    (tmp_path / images[0]).unlink()
    os.mkfifo(tmp_path / images[0])
    report = ingest(
        open_source(DataConfig.model_validate({"source": source}), tmp_path), tmp_path / "out", on_bad="quarantine"
    )
    assert report["problems"] == [f"{images[0]}: cannot be read: a pipe, not a file. Put a regular file there"]
    assert report["rows"] == 7


def test_a_list_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "faces.csv")
    with pytest.raises(OSError, match="a pipe, not a file"):
        open_source(DataConfig(source="csv"), tmp_path)


def test_commands_report_it_as_unreadable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "face.png")
    spec = ImageSpec(16, 1, (0.5,), (0.5,))
    problem = read_image(StoredImage("face.png", tmp_path / "face.png"), spec, ImageLimits())
    assert problem == Problem("face.png", None, "cannot be read: a pipe, not a file. Put a regular file there")


def test_a_stage_ends_with_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    done = run_python("from pipelines.ingest import main, run_stage\nrun_stage(main)", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: params.yaml: a pipe, not a file. Put a regular file there"

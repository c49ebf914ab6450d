"""One rule for symbolic links in all data sets: the set and single images may be links, folders in it may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nla.config.data import DataConfig, SourceName
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.sources import open_source
from nla.errors import DataError


def images(root: Path, *paths: str) -> None:
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encode_png(np.full((16, 16), i, np.uint8)))


def folder(root: Path) -> tuple[str, str]:
    images(root, *(f"{split}/{name}/{i}.png" for split in ("train", "test") for name in "ab" for i in (1, 2)))
    return "train/a/1.png", "train/a"


def csv_list(root: Path) -> tuple[str, str]:
    images(root, *(f"{part}/{i}.png" for part in ("one", "two") for i in range(4)))
    lines = [
        f"{part}/{i}.png,{split},{'ab'[i % 2]}" for part, split in (("one", "train"), ("two", "test")) for i in range(4)
    ]
    (root / "faces.csv").write_text("\n".join(["image,split,label", *lines, ""]))
    return "one/0.png", "one"


def rafdb(root: Path) -> tuple[str, str]:
    names = [f"{split}_{i}" for split in ("train", "test") for i in (1, 2, 7)]
    images(root, *(f"Image/aligned/{name}_aligned.jpg" for name in names))
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel/list_patition_label.txt").write_text("".join(f"{name}.jpg {name[-1]}\n" for name in names))
    return "Image/aligned/train_1_aligned.jpg", "Image"


def affectnet(root: Path) -> tuple[str, str]:
    for part in ("train_set", "val_set"):
        images(root, *(f"{part}/images/{i}.jpg" for i in range(4)))
        (root / part / "annotations").mkdir()
        for i in range(4):
            np.save(root / part / f"annotations/{i}_exp.npy", i)
    return "train_set/images/0.jpg", "train_set/annotations"


SETS: dict[SourceName, Callable[[Path], tuple[str, str]]] = {
    "folder": folder, "csv": csv_list, "rafdb": rafdb, "affectnet": affectnet
}  # fmt: skip


def move_and_link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("name", SETS)
def test_the_set_itself_and_single_images_may_be_links(tmp_path: Path, name: SourceName) -> None:
    image, _ = SETS[name](tmp_path / "set")
    report = ingest(open_source(DataConfig(source=name), tmp_path / "set"), tmp_path / "faces.parquet", on_bad="error")
    expected = (tmp_path / "faces.parquet").read_bytes()
    move_and_link(tmp_path / "set" / image, tmp_path / "outside.png")
    (tmp_path / "linked").symlink_to("set")
    again = ingest(
        open_source(DataConfig(source=name), tmp_path / "linked"), tmp_path / "faces.parquet", on_bad="error"
    )
    assert again == report
    assert (tmp_path / "faces.parquet").read_bytes() == expected


@pytest.mark.parametrize("name", SETS)
def test_links_to_folders_are_refused(tmp_path: Path, name: SourceName) -> None:
    _, part = SETS[name](tmp_path / "set")
    move_and_link(tmp_path / "set" / part, tmp_path / "outside")
    with pytest.raises(DataError) as raised:
        ingest(open_source(DataConfig(source=name), tmp_path / "set"), tmp_path / "faces.parquet", on_bad="error")
    assert f"{part}: a link to a folder, which DVC does not look into. Link the images instead" in str(raised.value)
    assert str(raised.value).count("a link to a folder") == 1, "once for all its images"


def test_a_link_to_nothing_is_a_problem(tmp_path: Path) -> None:
    image, _ = folder(tmp_path)
    (tmp_path / image).unlink()
    (tmp_path / image).symlink_to("nowhere.png")
    report = ingest(open_source(DataConfig(source="folder"), tmp_path), tmp_path / "faces", on_bad="quarantine")
    assert report["problems"] == [f"{image}: a link to a file that is missing"]

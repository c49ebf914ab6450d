"""Labels of another numbering are a fault of the whole file, which quarantine does not forgive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from nla.config.data import DataConfig, SourceName
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.sources import open_source
from nla.data.sources.affectnet import LIST_COLUMNS
from nla.data.sources.numbering import check_numbering
from nla.errors import DataError


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (range(7), "0 to 6"),
        (range(1, 7), None),
        (range(1, 8), None),
        (range(8), None),
        ([0, 2, 4, 6], "0 to 6"),
        ([0, 2], None),
        (range(2, 8), "2 to 8"),
        ([2, 4, 6, 8], "2 to 8"),
        ([1, 2, 4, 6, 8], None),
        (["0", "1", "2", "3", "happy"], "0 to 6"),
    ],
)
def test_shifted_labels_are_refused(labels: Iterable[int | str], got: str | None) -> None:
    if got is None:
        check_numbering("list", labels, 1, 7)
        return
    with pytest.raises(DataError, match=rf"^list: labels must be numbered from 1 to 7 \(got {got}\)\. .*each label"):
        check_numbering("list", labels, 1, 7)


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full((16, 16), value, np.uint8)))


def rafdb_list(root: Path, shift: int) -> None:
    names = [f"{split}_{label}" for split in ("train", "test") for label in range(1, 8)]
    (root / "EmoLabel").mkdir(parents=True)
    lines = [f"{name}.jpg {int(name[-1]) + shift}\n" for name in names]
    (root / "EmoLabel/list_patition_label.txt").write_text("".join(lines))
    for i, name in enumerate(names):
        image(root / f"Image/aligned/{name}_aligned.jpg", i)


def rafdb_list_of_two(root: Path, shift: int) -> None:
    """The lines of test are of another origin than those of train, which are numbered as published."""
    rafdb_list(root, shift)
    path = root / "EmoLabel/list_patition_label.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    shifts = {"train": shift, "test": 0}
    path.write_text("".join(f"{name} {int(label) - shifts[name.split('_')[0]]}\n" for name, label in lines))


def rafdb_folders(root: Path, shift: int) -> None:
    for i, split in enumerate(("train", "test")):
        for label in range(1, 8):
            image(root / split / str(label + shift) / "a.jpg", 10 * i + label)


def affectnet_folders(root: Path, shift: int) -> None:
    for i, folder in enumerate(("train_set", "val_set")):
        (root / folder / "annotations").mkdir(parents=True)
        for label in range(8):
            image(root / folder / f"images/{label}.jpg", 10 * i + label)
            np.save(root / folder / f"annotations/{label}_exp.npy", label + shift)


def affectnet_lists(root: Path, shift: int) -> None:
    for i, name in enumerate(("training.csv", "validation.csv")):
        lines = [",".join(LIST_COLUMNS)]
        for label in range(8):
            image(root / f"Manually_Annotated_Images/{i}/{label}.jpg", 10 * i + label)
            lines.append(f"{i}/{label}.jpg,1,2,3,4,5;6,{label + shift * i},0,0")
        (root / name).write_text("\n".join(lines) + "\n")


def csv_list(root: Path, shift: int) -> None:
    lines = ["image,split,label"]
    for i, split in enumerate(("train", "test")):
        for label in range(7):
            image(root / f"{split}/{label}.png", 10 * i + label)
            lines.append(f"{split}/{label}.png,{split},{label + shift * i}")
    (root / "faces.csv").write_text("\n".join(lines) + "\n")


def folders(root: Path, shift: int) -> None:
    for i, split in enumerate(("train", "test")):
        for label in range(7):
            image(root / f"{split}/{label + shift * i}/a.png", 10 * i + label)


@pytest.mark.parametrize("on_bad", ["error", "quarantine"])
@pytest.mark.parametrize(
    ("source", "write", "shift", "where"),
    [
        ("rafdb", rafdb_list, -1, "EmoLabel/list_patition_label.txt, train"),
        ("rafdb", rafdb_list_of_two, -1, "EmoLabel/list_patition_label.txt, test"),
        ("rafdb", rafdb_folders, -1, "train"),
        ("affectnet", affectnet_folders, 1, "train_set"),
        ("affectnet", affectnet_lists, 1, "validation.csv"),
        ("csv", csv_list, 1, "faces.csv, test"),
        ("folder", folders, 1, ".*, test"),
    ],
)
def test_another_numbering_is_refused_whatever_is_done_with_bad_rows(
    tmp_path: Path, source: SourceName, write: Callable[[Path, int], None], shift: int, where: str, on_bad: str
) -> None:
    write(tmp_path / "good", 0)
    write(tmp_path / "bad", shift)
    config = DataConfig(source=source)
    report = ingest(open_source(config, tmp_path / "good"), tmp_path / "faces.parquet", on_bad="error")
    assert report["problems"] == []
    with pytest.raises(DataError, match=f"^{where}: labels must be numbered from "):
        ingest(open_source(config, tmp_path / "bad"), tmp_path / "faces.parquet", on_bad=on_bad)  # type: ignore[arg-type]

"""RAF-DB in both layouts, from images that each test writes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from nla.config.data import DataConfig
from nla.data.images import decode, pixel_hash
from nla.data.schema import FACES
from nla.data.sources import open_source
from nla.data.sources.base import Findings
from nla.errors import DataError

CONFIG = DataConfig(source="rafdb")
LIST = "EmoLabel/list_patition_label.txt"
PEOPLE = {  # surprise fear disgust happiness sadness anger neutral
    "test_0001.jpg": 1,
    "test_0002.jpg": 7,
    "train_00001.jpg": 5,
    "train_00002.jpg": 1,
    "train_00003.jpg": 7,
}


def jpeg(seed: int) -> bytes:
    pixels = cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8), (0, 0), 2)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def published(root: Path) -> Path:
    (root / "Image/aligned").mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    for seed, name in enumerate(PEOPLE):
        (root / "Image/aligned" / name.replace(".jpg", "_aligned.jpg")).write_bytes(jpeg(seed))
    (root / LIST).write_text("".join(f"{name} {label}\n" for name, label in PEOPLE.items()))
    return root


def sorted_into_folders(root: Path) -> Path:
    for seed, (name, label) in enumerate(PEOPLE.items()):
        folder = root / name.split("_")[0] / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name.replace(".jpg", "_aligned.jpg")).write_bytes(jpeg(seed))
    return root


def read(root: Path) -> tuple[pa.Table, Findings]:
    findings = Findings()
    batches = list(open_source(CONFIG, root).batches(findings))
    return pa.Table.from_batches(batches, FACES), findings


def edit_list(root: Path, *lines: str) -> None:
    with (root / LIST).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_the_published_layout(tmp_path: Path) -> None:
    faces, findings = read(published(tmp_path))
    assert findings == Findings()
    assert faces["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert faces["split"].to_pylist() == ["test", "test", "train", "train", "train"]
    classes = open_source(CONFIG, tmp_path).classes
    assert [classes[label] for label in faces["label"].to_pylist()] == [
        "surprise",
        "neutral",
        "sadness",
        "surprise",
        "neutral",
    ]
    assert faces["votes"].null_count == faces["posterior"].null_count == 5


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    path = published(tmp_path) / LIST
    path.write_text(path.read_text(), encoding="utf-8-sig")
    faces, findings = read(tmp_path)
    assert len(faces) == len(PEOPLE) and findings.problems == []


def test_bytes_are_kept_as_they_are(tmp_path: Path) -> None:
    faces, _ = read(published(tmp_path))
    for seed, (image, hashed) in enumerate(zip(faces["image"].to_pylist(), faces["pixels"].to_pylist(), strict=True)):
        assert image["bytes"] == jpeg(seed) == (tmp_path / image["path"]).read_bytes()
        assert hashed == pixel_hash(decode(jpeg(seed)))


@pytest.mark.parametrize("above", ["", "DATASET"])
def test_folders_hold_the_same_faces(tmp_path: Path, above: str) -> None:
    by_list, _ = read(published(tmp_path / "list"))
    sorted_into_folders(tmp_path / "folders" / above)
    by_folder, findings = read(tmp_path / "folders")
    assert findings == Findings()
    as_set = [
        {tuple(row[key] for key in ("split", "label", "pixels")) for row in table.to_pylist()}
        for table in (by_list, by_folder)
    ]
    assert as_set[0] == as_set[1]
    assert by_folder["row"].to_pylist() == [0, 1, 2, 3, 4]


def test_known_counts_are_the_published_totals(tmp_path: Path) -> None:
    known = open_source(CONFIG, published(tmp_path)).known_counts
    assert {split: sum(counts) for split, counts in known.items()} == {"train": 12271, "test": 3068}


@pytest.mark.parametrize("missing", [LIST, "Image/aligned"])
def test_a_missing_part_is_named(tmp_path: Path, missing: str) -> None:
    (published(tmp_path) / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"{missing} is missing\nCopy EmoLabel .* into {tmp_path}"):
        open_source(CONFIG, tmp_path)


def test_nothing_there_names_both_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{LIST} is missing\n.*Image/aligned is missing"):
        open_source(CONFIG, tmp_path / "rafdb")


def test_folders_without_test_are_an_error(tmp_path: Path) -> None:
    (sorted_into_folders(tmp_path) / "test").rename(tmp_path / "tests")
    with pytest.raises(DataError, match="/test is missing"):
        open_source(CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train_00009.jpg 9", "label 9 is not from 1 to 7"),
        ("train_00009.jpg 0", "label 0 is not from 1 to 7"),
        ("train_00009.jpg happy", "label happy is not from 1 to 7"),
        ("train_00009.jpg", "1 fields instead of a name and a label"),
        ("train_00009.jpg 1 0 0", "4 fields instead of a name and a label"),
        ("image_00009.jpg 1", "the name 'image_00009.jpg' begins with neither train_ nor test_"),
        ("train_00001.jpg 1", "train_00001.jpg is listed twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    edit_list(published(tmp_path), line)
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [f"{LIST}, line 6: {what}"]
    assert len(faces) == 5


def test_listed_but_missing_and_there_but_not_listed(tmp_path: Path) -> None:
    folder = published(tmp_path) / "Image/aligned"
    (folder / "train_00002_aligned.jpg").rename(folder / "train_00077_aligned.jpg")
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        f"{LIST}, line 4: Image/aligned/train_00002_aligned.jpg is listed but missing"
    ]
    assert findings.warnings == [f"images not read, because {LIST} does not name them: 1, in Image/aligned (1)"]
    assert faces["row"].to_pylist() == [0, 1, 2, 4]


def test_a_cut_image_is_named(tmp_path: Path) -> None:
    cut = published(tmp_path) / "Image/aligned/test_0002_aligned.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        "Image/aligned/test_0002_aligned.jpg: the JPEG is cut off"
    ]
    assert faces["row"].to_pylist() == [0, 2, 3, 4]


def test_a_flag_in_a_third_column_is_a_note(tmp_path: Path) -> None:
    listed = published(tmp_path) / LIST
    listed.write_text("".join(f"{line} 1\n" for line in listed.read_text().splitlines()))
    faces, findings = read(tmp_path)
    assert findings.problems == [] and faces["label"].to_pylist() == [0, 6, 4, 0, 6]
    assert findings.notes == [f"lines of {LIST} with a third column, not used: 5"]


def test_a_folder_that_is_no_label(tmp_path: Path) -> None:
    (sorted_into_folders(tmp_path) / "train/8").mkdir()
    _, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == ["train/8: the folder's name is not a label from 1 to 7"]


def test_images_that_lie_elsewhere_are_counted(tmp_path: Path) -> None:
    for root, place in ((published(tmp_path / "list"), "Image/aligned"), (tmp_path / "folders", "train/5")):
        if place == "train/5":
            sorted_into_folders(root)
        (root / place / "more").mkdir()
        for name in ("more/a.jpg", "b.tif"):
            (root / place / name).write_bytes(b"")
        _, findings = read(root)
        images, others = findings.warnings
        assert images.startswith("images not read, because ") and images.endswith(f": 1, in {place}/more (1)")
        assert others.endswith(f": 1 .tif, in {place} (1)")

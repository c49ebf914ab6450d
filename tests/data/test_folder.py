"""Any labelled image tree, from images that each test writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nla.config.data import DataConfig
from nla.data.images import encode_png
from nla.data.schema import FACES
from nla.data.sources import image_files as files
from nla.data.sources import open_source
from nla.data.sources.base import Findings
from nla.errors import DataError

CONFIG = DataConfig(source="folder")


def tree(root: Path, *paths: str) -> Path:
    for i, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(np.full((6, 6), i, np.uint8)))
    return root


def read(root: Path) -> tuple[pa.Table, Findings]:
    findings = Findings()
    batches = list(open_source(CONFIG, root).batches(findings))
    return pa.Table.from_batches(batches, FACES), findings


def test_splits_classes_and_order(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/b.png", "train/sad/a.PNG", "train/glad/c.png", "valid/sad/d.png", "test/glad/e.png")
    faces, findings = read(tmp_path)
    assert findings == Findings()
    assert open_source(CONFIG, tmp_path).classes == ("glad", "sad")
    rows = zip(
        *(faces[name].to_pylist() for name in ("row", "split", "label")),
        [image["path"] for image in faces["image"].to_pylist()],
        strict=True,
    )
    assert list(rows) == [
        (0, "train", 0, "train/glad/c.png"),
        (1, "train", 1, "train/sad/a.PNG"),
        (2, "train", 1, "train/sad/b.png"),
        (3, "valid", 1, "valid/sad/d.png"),
        (4, "test", 0, "test/glad/e.png"),
    ]


@pytest.mark.parametrize("name", ["val", "Validation", "VALID"])
def test_names_of_the_validation_split(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "Train/sad/a.png", f"{name}/sad/b.png", "TEST/sad/c.png")
    faces, _ = read(tmp_path)
    assert faces["split"].to_pylist() == ["train", "valid", "test"]


def test_validation_may_be_absent(tmp_path: Path) -> None:
    faces, _ = read(tree(tmp_path, "train/sad/a.png", "test/sad/c.png"))
    assert faces["split"].to_pylist() == ["train", "test"]


def test_all_image_kinds_are_read_and_other_files_counted(tmp_path: Path) -> None:
    tree(tmp_path, "test/sad/z.png", *(f"train/sad/a{suffix}" for suffix in (".jpg", ".JPEG", ".png", ".bmp", ".webp")))
    (tmp_path / "train/sad/notes.txt").write_text("not an image")
    (tmp_path / "train/sad/.hidden.png").write_text("not an image")
    faces, findings = read(tmp_path)
    assert len(faces) == 6 and findings.problems == []
    assert findings.warnings == [
        "files not read, because their suffix is not .jpg, .jpeg, .png, .bmp, .webp: 1 .txt, in train/sad (1)"
    ]


def test_images_elsewhere_are_counted_with_place_and_reason(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "train/glad/b.png", "test/sad/c.png", "holdout/sad/d.png", "test/e.png")
    tree(tmp_path, *(f"train/sad/S05/{i}.png" for i in range(50)), *(f"test/sad/{i}.gif" for i in range(3)))
    _, findings = read(tmp_path)
    where = "train/CLASS or test/CLASS of a class of train"
    places = "in train/sad/S05 (50), holdout/sad (1), test (1)"
    assert findings == Findings(
        warnings=[
            f"images not read, because they do not lie directly in {where}: 52, {places}",
            "files not read, because their suffix is not .jpg, .jpeg, .png, .bmp, .webp: 3 .gif, in test/sad (3)",
        ]
    )


def test_a_class_whose_images_lie_deeper_is_an_error_that_says_where(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "train/glad/S05/b.png", "test/sad/c.png")
    with pytest.raises(DataError, match=r"train has no image of glad\. .*\n  images not read, .*train/glad/S05 \(1\)"):
        open_source(CONFIG, tmp_path)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_train_and_test_are_needed(tmp_path: Path, missing: str) -> None:
    tree(tmp_path, *(f"{split}/sad/a.png" for split in ("train", "valid", "test") if split != missing))
    with pytest.raises(DataError, match=f"{tmp_path}/{missing} is missing\nBoth train and test are needed"):
        open_source(CONFIG, tmp_path)


def test_a_file_in_place_of_a_split_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png")
    (tmp_path / "test").write_text("")
    with pytest.raises(DataError, match=f"^{tmp_path}/test: a file, not a folder"):
        open_source(CONFIG, tmp_path)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is missing\nMake it"):
        open_source(CONFIG, tmp_path / "nowhere")


def test_two_folders_of_one_split_are_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "val/sad/b.png", "valid/sad/b.png", "test/sad/c.png")
    with pytest.raises(DataError, match=r"val and valid are both valid\. Keep one"):
        open_source(CONFIG, tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "test/sad/c.png")
    (tmp_path / "train/glad").mkdir()
    with pytest.raises(DataError, match=r"train has no image of glad\. Add some"):
        open_source(CONFIG, tmp_path)


def test_train_without_classes_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.png", "test/sad/c.png")
    with pytest.raises(DataError, match="train holds no folders"):
        open_source(CONFIG, tmp_path)


def test_more_classes_than_a_label_can_number(tmp_path: Path) -> None:
    tree(tmp_path, "test/0/c.png", *(f"train/{name}/a.png" for name in range(128)))
    with pytest.raises(DataError, match="at most 127"):
        open_source(CONFIG, tmp_path)


def test_a_class_that_train_lacks_is_a_problem(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "test/sad/c.png", "test/glad/d.png", "valid/mad/e.png")
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        "valid/mad: train has no class 'mad' (it has sad)",
        "test/glad: train has no class 'glad' (it has sad)",
    ]
    assert len(faces) == 2


def test_unreadable_images_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    tree(tmp_path, "test/sad/z.png", *(f"train/sad/{name}.png" for name in "abcd"))
    cut = tmp_path / "train/sad/b.png"
    cut.write_bytes(cut.read_bytes()[:-5])
    (tmp_path / "train/sad/c.png").write_bytes(b"")
    (tmp_path / "train/sad/d.png").unlink()
    (tmp_path / "train/sad/d.png").mkdir()
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        "train/sad/b.png: the PNG is cut off",
        "train/sad/c.png: the file is empty",
        "train/sad/d.png: cannot be read: Is a directory",
    ]
    assert faces["row"].to_pylist() == [0, 4]


def test_batches_are_bounded_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "test/sad/z.png", *(f"train/sad/{number:02}.png" for number in range(20)))
    whole, _ = read(tmp_path)
    monkeypatch.setattr(files, "BATCH_ROWS", 8)
    by_rows = list(open_source(CONFIG, tmp_path).batches(Findings()))
    assert [len(batch) for batch in by_rows] == [8, 8, 5]
    monkeypatch.setattr(files, "BATCH_BYTES", 3 * len(encode_png(np.zeros((6, 6), np.uint8))))
    by_bytes = list(open_source(CONFIG, tmp_path).batches(Findings()))
    assert [len(batch) for batch in by_bytes] == [3] * 7
    assert pa.Table.from_batches(by_rows).equals(whole) and pa.Table.from_batches(by_bytes).equals(whole)


def test_an_image_above_the_limit_is_a_bad_row(tmp_path: Path) -> None:
    tree(tmp_path, "train/sad/a.png", "test/sad/b.png")
    (tmp_path / "train/sad/large.png").write_bytes(encode_png(np.zeros((20, 30), np.uint8)))
    findings = Findings()
    source = open_source(CONFIG.model_copy(update={"max_pixels": 599}), tmp_path)
    assert sum(batch.num_rows for batch in source.batches(findings)) == 2
    (problem,) = findings.problems
    assert str(problem) == "train/sad/large.png: the image has 30 x 20 pixels, more than max_pixels, 599. Shrink it"
    assert read(tmp_path)[1] == Findings()

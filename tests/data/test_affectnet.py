"""AffectNet in both layouts, from images that each test writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nla.config.data import DataConfig
from nla.data.images import encode_png
from nla.data.schema import FACES
from nla.data.sources import open_source
from nla.data.sources.affectnet import LIST_COLUMNS
from nla.data.sources.base import Findings
from nla.errors import DataError

CONFIG = DataConfig(source="affectnet")
TEST_NOTE = "AffectNet's validation set is used as test; a validation split is made from train"


def png(value: int) -> bytes:
    return encode_png(np.full((6, 6, 3), value, np.uint8))


def npy_layout(root: Path, train: dict[int, Any], val: dict[int, Any]) -> Path:
    for folder, labels in (("train_set", train), ("val_set", val)):
        (root / folder / "images").mkdir(parents=True)
        (root / folder / "annotations").mkdir()
        for number, label in labels.items():
            (root / folder / "images" / f"{number}.jpg").write_bytes(png(number))
            np.save(root / folder / "annotations" / f"{number}_exp.npy", np.asarray(label))
            np.save(root / folder / "annotations" / f"{number}_val.npy", np.asarray("-0.5"))
    return root


def csv_layout(
    root: Path, train: list[Any], val: list[Any], images: str = "Manually_Annotated_Images", header: bool = True
) -> Path:
    number = 0
    for name, labels in (("training.csv", train), ("validation.csv", val)):
        lines = [",".join(LIST_COLUMNS)] if header or name == "training.csv" else []
        for label in labels:
            path = f"{number % 3}/{number}.jpg"
            lines.append(f"{path},1,2,3,4,5.5;6.5,{label},0.1,-0.2")
            (root / images / path).parent.mkdir(parents=True, exist_ok=True)
            (root / images / path).write_bytes(png(number))
            number += 1
        (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root


def read(root: Path) -> tuple[pa.Table, Findings]:
    findings = Findings()
    batches = list(open_source(CONFIG, root).batches(findings))
    return pa.Table.from_batches(batches, FACES), findings


def test_the_npy_layout(tmp_path: Path) -> None:
    npy_layout(tmp_path, {10: "7", 2: b"0", 1: 3.0}, {5: np.array([1]), 4: "2"})
    faces, findings = read(tmp_path)
    assert findings.problems == [] and findings.notes == [TEST_NOTE]
    assert [image["path"] for image in faces["image"].to_pylist()] == [
        "train_set/images/1.jpg",
        "train_set/images/2.jpg",
        "train_set/images/10.jpg",
        "val_set/images/4.jpg",
        "val_set/images/5.jpg",
    ]
    assert faces["label"].to_pylist() == [3, 0, 7, 2, 1]
    assert faces["split"].to_pylist() == ["train"] * 3 + ["test"] * 2
    assert faces["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert [image["bytes"] for image in faces["image"].to_pylist()] == [png(n) for n in (1, 2, 10, 4, 5)]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("images", ["Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "."])
def test_the_csv_layout(tmp_path: Path, images: str, header: bool) -> None:
    csv_layout(tmp_path, [3, 0, 7], [2, 1], images, header)
    faces, findings = read(tmp_path)
    assert findings.problems == []
    assert faces["label"].to_pylist() == [3, 0, 7, 2, 1]
    assert faces["split"].to_pylist() == ["train"] * 3 + ["test"] * 2
    assert [image["bytes"] for image in faces["image"].to_pylist()] == [png(n) for n in range(5)]
    assert faces["image"][4].as_py()["path"] == str(Path(images) / "1/4.jpg")


def test_lists_in_a_folder_of_their_own(tmp_path: Path) -> None:
    csv_layout(tmp_path, [3], [2])
    (tmp_path / "Manually_Annotated_file_lists").mkdir()
    for name in ("training.csv", "validation.csv"):
        (tmp_path / name).rename(tmp_path / "Manually_Annotated_file_lists" / name)
    assert read(tmp_path)[0]["label"].to_pylist() == [3, 2]


def test_classes_are_in_the_order_of_the_labels(tmp_path: Path) -> None:
    source = open_source(CONFIG, npy_layout(tmp_path, {1: 0}, {1: 0}))
    counts = dict(zip(source.classes, source.known_counts["train"], strict=True))
    assert counts["happiness"] == 134415 and counts["sadness"] == 25459 and counts["contempt"] == 3750
    assert sum(counts.values()) == 287651 and source.known_counts["test"] == (500,) * 8


@pytest.mark.parametrize("layout", ["npy", "csv"])
def test_what_is_no_expression_is_left_out_with_a_note(tmp_path: Path, layout: str) -> None:
    if layout == "npy":
        npy_layout(tmp_path, dict(enumerate([8, 1, 9, 9, 10, 2])), {0: 3})
    else:
        csv_layout(tmp_path, [8, 1, 9, 9, 10, 2], [3])
    faces, findings = read(tmp_path)
    assert faces["label"].to_pylist() == [1, 2, 3] and findings.problems == []
    assert findings.notes == [
        TEST_NOTE,
        "images left out, labelled as no face: 1",
        "images left out, labelled as none of these expressions: 1",
        "images left out, labelled as uncertain: 2",
    ]


def test_left_out_images_need_not_be_there(tmp_path: Path) -> None:
    csv_layout(tmp_path, [8, 1], [3])
    (tmp_path / "Manually_Annotated_Images/0/0.jpg").unlink()
    assert read(tmp_path)[1].problems == []


@pytest.mark.parametrize("label", [11, -1, "fear", 1.5])
@pytest.mark.parametrize("layout", ["npy", "csv"])
def test_a_label_out_of_range_is_named(tmp_path: Path, layout: str, label: Any) -> None:
    if layout == "npy":
        npy_layout(tmp_path, {1: 0, 2: label}, {1: 1})
    else:
        csv_layout(tmp_path, [0, label], [1])
    faces, findings = read(tmp_path)
    (problem,) = findings.problems
    assert faces["label"].to_pylist() == [0, 1]
    expected = {
        "npy": [f"train_set/annotations/2_exp.npy: label {number} is not from 0 to 10" for number in (11, -1)]
        + ["train_set/annotations/2_exp.npy: does not hold a single integer"] * 2,
        "csv": ["training.csv, line 3: label 11 is not from 0 to 10"]
        + [f"training.csv, line 3: expression is {text!r}" for text in ("-1", "fear", "1.5")],
    }
    assert expected[layout][[11, -1, "fear", 1.5].index(label)] in str(problem)


def test_bad_annotations_are_named(tmp_path: Path) -> None:
    npy_layout(tmp_path, dict.fromkeys(range(8), 1), {0: 1})
    folder = tmp_path / "train_set/annotations"
    (folder / "0_exp.npy").unlink()
    (folder / "1_exp.npy").write_bytes(b"")
    (folder / "2_exp.npy").write_bytes(b"rubbish")
    np.save(folder / "3_exp.npy", np.array([1, 2]))
    np.save(folder / "4_exp.npy", np.array({"a": 1}, object), allow_pickle=True)
    np.save(folder / "5_exp.npy", np.array((1, 2), "i4,i4"))
    with (folder / "6_exp.npy").open("wb") as file:
        np.savez(file, 1)
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        "train_set/annotations/0_exp.npy: is missing, though 0.jpg is there",
        *(f"train_set/annotations/{number}_exp.npy: does not hold a single integer" for number in range(1, 7)),
    ]
    assert faces["row"].to_pylist() == [7, 8]


def test_bad_rows_and_images_of_the_lists_are_named_at_once(tmp_path: Path) -> None:
    csv_layout(tmp_path, [0, 1, 2, 3], [4])
    images = tmp_path / "Manually_Annotated_Images"
    (images / "0/0.jpg").unlink()
    (images / "1/1.jpg").write_bytes(png(1)[:-9])
    with (tmp_path / "validation.csv").open("a") as file:
        file.write("9/9.jpg,1\n")
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        "validation.csv, line 3: 2 instead of 9 values",
        "training.csv, line 2: Manually_Annotated_Images/0/0.jpg is listed but missing",
        "Manually_Annotated_Images/1/1.jpg: the PNG is cut off",
    ]
    assert faces["label"].to_pylist() == [2, 3, 4]


def test_an_image_that_is_listed_twice_is_taken_once(tmp_path: Path) -> None:
    csv_layout(tmp_path, [0, 1], [2])
    for name in ("training.csv", "validation.csv"):
        with (tmp_path / name).open("a") as file:
            file.write("1/1.jpg,1,2,3,4,5.5;6.5,3,0.1,-0.2\n")
    faces, findings = read(tmp_path)
    assert [str(problem) for problem in findings.problems] == [
        f"{name}, line {line}: 1/1.jpg is listed twice, in line 3 of training.csv too"
        for name, line in (("training.csv", 4), ("validation.csv", 3))
    ]
    assert faces["label"].to_pylist() == [0, 1, 2] and faces["row"].to_pylist() == [0, 1, 2]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    csv_layout(tmp_path, [0], [1])
    listed = tmp_path / "training.csv"
    listed.write_text(listed.read_text().replace("expression", "emotion"))
    with pytest.raises(DataError, match=r"training\.csv has no column 'expression'"):
        open_source(CONFIG, tmp_path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    (csv_layout(tmp_path, [0], [1]) / "validation.csv").unlink()
    with pytest.raises(DataError, match=r"validation\.csv is missing\nPut both lists"):
        open_source(CONFIG, tmp_path)


def test_nothing_there_names_the_folders_and_the_lists(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"(?s)train_set/images is missing.*val_set/annotations is missing.*training\.csv"
    ):
        open_source(CONFIG, tmp_path)


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    root = npy_layout(tmp_path / "npy", {0: 1, 1: 2}, {0: 3})
    (root / "train_set/images/1.jpg").rename(root / "train_set/images/1.gif")
    assert read(root)[1].warnings == [
        "files not read, because their suffix is not .jpg, .jpeg, .png, .bmp, .webp: 1 .gif, in train_set/images (1)",
        "annotations of train_set/annotations without an image: 1, such as 1_exp.npy",
    ]
    root = csv_layout(tmp_path / "csv", [0, 1], [2])
    (root / "Manually_Annotated_Images/0/new.jpg").write_bytes(png(9))
    assert read(root)[1].warnings == [
        "images not read, because the lists do not name them: 1, in Manually_Annotated_Images/0 (1)"
    ]

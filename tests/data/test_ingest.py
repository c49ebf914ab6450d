"""Whole or not at all, every problem named, and the same faces in the file as in the source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.config.data import DataConfig, SourceName
from nla.data import ingest as ingest_module
from nla.data.images import encode_png, pixel_hash
from nla.data.ingest import ingest
from nla.data.problems import Problem
from nla.data.schema import FACES, TableInfo, read_info
from nla.data.sources import SOURCES, open_source
from nla.data.sources.base import Findings, face_batch
from nla.errors import DataError


class Stub:
    """Faces 6x6, each of the grey `value`; what it finds and where it breaks is given."""

    name = "stub"
    classes: tuple[str, ...] = ("sad", "glad")
    votes: tuple[str, ...] = ()

    def __init__(
        self,
        rows: list[tuple[str, int | None, int]],
        found: Findings | None = None,
        known: Mapping[str, tuple[int, ...]] | None = None,
        breaks: Exception | None = None,
    ) -> None:
        self.rows, self.found, self.breaks = rows, found or Findings(), breaks
        self.known_counts: Mapping[str, tuple[int, ...]] = known or {}

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        findings.problems += self.found.problems
        findings.warnings += self.found.warnings
        findings.notes += self.found.notes
        for start in range(0, len(self.rows), 2):
            split, label, value = zip(*self.rows[start : start + 2], strict=True)
            images = [np.full((6, 6), v, np.uint8) for v in value]
            yield face_batch(
                row=range(start, start + len(images)),
                split=split,
                label=None if label[0] is None else label,
                pixels=[pixel_hash(image) for image in images],
                data=[encode_png(image) for image in images],
                path=[f"{v}.png" for v in value],
            )
        if self.breaks:
            raise self.breaks


ROWS: list[tuple[str, int | None, int]] = [
    ("train", 0, 1), ("train", 1, 2), ("train", 1, 3), ("valid", 0, 4), ("test", 0, 5), ("test", 1, 6),
]  # fmt: skip


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_table_holds_what_the_source_gives(tmp_path: Path) -> None:
    out = tmp_path / "new/faces.parquet"
    ingest(Stub(ROWS), out, on_bad="error")
    table = pq.read_table(out)
    assert table.schema.equals(FACES, check_metadata=False)
    assert table.replace_schema_metadata().equals(pa.Table.from_batches(Stub(ROWS).batches(Findings())))
    assert read_info(out) == TableInfo("stub", ("sad", "glad"), (), {})
    assert json.loads(pq.read_schema(out).metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}
    assert files_below(tmp_path) == ["faces.parquet"]


def test_row_groups_follow_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def group_sizes() -> list[int]:
        ingest(Stub(ROWS), tmp_path / "faces.parquet", on_bad="error")
        metadata = pq.read_metadata(tmp_path / "faces.parquet")
        return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]

    assert group_sizes() == [6]
    monkeypatch.setattr(ingest_module, "GROUP_ROWS", 4)
    assert group_sizes() == [4, 2]
    monkeypatch.setattr(ingest_module, "GROUP_BYTES", 1)
    assert group_sizes() == [2, 2, 2]


def test_images_are_not_compressed_again(tmp_path: Path) -> None:
    ingest(Stub(ROWS), tmp_path / "faces.parquet", on_bad="error")
    group = pq.read_metadata(tmp_path / "faces.parquet").row_group(0)
    compression = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert {path for path, codec in compression.items() if codec == "UNCOMPRESSED"} == {"image.bytes", "pixels"}
    assert set(compression.values()) == {"UNCOMPRESSED", "ZSTD"}


def test_the_report(tmp_path: Path) -> None:
    known = {"train": (1, 3), "test": (1, 1)}
    findings = Findings([], ["look here"], ["an oddity"])
    rows = [*ROWS, ("valid", 1, 2), ("valid", 0, 2), ("test", 1, 2), ("test", 0, 4)]
    report = ingest(Stub(rows, findings, known), tmp_path / "faces.parquet", on_bad="error")
    assert json.loads(json.dumps(report)) == report
    assert report == {
        "source": "stub",
        "rows": 10,
        "counts": {
            "train": {"rows": 3, "classes": {"sad": 1, "glad": 2}},
            "valid": {"rows": 3, "classes": {"sad": 2, "glad": 1}},
            "test": {"rows": 4, "classes": {"sad": 2, "glad": 2}},
        },
        "unique_images": 6,
        "duplicates": {"valid in train": 2, "test in train": 1, "test in valid": 2},
        "problems": [],
        "warnings": [
            "look here",
            "train: 2 rows of glad, published: 3",
            "test: 2 rows of sad, published: 1",
            "test: 2 rows of glad, published: 1",
        ],
        "notes": [
            "an oddity",
            "different images in 10 rows: 6",
            "images of valid in train too, pixel for pixel: 2",
            "images of test in train too, pixel for pixel: 1",
            "images of test in valid too, pixel for pixel: 2",
        ],
    }


def test_classes_are_counted_only_where_there_are_labels(tmp_path: Path) -> None:
    rows = [(split, None, value) for split, _, value in ROWS]
    report = ingest(Stub(rows), tmp_path / "faces.parquet", on_bad="error")
    assert report["counts"] == {"train": {"rows": 3}, "valid": {"rows": 1}, "test": {"rows": 2}}


def test_progress_counts_rows(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    ingest(Stub(ROWS), tmp_path / "faces.parquet", on_bad="error", progress=lambda *call: calls.append(call))
    assert calls == [(2, 6), (4, 6), (6, 6)]


def test_all_problems_are_named_by_file_and_row_and_nothing_is_written(tmp_path: Path) -> None:
    problems = [Problem("b.csv", 10, "late"), Problem("b.csv", 9, "early"), Problem("a.png", None, "cut off")]
    with pytest.raises(DataError) as error:
        ingest(Stub(ROWS, Findings(problems)), tmp_path / "faces.parquet", on_bad="error")
    first, *lines = str(error.value).splitlines()
    assert "3 bad rows or files" in first and "data.on_bad: quarantine" in first
    assert lines == ["  a.png: cut off", "  b.csv, line 9: early", "  b.csv, line 10: late"]
    assert files_below(tmp_path) == []


def test_a_long_list_of_problems_is_cut_and_whole_in_a_file(tmp_path: Path) -> None:
    problems = [Problem("b.csv", row, "bad") for row in range(1, 1235)]
    listing = tmp_path / ".logs/problems.txt"
    with pytest.raises(DataError) as error:
        ingest(Stub(ROWS, Findings(problems)), tmp_path / "faces.parquet", on_bad="error", listing=listing)
    _, *lines = str(error.value).splitlines()
    shown = [f"  b.csv, line {row}: bad" for row in range(1, 11)]
    assert lines == [*shown, f"  and 1,224 more; all 1,234 are listed in {listing}"]
    assert listing.read_text().splitlines() == [f"b.csv, line {row}: bad" for row in range(1, 1235)]
    assert files_below(tmp_path) == ["problems.txt"]


def test_quarantine_writes_the_good_rows_and_lists_the_bad(tmp_path: Path) -> None:
    problems = [Problem("b.csv", row, "bad") for row in range(1, 101)]
    report = ingest(Stub(ROWS, Findings(problems)), tmp_path / "faces.parquet", on_bad="quarantine")
    assert report["problems"] == [f"b.csv, line {row}: bad" for row in range(1, 101)]
    assert report["rows"] == pq.read_metadata(tmp_path / "faces.parquet").num_rows == 6


def test_a_single_class_is_an_error_before_an_image_is_read(tmp_path: Path) -> None:
    stub = Stub(ROWS, breaks=RuntimeError("read"))
    stub.classes = ("sad",)
    with pytest.raises(DataError, match=r"^stub: expected two classes or more \(got sad\)\. Add images of another"):
        ingest(stub, tmp_path / "faces.parquet", on_bad="quarantine")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "pair", [("sad", "Sad"), ("sad", "sad\u200b"), ("s\u00e9d", "se\u0301d"), ("class 1", "class1")]
)
def test_classes_that_look_alike_are_a_warning(tmp_path: Path, pair: tuple[str, str]) -> None:
    """A typing error in a list makes a class of its own, which nobody would see in a table."""
    source = Stub(ROWS)
    source.classes = pair
    report = ingest(source, tmp_path / "faces.parquet", on_bad="error")
    named = ", ".join(map(ascii, pair))
    assert report["warnings"] == [f"different classes with names that look alike: {named}"]


@pytest.mark.parametrize("on_bad", ["error", "quarantine"])
@pytest.mark.parametrize(("split", "named"), [("train", "train"), ("test", "test")])
def test_an_empty_train_or_test_is_an_error(tmp_path: Path, split: str, named: str, on_bad: Any) -> None:
    rows = [row for row in ROWS if row[0] != split]
    problem = Problem("a.png", None, "cut off")
    with pytest.raises(DataError, match=rf"no good image for {named}\. (?s:.*)a.png: cut off"):
        ingest(Stub(rows, Findings([problem])), tmp_path / "faces.parquet", on_bad=on_bad)
    assert files_below(tmp_path) == []


def test_an_empty_validation_split_is_right(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row[0] != "valid"]
    assert ingest(Stub(rows), tmp_path / "faces.parquet", on_bad="error")["counts"]["valid"] == {"rows": 0}


@pytest.mark.parametrize("breaks", [DataError("it ends too early"), KeyboardInterrupt(), RuntimeError("bug")])
def test_nothing_is_left_of_a_broken_run_and_the_old_table_stays(tmp_path: Path, breaks: Exception) -> None:
    out = tmp_path / "faces.parquet"
    ingest(Stub(ROWS), out, on_bad="error")
    before = out.read_bytes()
    with pytest.raises(type(breaks)):
        ingest(Stub(ROWS * 2, breaks=breaks), out, on_bad="error")
    assert out.read_bytes() == before and files_below(tmp_path) == ["faces.parquet"]


def test_problems_found_before_a_break_are_reported_too(tmp_path: Path) -> None:
    stub = Stub(ROWS, Findings([Problem("a.png", None, "cut off")]), breaks=DataError("it ends too early"))
    with pytest.raises(DataError, match=r"^it ends too early\n  a.png: cut off$"):
        ingest(stub, tmp_path / "faces.parquet", on_bad="quarantine")


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ingest(Stub(ROWS), tmp_path / name, on_bad="error")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_name_of_the_configuration_has_a_source() -> None:
    assert set(SOURCES) == set(get_args(SourceName))
    assert {name: source.name for name, source in SOURCES.items()} == {name: name for name in SOURCES}


def test_a_folder_of_images_all_the_way(tmp_path: Path) -> None:
    for i, path in enumerate(["train/sad/a.png", "train/glad/b.png", "test/sad/c.png", "test/sad/d.png"]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(encode_png(np.full((6, 6), i, np.uint8)))
    cut = tmp_path / "test/sad/d.png"
    cut.write_bytes(cut.read_bytes()[:40])
    source = open_source(DataConfig(source="folder"), tmp_path)
    with pytest.raises(DataError, match=r"folder: 1 bad rows or files(?s:.*)test/sad/d\.png: the PNG is cut off"):
        ingest(source, tmp_path / "out/faces.parquet", on_bad="error")
    assert files_below(tmp_path / "out") == []
    report = ingest(source, tmp_path / "out/faces.parquet", on_bad="quarantine")
    assert report["problems"] == ["test/sad/d.png: the PNG is cut off"]
    assert [image["path"] for image in pq.read_table(tmp_path / "out/faces.parquet")["image"].to_pylist()] == [
        "train/glad/b.png",
        "train/sad/a.png",
        "test/sad/c.png",
    ]


def ferplus_files(root: Path) -> str:
    """FERPlus where no Usage is known, as in copies with the names train, val and test."""
    pixels = " ".join(["7"] * 48 * 48)
    faces = ["emotion,pixels,Usage", *(f"0,{pixels},{usage}" for usage in ("train", "val", "test"))]
    votes = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    votes += [f"{usage},fer.png,10,0,0,0,0,0,0,0,0,0" for usage in ("train", "val", "test")]
    for name, lines in (("fer2013.csv", faces), ("fer2013new.csv", votes)):
        (root / name).write_text("\n".join(lines) + "\n")
    return "fer2013.csv, line 2: Usage is 'train', not Training"


def rafdb_list(root: Path) -> str:
    (root / "Image/aligned").mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel/list_patition_label.txt").write_text("train_1.jpg 9\ntest_1.jpg 9\n")
    return "list_patition_label.txt, line 1: label 9 is not from 1 to 7"


def affectnet_lists(root: Path) -> str:
    for name in ("training.csv", "validation.csv"):
        (root / name).write_text("subDirectory_filePath,expression\n1.jpg,happy\n")
    return "training.csv, line 2: expression is 'happy', not a label"


def csv_votes(root: Path) -> str:
    (root / "faces.csv").write_text("image,split,sad,glad\na.png,Training,1,2\nb.png,train,x,2\n")
    return "faces.csv, line 2: split is 'Training'"


def folder_images(root: Path) -> str:
    for path in ("train/sad/a.png", "train/glad/b.png", "test/sad/c.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return "train/sad/a.png: the file is empty"


@pytest.mark.parametrize("on_bad", ["error", "quarantine"])
@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("ferplus", ferplus_files),
        ("rafdb", rafdb_list),
        ("affectnet", affectnet_lists),
        ("csv", csv_votes),
        ("folder", folder_images),
    ],
)
def test_a_set_without_a_good_row_is_an_error_with_its_problems(
    tmp_path: Path, source: SourceName, write: Callable[[Path], str], on_bad: Any
) -> None:
    named = write(tmp_path)
    opened = open_source(DataConfig(source=source), tmp_path)
    with pytest.raises(DataError) as raised:
        ingest(opened, tmp_path / "out/faces.parquet", on_bad=on_bad)
    first, *lines = str(raised.value).splitlines()
    assert first == f"{source}: no good image for train and test. Fix the bad rows or files. See docs/datasets.md."
    assert any(named in line for line in lines)
    assert files_below(tmp_path / "out") == []

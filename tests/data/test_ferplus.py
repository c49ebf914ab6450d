"""FERPlus on files that each test writes, and once on the real ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nla.config.data import DataConfig
from nla.data.images import decode, pixel_hash
from nla.data.ingest import ingest
from nla.data.schema import FACES
from nla.data.sources import ferplus, open_source
from nla.data.sources.base import Findings
from nla.errors import DataError

BLOCK = inspect.signature(ferplus.read_rows).parameters["block"].default

CONFIG = DataConfig(source="ferplus")
USAGES = ["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
FIRST_LINE = 2  # of the rows, in both files
VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


@dataclass
class Files:
    """Ten good rows, to be spoilt before `write`."""

    pixels_NP: np.ndarray = field(
        default_factory=lambda: np.random.default_rng(0).integers(1, 256, (10, 48 * 48), np.uint8)
    )
    faces: list[str] = field(default_factory=list)
    votes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for i, usage in enumerate(USAGES):
            self.faces.append(f"{i % 7},{' '.join(map(str, self.pixels_NP[i]))},{usage}")
            self.votes.append(f"{usage},fer{i:07}.png,{9 - i},0,{i},0,0,0,0,0,1,0")

    def write(self, root: Path, newline: str = "\n") -> Path:
        root.mkdir(exist_ok=True)
        for name, header, rows in [
            ("fer2013.csv", "emotion,pixels,Usage", self.faces),
            ("fer2013new.csv", VOTES_HEADER, self.votes),
        ]:
            (root / name).write_bytes("".join(line + newline for line in [header, *rows]).encode())
        return root


def read(root: Path) -> tuple[pa.Table, Findings]:
    findings = Findings()
    batches = list(open_source(CONFIG, root).batches(findings))
    return pa.Table.from_batches(batches, FACES), findings


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rows_are_joined_by_position(tmp_path: Path, newline: str) -> None:
    files = Files()
    files.votes[3] = files.votes[3].replace("fer0000003.png", "")  # names say nothing about the position
    files.votes[4] = files.votes[4].replace("fer0000004.png", "fer0000099.png")
    faces, findings = read(files.write(tmp_path, newline))
    assert findings.problems == []
    assert faces["row"].to_pylist() == list(range(10))
    assert faces["split"].to_pylist() == ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    assert faces["votes"].to_pylist() == [[9 - i, 0, i, 0, 0, 0, 0, 0, 1, 0] for i in range(10)]
    assert faces["label"].null_count == faces["posterior"].null_count == 10
    for pixels, hashed, image in zip(
        files.pixels_NP.reshape(-1, 48, 48), faces["pixels"].to_pylist(), faces["image"].to_pylist(), strict=True
    ):
        np.testing.assert_array_equal(decode(image["bytes"]), pixels)
        assert hashed == pixel_hash(pixels)
    assert [image["path"] for image in faces["image"].to_pylist()][2:5] == ["fer0000002.png", "", "fer0000099.png"]


def test_blocks_are_joined_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files()
    files.faces[1] = "0,1 2,3,Training"
    files.faces[7] = files.faces[7].replace("PublicTest", "Nowhere")
    root = files.write(tmp_path)
    whole, findings = read(root)
    monkeypatch.setattr(ferplus.read_rows, "__defaults__", (None, 16_000))
    in_blocks, in_blocks_findings = read(root)
    assert in_blocks.equals(whole) and in_blocks["image"].num_chunks > whole["image"].num_chunks
    assert in_blocks_findings.problems == findings.problems
    assert whole["row"].to_pylist() == [0, 2, 3, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013new.csv"])
def test_a_missing_file_is_named_with_the_place_for_it(tmp_path: Path, name: str) -> None:
    (Files().write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing\nPut fer2013.csv .* into {tmp_path}"):
        open_source(CONFIG, tmp_path)


def test_both_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fer2013\.csv is missing\n.*fer2013new\.csv is missing"):
        open_source(CONFIG, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "column"), [("fer2013.csv", "pixels"), ("fer2013.csv", "Usage"), ("fer2013new.csv", "contempt")]
)
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    file = Files().write(tmp_path) / name
    file.write_text(file.read_text().replace(column, "other", 1))
    with pytest.raises(DataError, match=f"{name} has no column '{column}' .it has .*'other'"):
        read(tmp_path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (Files().write(tmp_path) / "fer2013.csv").write_text("")
    with pytest.raises(DataError, match=r"fer2013\.csv has no column"):
        read(tmp_path)


def spoil_pixels(change: Callable[[list[str]], object]) -> Callable[[Files, int], None]:
    def spoil(files: Files, row: int) -> None:
        emotion, pixels, usage = files.faces[row].split(",")
        values = pixels.split()
        change(values)
        files.faces[row] = f"{emotion},{' '.join(values)},{usage}"

    return spoil


def spoil_votes(votes: str) -> Callable[[Files, int], None]:
    def spoil(files: Files, row: int) -> None:
        usage, name, *_ = files.votes[row].split(",")
        files.votes[row] = f"{usage},{name},{votes}"

    return spoil


def spoil_usage(which: str) -> Callable[[Files, int], None]:
    def spoil(files: Files, row: int) -> None:
        rows = getattr(files, which)
        rows[row] = rows[row].replace(USAGES[row], "Holiday")

    return spoil


def spoil_emotion(files: Files, row: int) -> None:
    files.faces[row] = "9" + files.faces[row][1:]


def shorten(which: str) -> Callable[[Files, int], None]:
    def spoil(files: Files, row: int) -> None:
        rows = getattr(files, which)
        rows[row] = rows[row].rpartition(",")[0]

    return spoil


def lengthen(which: str) -> Callable[[Files, int], None]:
    def spoil(files: Files, row: int) -> None:
        getattr(files, which)[row] += ",1"

    return spoil


FACES_FILE, VOTES_FILE = "fer2013.csv", "fer2013new.csv"
SPOILT = {
    "short pixel row": (FACES_FILE, spoil_pixels(lambda values: values.pop()), "2303 instead of 2304 pixels"),
    "long pixel row": (FACES_FILE, spoil_pixels(lambda values: values.append("1")), "2305 instead of 2304 pixels"),
    "no pixels": (FACES_FILE, spoil_pixels(lambda values: values.clear()), "0 instead of 2304 pixels"),
    "word": (FACES_FILE, spoil_pixels(lambda values: values.__setitem__(6, "x7")), "pixel 7 is 'x7', not a number"),
    "256": (
        FACES_FILE,
        spoil_pixels(lambda values: values.__setitem__(-1, "256")),
        "pixel 2304 is '256', not a number",
    ),
    "negative": (FACES_FILE, spoil_pixels(lambda values: values.__setitem__(0, "-1")), "pixel 1 is '-1', not a number"),
    "fraction": (
        FACES_FILE,
        spoil_pixels(lambda values: values.__setitem__(0, "1.5")),
        "pixel 1 is '1.5', not a number",
    ),
    "label 9": (FACES_FILE, spoil_emotion, "emotion is '9', not a label from 0 to 6"),
    "usage of a face": (FACES_FILE, spoil_usage("faces"), "Usage is 'Holiday', not Training, PublicTest, PrivateTest"),
    "usage of votes": (VOTES_FILE, spoil_usage("votes"), "Usage is 'Holiday', not Training, PublicTest, PrivateTest"),
    "too few values": (FACES_FILE, shorten("faces"), "2 instead of 3 values"),
    "too many values": (FACES_FILE, lengthen("faces"), "4 instead of 3 values"),
    "too few votes": (VOTES_FILE, shorten("votes"), "11 instead of 12 values"),
    "too many votes": (VOTES_FILE, lengthen("votes"), "13 instead of 12 values"),
    "votes all zero": (VOTES_FILE, spoil_votes("0,0,0,0,0,0,0,0,0,0"), "all votes are zero"),
    "eleven votes": (VOTES_FILE, spoil_votes("0,9,0,0,0,0,0,0,0,2"), "the votes sum to 11 instead of 10"),
    "negative vote": (VOTES_FILE, spoil_votes("11,-1,0,0,0,0,0,0,0,0"), "happiness is '-1': votes are whole numbers"),
    "fraction of a vote": (
        VOTES_FILE,
        spoil_votes("9.5,0,0,0,0,0,0,0,0,.5"),
        "neutral is '9.5', NF is '.5': votes are",
    ),
    "no vote": (VOTES_FILE, spoil_votes("10,0,0,0,0,0,0,0,0,"), "NF is '': votes are"),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("row", [0, 4, 9])
def test_a_bad_row_is_named_and_the_others_keep_their_pairs(tmp_path: Path, kind: str, row: int) -> None:
    name, spoil, what = SPOILT[kind]
    files = Files()
    spoil(files, row)
    faces, findings = read(files.write(tmp_path))
    (problem,) = findings.problems
    assert (problem.file, problem.line) == (name, row + FIRST_LINE)
    assert what in problem.what
    good = [i for i in range(10) if i != row]
    assert faces["row"].to_pylist() == good
    assert [votes[0] for votes in faces["votes"].to_pylist()] == [9 - i for i in good]
    assert faces["pixels"].to_pylist() == [pixel_hash(files.pixels_NP[i].reshape(48, 48)) for i in good]


def test_a_row_of_another_split_is_no_pair(tmp_path: Path) -> None:
    files = Files()
    files.votes[2], files.votes[7] = files.votes[7], files.votes[2]
    with pytest.raises(DataError) as raised:
        ingest(open_source(CONFIG, files.write(tmp_path)), tmp_path / "faces.parquet", on_bad="quarantine")
    first, *lines = str(raised.value).splitlines()
    assert first.startswith(
        "fer2013.csv and fer2013new.csv: in 2 rows they have different values of Usage, so row i of"
    )
    assert lines == [
        "  fer2013.csv, line 4: Usage is Training, but PublicTest in line 4 of fer2013new.csv",
        "  fer2013.csv, line 9: Usage is PublicTest, but Training in line 9 of fer2013new.csv",
    ]


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    files = Files()
    kinds = ["short pixel row", "word", "label 9", "too few values", "votes all zero", "eleven votes", "no vote"]
    for row, kind in enumerate(kinds):
        SPOILT[kind][1](files, row)
    faces, findings = read(files.write(tmp_path))
    assert sorted((problem.file, problem.line) for problem in findings.problems) == sorted(
        (SPOILT[kind][0], row + FIRST_LINE) for row, kind in enumerate(kinds)
    )
    assert faces["row"].to_pylist() == [7, 8, 9]


@pytest.mark.parametrize("which", ["faces", "votes"])
def test_a_lost_row_is_an_error_though_problems_are_forgiven(tmp_path: Path, which: str) -> None:
    files = Files()
    del getattr(files, which)[2]
    files.faces[0] = "x" + files.faces[0]
    with pytest.raises(
        DataError, match=r"has (9|10) rows and .* has (9|10)(?s:.*)fer2013.csv, line 2: emotion is 'x0'"
    ):
        ingest(open_source(CONFIG, files.write(tmp_path)), tmp_path / "faces.parquet", on_bad="quarantine")


@pytest.mark.parametrize("block", [16_000, BLOCK])
def test_blank_lines_are_no_rows(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ferplus.read_rows, "__defaults__", (None, block))
    files = Files()
    SPOILT["word"][1](files, 5)
    files.faces[2] += "\n\n"
    files.votes[8] += "\n"
    files.faces.append("")
    faces, findings = read(files.write(tmp_path))
    assert faces["row"].to_pylist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [votes[0] for votes in faces["votes"].to_pylist()] == [9, 8, 7, 6, 5, 3, 2, 1, 0]
    assert [problem.line for problem in findings.problems] == [5 + FIRST_LINE + 2]


def test_known_oddities_are_notes(tmp_path: Path) -> None:
    files = Files()
    files.votes[0] = "Training,,0,0,0,0,0,0,0,0,0,10"
    files.votes[1] = files.votes[1].replace("fer0000001", "fer0000002")
    files.faces[3] = f"0,{' '.join(['0'] * 48 * 48)},Training"
    _, findings = read(files.write(tmp_path))
    assert findings.problems == []
    assert findings.notes == [
        "rows without an image name, kept: 1",
        "rows with votes only for NF (no face), kept though no label rule finds them a label: 1",
        "image names that occur more than once, kept: 1 (fer0000002.png)",
        "images that are all black, kept: 1",
    ]
    assert findings.warnings == [
        "train: 6 rows, published: 28,709",
        "valid: 2 rows, published: 3,589",
        "test: 2 rows, published: 3,589",
    ]


def test_classes_that_the_votes_give_other_counts_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row i has 9 - i votes for neutral and i for surprise. A file with the right sums may still have been edited."""
    published = {"train": (5, 0, 1, 0, 0, 0, 0, 0), "valid": (0, 0, 2, 0, 0, 0, 0, 0), "test": (0, 0, 2, 0, 0, 0, 0, 0)}
    monkeypatch.setattr(ferplus, "PUBLISHED_ROWS", {"train": 6, "valid": 2, "test": 2})
    monkeypatch.setattr(ferplus, "PUBLISHED_CLASSES", published)
    files = Files()
    assert read(files.write(tmp_path))[1].warnings == []
    files.votes[0] = files.votes[0].replace("9,0,0,", "0,9,0,")
    assert read(files.write(tmp_path))[1].warnings == [
        "train: 4 rows of neutral by majority, published: 5",
        "train: 1 rows of happiness by majority, published: 0",
    ]


@pytest.mark.slow
def test_the_real_files(ferplus_dir: Path, tmp_path: Path) -> None:
    report = ingest(open_source(CONFIG, ferplus_dir), tmp_path / "faces.parquet", on_bad="error")
    assert {split: count["rows"] for split, count in report["counts"].items()} == {
        "train": 28709,
        "valid": 3589,
        "test": 3589,
    }
    assert report["problems"] == report["warnings"] == []
    assert report["unique_images"] == 34034
    assert report["duplicates"] == {"valid in train": 280, "test in train": 288, "test in valid": 44}
    notes = "\n".join(report["notes"])
    known = [
        "image name, kept: 173",
        "a label: 176",
        "once, kept: 4",
        "kept: 1 (line 10437)",
        "line 5276 gives a nearly white image",
        "black, kept: 12",
    ]
    assert [text for text in known if text not in notes] == []

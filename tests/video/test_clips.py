"""The source `clips`: folders and video files, labels of frames and of clips, and every kind of bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_parts import read, write_frames, write_list, write_video

from nla.errors import DataError

NAMES = ("anger", "joy")


def label(frame: int) -> str:
    return NAMES[frame % 2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six folders of five frames, with all labels."""
    root = tmp_path / "clips"
    for number in range(6):
        write_frames(root / f"v{number}", range(1, 6), number)
        write_list(root / f"v{number}.csv", {frame: label(frame) for frame in range(1, 6)})
    return root


def of(rows: list[dict[str, Any]], video: str) -> dict[int, str | None]:
    return {row["frame"]: row["class"] for row in rows if row["video"] == video}


def test_splits_are_drawn_by_video(root: Path, tmp_path: Path) -> None:
    rows, _ = read(root, tmp_path / "f.parquet", "clips")
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(row["video"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert set.union(*split_of.values()) == {"train", "valid", "test"}
    assert all(of(rows, f"v{n}") == {frame: label(frame) for frame in range(1, 6)} for n in range(6))
    assert all(row["time"] is None for row in rows), "no rate is assumed"


def test_given_splits_stay(root: Path, tmp_path: Path) -> None:
    for number, split in enumerate(["train", "train", "val", "test", "test"]):
        for name in (f"v{number}", f"v{number}.csv"):
            (root / split).mkdir(exist_ok=True)
            (root / name).rename(root / split / name)
    rows, _ = read(root, tmp_path / "f.parquet", "clips")
    expected = {"v0": "train", "v1": "train", "v2": "valid", "v3": "test", "v4": "test", "v5": "train"}
    assert {row["video"]: row["split"] for row in rows} == expected


def test_times_of_a_list_may_vary(root: Path, tmp_path: Path) -> None:
    times = {1: 0.0, 2: 0.04, 3: 0.5, 4: 0.54, 5: 2.0}
    write_list(root / "v0.csv", {frame: label(frame) for frame in times}, times)
    rows, _ = read(root, tmp_path / "f.parquet", "clips")
    assert {row["frame"]: row["time"] for row in rows if row["video"] == "v0"} == times


def test_a_video_file_gives_the_frames_and_times_that_it_holds(root: Path, tmp_path: Path) -> None:
    write_video(root / "film.mkv", 9, fps=10)
    write_list(root / "film.csv", {frame: label(frame) for frame in range(1, 10)})
    rows, report = read(root, tmp_path / "f.parquet", "clips")
    film = [row for row in rows if row["video"] == "film"]
    assert [row["frame"] for row in film] == list(range(1, 10))
    assert [row["grey"] for row in film] == [4 * frame for frame in range(1, 10)]
    np.testing.assert_allclose([row["time"] for row in film], np.arange(9) / 10, atol=1e-6)
    assert of(rows, "film") == {frame: label(frame) for frame in range(1, 10)}
    assert len({row["row"] for row in rows}) == len(rows) == report["rows"]


def test_an_empty_label_is_not_annotated(root: Path, tmp_path: Path) -> None:
    write_list(root / "v1.csv", {1: "joy", 2: "", 3: "", 4: "joy", 5: "anger"})
    rows, _ = read(root, tmp_path / "f.parquet", "clips")
    assert of(rows, "v1") == {1: "joy", 2: None, 3: None, 4: "joy", 5: "anger"}


BAD = {
    "line without frame": ({1: "joy", 2: "joy", 3: "joy", 4: "joy", 5: "joy", 9: "joy"}, "v1.csv, line 7: frame 9"),
    "frame without line": ({1: "joy", 2: "joy", 4: "joy", 5: "joy"}, "v1: frame 3 has no label in v1.csv"),
    "unknown label": ({1: "joy", 2: "joi", 3: "joy", 4: "joy", 5: "joy"}, "line 3: frame 2: unknown label 'joi': did"),
}


@pytest.mark.parametrize("labels, said", BAD.values(), ids=BAD)
def test_what_does_not_match_is_named_and_shifts_nothing(
    root: Path, tmp_path: Path, labels: dict[int, str], said: str
) -> None:
    write_list(root / "v1.csv", labels)
    config: dict[str, Any] = {"classes": NAMES}
    with pytest.raises(DataError) as error:
        read(root, tmp_path / "f.parquet", "clips", **config)
    assert said in str(error.value)
    rows, report = read(root, tmp_path / "f.parquet", "clips", on_bad="quarantine", **config)
    assert of(rows, "v1") == {frame: name for frame, name in labels.items() if name == "joy" and frame < 9}
    assert len(report["problems"]) == 1
    own = [row for row in rows if row["video"] == "v1"]
    assert [row["grey"] - 40 for row in own] == [row["frame"] for row in own]


def test_a_list_that_counts_from_another_number_is_refused_whatever_on_bad_is(root: Path, tmp_path: Path) -> None:
    """Leaving out the two ends would shift every label by one."""
    write_list(root / "v1.csv", {frame: label(frame) for frame in range(5)})
    for on_bad in ("error", "quarantine"):
        with pytest.raises(DataError, match=r"v1\.csv: counts frames from 0, but v1 from 1"):
            read(root, tmp_path / "f.parquet", "clips", on_bad=on_bad)


def test_gaps_are_noted(root: Path, tmp_path: Path) -> None:
    for frame in (2, 3):
        (root / f"v1/{frame:05d}.png").unlink()
    write_list(root / "v1.csv", {1: "joy", 4: "joy", 5: "joy"})
    rows, report = read(root, tmp_path / "f.parquet", "clips")
    assert "v1: frames missing: 2 to 3" in report["notes"]
    assert of(rows, "v1") == {1: "joy", 4: "joy", 5: "joy"}


def test_further_bad_input_is_listed_with_video_and_line(root: Path, tmp_path: Path) -> None:
    write_frames(root / "test/v0", [1])
    write_list(root / "test/v0.csv", {1: "joy"})
    write_frames(root / "test/t", [1])
    write_list(root / "test/t.csv", {1: "joy"})
    (root / "v2.csv").unlink()
    (root / "v3.csv").write_text("frame,label,time\n1,joy,0\n1,anger,0.1\n2,joy,late\nx,joy,0\n3,joy\n4,joy\n5,joy\n")
    (root / "empty").mkdir()
    write_list(root / "empty.csv", {1: "joy"})
    (root / "torn.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    write_list(root / "torn.csv", {1: "joy"})
    (root / "v4/00002.png").write_bytes((root / "v4/00002.png").read_bytes()[:40])
    (root / "v4/2.jpg").write_bytes(b"x")
    rows, report = read(root, tmp_path / "f.parquet", "clips", on_bad="quarantine")
    text = "\n".join(report["problems"])
    for said in (
        "test/v0: the video is in two splits, test and train",
        "v0: the video is in two splits, test and train",
        "v2: v2.csv is missing",
        "v3.csv, line 3: frame 1 has a line already",
        "v3.csv, line 4: frame 2: time must be seconds from the start (got 'late')",
        "v3.csv, line 5: frame must be a whole number (got 'x')",
        "empty: holds no image of a frame",
        "torn.mp4: cannot be opened as a video",
        "v4/2.jpg: frame 2 is 00002.png already",
        "v4/00002.png: ",
    ):
        assert said in text
    assert of(rows, "v3") == dict.fromkeys((3, 4, 5), "joy"), "which line of frame 1 is right is not known"
    assert 2 not in of(rows, "v4") and len(of(rows, "v4")) == 4


def test_labels_of_whole_clips(root: Path, tmp_path: Path) -> None:
    rows = [
        "video,label,split",
        *(f"v{n},{label(n)},{'test' if n > 3 else 'train'}" for n in range(5)),
        "gone,joy,train",
    ]
    (root / "clips.csv").write_text("\n".join(rows))
    table, report = read(root, tmp_path / "f.parquet", "clips", on_bad="quarantine")
    for number in range(5):
        assert of(table, f"v{number}") == dict.fromkeys(range(1, 6), label(number))
    assert {row["split"] for row in table if row["video"] == "v4"} == {"test"}
    assert sorted(report["problems"]) == [
        "clips.csv: video gone is listed but missing",
        "v5: video v5 has no label in clips.csv",
    ]


def test_votes_of_whole_clips(root: Path, tmp_path: Path) -> None:
    rows = ["video,joy,anger,fear", *(f"v{n},{n},{5 - n},0" for n in range(6))]
    (root / "clips.csv").write_text("\n".join(rows))
    table, _ = read(root, tmp_path / "f.parquet", "clips")
    assert {row["video"]: row["class"] for row in table} == {f"v{n}": "joy" if n > 2 else "anger" for n in range(6)}
    assert {tuple(row["votes"]) for row in table if row["video"] == "v4"} == {(4, 1, 0)}


def test_a_split_needs_a_video_of_its_own(tmp_path: Path) -> None:
    for number in range(2):
        write_frames(tmp_path / f"clips/v{number}", [1])
        write_list(tmp_path / f"clips/v{number}.csv", {1: NAMES[number]})
    with pytest.raises(DataError, match=r"clips\.test_fraction and clips\.valid_fraction: too few videos"):
        read(tmp_path / "clips", tmp_path / "f.parquet", "clips")


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of frames, and no video"):
        read(tmp_path, tmp_path / "f.parquet", "clips")

"""Aff-Wild2's layout: each frame has the label of its own line, whatever is missing around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clip_parts import HEADER, read, write_expressions, write_frames

from nla.errors import DataError
from nla.video.frames import read_frames

LABELS = {
    "a": [0, 1, -1, 3, 4, 5],
    "b": [6, 7, 0, 1],
    "two": [2, 2, 2],
    "two_right": [4, 4, 4],
    "c": [5, 5, -1, 0],
}
SPLITS = {"a": "Train_Set", "b": "Train_Set", "two": "Train_Set", "two_right": "Train_Set", "c": "Validation_Set"}
MISSING = {"a": {1, 4}, "c": {2}}
"""Frames without a face."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five videos; frames are missing at the start and in the middle, and one video has two faces."""
    root = tmp_path / "affwild2"
    for number, (video, labels) in enumerate(LABELS.items()):
        present = [frame for frame in range(1, len(labels) + 1) if frame not in MISSING.get(video, ())]
        write_frames(root / "cropped_aligned" / video, present, number)
        write_expressions(root, SPLITS[video], video, labels)
    return root


def of(rows: list[dict[str, Any]], video: str) -> dict[int, int | None]:
    """Frame -> label of a video."""
    return {row["frame"]: row["label"] for row in rows if row["video"] == video}


def test_each_frame_has_its_own_label(root: Path, tmp_path: Path) -> None:
    """The line behind the header is that of frame 1. The public code reads it as that of frame 2."""
    rows, report = read(root, tmp_path / "frames.parquet", "affwild2")
    for number, (video, labels) in enumerate(LABELS.items()):
        expected = {
            frame: None if label == -1 else label
            for frame, label in enumerate(labels, 1)
            if frame not in MISSING.get(video, ())
        }
        assert of(rows, video) == expected
        own = [row for row in rows if row["video"] == video]
        assert [row["grey"] for row in own] == [row["frame"] + 40 * number for row in own]
    assert report["problems"] == []
    assert "cropped_aligned/a: frames missing: 4" in report["notes"]
    assert of(rows, "a")[2] == 1, "not 0, the label of frame 1, which has no image"


def test_both_faces_of_a_video_are_in_one_split(root: Path, tmp_path: Path) -> None:
    for seed in range(6):
        rows, _ = read(root, tmp_path / "frames.parquet", "affwild2", seed=seed)
        split_of = {row["video"]: row["split"] for row in rows}
        assert split_of["two"] == split_of["two_right"]
        assert split_of["c"] == "test"
        assert sorted({split_of[video] for video in ("a", "b", "two")}) == ["train", "valid"]


def test_the_table_reads_back(root: Path, tmp_path: Path) -> None:
    read(root, tmp_path / "frames.parquet", "affwild2")
    frames = read_frames(tmp_path / "frames.parquet")
    assert (frames.label_N == -1).sum() == 2
    assert set(frames.videos) == set(LABELS)


def test_other_as_the_public_code_has_it(root: Path, tmp_path: Path) -> None:
    rows, _ = read(root, tmp_path / "frames.parquet", "affwild2", unannotated="other")
    assert of(rows, "a") == {2: 1, 3: 7, 5: 4, 6: 5}


def test_bad_lines_are_named_and_leave_all_other_labels_in_place(root: Path, tmp_path: Path) -> None:
    write_expressions(root, "Train_Set", "b", [6, 9, "", 1])
    with pytest.raises(DataError) as error:
        read(root, tmp_path / "frames.parquet", "affwild2")
    assert "Train_Set/b.txt, line 3: frame 2: label must be -1 to 7 (got '9')" in str(error.value)
    assert "line 4: frame 3: label must be -1 to 7 (got '')" in str(error.value)
    rows, report = read(root, tmp_path / "frames.parquet", "affwild2", on_bad="quarantine")
    assert of(rows, "b") == {1: 6, 4: 1}
    assert len(report["problems"]) == 2


def test_frames_without_a_line_and_unreadable_images_are_named(root: Path, tmp_path: Path) -> None:
    write_expressions(root, "Train_Set", "b", LABELS["b"][:3])
    (root / "cropped_aligned/b/00002.png").write_bytes(b"no image")
    (root / "cropped_aligned/b/last.png").write_bytes(b"")
    rows, report = read(root, tmp_path / "frames.parquet", "affwild2", on_bad="quarantine")
    assert of(rows, "b") == {1: 6, 3: 0}
    first, second, third = report["problems"]
    assert first.startswith("cropped_aligned/b: frame 4 has no label in EXPR_Classification_Challenge/Train_Set/b.txt")
    assert second.startswith("cropped_aligned/b/00002.png: ")
    assert third.startswith("cropped_aligned/b/last.png: the name is not a frame number")


@pytest.mark.parametrize("first", ["0", "Anger,Neutral,Disgust,Fear,Happiness,Sadness,Surprise,Other"])
def test_a_list_with_another_header_is_left_out_as_a_whole(root: Path, tmp_path: Path, first: str) -> None:
    """Without its header, or with another order of classes, every label of it would be another one's."""
    path = write_expressions(root, "Train_Set", "b", LABELS["b"])
    path.write_text(path.read_text().replace(HEADER, first))
    rows, report = read(root, tmp_path / "frames.parquet", "affwild2", on_bad="quarantine")
    assert of(rows, "b") == {}
    (problem,) = report["problems"]
    assert "b.txt, line 1: must be the header neutral,anger" in problem


def test_a_recording_in_two_splits_is_left_out_of_training(root: Path, tmp_path: Path) -> None:
    write_expressions(root, "Validation_Set", "two_right", [1, 1, 1])
    rows, report = read(root, tmp_path / "frames.parquet", "affwild2", on_bad="quarantine")
    assert of(rows, "two") == {}
    assert {row["split"] for row in rows if row["video"] == "two_right"} == {"test"}
    assert len(report["problems"]) == 2 and all("in Validation_Set too" in line for line in report["problems"])


def test_a_video_without_its_folder_is_named(root: Path, tmp_path: Path) -> None:
    write_expressions(root, "Train_Set", "gone", [1, 2])
    with pytest.raises(DataError, match=r"Train_Set/gone\.txt: cropped_aligned/gone is missing"):
        read(root, tmp_path / "frames.parquet", "affwild2")


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cropped_aligned is missing"):
        read(tmp_path, tmp_path / "frames.parquet", "affwild2")

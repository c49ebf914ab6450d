"""Files that are called videos: none is waited for, read beyond the folder, or decoded beyond the limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clip_parts import read, write_list, write_video

from nla.errors import DataError
from nla.limits import ImageLimits
from nla.video.sources.video_file import read_video, stated_frames

LISTS = {
    "a playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nother.avi\n#EXT-X-ENDLIST\n",
    "a list of FFmpeg": "ffconcat version 1.0\nfile other.avi\n",
    "a web page": "<!doctype html><html></html>",
    "nothing": "",
}


@pytest.mark.parametrize("content", LISTS)
def test_a_text_with_the_name_of_a_video_opens_no_other_file(tmp_path: Path, content: str) -> None:
    """FFmpeg follows the lists that it finds, whatever the name of the file."""
    write_video(tmp_path / "other.avi", 3)
    (tmp_path / "video.mp4").write_text(LISTS[content])
    with pytest.raises(DataError, match="by its content it is no MP4, MOV, AVI, MKV or WebM"):
        list(read_video(tmp_path / "video.mp4"))
    assert stated_frames(tmp_path / "video.mp4") == 0


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mov", "mp4"])
def test_videos_of_each_container_are_read(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / "video.avi", 4)
    source = tmp_path / "video.avi"
    if suffix != "avi":
        source = tmp_path / f"video.{suffix}"
        write_video(source, 4, codec="FFV1" if suffix == "mkv" else "mp4v")
    assert [frame.number for frame in read_video(source)] == [1, 2, 3, 4]
    assert stated_frames(source) == 4


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video.mp4")
    assert stated_frames(tmp_path / "video.mp4") == 0
    with pytest.raises(OSError, match="a pipe, not a file"):
        list(read_video(tmp_path / "video.mp4"))


def test_frames_beyond_the_limit_of_images_are_not_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "video.avi", 3)
    assert len(list(read_video(tmp_path / "video.avi", ImageLimits(max_pixels=32 * 32)))) == 3
    with pytest.raises(DataError, match=r"a frame has 32 x 32 pixels, more than max_pixels, 1,023\. Shrink it"):
        next(read_video(tmp_path / "video.avi", ImageLimits(max_pixels=32 * 32 - 1)))


def test_a_set_names_them_as_bad_rows(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    for split, label in (("train", "sad"), ("valid", "sad"), ("test", "sad"), ("train", "glad")):
        name = f"{label}{split}"
        write_video(root / split / f"{name}.avi", 3)
        write_list(root / split / f"{name}.csv", dict.fromkeys((1, 2, 3), label))
    for name in ("fifo", "list"):
        write_list(root / "train" / f"{name}.csv", {1: "sad"})
    os.mkfifo(root / "train/fifo.mp4")
    (root / "train/list.mp4").write_text("ffconcat version 1.0\nfile sadtrain.avi\n")
    with pytest.raises(DataError) as caught:
        read(root, tmp_path / "out", "clips")
    assert "train/fifo.mp4" in str(caught.value) and "a pipe, not a file" in str(caught.value)
    assert "train/list.mp4: cannot be opened as a video: by its content" in str(caught.value)
    with pytest.raises(DataError, match=r"sadtrain\.avi: a frame has 32 x 32 pixels, more than max_pixels, 1,000"):
        read(root, tmp_path / "out", "clips", max_pixels=1000)

"""Any clips of faces: folders of frames or video files, with labels of frames or of whole clips.

    VIDEO/00001.jpg ... or VIDEO.mp4, and VIDEO.csv       frame,label[,time]; an empty label: not annotated
    train/VIDEO.csv, valid/..., test/...                  the same, in a folder per split
    clips.csv                                             labels of whole clips instead: video,label[,split], or
                                                          video[,split] and a column of votes for each class

Frames of a video file are numbered from 1, and have the time that the file states; those of a folder have the numbers
of their names, and the time of the list, if it has one. Splits that are missing are drawn, by video.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nla.config.clips import ClipsConfig
from nla.data.images import encode_png, pixel_hash
from nla.data.parallel import map_in_order
from nla.data.problems import Problem
from nla.data.sources.base import DOCS, MAX_CLASSES, SPLIT_NAMES, Findings, face_batch, require
from nla.data.sources.image_files import image_names, subfolders
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.video.frames import frame_batch
from nla.video.sources.clip_files import Clip, Line, read_folder
from nla.video.sources.label_lists import WholeClips, frame_labels, frame_lines
from nla.video.sources.splits import Share, in_two_splits, recording, with_drawn_splits
from nla.video.sources.video_file import VIDEOS, VideoFrame, read_video, stated_frames

LIST = "clips.csv"
BATCH, AHEAD = 128, 32  # frames of a video file in a batch, and in memory while they are encoded


class Video(NamedTuple):
    """A folder of frames, or a video file."""

    name: str
    split: str
    path: Path


class Clips:
    """The source `clips`."""

    name = "clips"
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: ClipsConfig, root: Path) -> None:
        self._root, self._config, self._found = root, config, Findings()
        require(root, advice="Make it, with VIDEO/00001.jpg ... or VIDEO.mp4, and VIDEO.csv.")
        videos = list(_videos(root))
        if not videos:
            raise DataError(f"{root}: no folder of frames, and no video ({', '.join(VIDEOS)}). Add some. {DOCS}")
        self._whole: WholeClips | None = None
        if (root / LIST).exists():
            self._whole = WholeClips(root / LIST, config.classes, self._found, config.max_columns)
        self.votes = self._whole.votes if self._whole else ()
        self.classes = self._whole.classes if self._whole else config.classes or self._named(videos)
        if len(self.classes) > MAX_CLASSES:
            raise DataError(f"{root}: {len(self.classes)} classes, but at most {MAX_CLASSES} are possible. Merge some.")
        self._videos = self._with_splits(self._distinct(videos))

    def __len__(self) -> int:
        return sum(_frames(video.path) for video in self._videos)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields record batches of FRAMES, video by video."""
        findings.add(self._found)
        row = 0
        for video in self._videos:
            clip = self._clip(video, findings)
            if clip is not None and video.path.is_dir():
                row = yield from read_folder(self._root, clip, row, findings, self._config.image_limits)
            elif clip is not None:
                row = yield from read_file(self._root, clip, row, findings, self._config.image_limits)

    def _named(self, videos: list[Video]) -> tuple[str, ...]:
        """All labels of the lists of frames, sorted."""
        lists = [_list(video.path) for video in videos]
        named = set().union(*(frame_labels(path, self._config.max_columns) for path in lists if path.exists()))
        if not named:
            raise DataError(f"{self._root}: no label in a VIDEO.csv, and no {LIST}. Write one. {DOCS}")
        return tuple(sorted(named))

    def _distinct(self, videos: list[Video]) -> list[Video]:
        """The videos without those that are in two splits, or twice in one, which are problems."""
        if self._whole:
            videos = [video._replace(split=self._whole.splits.get(video.name, video.split)) for video in videos]
            for name in sorted(set(self._whole.lines) - {video.name for video in videos}):
                self._found.problems.append(Problem(LIST, None, f"video {name} is listed but missing"))
        twice = in_two_splits((video.name, video.split) for video in videos)
        kept: dict[str, Video] = {}
        for video in videos:
            path = self._relative(video.path)
            if recording(video.name) in twice:
                splits = " and ".join(twice[recording(video.name)])
                self._found.problems.append(Problem(path, None, f"the video is in two splits, {splits}"))
            elif video.name in kept:
                what = f"the video is {self._relative(kept[video.name].path)} already"
                self._found.problems.append(Problem(path, None, what))
            else:
                kept[video.name] = video
        return list(kept.values())

    def _with_splits(self, videos: list[Video]) -> list[Video]:
        shares = (
            Share("test", self._config.test_fraction, "clips.test_fraction"),
            Share("valid", self._config.valid_fraction, "clips.valid_fraction"),
        )
        split_of = with_drawn_splits({video.name: video.split for video in videos}, shares, self._config.seed)
        return [video._replace(split=split_of[video.name]) for video in videos]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _clip(self, video: Video, findings: Findings) -> Clip | None:
        """The video with its labels; None, as a problem, if it has no list."""
        path = self._relative(video.path)
        if self._whole:
            line = self._whole.lines.get(video.name)
            if line is None and video.name not in self._whole.bad:
                findings.problems.append(Problem(path, None, f"video {video.name} has no label in {LIST}"))
            return line and Clip(video.name, video.split, path, LIST, {}, whole=line)
        listing = _list(video.path)
        if not listing.exists():
            findings.problems.append(Problem(path, None, f"{self._relative(listing)} is missing"))
            return None
        file = self._relative(listing)
        lines, bad = frame_lines(listing, file, self.classes, findings, self._config.max_columns)
        return Clip(video.name, video.split, path, file, lines, bad_lines=bad)


def _videos(root: Path) -> Iterator[Video]:
    """The videos in `root`, and in its folders of splits; those of no split are train."""
    for folder in subfolders(root):
        if split := SPLIT_NAMES.get(folder.name.lower()):
            yield from (Video(_name(path), split, path) for path in _in(folder))
    yield from (Video(_name(path), "train", path) for path in _in(root) if path.name.lower() not in SPLIT_NAMES)


def _in(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix.lower() in VIDEOS and not path.name.startswith(".")]
    return sorted([*subfolders(folder), *files])


def _name(path: Path) -> str:
    return path.stem if path.suffix.lower() in VIDEOS else path.name


def _list(path: Path) -> Path:
    return path.with_name(f"{_name(path)}.csv")


def _frames(path: Path) -> int:
    """Expected number of frames."""
    return len(image_names(path)) if path.is_dir() else stated_frames(path)


def read_file(
    root: Path, clip: Clip, row: int, findings: Findings, limits: ImageLimits
) -> Generator[pa.RecordBatch, None, int]:
    """Yields batches of FRAMES of a video file; the rows count from `row`, and the next one is returned.

    Some BATCH frames are in memory, however long the video is.
    """
    path = root / clip.path
    seen: list[int] = []
    batch: list[tuple[VideoFrame, Line, bytes]] = []

    def wanted() -> Iterator[tuple[VideoFrame, Line]]:
        for frame in read_video(path, limits):
            seen.append(frame.number)
            if (line := clip.line(frame.number, findings)) is not None:
                yield frame, line

    try:
        for item in map_in_order(lambda pair: (*pair, encode_png(pair[0].pixels)), wanted(), AHEAD):
            batch.append(item)
            if len(batch) == BATCH:
                yield _as_batch(clip, row, batch)
                batch = []
    except (DataError, OSError) as error:
        findings.problems.append(Problem(clip.path, None, str(error)))
        return row + len(seen)
    if batch:
        yield _as_batch(clip, row, batch)
    if (stated := stated_frames(path)) and stated != len(seen):
        findings.warnings.append(f"{clip.path}: {len(seen):,} frames decoded, but its header states {stated:,}")
    clip.report_missing(seen, findings)
    return row + len(seen)


def _as_batch(clip: Clip, row: int, batch: list[tuple[VideoFrame, Line, bytes]]) -> pa.RecordBatch:
    number_T = np.array([frame.number for frame, _, _ in batch])
    faces = face_batch(
        row + number_T - 1,
        [clip.split] * len(batch),
        [pixel_hash(frame.pixels) for frame, _, _ in batch],
        [data for _, _, data in batch],
        [f"{clip.path}/{number}" for number in number_T],
        label=[line.label for _, line, _ in batch],
        votes=[line.votes for _, line, _ in batch],
    )
    return frame_batch(faces, np.full(len(batch), clip.name), number_T, np.array([frame.time for frame, _, _ in batch]))

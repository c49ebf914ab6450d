"""What the sources of clip files share: labels by frame number, folders of frames, and how both meet.

A label belongs to a frame by its number, never by its place in a list: a frame or a line that is missing, or left out
as bad, leaves all other labels where they are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nla.data.problems import Problem
from nla.data.sources.base import Findings
from nla.data.sources.image_files import Listed, image_names, read_faces
from nla.data.sources.numbering import is_whole
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.video.frames import frame_batch

MAX_FRAME = 2**31 - 1
GAPS = 3
"""Gaps of a video that a line names."""


class Line(NamedTuple):
    """What a list says of a frame."""

    number: int | None
    """Of the line in the list; None for a label of the whole clip."""
    label: int | None
    """None: not annotated."""
    time: float = np.nan
    """Seconds; NaN: not stated."""
    votes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Clip:
    """A video as files: a folder of frames, or a video file."""

    name: str
    split: str
    path: str
    """Relative to the source's folder, with slashes."""
    list_file: str
    """The list of its labels, likewise."""
    lines: Mapping[int, Line]
    """By frame number."""
    whole: Line | None = None
    """A label of all frames, in place of the lines."""
    needs_image: bool = True
    """Whether a line without a frame is bad; else no face was found in that frame."""
    bad_lines: frozenset[int] = field(default_factory=frozenset)
    """Frames whose line is bad, and reported."""

    def line(self, frame: int, findings: Findings) -> Line | None:
        """What the list says of a frame; None, as a problem, if it does not name it."""
        if self.whole is not None:
            return self.whole
        if frame not in self.lines and frame not in self.bad_lines:
            what = f"frame {frame} has no label in {self.list_file}"
            findings.problems.append(Problem(self.path, None, what))
        return self.lines.get(frame)

    def report_missing(self, frames: Iterable[int], findings: Findings) -> None:
        """Reports lines without a frame, all frames being `frames`.

        Raises:
            DataError: the list counts frames from another number, so that each label would be that of a neighbour.
        """
        present = set(frames)
        _check_first_number(self, present)
        missing = sorted(set(self.lines) - present)
        if self.needs_image:
            for frame in missing:
                what = f"frame {frame} is not in {self.path}"
                findings.problems.append(Problem(self.list_file, self.lines[frame].number, what))
        if gaps := [(a + 1, b - 1) for a, b in pairwise(sorted(present)) if b > a + 1]:
            findings.notes.append(f"{self.path}: frames missing: {_spans(gaps)}")


def _check_first_number(clip: Clip, present: set[int]) -> None:
    listed = set(clip.lines) | clip.bad_lines
    if not (clip.needs_image and listed and present) or listed == present:
        return
    for step in (-1, 1):
        if {frame + step for frame in listed} == present:
            raise DataError(
                f"{clip.list_file}: counts frames from {min(listed)}, but {clip.path} from {min(present)}. Leaving out "
                "single lines would give all others the label of their neighbour. Use the same numbers in both."
            )


def _spans(gaps: list[tuple[int, int]]) -> str:
    named = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps[:GAPS])
    return named if len(gaps) <= GAPS else f"{named} and {len(gaps) - GAPS:,} more gaps"


def numbered_images(folder: Path, path: str, findings: Findings) -> dict[int, str]:
    """Frame number -> name of the image in `folder`, in order; other names and a second image are problems."""
    found: dict[int, str] = {}
    for name in image_names(folder):
        stem = Path(name).stem
        if not is_whole(stem) or not 0 <= int(stem) <= MAX_FRAME:
            findings.problems.append(Problem(f"{path}/{name}", None, "the name is not a frame number, as in 00001.jpg"))
        elif int(stem) in found:
            what = f"frame {int(stem)} is {found[int(stem)]} already"
            findings.problems.append(Problem(f"{path}/{name}", None, what))
        else:
            found[int(stem)] = name
    return dict(sorted(found.items()))


def read_folder(
    root: Path, clip: Clip, row: int, findings: Findings, limits: ImageLimits
) -> Generator[pa.RecordBatch, None, int]:
    """Yields batches of FRAMES of a folder of images; the rows count from `row`, and the next one is returned."""
    images = numbered_images(root / clip.path, clip.path, findings)
    if not images:
        findings.problems.append(Problem(clip.path, None, "holds no image of a frame"))
        return row
    clip.report_missing(images, findings)
    lines = {frame: line for frame in images if (line := clip.line(frame, findings)) is not None}
    frame_T, time_T = np.array([*lines], np.int64), np.array([line.time for line in lines.values()])
    listed = (
        Listed(row + i, clip.split, f"{clip.path}/{images[frame]}", line.label, clip.list_file, line.number, line.votes)
        for i, (frame, line) in enumerate(lines.items())
    )
    for batch in read_faces(root, listed, findings, limits=limits):
        at = batch["row"].to_numpy() - row
        yield frame_batch(batch, np.full(len(batch), clip.name), frame_T[at], time_T[at])
    return row + len(lines)

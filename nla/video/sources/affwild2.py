"""Aff-Wild2 as its users have it: aligned faces, and a text file of expressions per video.

    cropped_aligned/VIDEO/00001.jpg ...
    EXPR_Classification_Challenge/{Train_Set,Validation_Set}/VIDEO.txt      a header, then a label a line

The line behind the header is that of frame 1, 00001.jpg; -1 means not annotated. A frame without a face has no image.
Videos with two people have a folder and a text for each, such as VIDEO and VIDEO_right.

The public code of V-NAW gives each frame the label of its neighbour, and a frame without image both image and label of
the nearest one that has an image. Neither happens here.

The labels of the test set are not public: Validation_Set is the test split, and some videos of Train_Set are the
validation split, which chooses the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from nla.config.clips import ClipsConfig
from nla.data.problems import Problem
from nla.data.sources.base import DOCS, Findings, require
from nla.data.sources.image_files import refuse_linked, subfolders
from nla.data.sources.numbering import is_whole
from nla.errors import DataError
from nla.io import read_regular
from nla.video.sources.clip_files import Clip, Line, read_folder
from nla.video.sources.splits import Share, in_two_splits, recording, with_drawn_splits

IMAGES, LABELS = "cropped_aligned", "EXPR_Classification_Challenge"
FOLDERS = {"train": "Train_Set", "test": "Validation_Set"}
"""Folder of the labels of each split."""
CLASSES = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
UNANNOTATED = "-1"
FIRST_LINE = 2
"""Line of frame 1, in a list whose first line is a header."""


class AffWild2:
    """The source `affwild2`."""

    name = "affwild2"
    classes: tuple[str, ...] = CLASSES
    votes: tuple[str, ...] = ()
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: ClipsConfig, root: Path) -> None:
        self._root, self._limits, self._found = root, config.image_limits, Findings()
        self._unannotated = None if config.unannotated == "mask" else CLASSES.index("other")
        folders = {split: root / LABELS / name for split, name in FOLDERS.items()}
        require(root / IMAGES, *folders.values(), advice="Put the files of Aff-Wild2 there.")
        refuse_linked(root, root / IMAGES / "_", *(folder / "_" for folder in folders.values()))
        self._lists = self._distinct({split: sorted(folder.glob("*.txt")) for split, folder in folders.items()})
        if lacking := [folders[split] for split in FOLDERS if split not in {*self._lists.values()}]:
            raise DataError(f"{lacking[0]} has no VIDEO.txt of its own. Put the annotations there. {DOCS}")
        share = Share("valid", config.valid_fraction, "clips.valid_fraction")
        self._split_of = with_drawn_splits({path.stem: s for path, s in self._lists.items()}, (share,), config.seed)
        if unused := {folder.name for folder in subfolders(root / IMAGES)} - set(self._split_of):
            self._found.notes.append(f"videos in {IMAGES} without a list of expressions, not read: {len(unused):,}")

    def __len__(self) -> int:
        return sum(read_regular(path).count(b"\n") for path in self._lists)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields record batches of FRAMES, video by video."""
        findings.add(self._found)
        row = 0
        for path in self._lists:
            clip = self._clip(path, findings)
            if clip is not None:
                row = yield from read_folder(self._root, clip, row, findings, self._limits)

    def _distinct(self, lists: Mapping[str, list[Path]]) -> dict[Path, str]:
        """List -> split; those of train whose recording is in Validation_Set too are problems, and left out."""
        twice = in_two_splits((path.stem, split) for split, paths in lists.items() for path in paths)
        kept: dict[Path, str] = {}
        for split, paths in lists.items():
            for path in paths:
                if split == "train" and recording(path.stem) in twice:
                    what = f"the recording is in {FOLDERS['test']} too, so that training would see what is measured"
                    self._found.problems.append(Problem(self._relative(path), None, what))
                else:
                    kept[path] = split
        return kept

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _clip(self, path: Path, findings: Findings) -> Clip | None:
        """The video of a list; None, as a problem, if the list as a whole or its folder is not what it should be."""
        listing, folder = self._relative(path), f"{IMAGES}/{path.stem}"
        if not (self._root / folder).is_dir():
            findings.problems.append(Problem(listing, None, f"{folder} is missing"))
            return None
        lines = read_regular(path).decode("utf-8-sig", "replace").splitlines()
        header = tuple(name.strip().lower() for name in (lines[0].split(",") if lines else ()))
        if header != CLASSES:
            what = f"must be the header {','.join(CLASSES)} (got {lines[0] if lines else 'an empty file'!r})"
            findings.problems.append(Problem(listing, 1, what))
            return None
        while lines[-1].strip() == "":
            del lines[-1]
        given = {number - FIRST_LINE + 1: text.strip() for number, text in enumerate(lines[1:], FIRST_LINE)}
        bad = {frame for frame, text in given.items() if not _is_label(text)}
        for frame in sorted(bad):
            what = f"frame {frame}: label must be -1 to {len(CLASSES) - 1} (got {given[frame]!r})"
            findings.problems.append(Problem(listing, frame + FIRST_LINE - 1, what))
        good = {
            frame: Line(frame + FIRST_LINE - 1, self._label(text)) for frame, text in given.items() if frame not in bad
        }
        split = self._split_of[path.stem]
        return Clip(path.stem, split, folder, listing, good, needs_image=False, bad_lines=frozenset(bad))

    def _label(self, text: str) -> int | None:
        return self._unannotated if text == UNANNOTATED else int(text)


def _is_label(text: str) -> bool:
    return is_whole(text) and (text == UNANNOTATED or 0 <= int(text) < len(CLASSES))

"""RAF-DB with basic expressions (Li et al., CVPR 2017): aligned faces, as published or sorted into folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.problems import Problem
from nla.data.sources.base import Findings, first_existing, require
from nla.data.sources.image_files import Listed, image_names, read_faces, refuse_linked
from nla.data.sources.numbering import check_numbering
from nla.data.sources.unread_files import unread
from nla.io import read_regular

LIST = "EmoLabel/list_patition_label.txt"  # the authors' spelling
ALIGNED = "Image/aligned"
SPLITS = ("train", "test")


class RAFDB:
    """Reads `root` with Image/aligned and EmoLabel, or else {train,test}/{1..7}, possibly in a folder DATASET."""

    name = "rafdb"
    classes: tuple[str, ...] = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    """Classes of the labels 1 to 7."""
    votes: tuple[str, ...] = ()
    known_counts: Mapping[str, tuple[int, ...]] = {
        "train": (1290, 281, 717, 4772, 1982, 705, 2524),
        "test": (329, 74, 160, 1185, 478, 162, 680),
    }

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root = root
        self._limits = config.image_limits
        self._found = Findings()
        sorted_into = first_existing(root / "DATASET", root)
        if not (root / LIST).exists() and (sorted_into / "train").exists():
            require(sorted_into / "test", advice=f"Put both train and test into {sorted_into}.")
            self._listed = list(self._by_folder(sorted_into))
        else:
            advice = f"Copy EmoLabel and Image/aligned (in aligned.zip) from RAF-DB's folder `basic` into {root}."
            require(root / LIST, root / ALIGNED, advice=advice)
            refuse_linked(root, root / LIST)
            self._listed = list(self._by_list())

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the list, or of the sorted names."""
        findings.add(self._found)
        yield from read_faces(self._root, self._listed, findings, limits=self._limits)

    def _by_list(self) -> Iterator[Listed]:
        seen: set[str] = set()
        named: set[str] = set()
        labels: dict[str, set[str]] = {split: set() for split in SPLITS}
        with_flag = 0
        lines = read_regular(self._root / LIST).decode("utf-8-sig", errors="replace").splitlines()
        for number, fields in enumerate((line.split() for line in lines), 1):
            named.update(fields[:1])
            labels.get(_split_of(fields), set()).update(fields[1:2])
            if wrong := _problem_of(fields, self.classes, seen):
                self._found.problems.append(Problem(LIST, number, wrong))
            elif fields:
                seen.add(fields[0])
                with_flag += len(fields) == 3
                path = f"{ALIGNED}/{Path(fields[0]).stem}_aligned.jpg"
                yield Listed(number - 1, _split_of(fields), path, int(fields[1]) - 1, LIST, number)
        for split, given in labels.items():  # lists of different origin may have been joined
            check_numbering(f"{LIST}, {split}", given, 1, len(self.classes))
        if with_flag:
            self._found.notes.append(f"lines of {LIST} with a third column, not used: {with_flag:,}")
        read = {f"{ALIGNED}/{Path(name).stem}_aligned.jpg" for name in named}
        self._found.warnings += unread(self._root, read, f"{LIST} does not name them", ALIGNED)

    def _by_folder(self, above: Path) -> Iterator[Listed]:
        labels = {str(label): label - 1 for label in range(1, len(self.classes) + 1)}
        row, read = count(), set()
        for split in SPLITS:
            folders = sorted(folder for folder in (above / split).iterdir() if folder.is_dir())
            where = (above / split).relative_to(self._root).as_posix()
            check_numbering(where, (folder.name for folder in folders), 1, len(labels))
            for folder in folders:
                path = folder.relative_to(self._root).as_posix()
                if folder.name not in labels:
                    what = f"the folder's name is not a label from 1 to {len(labels)}"
                    self._found.problems.append(Problem(path, None, what))
                    continue
                for name in image_names(folder):
                    read.add(f"{path}/{name}")
                    yield Listed(next(row), split, f"{path}/{name}", labels[folder.name])
        for split in SPLITS:
            where = (above / split).relative_to(self._root).as_posix()
            reason = f"they do not lie directly in {where}/1 to {where}/{len(labels)}"
            self._found.warnings += unread(self._root, read, reason, where)


def _split_of(fields: list[str]) -> str:
    """The split that the name of a line's image begins with; nothing, or no split, for a line that is wrong."""
    return fields[0].split("_")[0] if fields else ""


def _problem_of(fields: list[str], classes: tuple[str, ...], seen: set[str]) -> str | None:
    """Checks the fields of a line such as `train_00001.jpg 5`; a blank one is valid."""
    if not fields:
        return None
    if len(fields) not in (2, 3):
        return f"{len(fields)} fields instead of a name and a label"
    if _split_of(fields) not in SPLITS:
        return f"the name {fields[0]!r} begins with neither train_ nor test_"
    if fields[1] not in map(str, range(1, len(classes) + 1)):
        return f"label {fields[1]} is not from 1 to {len(classes)}"
    return f"{fields[0]} is listed twice" if fields[0] in seen else None

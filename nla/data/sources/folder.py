"""Any labelled images: `root/{train,valid,test}/CLASS/*.jpg`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.problems import Problem
from nla.data.schema import SPLITS
from nla.data.sources.base import DOCS, MAX_CLASSES, SPLIT_NAMES, Findings, require
from nla.data.sources.image_files import SUFFIXES, Listed, image_names, read_faces
from nla.data.sources.numbering import check_splits
from nla.data.sources.unread_files import unread
from nla.errors import DataError


class Folder:
    """Reads `root` with a folder per split and, in each, one per class; train's folders define the classes."""

    name = "folder"
    votes: tuple[str, ...] = ()
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root = root
        self._limits = config.image_limits
        require(root, advice="Make it, with train/CLASS/*.jpg and test/CLASS/*.jpg in it.")
        splits = _split_folders(root)
        self.classes = tuple(sorted(folder.name for folder in _folders(splits["train"])))
        self._found = Findings()
        check_splits(
            root.as_posix(), self.classes, ((split, f.name) for split, above in splits.items() for f in _folders(above))
        )
        self._listed = list(self._list(splits))
        self._found.warnings += unread(root, {item.path for item in self._listed}, self._reason(splits))
        self._check_classes(splits["train"])

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order train, valid, test; within a split by class and name."""
        findings.add(self._found)
        yield from read_faces(self._root, self._listed, findings, limits=self._limits)

    def _list(self, splits: Mapping[str, Path]) -> Iterator[Listed]:
        row = count()
        for split, above in splits.items():
            for folder in _folders(above):
                path = folder.relative_to(self._root).as_posix()
                if folder.name not in self.classes:
                    what = f"train has no class {folder.name!r} (it has {', '.join(self.classes)})"
                    self._found.problems.append(Problem(path, None, what))
                    continue
                for name in image_names(folder):
                    yield Listed(next(row), split, f"{path}/{name}", self.classes.index(folder.name))

    def _reason(self, splits: Mapping[str, Path]) -> str:
        places = [f"{folder.relative_to(self._root).as_posix()}/CLASS" for folder in splits.values()]
        return f"they do not lie directly in {' or '.join(places)} of a class of train"

    def _check_classes(self, train: Path) -> None:
        filled = {item.label for item in self._listed if item.split == "train"}
        empty = [name for label, name in enumerate(self.classes) if label not in filled]
        if not self.classes:
            raise self._error(f"{train} holds no folders. Make one per class, with its images in it. {DOCS}")
        if len(self.classes) > MAX_CLASSES:
            raise DataError(
                f"{train} holds {len(self.classes)} classes, but at most {MAX_CLASSES} are possible. Merge some."
            )
        if empty:
            kinds = ", ".join(SUFFIXES)
            raise self._error(f"{train} has no image of {', '.join(empty)}. Add some ({kinds}), or remove the folder.")

    def _error(self, what: str) -> DataError:
        """An error about images that are missed, with those that were found elsewhere."""
        return DataError("\n  ".join([what, *self._found.warnings]))


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder. Raises DataError if train or test is missing, or a split has two folders."""
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for folder in _folders(root):
        if split := SPLIT_NAMES.get(folder.name.lower()):
            found[split].append(folder)
    twice = [
        f"{' and '.join(f.name for f in folders)} are both {split}" for split, folders in found.items() if folders[1:]
    ]
    if twice:
        raise DataError(f"{root}: {'; '.join(twice)}. Keep one folder per split.")
    missing = [root / split for split in ("train", "test") if not found[split]]
    advice = "Both train and test are needed; a validation split is made from train if there is none."
    require(*missing, advice=advice)
    if missing:
        raise DataError(f"{missing[0]}: a file, not a folder. Put a folder there, with one folder per class. {DOCS}")
    return {split: folders[0] for split, folders in found.items() if folders}


def _folders(above: Path) -> list[Path]:
    return sorted(path for path in above.iterdir() if path.is_dir() and not path.name.startswith("."))

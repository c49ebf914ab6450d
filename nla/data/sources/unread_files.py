"""Files below a folder that are not read: how many, where and why, so that no image is left out silently.

Hidden files and folders, whose names begin with a dot, are ignored as if they were not there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from nla.data.sources.image_files import SUFFIXES
from nla.text import shown

PLACES = 3
"""Folders that a line names."""


@dataclass
class _Unread:
    """Numbers of files by folder or suffix, and folders that were not entered."""

    images: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def add(self, folder: str, name: str) -> None:
        suffix = PurePath(name).suffix.lower()
        if suffix in SUFFIXES:
            self.images[folder] += 1
        else:
            self.others[folder] += 1
            self.suffixes[suffix] += 1

    def lines(self, reason: str) -> Iterator[str]:
        if self.images:
            yield f"images not read, because {reason}: {self.images.total():,}, {_places(self.images)}"
        if self.others:
            kinds = ", ".join(f"{n:,} {shown(suffix) or 'without suffix'}" for suffix, n in _ranked(self.suffixes))
            yield (
                f"files not read, because their suffix is not {', '.join(SUFFIXES)}: {kinds}, {_places(self.others)}"
            )
        for why, folders in (("are links", self.links), ("cannot be opened", self.closed)):
            if folders:
                yield f"folders not read, because they {why}: {len(folders):,}, such as {shown(min(folders))}"


def unread(root: Path, read: Collection[str], reason: str = "they are not listed", below: str = ".") -> list[str]:
    """One line for each reason why files are not read; [] if all are.

    Args:
        root: folder of the images.
        read: paths of the files that are read, relative to `root`, with slashes.
        reason: why other images are not read, such as "they do not lie in train/CLASS".
        below: folder in `root` to which the search is limited.
    """
    found = _Unread()
    for path, folders, names in os.walk(root / below, onerror=lambda error: found.closed.append(str(error.filename))):
        folder = Path(path).relative_to(root).as_posix()
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.links += [_join(folder, name) for name in folders if Path(path, name).is_symlink()]
        for name in names:
            if not name.startswith(".") and _join(folder, name) not in read:
                found.add(folder, name)
    return list(found.lines(reason))


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _places(files: Counter[str]) -> str:
    """Folders with their numbers of files, the fullest first."""
    places = [f"{'the folder itself' if folder == '.' else shown(folder)} ({n:,})" for folder, n in _ranked(files)]
    more = [f"{len(places) - PLACES:,} more folders"] if len(places) > PLACES else []
    return f"in {', '.join(places[:PLACES] + more)}"


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

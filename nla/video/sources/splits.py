"""Splits by video: a video, and whatever is filmed with it, is in one split only.

Neighbouring frames are nearly the same image, so that a split by frame would measure memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from nla.errors import DataError

SIDE = re.compile(r"_(left|right)$")
"""End of the names of Aff-Wild2's videos with two people, one folder each."""


class Share(NamedTuple):
    """A split that is drawn if the source has none."""

    split: str
    fraction: float
    key: str
    """The parameter that sets the fraction."""


def recording(video: str) -> str:
    """Name of what was filmed: the same for both faces of a video."""
    return SIDE.sub("", video)


def with_drawn_splits(split_of: Mapping[str, str], shares: tuple[Share, ...], seed: int) -> dict[str, str]:
    """Video -> split, with videos of train in each split of `shares` that has none.

    Recordings are drawn, round(fraction * n) of those of train as the source has them, and one at least.

    Raises:
        DataError: train has too few recordings.
    """
    missing = [share for share in shares if share.split not in split_of.values()]
    train = sorted({recording(video) for video, split in split_of.items() if split == "train"})
    if len(train) <= len(missing):
        keys = " and ".join(share.key for share in missing) or "train"
        raise DataError(
            f"{keys}: too few videos to split (got {len(train)} in train, all faces of a recording together). Add some."
        )
    order = list(np.random.default_rng(seed).permutation(train))
    moved: dict[str, str] = {}
    for share in missing:
        spare = len(order) - (len(missing) - len(set(moved.values())))  # one for train, one for each split to come
        size = min(max(round(share.fraction * len(train)), 1), spare)
        moved |= dict.fromkeys(order[:size], share.split)
        order = order[size:]
    return {video: moved.get(recording(video), split) for video, split in split_of.items()}


def in_two_splits(videos: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Recording -> its splits, for recordings in several, given (video, split) pairs."""
    found: dict[str, set[str]] = {}
    for video, split in videos:
        found.setdefault(recording(video), set()).add(split)
    return {name: sorted(splits) for name, splits in sorted(found.items()) if len(splits) > 1}

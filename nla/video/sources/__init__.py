"""Sources of clips, selected by `clips.source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nla.config.clips import ClipsConfig, ClipSourceName
from nla.data.sources.base import Source
from nla.video.sources.affwild2 import AffWild2
from nla.video.sources.clips import Clips
from nla.video.sources.drawn import Drawn

SOURCES: Mapping[ClipSourceName, Callable[[ClipsConfig, Path], Source]] = {
    "drawn": Drawn,
    "affwild2": AffWild2,
    "clips": Clips,
}


def open_source(config: ClipsConfig, root: Path) -> Source:
    """Opens the source that `config` names, with its files in `root`. Raises DataError if its layout is incomplete."""
    return SOURCES[config.source](config, root)

"""Data sources selected by `data.source`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nla.config.data import DataConfig, SourceName
from nla.data.sources.affectnet import AffectNet
from nla.data.sources.base import Source
from nla.data.sources.csv_list import CSVList
from nla.data.sources.ferplus import FERPlus
from nla.data.sources.folder import Folder
from nla.data.sources.rafdb import RAFDB
from nla.data.sources.synthetic import Synthetic

SOURCES: Mapping[SourceName, Callable[[DataConfig, Path], Source]] = {
    "synthetic": Synthetic,
    "ferplus": FERPlus,
    "rafdb": RAFDB,
    "affectnet": AffectNet,
    "folder": Folder,
    "csv": CSVList,
}


def open_source(config: DataConfig, root: Path) -> Source:
    """Opens the source that `config` names, with its files in `root`. Raises DataError if its layout is incomplete."""
    return SOURCES[config.source](config, root)

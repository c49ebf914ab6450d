"""The data sets that `data.source` chooses from."""

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
    """The source that `config` names, whose files are in `root`. Raises DataError where its layout is not complete."""
    return SOURCES[config.source](config, root)

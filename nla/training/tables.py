"""The two tables that training sees, as `prepare` wrote them: their samples, and by what they are told from others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nla.config.ray import RayConfig
from nla.data.samples import load_samples
from nla.data.schema import TableInfo, read_info
from nla.files.digest import sha256
from nla.training.loop import Split
from nla.workflow.runs import IMAGES

TRAIN, VALID = Path("data/train.parquet"), Path("data/valid.parquet")


@dataclass(frozen=True)
class Tables:
    """Both, read."""

    split: Split
    info: TableInfo
    """Of train."""
    hashes: tuple[str, str]
    """SHA-256 of both files."""

    @property
    def data_hash(self) -> str:
        """Of both, short enough for a tag."""
        return "-".join(sha[:16] for sha in self.hashes)


def read_tables(config: RayConfig, root: Path) -> Tables:
    """Both tables of the working directory; images beyond `config.image_bytes` are mapped from below `root`."""
    train, valid = (load_samples(path, config.image_bytes, root / IMAGES) for path in (TRAIN, VALID))
    return Tables(Split(train, valid), read_info(TRAIN), (sha256(TRAIN), sha256(VALID)))

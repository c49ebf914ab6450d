"""Data of a study: one set of tables per noise, imbalance and seed, prepared once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from nla.config.base import DEFAULTS
from nla.config.data import INGEST_KEYS, DataConfig
from nla.data.prepare import prepare
from nla.data.samples import Annotations, Samples, load_annotations, load_samples
from nla.io import read_batches
from nla.training.trainer import Split
from nla.workflow.provenance import CODE, fingerprint, imported_sources

HASHED = ("pixels", "label", "votes", "split")
"""Columns of the faces on which results depend."""
ROWS = 4096
"""Rows of a table that are hashed at a time."""


@dataclass(frozen=True)
class Variant:
    """Data of the runs of one condition and seed."""

    split: Split
    train_annotations: Annotations
    """Labels before noise, votes and posterior of the training rows."""
    test: Samples


@dataclass(frozen=True)
class Variants:
    """Prepares the tables of a condition from the faces, and caches them in `folder`."""

    faces: Path
    folder: Path
    limit: int
    """Most memory, in bytes, for a split's decoded images."""

    def key(self, config: DataConfig) -> str:
        """Hash of the faces and of the settings that prepare them."""
        faces = self._fer2013 if config.label_rule == "fer2013" else self._faces
        content = {"faces": faces, "data": config.stated(exclude=INGEST_KEYS), "defaults": DEFAULTS}
        return fingerprint(content, [], self.folder)

    @cached_property
    def _code(self) -> str:
        return fingerprint({}, imported_sources(Path("nla/data/prepare.py"), CODE), CODE)

    @cached_property
    def _faces(self) -> str:
        return faces_hash(self.faces)

    @cached_property
    def _fer2013(self) -> str:
        return faces_hash(self.faces, (*HASHED, "fer2013_label"))

    def variant(self, config: DataConfig) -> Variant:
        """The tables in memory, images decoded. Raises what `prepare` raises.

        Tables of earlier code are not reused.
        """
        folder = self.folder / f"{self.key(config)}-{self._code}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):  # another study may need it too
            if not (folder / "test.parquet").is_file():  # renamed last of the three
                prepare(self.faces, folder, config)
        train, valid, test = (self._samples(folder / f"{name}.parquet") for name in ("train", "valid", "test"))
        clean_N = load_annotations(folder / "valid.parquet").clean_label_N
        return Variant(Split(train, valid, clean_N), load_annotations(folder / "train.parquet"), test)

    def _samples(self, path: Path) -> Samples:
        return load_samples(path, self.limit, self.folder)


def faces_hash(path: Path, columns: Sequence[str] = HASHED) -> str:
    """Hash of `columns`, independent of the version of Arrow that wrote the file."""
    digest = hashlib.sha256()
    for batch in read_batches(path, columns, ROWS, "Run `dvc repro -f ingest`."):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(repr(row).encode())
    return digest.hexdigest()

"""Counts rows, classes and identical images per split while faces are streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nla.data.schema import SPLITS


class Census:
    """Counts of FACES: call `add` with every batch, then query."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._labels: dict[str, Counter[int | None]] = {split: Counter() for split in SPLITS}
        self._images: dict[str, Counter[bytes]] = {split: Counter() for split in SPLITS}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of `batch`."""
        for split in pc.unique(batch["split"]).to_pylist():
            rows = batch.filter(pc.equal(batch["split"], split))
            self._labels[split].update(rows["label"].to_pylist())
            self._images[split].update(rows["pixels"].to_pylist())

    def rows(self, split: str) -> int:
        """Rows of `split`."""
        return self._labels[split].total()

    def unique_images(self) -> int:
        """Number of distinct images, by pixels."""
        return len(set().union(*self._images.values()))

    def counts(self) -> dict[str, dict[str, Any]]:
        """Number of rows per split and, for labelled splits, per class."""
        return {split: {"rows": self.rows(split)} | self._by_class(split) for split in SPLITS}

    def duplicates(self) -> dict[str, int]:
        """{"valid in train": number of rows of valid that are pixel-identical to one of train, ...}"""
        return {
            f"{later} in {earlier}": sum(
                times for image, times in self._images[later].items() if image in self._images[earlier]
            )
            for earlier, later in combinations(SPLITS, 2)
        }

    def differences(self, known: Mapping[str, Sequence[int]]) -> Iterator[str]:
        """A line for each class whose number of rows differs from the published one."""
        for split, published in known.items():
            for label, (name, expected) in enumerate(zip(self._classes, published, strict=True)):
                if (found := self._labels[split][label]) != expected:
                    yield f"{split}: {found:,} rows of {name}, published are {expected:,}"

    def _by_class(self, split: str) -> dict[str, dict[str, int]]:
        counts = self._labels[split]
        if counts.keys() <= {None}:
            return {}
        return {"classes": {name: counts[label] for label, name in enumerate(self._classes)}}

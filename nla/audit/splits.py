"""The splits that are audited, with what is known of each row.

Legend: N rows; C classes; E epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nla.data.samples import Annotations, Samples, load_annotations, load_samples
from nla.data.schema import REMAKE, read_faces
from nla.errors import DataError


@dataclass(frozen=True)
class LabelledSplit:
    """N labelled images."""

    name: str
    samples: Samples
    annotations: Annotations
    path_N: list[str]
    """Origin of each image."""
    pixels_N: list[str]
    """Hex of the hash of each image's pixels, as in faces.parquet."""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def true_labels(self) -> np.ndarray | None:
        """Labels before noise; None if no label is known to be wrong."""
        return self.annotations.clean_label_N if self.annotations.is_flipped_N.any() else None


def load_split(name: str, path: Path, faces: Path, limit: int, images: Path) -> LabelledSplit:
    """Reads a table of `prepare`.

    Args:
        name: name of the split.
        path: its table.
        faces: the table faces.parquet that it was made from.
        limit: most bytes of decoded images in memory; larger sets are mapped from a file in `images`.
        images: folder of decoded images.

    Raises:
        DataError: a table is missing or damaged, or `faces` lacks a row.
    """
    samples = load_samples(path, limit, images)
    path_N = pq.read_table(path, columns=["image.path"]).flatten().column(0).to_pylist()
    return LabelledSplit(name, samples, load_annotations(path), path_N, pixel_hashes(faces, samples.row_N))


def pixel_hashes(faces: Path, row_N: np.ndarray) -> list[str]:
    """Hex of the hash of the pixels of each row of faces.parquet. Raises DataError if a row is missing."""
    _, table = read_faces(faces)
    position_N = pc.index_in(row_N, table["row"].combine_chunks())
    if position_N.null_count:
        raise DataError(f"{faces}: lacks {position_N.null_count} rows of the samples. {REMAKE}")
    return [pixels.hex() for pixels in table["pixels"].take(position_N).to_pylist()]

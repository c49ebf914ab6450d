from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.data.images import encode_png
from nla.data.samples import MappedImages, Samples, load_annotations, load_samples
from nla.data.schema import SAMPLES, TableInfo, with_info
from nla.errors import DataError

CLASSES = ("calm", "glad", "sad")


def write_samples(path: Path, rows: list[dict[str, Any]], channels: int = 1, side: int = 16) -> list[np.ndarray]:
    shape = (side, side) if channels == 1 else (side, side, channels)
    pixels = [np.random.default_rng((2, i)).integers(0, 256, shape, dtype=np.uint8) for i in range(len(rows))]
    filled = [
        {"row": 10 * i, "is_flipped": False, "image": {"bytes": encode_png(image), "path": ""}} | row
        for i, (row, image) in enumerate(zip(rows, pixels, strict=True))
    ]
    facts = {"image_size": side, "channels": channels}
    schema = with_info(SAMPLES, TableInfo("tiny", CLASSES, CLASSES, facts))
    pq.write_table(pa.Table.from_pylist(filled, schema=schema), path, row_group_size=300)
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_decoded_in_order(tmp_path: Path, channels: int) -> None:
    rows = [{"label": i % 3, "clean_label": i % 3} for i in range(1000)]  # several row groups, and parts of them
    pixels = write_samples(tmp_path / "train.parquet", rows, channels)
    samples = load_samples(tmp_path / "train.parquet")
    np.testing.assert_array_equal(samples.images_NHWC, np.stack(pixels).reshape(-1, 16, 16, channels))
    assert samples.label_N.tolist() == [row["label"] for row in rows]
    assert samples.row_N.tolist() == list(range(0, 10_000, 10))
    assert samples.target_NC is None
    assert (len(samples), samples.classes, samples.source) == (1000, CLASSES, "tiny")
    assert (samples.label_N.dtype, samples.images_NHWC.dtype) == (np.int64, np.uint8)


def test_a_row_without_target_learns_its_label(tmp_path: Path) -> None:
    rows = [
        {"label": 1, "clean_label": 1, "target": [0.2, 0.7, 0.1], "votes": [0.2, 0.7, 0.1]},
        {"label": 2, "clean_label": 0, "is_flipped": True},
    ]
    write_samples(tmp_path / "train.parquet", rows)
    target_NC = load_samples(tmp_path / "train.parquet").target_NC
    assert target_NC is not None
    np.testing.assert_allclose(target_NC, [[0.2, 0.7, 0.1], [0, 0, 1]], rtol=1e-6)
    known = load_annotations(tmp_path / "train.parquet")
    assert known.votes_NC is not None
    np.testing.assert_allclose(known.votes_NC, [[0.2, 0.7, 0.1], [np.nan] * 3], rtol=1e-6)
    assert known.posterior_NC is None
    assert known.clean_label_N.tolist() == [1, 0]
    assert known.is_flipped_N.tolist() == [False, True]


def test_what_training_loads_holds_nothing_of_the_truth() -> None:
    assert not {"votes_NC", "posterior_NC", "clean_label_N", "is_flipped_N"} & {field.name for field in fields(Samples)}


def test_an_image_of_another_size_is_an_error(tmp_path: Path) -> None:
    small = {"bytes": encode_png(np.zeros((8, 8), np.uint8)), "path": ""}
    write_samples(tmp_path / "test.parquet", [{"label": 0, "clean_label": 0}, {"label": 0, "image": small}])
    with pytest.raises(DataError, match=r"row 1: expected an image of 16x16x1, got 8x8"):
        load_samples(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"is missing\. Run `dvc repro`"):
        load_samples(tmp_path / "nowhere.parquet")


def test_images_beyond_the_limit_are_mapped(tmp_path: Path) -> None:
    """From a file that is named by what is in the table."""
    path = tmp_path / "train.parquet"
    pixels = write_samples(path, [{"label": 0, "clean_label": 0}] * 5)
    size = sum(image.nbytes for image in pixels)
    inside, beyond = (load_samples(path, limit, tmp_path / "images") for limit in (size, size - 1))
    assert not isinstance(inside.images_NHWC, MappedImages)
    assert isinstance(beyond.images_NHWC, MappedImages)
    np.testing.assert_array_equal(inside.images_NHWC, beyond.images_NHWC)
    write_samples(path, [{"label": 0, "clean_label": 0}] * 6)
    assert len(load_samples(path, 0, tmp_path / "images").images_NHWC) == 6
    assert sum(file.suffix != ".lock" for file in (tmp_path / "images").iterdir()) == 2

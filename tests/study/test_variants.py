"""Data of a study: the same for every method, another for every condition, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.config.data import DataConfig, NoiseConfig, SyntheticConfig
from nla.data.ingest import ingest
from nla.data.sources import open_source
from nla.study.variants import Variants, faces_hash

LIMIT = 2**30


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    config = DataConfig(synthetic=SyntheticConfig(train=300, valid=100, test=100))
    ingest(open_source(config, folder), folder / "faces.parquet", on_bad="error")
    return folder / "faces.parquet"


def noisy(rate: float, seed: int = 0) -> DataConfig:
    return DataConfig(noise=NoiseConfig(rate=rate), seed=seed, image_size=24)


def test_noise_is_in_train_alone(tmp_path: Path, faces: Path) -> None:
    variant = Variants(faces, tmp_path, LIMIT).variant(noisy(0.3))
    clean = Variants(faces, tmp_path, LIMIT).variant(noisy(0.0))
    assert variant.train_annotations.is_flipped_N.sum() == round(0.3 * len(variant.split.train))
    assert (
        variant.split.train.label_N != clean.split.train.label_N
    ).sum() == variant.train_annotations.is_flipped_N.sum()
    for one, other in ((variant.split.valid, clean.split.valid), (variant.test, clean.test)):
        np.testing.assert_array_equal(one.label_N, other.label_N)
        np.testing.assert_array_equal(one.images_NHWC, other.images_NHWC)


def test_tables_are_made_once(tmp_path: Path, faces: Path) -> None:
    variants = Variants(faces, tmp_path, LIMIT)
    first = variants.variant(noisy(0.3))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    again = variants.variant(noisy(0.3))
    np.testing.assert_array_equal(first.split.train.label_N, again.split.train.label_N)
    assert times and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == times


def test_tables_of_other_code_are_made_anew(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Variants(faces, tmp_path, LIMIT).variant(noisy(0.3))
    monkeypatch.setattr("nla.study.variants.fingerprint", lambda *_: "other")
    Variants(faces, tmp_path, LIMIT).variant(noisy(0.3))
    assert len(list(tmp_path.glob("*/test.parquet"))) == 2


def test_the_key_tells_data_apart(tmp_path: Path, faces: Path) -> None:
    variants = Variants(faces, tmp_path, LIMIT)
    configs = [noisy(0.0), noisy(0.3), noisy(0.3, seed=1), DataConfig(image_size=24, imbalance_factor=2.0)]
    assert len({variants.key(config) for config in configs}) == len(configs)
    elsewhere = noisy(0.3).model_copy(update={"raw": "elsewhere"})
    assert variants.key(elsewhere) == variants.key(noisy(0.3))


def test_the_hash_is_of_the_faces_not_of_the_file(tmp_path: Path, faces: Path) -> None:
    table = pq.read_table(faces)
    pq.write_table(table, tmp_path / "rewritten.parquet", compression="none", row_group_size=7)
    assert faces_hash(tmp_path / "rewritten.parquet") == faces_hash(faces)
    pq.write_table(table.slice(1), tmp_path / "fewer.parquet")
    assert faces_hash(tmp_path / "fewer.parquet") != faces_hash(faces)


def test_labels_of_fer2013_count_where_they_are_used(tmp_path: Path, faces: Path) -> None:
    table = pq.read_table(faces)
    at = table.schema.get_field_index("fer2013_label")
    labels = pa.array([row % 7 for row in range(len(table))], pa.int8())
    relabelled = table.set_column(at, table.schema.field(at), labels)
    pq.write_table(relabelled, tmp_path / "relabelled.parquet")
    before, after = (Variants(path, tmp_path, LIMIT) for path in (faces, tmp_path / "relabelled.parquet"))
    fer2013 = DataConfig(label_rule="fer2013", contempt=False)
    assert before.key(noisy(0.3)) == after.key(noisy(0.3))
    assert before.key(fer2013) != after.key(fer2013)

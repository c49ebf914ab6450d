"""What a condition of a study can ask of the data besides noise in train: noise in validation, fewer rows of train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nla.config.data import DataConfig, NoiseConfig, SyntheticConfig
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.sample_plan import SamplePlan, plan_samples
from nla.data.schema import SPLITS, TEST, TRAIN, VALID, read_info
from nla.data.sources import open_source
from nla.data.synthetic_imbalance import keep_shares
from nla.errors import DataError
from pipelines.prepare import summary


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    ingest(
        open_source(DataConfig(synthetic=SyntheticConfig(train=400, valid=200, test=100)), folder),
        folder / "faces.parquet",
        on_bad="error",
    )
    return folder / "faces.parquet"


def plan(faces: Path, noise: dict[str, Any] | None = None, **data: Any) -> SamplePlan:
    return plan_samples(faces, DataConfig(noise=NoiseConfig(**noise or {}), **data))


def test_noise_in_validation_is_as_much_as_in_train_and_changes_nothing_else(faces: Path) -> None:
    plain, noisy = (plan(faces, {"rate": 0.3, "valid": valid}) for valid in (False, True))
    flipped_N = noisy.label_N != noisy.clean_N
    assert [int(flipped_N[noisy.split_N == split].sum()) for split in (TRAIN, VALID, TEST)] == [120, 60, 0]
    assert plain.report["noise"]["flipped_in_valid"] == 0 and noisy.report["noise"]["flipped_in_valid"] == 60
    elsewhere_N = noisy.split_N != VALID
    np.testing.assert_array_equal(plain.label_N[elsewhere_N], noisy.label_N[elsewhere_N])
    np.testing.assert_array_equal(plain.clean_N, noisy.clean_N)


def test_noise_in_validation_has_draws_of_its_own_from_the_seed(faces: Path) -> None:
    def flips(seed: int) -> np.ndarray:
        of = plan(faces, {"rate": 0.3, "valid": True}, seed=seed)
        return (of.label_N != of.clean_N)[of.split_N == VALID]

    np.testing.assert_array_equal(flips(1), flips(1))
    assert (flips(1) != flips(2)).any()


def test_the_tables_and_the_console_say_that_validation_is_noisy(faces: Path, tmp_path: Path) -> None:
    config = DataConfig(noise=NoiseConfig(rate=0.3, valid=True), image_size=16)
    report = prepare(faces, tmp_path, config)
    noise = {split: read_info(tmp_path / f"{split}.parquet").extra["noise"] for split in SPLITS}
    assert (noise["train"]["flipped"], noise["valid"]["flipped"], noise["test"]) == (120, 60, None)
    assert any(
        "120 of 400 (30.00%), symmetric, and 60 in validation; test is clean" in line for line in summary(report)
    )
    assert "validation" in report["clean"] and "only in train" in report["clean"]


def test_fewer_rows_keep_the_shares_of_the_classes(faces: Path) -> None:
    whole, fewer, other = plan(faces), plan(faces, train_rows=100), plan(faces, train_rows=100, seed=1)
    sizes = [np.bincount(of.clean_N[of.split_N == TRAIN], minlength=8) for of in (whole, fewer)]
    assert sizes[1].sum() == 100 and fewer.report["rows_left_out"] == 300
    np.testing.assert_allclose(sizes[1], sizes[0] / 4, atol=1)
    for split in (VALID, TEST):
        np.testing.assert_array_equal(whole.split_N == split, fewer.split_N == split)
    assert ((fewer.split_N == TRAIN) <= (whole.split_N == TRAIN)).all()
    assert (fewer.split_N != other.split_N).any()


@given(st.lists(st.integers(1, 300), min_size=2, max_size=8), st.floats(0.5, 1), st.integers(0, 5))
def test_every_class_keeps_its_share_within_a_row(sizes: list[int], fraction: float, seed: int) -> None:
    label_N = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = max(1, round(fraction * len(label_N)))
    try:
        kept = keep_shares(label_N, rows, np.random.default_rng(seed))
    except DataError:
        assert min(sizes) * rows / len(label_N) < 1
        return
    assert len(set(kept.tolist())) == len(kept) == rows
    np.testing.assert_allclose(np.bincount(label_N[kept]), np.array(sizes) * rows / len(label_N), atol=1)


def test_rows_that_train_does_not_have_are_refused(faces: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train_rows: train has only 400 rows \(got 401\)\. Use 400 or less"):
        plan(faces, train_rows=401)
    with pytest.raises(DataError, match=r"data\.train_rows: a class would have no training image"):
        plan(faces, train_rows=3)
    with pytest.raises(ValidationError, match=r"must be null with data\.imbalance_factor"):
        DataConfig(train_rows=5, imbalance_factor=2.0)

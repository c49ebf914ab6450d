"""What predictions are compared with: the test rows that `prepare` makes under each condition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_study import made_up

from nla.config.data import DataConfig, LabelRule, NoiseConfig, SyntheticConfig
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.samples import load_annotations
from nla.data.schema import read_info
from nla.data.sources import open_source
from nla.errors import DataError
from nla.study.truth import truth_of, truths_of


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    config = DataConfig(synthetic=SyntheticConfig(train=300, valid=100, test=150))
    ingest(open_source(config, folder), folder / "faces.parquet", on_bad="error")
    return folder / "faces.parquet"


@pytest.mark.parametrize(
    ("rule", "contempt"), [("majority", True), ("majority", False), ("votes", True), ("argmax", False)]
)
def test_it_is_the_table_of_test(faces: Path, tmp_path: Path, rule: LabelRule, contempt: bool) -> None:
    config = DataConfig(label_rule=rule, contempt=contempt, noise=NoiseConfig(rate=0.3), image_size=16, seed=4)
    prepare(faces, tmp_path, config)
    table, found = (
        load_annotations(tmp_path / "test.parquet"),
        truth_of(faces, DataConfig(label_rule=rule, contempt=contempt)),
    )
    np.testing.assert_array_equal(found.label_N, table.clean_label_N)
    assert found.classes == read_info(tmp_path / "test.parquet").classes and len(found.classes) == 7 + contempt
    if table.votes_NC is None:
        assert found.votes_NC is None
    else:
        np.testing.assert_array_equal(found.votes_NC, table.votes_NC)


def test_each_condition_has_its_own_rows(faces: Path) -> None:
    records = made_up({"ce": 1.0}, seeds=(0,))
    seven = [replace(record, params={"data": {"contempt": False}}) for record in records if record.condition == "clean"]
    truths = truths_of(faces, [*seven, *(record for record in records if record.condition != "clean")])
    assert {name: len(truth.classes) for name, truth in truths.items()} == {"clean": 7, "symmetric 30 %": 8}


def test_a_record_with_parameters_of_another_version_is_named(faces: Path) -> None:
    (record,) = made_up({"ce": 1.0}, {"clean": ("symmetric", 0.0, None)}, (0,))
    with pytest.raises(DataError, match=rf"{record.fingerprint}\.parquet: params:\n.*unknown key 'data\.label'"):
        truths_of(faces, [replace(record, params={"data": {"label": "majority"}})])

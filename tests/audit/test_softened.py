from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from table_parts import CLASSES, INFO, labels_table

from nla.audit.softened import softened_samples
from nla.audit.table import write_labels
from nla.data.samples import Samples
from nla.errors import ConfigError, DataError

TRAIN = Samples(np.zeros((3, 16, 16, 1), np.uint8), np.array([0, 2, 2]), None, np.arange(3), CLASSES, "synthetic")


def audited(path: Path, **changes: object) -> Path:
    """An audit of three training rows, of which the last is ambiguous."""
    write_labels(path / "labels.parquet", labels_table(split=["train"] * 3), INFO.model_copy(update=changes))
    return path / "labels.parquet"


def test_ambiguous_rows_get_the_suggested_distribution(tmp_path: Path) -> None:
    softened, rows = softened_samples(TRAIN, audited(tmp_path), "0" * 64)
    assert rows == 1 and softened.target_NC is not None and softened.target_NC.dtype == np.float32
    assert softened.target_NC.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0.5, 0.5]]
    assert TRAIN.target_NC is None and (softened.label_N == TRAIN.label_N).all()


def test_the_others_keep_their_distribution(tmp_path: Path) -> None:
    votes_NC = np.full((3, 3), 1 / 3, np.float32)
    softened, _ = softened_samples(replace(TRAIN, target_NC=votes_NC), audited(tmp_path), "0" * 64)
    np.testing.assert_array_equal(softened.target_NC, [*votes_NC[:2], [0, 0.5, 0.5]])


def test_an_audit_of_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="audit of another training table"):
        softened_samples(TRAIN, audited(tmp_path), "1" * 64)
    with pytest.raises(ConfigError, match=r"train\.soften: needs an audit \(got audit\.folds 0\)"):
        softened_samples(TRAIN, audited(tmp_path, folds=0), "0" * 64)
    with pytest.raises(DataError, match="file not found"):
        softened_samples(TRAIN, tmp_path / "lost.parquet", "0" * 64)

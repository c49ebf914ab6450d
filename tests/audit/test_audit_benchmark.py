"""The measures of benchmarks/audit.py, against counts by hand and scikit-learn."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from table_parts import CLASSES, INFO, labels_table

from nla.audit.table import write_labels
from nla.config.base import section
from nla.config.data import DataConfig


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("audit")


def test_measures(audit: ModuleType) -> None:
    rng = np.random.default_rng(0)
    is_wrong_N = rng.random(200) < 0.3
    score_N = (rng.random(200) + 0.5 * is_wrong_N).round(1)
    found = audit.measures(score_N, is_wrong_N)
    assert found["auroc"] == pytest.approx(roc_auc_score(is_wrong_N, score_N))
    order = sorted(range(200), key=lambda n: -score_N[n])
    assert found["precision_at_5%"] == np.mean([is_wrong_N[n] for n in order[:10]])
    wrong = int(is_wrong_N.sum())
    assert found["precision_at_wrong"] == pytest.approx(np.mean([is_wrong_N[n] for n in order[:wrong]]))


def test_a_better_score_is_surely_better(audit: ModuleType) -> None:
    rng = np.random.default_rng(1)
    is_wrong_N = rng.random(300) < 0.3
    scores = {"score": rng.random(300) + 0.2 * is_wrong_N, "better": rng.random(300) + 0.9 * is_wrong_N}
    found = audit.compared(scores, is_wrong_N, seed=0)
    assert found["better"]["auroc_above_score"][0] > 0
    assert found["score"]["auroc_above_score"] == (0, 0)
    low, high = found["better"]["auroc_interval"]
    assert low < found["better"]["auroc"] < high


def test_the_training_rows_of_an_audit_are_read(audit: ModuleType, tmp_path: Path) -> None:
    votes = {f"votes_{name}": [0.5, 0.2, None] for name in CLASSES}
    table = labels_table(true_label=["neutral", "happiness", "fear"], **votes)
    write_labels(tmp_path / "labels.parquet", table, INFO)
    scores, rows, is_wrong_N = audit.audited(tmp_path)
    assert rows.num_rows == 2 and is_wrong_N.tolist() == [False, True]
    np.testing.assert_allclose(scores["score"], [0.1, 0.9])
    np.testing.assert_allclose(scores["self_confidence"], [-0.5, -0.5])
    assert audit.wrong_by_class(rows, is_wrong_N) == {"fear": 1, "neutral": 0}


def test_conditions_are_valid(audit: ModuleType) -> None:
    for name in ("asymmetric-30", "symmetric-10"):
        changes = {key.removeprefix("data.noise."): v for key, v in audit.CONDITIONS[name].items()}
        noise = {**changes, "mapping": audit.MAPPING} if "mapping" in changes else changes
        section(DataConfig, {"data": {"noise": noise}})

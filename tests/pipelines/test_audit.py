"""The stage `audit`: its table and summary, what MLflow gets, and that an interruption changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow_parts import CLASSES, ROOT, new_store, write_samples
from ruamel.yaml import YAML
from tiny_project import TINY, Project
from training_parts import Stop

from nla.audit import fold_results
from nla.audit.duplicates import difference_hash, near_identical
from nla.audit.table import probabilities, read_labels
from nla.config.base import merge, read_params, section
from nla.config.ray import RayConfig
from nla.data.samples import load_samples
from nla.data.schema import FACES, TableInfo, with_info
from nla.errors import ConfigError, DataError
from nla.io import parse_json_as, write_table
from pipelines import audit, train

PARAMS: dict[str, Any] = {
    "audit": {"folds": 2, "epochs": 2},
    "model": {"width": 4},
    "loss": {"name": "ce"},
    "train": {"batch_size": 8, "patience": 1, "precision": "fp32"},
    "ray": {"num_workers": 0, "use_gpu": False, "cpus_per_worker": 1},
}
ROWS = {"train": 40, "valid": 12, "test": 9}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared project of 40 random training images, of which labels of 6 are flipped; the current folder."""
    make_project(tmp_path, monkeypatch)
    return tmp_path


def make_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(exist_ok=True)
    for code in ("nla", "pipelines"):
        (root / code).symlink_to(ROOT / code)
    for name, rows in ROWS.items():
        labels = [i % 3 for i in range(rows)]
        given = [(label + 1) % 3 if i < 6 else label for i, label in enumerate(labels)]
        write_samples(root / f"data/{name}.parquet", labels, given=given if name == "train" else None)
    columns = {name: [None] * 50 for name in FACES.names}
    columns |= {"row": [*range(50)], "split": ["train"] * 50, "pixels": [bytes([i]) * 16 for i in range(50)]}
    columns["image"] = [{"bytes": b"", "path": f"{i}.png"} for i in range(50)]
    write_table(root / "data/faces.parquet", pa.table(columns, with_info(FACES, TableInfo("synthetic", CLASSES))))
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_ROOT", str(root))
    set_params({})
    new_store(root, monkeypatch)


def set_params(changes: dict[str, Any]) -> None:
    YAML(pure=True).dump(merge(PARAMS, changes), Path("params.yaml"))


def test_every_label_is_scored_once(folder: Path) -> None:
    audit.main()
    info, table = read_labels(audit.LABELS)
    assert (info.folds, info.epochs, info.classes, set(info.data)) == (2, 2, CLASSES, {"train", "valid"})
    assert table["split"].to_pylist() == ["train"] * 40 + ["valid"] * 12
    assert table["row"].to_pylist() == [*range(40), *range(12)]
    assert table["path"].to_pylist()[41] == "1.png" and table["pixels"].to_pylist()[41] == "01" * 16
    np.testing.assert_allclose(probabilities(table, CLASSES).sum(axis=1), 1, rtol=1e-5)
    fold_N = table["fold"].to_pylist()
    assert sorted(fold_N[:40]) == [0] * 20 + [1] * 20 and set(fold_N[40:]) == {None}
    labels, true = (table[name].to_pylist() for name in ("label", "true_label"))
    assert [i for i in range(40) if labels[i] != true[i]] == [*range(6)] and set(true[40:]) == {None}
    q_NC = probabilities(table, CLASSES, "q")
    is_ambiguous_N = np.array(table["verdict"].to_pylist()) == "ambiguous"
    assert (np.isnan(q_NC).all(axis=1) == ~is_ambiguous_N).all()
    path = np.array(table["path_p_label"].to_pylist())
    np.testing.assert_allclose(path.mean(axis=1), table["self_confidence"].to_numpy(), rtol=1e-5)
    images_NHWC = np.concatenate([load_samples(audit.split_table(name)).images_NHWC for name in ("train", "valid")])
    group_N = near_identical(difference_hash(images_NHWC))
    assert table["duplicates"].to_pylist() == [int((group_N == group).sum()) - 1 for group in group_N]


def test_the_page_has_the_faces_that_it_may_have(folder: Path) -> None:
    audit.main()
    _, table = read_labels(audit.LABELS)
    different = len({*zip(table["pixels"].to_pylist(), table["label"].to_pylist(), strict=True)})
    assert audit.PAGE.read_text().count('"jpeg":') == different
    set_params({"audit": {"faces": 5, "thumbnails": False}})
    audit.main()
    assert audit.PAGE.read_text().count('"image":') == 5 and '"jpeg":' not in audit.PAGE.read_text()


def test_the_summary_is_of_the_table(folder: Path) -> None:
    audit.main()
    _, table = read_labels(audit.LABELS)
    report = parse_json_as(audit.SUMMARY.read_bytes(), dict[str, Any], audit.SUMMARY, "")
    for name in ("train", "valid"):
        rows = table.filter(pa.compute.equal(table["split"], name))
        counts = {
            verdict: rows["verdict"].to_pylist().count(verdict) for verdict in ("clean", "ambiguous", "mislabelled")
        }
        assert {key: report[name][key] for key in counts} == counts
        by_class = report[name]["classes"]
        assert {key: row["rows"] for key, row in by_class.items()} == {
            key: rows["label"].to_pylist().count(key) for key in CLASSES
        }
        assert sum(row["wrong"] for row in by_class.values()) == pytest.approx(report[name]["wrong"], abs=0.3)
    assert report["train"]["known"]["wrong"] == 6 and "known" not in report["valid"]
    first = np.argsort(-table["score"].to_numpy()[:40], kind="stable")[:6]
    assert report["train"]["known"]["precision_at_wrong"] == pytest.approx((first < 6).mean())
    assert {path.name for path in audit.FIGURES.iterdir()} == {"verdicts.png", "wrong_labels.png"}


def test_mlflow_has_the_summary_and_the_files(folder: Path) -> None:
    audit.main()
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("nla")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["audit.folds"] == "2"
    assert run.data.metrics["audit.train.rows"] == 40
    assert {file.path for file in client.list_artifacts(run.info.run_id, "audit")} == {
        "audit/labels.parquet",
        "audit/summary.json",
        "audit/index.html",
    }
    audit.main()
    assert len(client.search_runs([found.experiment_id])) == 1


def test_without_folds_the_table_is_empty(folder: Path) -> None:
    audit.main()
    set_params({"audit": {"folds": 0}})
    audit.main()
    info, table = read_labels(audit.LABELS)
    assert (info.folds, info.data, table.num_rows) == (0, {}, 0)
    assert parse_json_as(audit.SUMMARY.read_bytes(), dict[str, int], audit.SUMMARY, "") == {"folds": 0}
    assert list(audit.FIGURES.iterdir()) == [] and '"faces":[]' in audit.PAGE.read_text()


def test_test_labels_are_scored_on_request(folder: Path) -> None:
    set_params({"audit": {"test": True}})
    audit.main()
    _, table = read_labels(audit.LABELS)
    assert table["split"].to_pylist() == ["train"] * 40 + ["valid"] * 12 + ["test"] * 9


@pytest.mark.parametrize("stop", [(0, 1), (1, 1)])
def test_an_interrupted_audit_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: tuple[int, int]) -> None:
    """Stopped in the second epoch of a fold: what was complete is not trained again, and the table is the same."""
    make_project(tmp_path / "whole", monkeypatch)
    audit.main()
    _, whole = read_labels(audit.LABELS)
    make_project(tmp_path / "parts", monkeypatch)
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(fold_results.StepsOfFolds, "on_step_end", stop_at(*stop))
        audit.main()
    assert not audit.LABELS.exists()
    begun: list[tuple[int, int]] = []
    with monkeypatch.context() as patched:
        patched.setattr(fold_results.StepsOfFolds, "on_step_end", record(begun))
        audit.main()
    assert begun == ([(0, 1), (1, 0), (1, 1)] if stop[0] == 0 else [(0, 1)]), "of those that were missing"
    assert read_labels(audit.LABELS)[1].equals(whole)


def stop_at(fold: int, epoch: int) -> Callable[..., None]:
    def on_step_end(self: Any, now: int, step: int, steps: int, images: int) -> None:
        if (self.before // 2, now, step) == (fold, epoch, 1):
            raise Stop

    return on_step_end


def record(begun: list[tuple[int, int]]) -> Callable[..., None]:
    """Notes (number of the fold among those that run, epoch) once each."""

    def on_step_end(self: Any, epoch: int, step: int, steps: int, images: int) -> None:
        if step == 1:
            begun.append((self.before // 2, epoch))

    return on_step_end


def test_training_learns_the_distributions_that_the_audit_suggests(folder: Path) -> None:
    audit.main()
    _, table = read_labels(audit.LABELS)
    params, ray = read_params(), section(RayConfig, read_params())
    plain = train.make_plan(params, folder, ray)
    softened = train.make_plan(merge(params, {"train": {"soften": True}}), folder, ray)
    assert plain.tables.split.train.target_NC is None and softened.job.fingerprint != plain.job.fingerprint
    target_NC = softened.tables.split.train.target_NC
    q_NC = probabilities(table, CLASSES, "q")[:40]
    label_N = plain.tables.split.train.label_N
    np.testing.assert_array_equal(target_NC, np.where(np.isnan(q_NC), np.eye(3)[label_N], q_NC).astype(np.float32))
    assert softened.tables.split.valid.target_NC is None
    set_params({"audit": {"epochs": 3}})
    audit.main()
    again = train.make_plan(merge(params, {"train": {"soften": True}}), folder, ray)
    assert again.job.fingerprint != softened.job.fingerprint, "of another audit"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "audit.folds: must be 0, for no audit, or at least 2"),
        ({"folds": -2}, "audit.folds: must be greater than or equal to 0"),
        ({"folds": 2.5}, "audit.folds"),
        ({"epochs": 1}, "audit.epochs: must be greater than or equal to 2"),
        ({"fold": 5}, "unknown key 'audit.fold': did you mean 'folds'"),
        ({"folds": 50}, "audit.folds: 50 folds of 40 distinct training images"),
        ({"test": "yes"}, "audit.test"),
    ],
)
def test_wrong_parameters_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    set_params({"audit": changes})
    with pytest.raises(ConfigError, match=message):
        audit.main()
    assert not audit.LABELS.exists() and not (folder / ".runs").exists()


def test_a_batch_larger_than_the_other_folds_is_refused(folder: Path) -> None:
    set_params({"train": {"batch_size": 32}})
    with pytest.raises(ConfigError, match=r"train.batch_size: larger than the 20 training samples \(got 32\)"):
        audit.main()


def test_faces_of_other_rows_are_refused(folder: Path) -> None:
    faces = pq.read_table("data/faces.parquet").slice(0, 30)
    write_table(Path("data/faces.parquet"), faces)
    with pytest.raises(DataError, match=r"data/faces.parquet: lacks 10 rows of the samples"):
        audit.main()


@pytest.mark.slow
@pytest.mark.thorough
def test_a_killed_audit_on_ray_gives_the_same_table(tmp_path: Path) -> None:
    params = merge(TINY, {"audit": {"folds": 2, "epochs": 4}, "ray": {"cpus_per_trial": 1}})
    whole = Project.make(tmp_path / "whole", params)
    whole.dvc("repro", "audit")
    parts = Project.make(tmp_path / "parts", params)
    killed = parts.start_dvc("repro", "audit")
    killed.wait_for("MLflow run")
    while not list((parts / ".runs").glob("*/fold-*/epoch-00001")):
        assert killed.process.poll() is None, killed.text
        time.sleep(0.05)
    killed.kill(group=True)
    parts.dvc("repro", "audit")
    tables = [read_labels(project / os.fspath(audit.LABELS))[1] for project in (whole, parts)]
    assert tables[0].num_rows == 304 and tables[0].equals(tables[1])
    assert "up to date" in parts.dvc("repro", "audit")

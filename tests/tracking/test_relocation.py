"""A project that is moved or copied takes its store along, with the files of its runs and models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow_parts import constant_model, new_store

from nla.serving.logged import log_served_model
from nla.serving.registry import Registry, load_version
from nla.tracking import MlflowTracker, configure
from nla.tracking.relocation import BESIDE, follow_move
from nla.tracking.store import experiment


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, with a space in its path, whose store has a run with a file and a registered model."""
    root = tmp_path_factory.mktemp("a project")
    with pytest.MonkeyPatch.context() as patch:
        uri = new_store(root, patch)
        tracker = MlflowTracker(uri, system_metrics=False)
        run_id = tracker.start("x", {}, {})
        (root / "note.txt").write_text("original")
        tracker.log_artifact(root / "note.txt")
        models = constant_model(root / "models", 1)
        Registry(uri, "nla-synthetic").add(log_served_model(run_id, models), run_id, {})
    return root


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Configures the store of `root` as a stage does, and reads all that was in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = configure(root)
    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment(client).experiment_id])
    assert Path(download_artifacts(f"{run.info.artifact_uri}/note.txt")).read_text() == "original"
    registry = Registry(uri, "nla-synthetic")
    version = registry.find({})
    assert version is not None and load_version(version).classes
    locations = (experiment(client).artifact_location, run.info.artifact_uri)
    assert all(location.startswith((root / "mlruns").as_uri()) for location in locations)
    return client


def files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "mlruns").rglob("*") if path.is_file())


@pytest.mark.parametrize("is_tagged", [True, False], ids=["this version", "an earlier version"])
def test_a_copy_has_files_of_its_own(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_tagged: bool
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    if not is_tagged:
        client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
        client.delete_experiment_tag(experiment(client).experiment_id, BESIDE)
    before = files(original)
    client = use(copy, monkeypatch)
    assert "was moved or copied" in caplog.text
    tracker = MlflowTracker(str(client.tracking_uri), system_metrics=False)
    tracker.start("y", {}, {})
    tracker.log_artifact(copy / "note.txt")
    assert files(original) == before and len(files(copy)) == len(before) + 1
    caplog.clear()
    configure(copy)
    assert not caplog.text


def test_a_moved_project_goes_on(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shutil.copytree(original, tmp_path / "first")
    use(first, monkeypatch)
    moved = Path(shutil.move(first, tmp_path / "second"))
    use(moved, monkeypatch)
    assert not first.exists()


def test_a_store_that_was_moved_before_it_had_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    new_store(tmp_path / "first", monkeypatch)
    moved = Path(shutil.move(tmp_path / "first", tmp_path / "second"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    client = MlflowClient(configure(moved))
    assert experiment(client).artifact_location == (moved / "mlruns").as_uri()


def test_the_same_folder_by_a_link_is_no_move(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(original)
    assert follow_move(tmp_path / "link/mlflow.db", tmp_path / "link/mlruns") is None


def test_a_location_of_the_users_choice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "before")
    new_store(tmp_path / "project", monkeypatch)
    chosen = (tmp_path / "disk/mlruns").as_uri()
    MlflowClient().create_experiment("mine", chosen)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    client = MlflowClient(configure(tmp_path / "project"))
    assert experiment(client).artifact_location == chosen
    assert BESIDE not in experiment(client).tags

"""The project, the workspace where DVC runs a stage, and addresses without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.workflow.paths import project_root, without_credentials, workspace


def test_dvc_names_the_project_of_a_stage_that_runs_in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert project_root() == workspace() == (tmp_path / "copy").resolve()
    monkeypatch.setenv("DVC_ROOT", "../project")
    assert project_root() == (tmp_path / "project").resolve()
    assert workspace() == (tmp_path / "copy").resolve()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://me:secret@host:5432/db", "postgresql://host:5432/db"),
        ("https://me:sec@ret@host/path@x", "https://host/path@x"),
        ("postgresql://me:pa/ss@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql+psycopg2://me:a?b@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db"),
    ],
)
def test_credentials_are_removed_from_an_address(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown

from __future__ import annotations

from pathlib import Path

import pytest

from nla.workflow.paths import project_root, workspace


def test_the_project_is_where_dvc_says_and_the_workspace_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert project_root() == workspace() == (tmp_path / "copy").resolve()
    monkeypatch.setenv("DVC_ROOT", "../project")
    assert project_root() == (tmp_path / "project").resolve()
    assert workspace() == (tmp_path / "copy").resolve()

"""A place to run commands in."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_parts import random_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models/, the current one."""
    (tmp_path / "models").mkdir()
    random_model(tmp_path / "models", source="faces")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def only_dlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file of YuNet, which finds other boxes, is there."""
    monkeypatch.setenv("NLA_DETECTORS", str(tmp_path / "none"))

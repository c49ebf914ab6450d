"""What is removed of a run, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.workflow.runs import forget


def test_a_relative_folder_is_one_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/shared/run/checkpoint_1").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.chdir(tmp_path)
    forget("shared", "run")
    assert not list((tmp_path / "project/shared/run").iterdir())


def test_forgetting_leaves_the_lock_and_other_runs(tmp_path: Path) -> None:
    for place in ("one/checkpoint_1", "two/checkpoint_1"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("lock", "state.json"):
        (tmp_path / "one" / name).write_text("")
    forget(str(tmp_path), "one")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "one",
        "one/lock",
        "two",
        "two/checkpoint_1",
    ]
    forget(f"file://{tmp_path}", "two")
    assert not list((tmp_path / "two").iterdir())
    forget(str(tmp_path), "never trained")

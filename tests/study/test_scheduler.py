"""What a forced study deletes before it starts from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.study.scheduler import delete_records


def test_a_forced_study_deletes_only_its_own_records_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an interrupted one never resumes with records of earlier code."""
    study = tmp_path / "studies/faces"
    (study / "records").mkdir(parents=True)
    (study / "records/0123456789abcdef.parquet").touch()
    runs = {"faces-0123456789abcdef-fedcba9876543210", "faces-noise-0123456789abcdef-fedcba9876543210", "study-data"}
    for name in runs:
        (tmp_path / ".runs" / name).mkdir(parents=True)
    monkeypatch.chdir(study)
    delete_records(tmp_path)
    assert not list((study / "records").iterdir())
    assert {path.name for path in (tmp_path / ".runs").iterdir()} == runs - {"faces-0123456789abcdef-fedcba9876543210"}

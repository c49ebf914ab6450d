"""What is left of a study that is to be made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.study.trainings import forget_trainings


def test_a_forced_study_forgets_its_own_trainings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is stopped before it has made them all: what an earlier code left must not complete it."""
    study = tmp_path / "studies/faces"
    (study / "records").mkdir(parents=True)
    (study / "records/0123456789abcdef.parquet").touch()
    runs = {"faces-0123456789abcdef-fedcba9876543210", "faces-noise-0123456789abcdef-fedcba9876543210", "study-data"}
    for name in runs:
        (tmp_path / ".runs" / name).mkdir(parents=True)
    monkeypatch.chdir(study)
    forget_trainings(tmp_path)
    assert not list((study / "records").iterdir())
    assert {path.name for path in (tmp_path / ".runs").iterdir()} == runs - {"faces-0123456789abcdef-fedcba9876543210"}

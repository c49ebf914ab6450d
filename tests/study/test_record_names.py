"""Names of records: of the present code, or in a frozen study of the code that made them; and what a force deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.config.ray import RayConfig
from nla.errors import DataError
from nla.study.origin import Origin
from nla.study.runs import StudyRun, delete_records, record_name
from nla.study.scheduler import Scheduler
from nla.study.specs import RunSpec
from nla.study.variants import Variants

RUN, NOW, BEFORE = "0123456789abcdef", "fedcba9876543210", "aaaabbbbccccdddd"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records of a study, as of the working folder."""
    folder = tmp_path / "studies/faces/records"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    return folder


def test_a_record_is_of_the_present_code(records: Path) -> None:
    (records / f"{RUN}-{BEFORE}.parquet").touch()
    assert record_name(RUN, NOW, frozen=False) == f"{RUN}-{NOW}"


@pytest.mark.parametrize("name", [f"{RUN}-{BEFORE}", RUN])
def test_a_frozen_study_takes_the_record_of_any_code_also_of_an_earlier_version(records: Path, name: str) -> None:
    (records / f"{name}.parquet").touch()
    assert record_name(RUN, NOW, frozen=True) == name
    assert record_name(BEFORE, NOW, frozen=True) == f"{BEFORE}-{NOW}"  # there is none


def test_a_frozen_study_with_two_records_of_a_run_is_refused(records: Path) -> None:
    for code in (NOW, BEFORE):
        (records / f"{RUN}-{code}.parquet").touch()
    with pytest.raises(DataError, match=rf"one record of each run \(got {RUN}-{BEFORE}, {RUN}-{NOW}\)"):
        record_name(RUN, NOW, frozen=True)


def test_a_frozen_study_trains_nothing(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where the code is modified: nothing is asked of it."""
    (records / f"{RUN}.parquet").touch()
    runs = [StudyRun(RunSpec("ce", "clean", seed, {}), name) for seed, name in ((0, RUN), (1, "lost"))]
    variants = Variants(records / "faces.parquet", records, 0)
    scheduler = Scheduler(variants, RayConfig(), records, Origin(NOW, "c0ffee-dirty"), frozen=True)
    found = scheduler.run("study", runs)
    assert found.done == runs[:1] and found.names(found.failed) == "ce, clean, seed 1"
    assert "2 runs, 1 of them have their records" in capsys.readouterr().out


def test_a_forced_study_deletes_only_its_own_records_and_checkpoints(tmp_path: Path, records: Path) -> None:
    """So that an interrupted one never resumes with records of earlier code."""
    (records / f"{RUN}-{NOW}.parquet").touch()
    ours = {f"faces-{RUN}-{NOW}", f"faces-{RUN}-{BEFORE}-{NOW}"}
    others = {f"faces-noise-{RUN}-{BEFORE}-{NOW}", "study-data"}
    for name in ours | others:
        (tmp_path / ".runs" / name).mkdir(parents=True)
    delete_records(tmp_path)
    assert not list(records.iterdir())
    assert {path.name for path in (tmp_path / ".runs").iterdir()} == others

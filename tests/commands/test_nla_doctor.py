"""`nla doctor`: what it finds, its remedies, its exit code, and that it changes nothing."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from mlflow_parts import ROOT, random_model
from packaging.requirements import Requirement

from nla.commands import doctor
from nla.commands.doctor import Finding, examine, main, report
from nla.config.base import SECTIONS
from nla.faces import dlib_hog
from nla.faces.detector_file import FILE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "DISK_FAULT", 0.0)
    return tmp_path


def found(project: Path, subject: str) -> Finding:
    """The first finding on a subject."""
    return next(finding for finding in examine(project) if finding.subject == subject)


def with_line(project: Path, old: str, new: str) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_whole_project_has_no_fault_and_stays_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(project.rglob("*"))
    main([])
    printed = capsys.readouterr().out
    assert printed.endswith(", 0 faults\n")
    assert f"{project}/mlflow.db: the first run creates it" in printed
    assert sorted(project.rglob("*")) == before


def test_the_trained_model_is_described(project: Path) -> None:
    random_model(project / "models")
    assert found(project, "model") == Finding("model", "ok", "trained on synthetic, 3 classes, epoch 0")
    (project / "models/model.json").write_text("{")
    assert found(project, "model").state == "fault"


def test_outside_a_project_only_the_machine_is_examined(tmp_path: Path) -> None:
    findings = list(examine(tmp_path))
    assert findings[-1].subject == "project" and "root" in findings[-1].remedy
    assert {finding.subject for finding in findings} >= {"Python", "packages", "processor", "memory", "disk"}


def test_a_fault_ends_with_exit_code_1_and_its_remedy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_line(project, "source: synthetic ", "source: rafdb ")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert re.search(r"^fault  data .*rafdb", printed, re.MULTILINE), printed
    assert printed.endswith(", 1 fault\n")


def test_a_wrong_key_of_params_is_named(project: Path) -> None:
    with_line(project, "  bins: 15", "  bin: 15")
    fault = found(project, "params.yaml")
    assert fault.state == "fault" and "evaluate.bin" in fault.text and "bins" in fault.text
    assert not any(finding.subject == "data" for finding in examine(project))


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_checked(project: Path, name: str) -> None:
    with_line(project, f"\n{name}:", f"\n{name}:\n  no_such_key: 1\n")
    fault = found(project, "params.yaml")
    assert fault.state == "fault" and f"{name}.no_such_key" in fault.text


def test_missing_weights_are_named(project: Path) -> None:
    with_line(project, "  weights: null  ", "  weights: faces.pth  ")
    fault = found(project, "weights")
    assert fault.state == "fault" and "faces.pth" in fault.text


def test_the_files_of_other_sources_are_listed(project: Path) -> None:
    (project / "data/raw/ferplus").mkdir(parents=True)
    (project / "data/raw/ferplus/fer2013.csv").touch()
    (project / "data/raw/rafdb").mkdir()
    texts = [finding.text for finding in examine(project) if finding.subject == "data"]
    assert texts == ["synthetic: drawn, it needs no files", "files of other sources in data/raw: ferplus"]


def test_a_store_of_another_program_is_a_fault(project: Path) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("CREATE TABLE notes (text)")
    database.close()
    fault = found(project, "MLflow")
    assert fault.state == "fault" and "another program" in fault.text


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_away_is_a_fault_without_its_password(
    project: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://anna:geheim-7@127.0.0.1:{port}/mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fault = found(project, "MLflow")
    assert fault.state == "fault" and "MLFLOW_TRACKING_URI" in fault.text
    assert "geheim-7" not in fault.text


def test_a_port_that_is_taken_is_noted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "somebody takes another one"})
        assert found(project, "ports") == Finding("ports", "note", f"{port} is taken", "Somebody takes another one.")


def test_packages_are_compared_with_their_bounds() -> None:
    assert doctor._problem(Requirement("numpy>=1")) == ""
    assert "but >=99 is needed" in doctor._problem(Requirement("numpy>=99"))
    assert doctor._problem(Requirement("no-such-package")) == "no-such-package is not installed"


def test_little_room_is_a_fault_less_little_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_NOTE", 1e9)
    assert found(project, "disk").state == "note"
    monkeypatch.setattr(doctor, "DISK_FAULT", 1e9)
    assert found(project, "disk").state == "fault"


def test_detectors_of_faces_that_are_missing_or_damaged_have_their_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLA_DETECTORS", str(project))
    findings = [finding for finding in examine(project) if finding.subject == "detectors"]
    assert [finding.state for finding in findings] == ["ok", "note"]
    assert findings[0].text.startswith("dlib, ") and findings[1].remedy == "Run `nla detector get`."
    (project / FILE).write_bytes(b"other")
    fault = [finding for finding in examine(project) if finding.subject == "detectors"][1]
    assert fault.state == "fault" and "Run `nla detector get`." in fault.text
    monkeypatch.setattr(dlib_hog, "is_installed", lambda: False)
    states = [finding.state for finding in examine(project) if finding.subject == "detectors"]
    assert states == ["fault", "note"]


def test_the_report_aligns_every_line() -> None:
    findings = [Finding("a", "ok", "fine"), Finding("longer", "fault", "one\ntwo", "Do this.")]
    assert list(report(findings)) == [
        "ok     a       fine",
        "fault  longer  one",
        "               two",
        "               Do this.",
        "1 ok, 0 notes, 1 fault",
    ]

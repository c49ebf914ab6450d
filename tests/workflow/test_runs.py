"""Folders of runs: one process at a time, atomic results, and what `dvc repro -f` deletes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nla.config.ray import RayConfig
from nla.workflow import runs
from nla.workflow.runs import RunFolder, delete_run, run_lock

ROOT = Path(__file__).parents[2]
HOLD_LOCK = """
import sys
from pathlib import Path
from nla.workflow.runs import RunFolder
with RunFolder(Path(sys.argv[1]), "f").lock(print):
    print("locked", flush=True)
    sys.stdin.read()
"""


def checkpoint(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    return folder


def test_one_process_holds_the_lock_until_it_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None and other.stdout is not None
    with other.stdin, other.stdout:
        assert other.stdout.readline() == "locked\n"
        reported: list[str] = []
        waits, entered = threading.Event(), threading.Event()

        def report(line: str) -> None:
            reported.append(line)
            waits.set()

        def work() -> None:
            with RunFolder(tmp_path, "f").lock(report):
                entered.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert waits.wait(10)
        assert "f is already running in another process: waiting for it to end" in reported[0]
        assert not entered.wait(0.3)
        other.kill()
        assert entered.wait(10)
        thread.join()
        other.wait()


def test_another_fingerprint_does_not_wait(tmp_path: Path) -> None:
    reported: list[str] = []
    with RunFolder(tmp_path, "one").lock(reported.append), RunFolder(tmp_path, "two").lock(reported.append):
        pass
    with RunFolder(tmp_path, "one").lock(reported.append):
        pass
    assert reported == []


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunFolder(tmp_path, "f").lock(print):
        raise KeyError
    with RunFolder(tmp_path, "f").lock(pytest.fail):
        pass


def test_the_result_replaces_the_checkpoints(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "f")
    last = checkpoint(run.path / "checkpoint_000003")
    checkpoint(run.path / "checkpoint_000002")
    (run.path / "lock").write_text("")
    run.set_mlflow_run_id("sqlite:///a", "123")
    assert not run.finished
    run.save_result(last)
    assert run.finished
    assert (run.result / "model.safetensors").read_text() == "weights"
    assert sorted(path.name for path in run.path.iterdir()) == ["lock", "mlflow.json", "result"]


def test_an_interrupted_copy_is_not_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path, "f")
    last = checkpoint(run.path / "checkpoint_000003")

    def breaks(source: Path, target: Path) -> None:
        target.mkdir()
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", breaks)
        with pytest.raises(OSError, match="disk full"):
            run.save_result(last)
    assert not run.finished and last.is_dir()
    run.save_result(last)
    assert run.finished


def test_the_mlflow_run_of_each_store_is_saved_without_credentials(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "f")
    run.path.mkdir(parents=True)
    assert run.mlflow_run_id("sqlite:///a") is None
    run.set_mlflow_run_id("sqlite:///a", "123")
    assert run.mlflow_run_id("sqlite:///a") == "123"
    assert run.mlflow_run_id("http://server") == "123"  # that store may get a copy
    run.set_mlflow_run_id("http://me:secret@server/?token=hidden", "456")
    assert run.mlflow_run_id("sqlite:///a") == "123"
    assert run.mlflow_run_id("http://me:changed@server/") == "456"
    saved = "".join(path.read_text() for path in run.path.iterdir())
    assert "secret" not in saved and "hidden" not in saved
    assert [path.name for path in run.path.iterdir()] == ["mlflow.json"]
    (run.path / "mlflow.json").write_text('{"sqlite')
    assert run.mlflow_run_id("sqlite:///a") is None


def test_an_interrupted_write_keeps_the_old_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path, "f")
    run.set_mlflow_run_id("sqlite:///a", "123")

    def breaks(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:5])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", breaks)
        with pytest.raises(OSError, match="disk full"):
            run.set_mlflow_run_id("http://server", "456")
    assert run.mlflow_run_id("sqlite:///a") == "123"


@pytest.mark.parametrize("content", ["[1]", '{"sqlite:///a": 1}', "null"])
def test_damaged_ids_are_ignored_and_told(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path, "f")
    run.path.mkdir(parents=True)
    (run.path / "mlflow.json").write_text(content)
    assert run.mlflow_run_id("sqlite:///a") is None
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{run.path / 'mlflow.json'}: " in line and line.endswith("MLflow gets another run.")
    run.set_mlflow_run_id("sqlite:///a", "123")
    assert run.mlflow_run_id("sqlite:///a") == "123"


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_forced_run_starts_without_result_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_forced: bool
) -> None:
    monkeypatch.setattr(runs, "forced", lambda: is_forced)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    kept = [checkpoint(tmp_path / ".runs/f/result"), checkpoint(tmp_path / "shared/f/checkpoint_000001")]
    other = checkpoint(tmp_path / ".runs/other/result")
    with run_lock(tmp_path, "f", RayConfig(storage_path="shared")) as (run, storage):
        assert (run.path, storage) == (tmp_path / ".runs/f", str(tmp_path / "shared"))
        assert [path.exists() for path in (*kept, other)] == [not is_forced, not is_forced, True]
        assert (run.path / "lock").exists()
    with run_lock(tmp_path, "f", RayConfig()) as (run, storage):
        assert storage == str(tmp_path / ".runs")


def test_relative_storage_is_relative_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/shared/run/checkpoint_1").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.chdir(tmp_path)
    delete_run("shared", "run")
    assert not list((tmp_path / "project/shared/run").iterdir())


def test_deleting_a_run_keeps_its_lock_and_other_runs(tmp_path: Path) -> None:
    for name in ("one/checkpoint_1", "two/checkpoint_1"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("lock", "state.json"):
        (tmp_path / "one" / name).write_text("")
    delete_run(str(tmp_path), "one")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "one",
        "one/lock",
        "two",
        "two/checkpoint_1",
    ]
    delete_run(f"file://{tmp_path}", "two")
    assert not list((tmp_path / "two").iterdir())
    delete_run(str(tmp_path), "never trained")

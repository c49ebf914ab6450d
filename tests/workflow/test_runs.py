"""The folder of a fingerprint: one training at a time, a result whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nla.workflow.runs import Run

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from nla.workflow.runs import Run
with Run(Path(sys.argv[1]), "f").lock(print):
    print("held", flush=True)
    sys.stdin.read()
"""


def checkpoint(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    return folder


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None
    with other.stdin, other.stdout:
        assert other.stdout.readline() == "held\n"
        heard: list[str] = []
        waits, entered = threading.Event(), threading.Event()

        def say(line: str) -> None:
            heard.append(line)
            waits.set()

        def work() -> None:
            with Run(tmp_path, "f").lock(say):
                entered.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert waits.wait(10)
        assert "another process trains f already: waiting" in heard[0]
        assert not entered.wait(0.3)
        other.kill()
        assert entered.wait(10)
        thread.join()
        other.wait()


def test_another_fingerprint_does_not_wait(tmp_path: Path) -> None:
    heard: list[str] = []
    with Run(tmp_path, "one").lock(heard.append), Run(tmp_path, "two").lock(heard.append):
        pass
    with Run(tmp_path, "one").lock(heard.append):
        pass
    assert heard == []


def test_the_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Run(tmp_path, "f").lock(print):
        raise KeyError
    with Run(tmp_path, "f").lock(pytest.fail):
        pass


def test_a_result_is_kept_and_what_led_to_it_is_not(tmp_path: Path) -> None:
    run = Run(tmp_path, "f")
    last = checkpoint(run.folder / "checkpoint_000003")
    checkpoint(run.folder / "checkpoint_000002")
    (run.folder / "lock").write_text("")
    run.set_mlflow_run_id("sqlite:///a", "123")
    assert not run.finished
    run.keep(last)
    assert run.finished
    assert (run.result / "model.safetensors").read_text() == "weights"
    assert sorted(path.name for path in run.folder.iterdir()) == ["lock", "mlflow.json", "result"]


def test_a_copy_that_broke_off_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, "f")
    last = checkpoint(run.folder / "checkpoint_000003")

    def breaks(source: Path, target: Path) -> None:
        target.mkdir()
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", breaks)
        with pytest.raises(OSError, match="disk full"):
            run.keep(last)
    assert not run.finished and last.is_dir()
    run.keep(last)
    assert run.finished


def test_the_mlflow_run_of_a_store_is_remembered(tmp_path: Path) -> None:
    run = Run(tmp_path, "f")
    run.folder.mkdir(parents=True)
    assert run.mlflow_run_id("sqlite:///a") is None
    run.set_mlflow_run_id("sqlite:///a", "123")
    assert run.mlflow_run_id("sqlite:///a") == "123"
    assert run.mlflow_run_id("http://server") == "123"  # that store may get its double
    run.set_mlflow_run_id("http://me:secret@server/?token=hidden", "456")
    assert run.mlflow_run_id("sqlite:///a") == "123"
    assert run.mlflow_run_id("http://me:changed@server/") == "456"
    kept = "".join(path.read_text() for path in run.folder.iterdir())
    assert "secret" not in kept and "hidden" not in kept
    assert [path.name for path in run.folder.iterdir()] == ["mlflow.json"]
    (run.folder / "mlflow.json").write_text('{"sqlite')
    assert run.mlflow_run_id("sqlite:///a") is None


def test_a_record_that_broke_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, "f")
    run.set_mlflow_run_id("sqlite:///a", "123")

    def breaks(path: Path, text: str, *_: object) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", breaks)
        with pytest.raises(OSError, match="disk full"):
            run.set_mlflow_run_id("http://server", "456")
    assert run.mlflow_run_id("sqlite:///a") == "123"

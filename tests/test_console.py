"""What a person sees of a stage, in a process of its own: messages without tracebacks, and exit codes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE

from nla.console import bar, say
from nla.errors import user_message
from nla.workflow.stage import log_file

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("hangup_ends")
Outcome = Callable[[str], tuple[int, str, str]]


def stage(body: str, folder: Path, **streams: int) -> subprocess.Popen[str]:
    """A stage with `body` as its main function, in `folder`."""
    code = f"""
import logging, os, sys, time
from nla.console import say
from nla.workflow.stage import run_stage
from nla.errors import DataError, Diverged
def main():
{textwrap.indent(textwrap.dedent(body), "    ")}
run_stage(main)
"""
    script = folder / "stage.py"
    streams = streams or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    script.write_text(code)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DVC", "MLFLOW"))} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, script], cwd=folder, env=env, text=True, **streams)


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    """(exit code, stdout, stderr) of a stage."""

    def run(body: str) -> tuple[int, str, str]:
        process = stage(body, tmp_path)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    return run


def place(folder: Path) -> str:
    """The line that says where the log is."""
    return f"full log: {folder.resolve()}/.logs/stage.log\n"


@pytest.mark.parametrize("kind", ["DataError", "Diverged"])
def test_an_error_of_the_user_is_a_message(outcome: Outcome, tmp_path: Path, kind: str) -> None:
    code, out, err = outcome(f"say('reading'); raise {kind}('faces.csv is missing: put it into data/raw')")
    said = "error: faces.csv is missing: put it into data/raw\n" + place(tmp_path)
    assert (code, out, err) == (1, "reading\n", said)
    assert f"{kind}: faces.csv is missing" in (tmp_path / ".logs/stage.log").read_text()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.mkdir('run.json'); open('run.json')", "run.json: Is a directory"),
        (
            "raise OSError(28, 'No space left on device')",
            "No space left on device. Free some space there, and run it again: what was complete is kept",
        ),
        ("raise PermissionError(13, 'Permission denied', 'models')", "models: Permission denied"),
        ("raise OSError('Parquet file is truncated')", "Parquet file is truncated"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_message(outcome: Outcome, tmp_path: Path, body: str, said: str) -> None:
    assert outcome(body) == (1, "", f"error: {said}\n{place(tmp_path)}")


def test_a_log_that_cannot_be_written_is_a_message(outcome: Outcome, tmp_path: Path) -> None:
    (tmp_path / ".logs").write_text("in the folder's place")
    code, out, err = outcome("say('not reached')")
    assert (code, out, err) == (1, "", f"error: {tmp_path.resolve()}/.logs: File exists\n")


def test_libraries_tell_the_log_all_and_the_console_what_counts(outcome: Outcome, tmp_path: Path) -> None:
    outcome("logging.getLogger('nla').warning('of the run before')")
    code, out, err = outcome("""
        for name in ("nla.tracking.tracker", "mlflow.client", "alembic.runtime", "ray.train.v2"):
            for level in ("debug", "info", "warning", "error"):
                getattr(logging.getLogger(name), level)(f"{name} {level}")
    """)
    kept = [line.split(": ", 1)[1] for line in (tmp_path / ".logs/stage.log").read_text().splitlines()]
    names = ("nla.tracking.tracker", "mlflow.client", "alembic.runtime", "ray.train.v2")
    assert kept == [f"{name} {level}" for name in names for level in ("debug", "info", "warning", "error")]
    assert (code, out) == (0, "")
    shown = [f"{name} {level}" for name in names[:3] for level in ("warning", "error")]
    assert err.splitlines() == [*shown, "ray.train.v2 error"]


def test_a_copy_has_a_log_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("project", "copy"):
        (tmp_path / name).mkdir()
    logs = (tmp_path / "project/.logs").resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/pipelines/train.py"])
    monkeypatch.setenv("DVC_EXP_NAME", "slower")
    monkeypatch.chdir(tmp_path / "project")
    assert log_file() == logs / "train.log", "`dvc exp run` in the workspace itself"
    monkeypatch.chdir(tmp_path / "copy")
    assert log_file() == logs / "slower/train.log"
    monkeypatch.delenv("DVC_EXP_NAME")
    assert log_file() == logs / "copy/train.log"


def test_an_error_of_ours_is_not_hidden(outcome: Outcome, tmp_path: Path) -> None:
    code, _, err = outcome("raise KeyError('bug')")
    assert code == 1
    assert "Traceback" in err and "KeyError: 'bug'" in err and place(tmp_path) in err


def test_a_stage_that_goes_well_is_quiet_and_hushed(outcome: Outcome) -> None:
    assert outcome("print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])") == (
        0,
        "true 0\n",
        "",
    )


def test_an_interrupt_says_how_to_go_on(outcome: Outcome) -> None:
    assert outcome("raise KeyboardInterrupt") == (130, "", "interrupted: `dvc repro` resumes\n")


ENDED = {
    signal.SIGINT: (130, "interrupted: `dvc repro` resumes\n"),
    signal.SIGTERM: (143, "ended by SIGTERM: `dvc repro` resumes\n"),
    signal.SIGHUP: (129, "ended by SIGHUP: `dvc repro` resumes\n"),
}


@pytest.mark.parametrize("number", ENDED)
def test_a_stage_that_is_ended_by_a_signal_puts_things_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """A second signal, of whatever kind, does not disturb that."""
    body = f"""
        import signal
        try:
            print("started", flush=True)
            time.sleep({PATIENCE})
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(os.getpid(), number)
            time.sleep(0.1)
            print("in order")
    """
    process = stage(body, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    code, said = ENDED[number]
    assert (process.returncode, out, err) == (code, "in order\n", said)


@pytest.mark.parametrize("number", ENDED)
def test_a_stage_that_still_imports_ends_with_a_line(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "pipelines").mkdir()
    shutil.copy(ROOT / "pipelines/__init__.py", tmp_path / "pipelines")
    (tmp_path / "pipelines/slow.py").write_text(f"import os\nos.kill(os.getpid(), {number})\n")
    command = [sys.executable, "-m", "pipelines.slow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (ENDED[number][0], "", ENDED[number][1])


def test_what_cannot_be_put_in_order_ends_too(outcome: Outcome) -> None:
    body = f"""
        import nla.signals as signals
        signals.GRACE_SECONDS = 0.2
        try:
            os.kill(os.getpid(), 15)
        finally:
            time.sleep({PATIENCE})
    """
    assert outcome(body) == (143, "", ENDED[signal.SIGTERM][1])


SWALLOWED = {
    "a garbage collector's callback": """
        import gc
        def end(phase, info):
            gc.callbacks.remove(end)
            os.kill(os.getpid(), 15)
        gc.callbacks.append(end)
        gc.collect()
    """,
    "__del__": """
        class Ending:
            def __del__(self):
                os.kill(os.getpid(), 15)
        Ending()
    """,
    "one after the other": """
        class Ending:
            def __init__(self, seconds):
                self.seconds = seconds
            def __del__(self):
                os.kill(os.getpid(), 15) if self.seconds == 0 else time.sleep(self.seconds)
        Ending(0), Ending(0.3), Ending(0.3)
    """,
    "a call from C": """
        import ctypes
        ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), 15))()
    """,
}


@pytest.mark.parametrize("place", SWALLOWED)
def test_a_signal_where_python_swallows_exceptions_ends_a_stage_in_order(outcome: Outcome, place: str) -> None:
    body = f"""
        try:
            {textwrap.indent(textwrap.dedent(SWALLOWED[place]), " " * 12).strip()}
            time.sleep({PATIENCE})
        finally:
            print("in order")
    """
    assert outcome(body) == (143, "in order\n", ENDED[signal.SIGTERM][1])


def test_other_exceptions_in_such_places_are_shown_as_ever(outcome: Outcome) -> None:
    code, out, err = outcome("""
        class Broken:
            def __del__(self):
                raise ValueError("broken")
        Broken()
        print("goes on")
    """)
    assert (code, out) == (0, "goes on\n")
    assert "ValueError: broken" in err and "__del__" in err


def test_a_signal_that_was_swallowed_at_the_end_of_a_stage_is_none_after_it(outcome: Outcome) -> None:
    body = """
        class Ending:
            def __del__(self):
                os.kill(os.getpid(), 15)
        Ending()
    """
    code, out, err = outcome(body)
    assert (code, out, err) in ((0, "", ""), (143, "", ENDED[signal.SIGTERM][1]))


def test_a_signal_that_is_ignored_from_the_start_stays_so(outcome: Outcome, tmp_path: Path) -> None:
    """As by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert outcome("os.kill(os.getpid(), 1); print('goes on')") == (0, "goes on\n", "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_does_not_hide_the_exit_code(tmp_path: Path) -> None:
    terminal, its_end = os.openpty()
    body = f"""
        try:
            print("started", flush=True)
            time.sleep({PATIENCE})
        finally:
            print("nobody reads it", flush=True)
    """
    process = stage(body, tmp_path, stdout=its_end, stderr=its_end)
    os.close(its_end)
    assert b"started" in os.read(terminal, 100)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 129


def test_lines_are_said_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    line = "[red]{}[/red] " + "a long line " * 30
    say(line)
    assert capsys.readouterr().out == line + "\n"


def test_a_bar_shows_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("ingest", "faces") as progress:
        for done in (1, 2, 3):
            progress(done, 3)
    out = capsys.readouterr().out
    assert "ingest" in out and "3/3" in out


def test_too_little_memory_is_one_line() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty((1 << 28, 1 << 28))
    assert re.fullmatch(r"not enough memory \(Unable to allocate 512\. PiB.*\)\. Lower .*", user_message(caught.value))
    assert user_message(MemoryError()).startswith("not enough memory (no details). ")

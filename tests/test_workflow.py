"""What a stage learns of its DVC, with real processes in DVC's place."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nla import workflow

ROOT = Path(__file__).parents[1]
DVC = """
import os, subprocess, sys
os.environ["DVC_STAGE"] = "train"
subprocess.run(["/bin/sh", "-c", os.environ["STAGE"] + "; exit $?"])  # not the last command: the shell stays between
"""
STAGE = """
import os, signal, sys, time
sys.path.insert(0, os.environ["ROOT"])
from nla import workflow
workflow.GRACE_SECONDS = 0.5
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "orphan" in sys.argv:
    del os.environ["DVC_STAGE"]
workflow.end_with_dvc()
print(os.getpid(), workflow.forced(), flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dvc repro", False),
        ("dvc repro -f", True),
        ("dvc repro -f train", True),
        ("dvc repro --force", True),
        ("dvc repro -sf train", True),
        ("dvc repro -fs train", True),
        ("dvc repro -s train", False),
        ("dvc repro --force-downstream", False),
        ("dvc repro train_f", False),
        ("/venv/bin/python /venv/bin/dvc exp run -f", True),
        ("python -m dvc exp run --force -S train.lr=1", True),
        ("dvc exp run -S data.source=ferplus", False),
        ("dvc exp run -Sdata.source=ferplus", False),
        ("dvc exp run -n half-f -C data/raw/ferplus --temp", False),
        ("dvc exp run -nfast -Cdata/raw/ferplus", False),
        ("dvc exp run -qf -Sdata.source=ferplus", True),
        ("dvc exp run --name -f", True),  # argparse refuses it; nothing to tell apart
    ],
)
def test_what_was_asked_for_on_the_command_line(line: str, expected: bool) -> None:
    assert workflow._is_forced(shlex.split(line)) is expected


@pytest.fixture
def dvc(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Starts nothing yet: see `start`."""
    started: list[subprocess.Popen[str]] = []
    yield started  # type: ignore[misc]
    for process in started:
        for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def start(
    started: list[subprocess.Popen[str]], folder: Path, name: str, *options: str, stage: str = ""
) -> tuple[psutil.Process, str]:
    """A process called `name` that runs a stage through a shell; the stage, and whether it thinks that it is forced."""
    (folder / name).write_text(DVC)
    (folder / "stage.py").write_text(STAGE)
    environment = os.environ | {"STAGE": f"{sys.executable} {folder / 'stage.py'} {stage}", "ROOT": str(ROOT)}
    environment.pop("DVC_STAGE", None)
    command = [sys.executable, str(folder / name), "repro", *options]
    started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    assert started[-1].stdout is not None
    pid, forced = started[-1].stdout.readline().split()
    return psutil.Process(int(pid)), forced


def ends(process: psutil.Process, seconds: float) -> bool:
    """Whether it is gone, or dead and waited for by nobody, within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stage", ["", "deaf"])
def test_a_stage_ends_with_its_dvc(tmp_path: Path, dvc: list[subprocess.Popen[str]], stage: str) -> None:
    process, _ = start(dvc, tmp_path, "dvc", stage=stage)
    assert not ends(process, 1.0)
    dvc[0].kill()
    assert ends(process, 10)


@pytest.mark.parametrize(("name", "stage"), [("dvc", "orphan"), ("make", "")])
def test_outside_of_dvc_nothing_ends(tmp_path: Path, dvc: list[subprocess.Popen[str]], name: str, stage: str) -> None:
    process, forced = start(dvc, tmp_path, name, "-f", stage=stage)
    assert forced == "False"
    dvc[0].kill()
    try:
        assert not ends(process, 2.0)
    finally:
        process.kill()


def test_a_stage_knows_that_it_is_forced(tmp_path: Path, dvc: list[subprocess.Popen[str]]) -> None:
    assert [start(dvc, tmp_path, "dvc", *options)[1] for options in (["-sf"], ["train"])] == ["True", "False"]

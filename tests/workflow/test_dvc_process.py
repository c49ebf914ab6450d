"""What a stage learns of its DVC, with real processes in DVC's place."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nla.workflow import dvc_process as dvc

ROOT = Path(__file__).parents[2]
DVC = """
import os, subprocess
os.environ["DVC_STAGE"] = "train"
subprocess.run(["/bin/sh", "-c", os.environ["STAGE"] + "; exit $?"])  # not its last command: the shell stays between
"""
STAGE = """
import os, signal, sys, time
from nla.workflow import dvc_process as dvc
dvc.GRACE_SECONDS = 0.5
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "by hand" in sys.argv:
    del os.environ["DVC_STAGE"]
dvc.end_with_dvc()
print(os.getpid(), dvc.forced(), flush=True)
time.sleep(120)
"""

Start = Callable[..., tuple[subprocess.Popen[str], psutil.Process, bool]]


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
    ],
)
def test_what_was_asked_for_on_the_command_line(line: str, expected: bool) -> None:
    assert dvc._is_forced(shlex.split(line)) is expected


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(name, *options, stage=""): a process called `name`, the stage that it runs, whether that feels forced."""
    parents: list[subprocess.Popen[str]] = []
    stages: list[psutil.Process] = []

    def run(name: str, *options: str, stage: str = "") -> tuple[subprocess.Popen[str], psutil.Process, bool]:
        (tmp_path / name).write_text(DVC)
        (tmp_path / "stage.py").write_text(STAGE)
        command = shlex.join([sys.executable, str(tmp_path / "stage.py"), stage])
        environment = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"} | {"STAGE": command}
        environment["PYTHONPATH"] = str(ROOT)
        parent = subprocess.Popen(
            [sys.executable, str(tmp_path / name), "repro", *options],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        parents.append(parent)
        assert parent.stdout is not None
        pid, forced = parent.stdout.readline().split()
        stages.append(psutil.Process(int(pid)))
        return parent, stages[-1], forced == "True"

    yield run
    for process in (*parents, *stages):
        if process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running():
            process.kill()
    for parent in parents:
        parent.communicate()


def ends(process: psutil.Process, seconds: float) -> bool:
    """Whether it is gone, or dead and waited for by nobody, within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stage", ["", "deaf"])
def test_a_stage_ends_with_its_dvc(start: Start, stage: str) -> None:
    dvc, process, _ = start("dvc", stage=stage)
    assert not ends(process, 1.0)
    dvc.kill()
    assert ends(process, 60)


@pytest.mark.parametrize(("parent", "stage"), [("dvc", "by hand"), ("make", "")])
def test_outside_of_dvc_nothing_ends(start: Start, parent: str, stage: str) -> None:
    other, process, forced = start(parent, "-f", stage=stage)
    assert not forced
    other.kill()
    assert not ends(process, 2.0)


def test_a_stage_knows_that_it_is_forced(start: Start) -> None:
    assert [start("dvc", *options)[2] for options in (["-sf"], ["train"])] == [True, False]

"""The command line itself, in a process of its own: help, unknown commands, messages and exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from mlflow_parts import ROOT, clean_env, random_model, run_python
from patience import PATIENCE

from nla.commands.main import COMMANDS, main
from nla.data.images import encode_png

FACE = encode_png(np.zeros((4, 4), np.uint8))
LIGHT = """
import sys
from nla.commands.main import main
main({argv})
print({{"torch", "ray", "mlflow", "pydantic", "numpy", "nla.commands.predict"}} & set(sys.modules))
"""


def nla(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nla.commands.main", *argv]
    return subprocess.run(command, cwd=folder, env=clean_env(), capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_lists_all_commands_and_loads_nothing_heavy(tmp_path: Path, argv: list[str]) -> None:
    done = run_python(LIGHT.format(argv=argv), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("set()\n"), done.stdout
    for name, what in COMMANDS.items():
        assert name in done.stdout and what in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"nla.commands.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nla {name} ")


def test_the_package_installs_it() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["nla"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


def test_an_unknown_command_names_the_nearest(tmp_path: Path) -> None:
    done = nla(tmp_path, "predct", "faces")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: unknown command 'predct': did you mean 'predict'?\n"


def test_an_error_of_the_user_is_a_message(tmp_path: Path) -> None:
    done = nla(tmp_path, "predict", "faces")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: faces: no such file or folder") and "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    random_model(tmp_path)
    (tmp_path / "face.png").write_bytes(FACE)
    done = nla(tmp_path, "predict", "face.png", "--model", ".", "--out", "face.png/out.csv")
    assert done.returncode == 1
    assert done.stderr == "error: face.png: File exists\n"


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    """It waits for room in a pipe that nobody reads."""
    random_model(tmp_path / "model")
    (tmp_path / "faces").mkdir()
    (tmp_path / "face.png").write_bytes(FACE)
    for i in range(3000):  # rows for more than the 64 KiB of a pipe
        os.link(tmp_path / "face.png", tmp_path / f"faces/{i}.png")
    command = [sys.executable, "-m", "nla.commands.main", "predict", "faces", "--model", "model", "--out", "-"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, env=clean_env(), text=True, **streams)
    assert process.stdout is not None and process.stdout.readline().startswith("path,face")
    process.send_signal(signal.SIGINT)
    rows, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "")
    assert rows.count("\n") < 3000


def test_a_reader_that_goes_early_is_no_error(tmp_path: Path) -> None:
    random_model(tmp_path)
    (tmp_path / "face.png").write_bytes(FACE)
    command = [sys.executable, "-m", "nla.commands.main", "predict", "face.png", "--model", ".", "--out", "-"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=tmp_path, env=clean_env(), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")

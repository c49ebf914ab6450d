"""Names of files and classes that a terminal would obey, or that are not UTF-8, are escaped wherever they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow_parts import CLASSES, random_model, run_python

from nla.commands.main import COMMANDS
from nla.commands.main import main as nla_command
from nla.config.data import DataConfig
from nla.console import say
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.problems import Problem
from nla.data.sources import open_source
from nla.errors import DataError
from nla.text import is_utf8, printable, shown

EVIL = "a\x1b[31m\x07\u202e\x85.png"
EVIL_SHOWN = r"a\x1b[31m\x07\u202e\x85.png"
LATIN = "\udce4.png"
"""The name b"\xe4.png", which is not UTF-8."""


@given(st.text())
def test_what_is_shown_is_one_printable_line_in_utf8(text: str) -> None:
    line = shown(text)
    assert len(line.encode().splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert line == text or any(not c.isprintable() for c in text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (EVIL, EVIL_SHOWN),
        (LATIN, r"\xe4.png"),
        ("two\nlines\t", r"two\nlines\t"),
        ("ä 中 👩\u200d🚀.png", "ä 中 👩\u200d🚀.png"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert shown(name) == expected
    assert is_utf8(name) == ("\udce4" not in name)
    assert str(Problem(name, 3, "bad")) == f"{expected}, line 3: bad"


def test_line_ends_of_a_message_stay() -> None:
    assert printable("a\nb\t\x1b") == "a\nb\t\\x1b"


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full((16, 16), value, np.uint8)))


def test_a_name_that_is_not_utf8_is_a_problem_of_its_image(tmp_path: Path) -> None:
    for i, path in enumerate([f"train/a/{LATIN}", "train/a/1.png", "train/b/2.png", "test/a/3.png", f"test/b/{EVIL}"]):
        image(tmp_path / path, i)
    source = open_source(DataConfig(source="folder"), tmp_path)
    report = ingest(source, tmp_path / "faces.parquet", on_bad="quarantine")
    assert report["problems"] == [r"train/a/\xe4.png: the name is not UTF-8. Rename it"]
    assert report["rows"] == 4
    listing = tmp_path / "problems.txt"
    with pytest.raises(DataError, match=r"train/a/\\xe4\.png: the name is not UTF-8"):
        ingest(source, tmp_path / "faces.parquet", on_bad="error", listing=listing)


@pytest.mark.parametrize("name", ["\udce4", "a\x1b[2J", "a\nb"])
def test_names_of_classes_are_plain(tmp_path: Path, name: str) -> None:
    for path in (f"train/{name}/1.png", "train/b/2.png", "test/b/3.png"):
        image(tmp_path / path)
    with pytest.raises(DataError, match="names of classes must be UTF-8 without control characters") as raised:
        ingest(open_source(DataConfig(source="folder"), tmp_path), tmp_path / "faces.parquet", on_bad="quarantine")
    assert shown(name) in str(raised.value)


def test_commands_measure_and_predict_such_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "models")
    for name in (LATIN, EVIL):
        image(Path("faces", CLASSES[0], name))
    Path("faces", CLASSES[0], f"cut{LATIN}").write_bytes(b"")
    Path("faces", f"odd{EVIL}{LATIN}").mkdir()
    image(Path("faces", f"odd{EVIL}{LATIN}/1.png"))
    nla_command(["measure", "faces"])
    rows = pd.read_parquet("reports/measured/predictions.parquet")
    assert sorted(rows.path) == [rf"{CLASSES[0]}/\xe4.png", f"{CLASSES[0]}/{EVIL_SHOWN}"]
    report = json.loads(Path("reports/measured/metrics.json").read_text())
    assert report["left_out"]["unreadable"] == [rf"{CLASSES[0]}/cut\xe4.png: the file is empty"]
    nla_command(["predict", "faces"])
    assert len(pd.read_csv("predictions.csv")) == 3
    said = "".join(capfd.readouterr())
    assert EVIL_SHOWN in said and r"cut\xe4.png: the file is empty" in said
    assert "\x07" not in said and "\x1b[31m" not in said and "\u202e" not in said


def test_errors_and_logs_of_stages_escape_them(tmp_path: Path) -> None:
    code = f"""
from nla.workflow.stage import run_stage
from nla.errors import DataError
from nla.text import is_utf8, printable, shown
import logging
def main():
    logging.getLogger("nla").warning("seen: %s", {EVIL!r})
    raise DataError({EVIL + LATIN!r} + ": is bad\\n  and so on")
run_stage(main)
"""
    done = run_python(code, tmp_path)
    lines = done.stderr.splitlines()
    assert rf"error: {EVIL_SHOWN}\xe4.png: is bad" in lines and "  and so on" in lines
    assert f"seen: {EVIL_SHOWN}" in lines and "\x1b" not in done.stderr
    logs = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert f"seen: {EVIL_SHOWN}" in logs and "\x1b" not in logs


def test_lines_of_the_console_escape_them(capfd: pytest.CaptureFixture[str]) -> None:
    say(f"{EVIL} {LATIN} [bold]")
    assert capfd.readouterr().out == rf"{EVIL_SHOWN} \xe4.png [bold]" + "\n"


def test_errors_of_the_command_line_escape_them(capfd: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        words = {"review": ["import", "b"], "detector": ["list"]}.get(command, ["confusion", "b"])
        with pytest.raises(SystemExit):
            nla_command([command, *words, f"--{EVIL}"])
        said = capfd.readouterr().err
        assert EVIL_SHOWN in said and "\x1b" not in said

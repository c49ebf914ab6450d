"""What a person sees of a stage, in a process of its own: messages without tracebacks, and exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nla.console import bar, say

ROOT = Path(__file__).parents[1]


def stage(body: str) -> subprocess.Popen[str]:
    """A stage with `body` as its main function."""
    code = f"""
import os, sys, time
from nla.console import run_stage, say
from nla.errors import DataError, Diverged
def main():
{textwrap.indent(textwrap.dedent(body), "    ")}
run_stage(main)
"""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def outcome(body: str) -> tuple[int, str, str]:
    process = stage(body)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("kind", ["DataError", "Diverged"])
def test_an_error_of_the_user_is_a_message(kind: str) -> None:
    code, out, err = outcome(f"say('reading'); raise {kind}('faces.csv is missing: put it into data/raw')")
    assert (code, out, err) == (1, "reading\n", "error: faces.csv is missing: put it into data/raw\n")


def test_an_error_of_ours_is_not_hidden() -> None:
    code, _, err = outcome("raise KeyError('bug')")
    assert code == 1
    assert "Traceback" in err and "KeyError: 'bug'" in err


def test_a_stage_that_goes_well_is_quiet_and_hushed() -> None:
    assert outcome("print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])") == (
        0,
        "true 0\n",
        "",
    )


def test_an_interrupt_says_how_to_go_on() -> None:
    assert outcome("raise KeyboardInterrupt") == (130, "", "interrupted: `dvc repro` goes on from here\n")


def test_a_stage_that_is_terminated_puts_things_in_order() -> None:
    process = stage("""
        try:
            print("started", flush=True)
            time.sleep(60)
        finally:
            print("in order")
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (143, "in order\n", "")


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

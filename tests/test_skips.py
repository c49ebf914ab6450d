"""A skip that the list does not permit fails the run, also under pytest-xdist, and every line of the list is in use."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from skips import PERMITTED, VARIABLE, Skip, not_permitted, read_permitted

TESTS = Path(__file__).parent
BODY = """
import pytest

def test_passes(): ...

@pytest.mark.skip(reason="needs {}")
def test_skipped(): ...
"""


def run_pytest(folder: Path, needs: str, *options: str, active: str = "1") -> subprocess.CompletedProcess[str]:
    """pytest with the plugin, on a file with one skipped test, in a folder that has its own list."""
    (folder / "skips.py").write_text((TESTS / "skips.py").read_text())
    (folder / PERMITTED.name).write_text("# a comment\n\ntest_it.py::test_skipped | needs a GPU\n")
    (folder / "test_it.py").write_text(BODY.format(needs))
    environment = os.environ | {VARIABLE: active, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("options", [(), ("--numprocesses", "1")], ids=["one process", "xdist"])
def test_a_skip_that_is_not_listed_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, "a browser", *options)
    assert done.returncode == 1, done.stdout
    assert f"1 skips that {PERMITTED.name} does not permit" in done.stdout
    assert "test_it.py::test_skipped: needs a browser" in done.stdout


@pytest.mark.parametrize(
    ("needs", "active"), [("a GPU of some kind", "1"), ("a browser", "")], ids=["listed", "not asked for"]
)
def test_other_skips_pass(tmp_path: Path, needs: str, active: str) -> None:
    done = run_pytest(tmp_path, needs, active=active)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout and "does not permit" not in done.stdout


def test_both_node_id_and_reason_must_match() -> None:
    permitted = [Skip("tests/a.py::*", "needs a GPU")]
    allowed, elsewhere, otherwise = (
        Skip("tests/a.py::test_x[1]", "needs a GPU that works"),
        Skip("tests/b.py::test_x", "needs a GPU"),
        Skip("tests/a.py::test_x", "no"),
    )
    assert [*not_permitted([allowed, elsewhere, otherwise], permitted)] == [elsewhere, otherwise]


@pytest.mark.parametrize("line", read_permitted(), ids=lambda line: line.node_id)
def test_every_line_of_the_list_is_of_a_test(line: Skip) -> None:
    """The pattern matches a test that exists, and the reason is one that a test file gives."""
    files = {path: path.read_text() for path in sorted(TESTS.rglob("*.py")) if path != Path(__file__)}
    names = [
        f"{path.relative_to(TESTS.parent).as_posix()}::{node.name}"
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert any(fnmatchcase(name, line.node_id) for name in names)
    module = line.reason.removeprefix("could not import ").strip("'")
    assert any(line.reason in text or f'importorskip("{module}")' in text for text in files.values())

"""Follows a page that shows how to extend the project, word for word, in a copy of the tracked files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from mlflow_parts import ROOT, clean_env
from patience import PATIENCE

BLOCK = re.compile(r"`([\w/.]+\.\w+)`[^`]*?\n\n```(python|diff)\n(.*?)```((?:\s*```diff\n.*?```)*)", re.DOTALL)
"""A path at the end of a paragraph, then a new file, or changes to that file."""
NEXT = re.compile(r"```diff\n(.*?)```", re.DOTALL)


def copy_of_project(target: Path) -> Path:
    """The tracked files, and new ones that git does not ignore, as they are in the working tree."""
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.splitlines():
        wanted = name.startswith(("data/", "nla/", "pipelines/", "tests/")) or "/" not in name
        if wanted and (ROOT / name).is_file():  # a removed file is listed until the next commit
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def follow(page: str, heading: str, project: Path) -> list[str]:
    """Makes the files and changes below `heading` of a page; returns the paths in order."""
    text = (ROOT / page).read_text()
    section = re.split(r"\n## ", text.split(f"\n## {heading}\n", 1)[1])[0]
    done = []
    for name, kind, first, others in BLOCK.findall(section):
        done.append(name)
        if kind == "python":
            assert not (project / name).exists(), f"{name} is new"
            (project / name).write_text(first)
        else:
            for change in (first, *NEXT.findall(others)):
                _apply(project / name, change)
    return done


def _apply(path: Path, change: str) -> None:
    """Replaces the lines ` ` and `-` of a change, which must be in the file once, by the lines ` ` and `+`."""
    lines = change.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has these lines {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new))


def run(project: Path, *words: str) -> str:
    """What `python WORDS` prints in the copy, which it imports instead of this project."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=clean_env() | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

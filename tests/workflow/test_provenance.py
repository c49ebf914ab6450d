"""What a stage imports, and what its fingerprint depends on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow_parts import run_python

from nla.workflow.provenance import fingerprint, git_commit, imported_sources

ROOT = Path(__file__).parents[2]

TREE = {
    "pipelines/__init__.py": "",
    "pipelines/stage.py": "import numpy as np\nfrom nla.first import f\n",
    "pipelines/other.py": "import nla.unused\n",
    "nla/__init__.py": "",
    "nla/first.py": """
from __future__ import annotations
import typing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nla.types_only import T
else:
    from nla.at_run_time import T
if typing.TYPE_CHECKING:
    import nla.types_only
if True:
    import nla.conditional
def f():
    from nla.package import member
    class C:
        import nla.deep.er.module as m
""",
    "nla/types_only.py": "import nla.unused\n",
    "nla/at_run_time.py": "T = int\n",
    "nla/conditional.py": "import nla.first\n",  # a circle
    "nla/package/__init__.py": "from nla.constants import NAME\n",
    "nla/package/member.py": "",
    "nla/package/other.py": "",
    "nla/constants.py": "NAME = 1\n",
    "nla/deep/__init__.py": "",
    "nla/deep/er/__init__.py": "",
    "nla/deep/er/module.py": "",
    "nla/unused.py": "",
    "numpy.py": "",  # not of this project, though it lies beside
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_everything_that_is_imported_directly_or_not(tree: Path) -> None:
    left_out = {"pipelines/other.py", "nla/types_only.py", "nla/package/other.py", "nla/unused.py", "numpy.py"}
    # Nothing imports the package `pipelines` by name: the script is run, not imported.
    expected = sorted(Path(name) for name in TREE if name not in left_out | {"pipelines/__init__.py"})
    assert imported_sources(Path("pipelines/stage.py"), tree) == expected


@pytest.mark.parametrize("stage", ["ingest", pytest.param("train", marks=pytest.mark.slow)])
def test_python_loads_nothing_that_was_not_found(tmp_path: Path, stage: str) -> None:
    code = f"""
import sys, pipelines.{stage}
for module in list(sys.modules.values()):
    if module.__name__.split(".")[0] in ("nla", "pipelines"):
        print("loaded", module.__file__)
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {Path(line.split()[1]).relative_to(ROOT) for line in done.stdout.splitlines() if line.startswith("loaded")}
    found = set(imported_sources(Path(f"pipelines/{stage}.py"), ROOT))
    assert len(loaded) > 10
    assert loaded - found <= {Path("pipelines/__init__.py")}


def test_a_fingerprint_depends_on_params_and_code_alone(tree: Path) -> None:
    files = imported_sources(Path("pipelines/stage.py"), tree)
    params = {"train": {"lr": 0.1, "epochs": 3}, "data": "abc"}
    first = fingerprint(params, files, tree)
    assert len(first) == 16 and set(first) <= set("0123456789abcdef")

    reordered = {"data": "abc", "train": {"epochs": 3, "lr": 0.1}}
    (tree / "nla/unused.py").write_text("changed = True\n")
    os.utime(tree / "nla/first.py", (0, 0))
    copy = shutil.copytree(tree, tree.parent / "elsewhere")
    assert fingerprint(reordered, reversed(files), copy) == first

    assert fingerprint({**params, "data": "abd"}, files, tree) != first
    assert fingerprint({**params, "train": {"lr": 0.1, "epochs": 4}}, files, tree) != first
    assert fingerprint(params, files[1:], tree) != first
    moved = [Path("nla/deep/module.py") if file == Path("nla/deep/er/module.py") else file for file in files]
    shutil.copy(tree / "nla/deep/er/module.py", tree / "nla/deep/module.py")
    assert fingerprint(params, moved, tree) != first
    (tree / "nla/constants.py").write_text("NAME = 2\n")
    assert fingerprint(params, files, tree) != first


def test_comments_docstrings_and_layout_change_no_fingerprint(tmp_path: Path) -> None:
    def of(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        return fingerprint({}, [Path("a.py")], tmp_path)

    plain = of("X = 1\ndef f(x):\n    return x, 'text'\nclass C:\n    y: int = 2\n")
    told = '"""What it is."""\nX = 1\n"""A number."""\ndef f(x):\n    """More."""\n'
    told += '    return (x,\n        "text")  # why\n'
    assert of(told + 'class C:\n    """It."""\n\n    y: int = 2\n    """A field."""\n') == plain
    assert of("X = 1\ndef f(x):\n    return x, 'other'\nclass C:\n    y: int = 2\n") != plain
    assert of("X = 1\ndef f(x):\n    return x, 'text'\nclass C:\n    y: int = 3\n") != plain


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_commit(tmp_path) is None  # nothing committed yet
    (tmp_path / "a.txt").write_text("1")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-am", "release", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("1")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a.txt").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(ROOT) is None

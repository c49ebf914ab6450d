"""Following docs/methods.md word for word gives a new loss, a new method, and green tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE, REGISTRY = Path("docs/methods.md"), Path("nla/methods/registry.py")
COPIED = (
    "README.md",
    "CONTRIBUTING.md",
    "nla",
    "pipelines",
    "tests",
    "docs",
    "dvc.yaml",
    "params.yaml",
    "pyproject.toml",
)
CHECK = """
import torch
from method_parts import context, minibatch, small_network
import nla
from nla.config.loss import LossConfig
from nla.methods import METHODS, build_method, check_method, method_options

for name, option in (("poly", "eps"), ("temporal_ensembling", "alpha")):
    loss = LossConfig(name=name, options={option: 0.5})
    check_method(loss)
    assert method_options(loss)[option] == 0.5
    outcome = build_method(loss, context())(small_network(), minibatch(range(4), progress=0.5))
    assert outcome.loss.shape == () and outcome.loss.isfinite()
print(nla.__file__)
"""


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def copy_of_the_project(folder: Path) -> Path:
    """The files that git knows, with their present content."""
    listed = subprocess.run(["git", "ls-files", *COPIED], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def add_files(project: Path, text: str) -> list[str]:
    """Writes each Python block whose path is the last one named before it; returns the paths."""
    paths = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    new = [(path, code) for path, code in paths if path != str(REGISTRY)]
    for path, code in new:
        assert not (project / path).exists(), f"{path} is in the project: take another example"
        (project / path).write_text(code)
    return [path for path, _ in new]


def add_entries(project: Path, text: str) -> None:
    """Adds the imports and entries of the page to the registry, imports in their order."""
    registry = (project / REGISTRY).read_text()
    for block in (block for block in blocks("python", text) if "METHODS: dict[str, Entry] = {" in block):
        (line,) = [line for line in block.splitlines() if line.startswith("from ")]
        (entry,) = [line for line in block.splitlines() if line.startswith('    "')]
        old = re.findall(r"^from nla\..*\n", registry, re.MULTILINE)
        registry = registry.replace("".join(old), "".join(sorted([*old, f"{line}\n"])), 1)
        registry = registry.replace("METHODS: dict[str, Entry] = {\n", f"METHODS: dict[str, Entry] = {{\n{entry}\n", 1)
    (project / REGISTRY).write_text(registry)


def add_rows(project: Path, text: str) -> None:
    """Adds the rows of the page to its tables."""
    rows = [block.strip() for block in blocks("markdown", text)]
    page = (project / PAGE).read_text()
    for row, last in zip(rows, ("elr", "eac"), strict=True):  # the last rows of the first and the second table
        page = re.sub(rf"^(\| `{last}` \|.*\n)", lambda match, row=row: f"{match[1]}{row}\n", page, flags=re.MULTILINE)
    (project / PAGE).write_text(page)


def python(project: Path, *arguments: str) -> str:
    """Runs Python in the copy, which comes before the installed project."""
    path = os.pathsep.join([str(project), str(project / "tests/methods")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.thorough
def test_following_the_page_leads_to_green_tests(tmp_path: Path) -> None:
    project, text = copy_of_the_project(tmp_path), (ROOT / PAGE).read_text()
    text = text[text.index("## Adding a loss") :]
    added = add_files(project, text)
    assert added == ["nla/losses/poly.py", "tests/losses/test_poly.py", "nla/methods/temporal_ensembling.py"]
    add_entries(project, text)
    add_rows(project, text)
    for command in blocks("sh", text):
        assert command.startswith("python ")
        python(project, *command.split()[1:])
    python(project, "-m", "nla.workflow.deps", "--check")
    python(project, "-m", "ruff", "check", *added, str(REGISTRY))
    assert "- nla/losses/poly.py" in (project / "dvc.yaml").read_text()
    assert python(project, "-c", CHECK).strip() == str(project / "nla/__init__.py")
    tests = [
        "tests/methods/test_methods.py",
        "tests/losses/test_poly.py",
        "tests/losses/test_baselines.py",
        "tests/test_readme.py::test_methods_of_the_page",
        "tests/tuning/test_space.py::test_every_method_can_be_searched",
        "tests/test_exports.py::test_losses_import_nothing_but_torch",
        "tests/pipelines/test_dag.py::test_the_fingerprint_of_training_covers_every_loss_and_method",
    ]
    chosen = "poly or temporal_ensembling or not [ or page or fingerprint"
    python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *tests)

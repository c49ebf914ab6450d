"""Projects that many tests look at: made once for all processes of a test session, and changed by none of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow_parts import migrated
from tiny_project import SECRETS, Finished, Project


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of the session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def prepared(shared: Path) -> Project:
    """All is ready for training, and nothing is trained."""

    def make(root: Path) -> str:
        printed = Project.make(root).dvc("repro", "audit", "tune")
        (root / "mlflow.db").write_bytes(migrated())  # once for all copies
        return printed

    return Project(made_once(shared / "prepared", make)[0])


@pytest.fixture(scope="session")
def finished(prepared: Project, shared: Path) -> Finished:
    """The whole pipeline has run once."""

    def make(root: Path) -> str:
        project = prepared.copy(root)
        (root / "mlflow.db").unlink()  # here it is made on the way, as a user has it
        project.git("remote", "add", "origin", f"https://me:{SECRETS['GITHUB_TOKEN']}@example.org/nla.git")
        printed = project.dvc("repro", MLFLOW_TRACKING_USERNAME="me", **SECRETS)
        project.commit("finished")
        return printed

    root, printed = made_once(shared / "finished", make)
    return Finished(Project(root), printed)


def made_once(folder: Path, make: Callable[[Path], str]) -> tuple[Path, str]:
    """The project in `folder` and what was printed when `make` made it; other processes wait for the first."""
    root, printed = folder / "project", folder / "printed.txt"
    with FileLock(f"{folder}.lock"):
        if not printed.exists():
            text = make(root)
            printed.write_text(text)
    return root, printed.read_text()

"""Projects that many tests look at: made once, and changed by none of them."""

from __future__ import annotations

import pytest
from tiny_project import Finished, Project


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All is ready for training, and nothing is trained."""
    project = Project.make(tmp_path_factory.mktemp("prepared") / "project")
    project.dvc("repro", "tune")
    return project


@pytest.fixture(scope="session")
def finished(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole pipeline has run once."""
    project = prepared.copy(tmp_path_factory.mktemp("finished") / "project")
    printed = project.dvc("repro")
    project.commit("finished")
    return Finished(project, printed)

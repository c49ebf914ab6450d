"""docs/licences.md names every package that is installed with NLA, with the licence that it states."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NAMES = (
    "AGPL-3.0 GPL-2.0-or-later LGPL-2.1 MPL-2.0 EPL-2.0 GPLv3",
    "MIT MIT-CMU BSD-3-Clause Apache-2.0 PSF-2.0 ZPL-2.1",
)


@pytest.fixture
def build_licences(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("build_licences")


def test_the_page_is_current(build_licences: ModuleType) -> None:
    assert (DOCS / "licences.md").read_text() == build_licences.page(), "run `make docs`"


def test_all_of_what_is_required_is_there_and_states_a_licence(build_licences: ModuleType) -> None:
    versions = build_licences.locked()
    required = set(build_licences.closure(build_licences.runtime_requirements()))
    assert required >= {"torch", "ray", "mlflow", "dvc", "numpy", "albumentations", "tensorboardx", "psutil"}
    assert not required & {"pytest", "mypy", "ruff", "moto", "onnx"} and required <= versions.keys()
    rows = [line.split(" | ") for line in (DOCS / "licences.md").read_text().splitlines() if line.count(" | ") == 2]
    assert {name.removeprefix("| ") for name, *_ in rows[1:]} == required
    assert all(licence.strip(" |") not in ("", "not stated", "UNKNOWN") for _, _, licence in rows)


def test_copyleft_is_recognised(build_licences: ModuleType) -> None:
    copyleft, others = (names.split() for names in NAMES)
    assert all(map(build_licences.COPYLEFT.search, copyleft)) and not any(map(build_licences.COPYLEFT.search, others))

"""What pip installs: the package `nla` alone, complete, from the source distribution."""

from __future__ import annotations

import csv
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from shutil import copy2, copytree, ignore_patterns

import pytest
from mlflow_parts import clean_env, random_model
from photo_parts import drawn_face, write_photo

from nla.models.default_model import SHIPPED, has_model

ROOT = Path(__file__).parents[1]
FOLDERS = ("nla", "examples", "pipelines", "tests")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(kind: str, project: Path, folder: Path) -> Path:
    """Builds a `wheel` or an `sdist` as pip does, without the network."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(folder)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    root = tmp_path_factory.mktemp("packaging")
    for folder in FOLDERS:
        copytree(ROOT / folder, root / "project" / folder, ignore=ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            copy2(file, root / "project")
    if not has_model(SHIPPED):  # as in a checkout in which `make pretrained` has not run yet
        random_model(root / "project/nla/pretrained")
        (root / "project/nla/pretrained/README.md").write_text("# a model\n")
    with tarfile.open(build("sdist", root / "project", root)) as archive:
        archive.extractall(root / "sdist", filter="data")
    (unpacked,) = (root / "sdist").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel_file(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_of_the_source_distribution_holds_nla_alone(wheel_file: Path) -> None:
    with zipfile.ZipFile(wheel_file) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"nla"}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nla").rglob("*.py")}
    static = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nla").glob("*/static/*")}
    model = {f"nla/pretrained/{name}" for name in ("README.md", "model.json", "model.safetensors")}
    assert set(names) == sources | static | model | {"nla/py.typed"} and len(static) == 7


@pytest.mark.slow
def test_a_photo_is_labelled_by_what_the_wheel_holds_alone(wheel_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel_file) as wheel:
        wheel.extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    write_photo(tmp_path / "empty/face.jpg", drawn_face(0, 64))
    command = [sys.executable, "-m", "nla.commands.main", "predict", "face.jpg", "--cropped", "--out", "-"]
    env = clean_env() | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path / "empty", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert float(row["confidence"]) == max(float(p) for name, p in row.items() if name.startswith("p_"))
    assert f"the one that comes with NLA answers: {tmp_path / 'installed/nla/pretrained/README.md'}\n" in done.stderr


@pytest.mark.slow
def test_the_source_distribution_has_the_pipeline_and_the_tests(sdist: Path) -> None:
    names = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    for folder in FOLDERS:
        assert {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")} <= names
    assert {"dvc.yaml", "params.yaml", "Makefile", "requirements.lock", "LICENSE", "README.md"} <= names

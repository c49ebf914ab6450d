"""A folder that is on a full disk, or cannot be written to, in each stage that writes there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from patience import PATIENCE
from test_signals import Stage
from test_signals import project as project  # a fixture
from tiny_project import Outcome, Project, user_environment

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
ROOM_MIB = 24
"""Size of the disk that is full."""
FULL = f"""
mkdir -p "$PLACE"; cp -a "$PLACE" "$PLACE.copy"
mount -t tmpfs -o size={ROOM_MIB}m none "$PLACE"
cp -a "$PLACE.copy/." "$PLACE"; rm -rf "$PLACE.copy"
head -c {(ROOM_MIB + 1) << 20} /dev/zero > "$PLACE/filler" 2> /dev/null
"""
READ_ONLY = 'mkdir -p "$PLACE"; mount --bind "$PLACE" "$PLACE"; mount -o remount,bind,ro "$PLACE"'
SAYS = {FULL: "No space left on device", READ_ONLY: "Read-only file system"}
LISTED = "what is left:"


@dataclass(frozen=True)
class Case:
    """A stage, the folder that has no room or cannot be written to, and what the message names."""

    stage: str
    place: str
    names: str


FULL_CASES = [
    Case("ingest", "data", "data/faces.parquet"),
    Case("prepare", "data", "parquet"),
    Case("tune", ".runs", ".runs"),
    Case("train", ".runs", ".runs/"),
    Case("train", "models", "models/"),
    Case("evaluate", "reports", "reports/"),
    Case("register", "mlruns", "MLflow store"),
]
READ_ONLY_CASES = [
    Case("ingest", "data", "data/faces.parquet"),
    Case("prepare", ".logs", ".logs/prepare.log"),
    Case("tune", ".runs", ".runs/"),
    Case("train", ".runs", ".runs/"),
    Case("train", "models", "models/"),
    Case("evaluate", "reports", "reports/"),
    Case("register", "reports", "reports/registered.json"),
]


@pytest.fixture(scope="module", autouse=True)
def mounts() -> None:
    """Skips where no process may mount anything for itself."""
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if tried.returncode:
        pytest.skip("needs mounts of its own: run the tests as root on Linux")


def run_on(stage: Stage, disk: str, place: str) -> tuple[Outcome, list[str]]:
    """The stage, for which alone `place` is on such a disk; and the files there at its end."""
    ending = f'code=$?; echo "{LISTED}"; find "$PLACE" -type f; exit $code'
    command = f"{disk}\n{sys.executable} -m pipelines.{stage.name}; {ending}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command],
        cwd=stage.folder,
        env=user_environment() | {"PYTHONPATH": str(stage.project.root), "PLACE": place},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    out, _, left = done.stdout.partition(LISTED)
    return Outcome(done.returncode, out, done.stderr), left.split("\n")


@pytest.mark.parametrize("case", FULL_CASES, ids=lambda case: f"{case.stage}, {case.place}")
def test_a_full_disk_is_one_line_and_nothing_is_half_written(
    case: Case, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(case, FULL, project, tmp_path_factory)


@pytest.mark.parametrize("case", READ_ONLY_CASES, ids=lambda case: f"{case.stage}, {case.place}")
def test_a_read_only_folder_is_one_line(case: Case, project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(case, READ_ONLY, project, tmp_path_factory)


def check(case: Case, disk: str, project: Project, folders: pytest.TempPathFactory) -> None:
    """The stage ends with one line, and without outs; with room it goes on."""
    stage = Stage(project.copy(folders.mktemp("disk") / "project"), case.stage)
    search = {"num_samples": 2, "epochs": 2, "scheduler": "none"} if case.stage == "tune" else {}
    workers = {"num_workers": 0, "max_concurrent_trials": 1}
    stage.project.set({"ray": workers, "tune": search})
    stage.forget()
    outcome, left = run_on(stage, disk, case.place)
    assert outcome.code == 1, outcome.text
    assert "Traceback" not in outcome.text
    said = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, outcome.text
    assert SAYS[disk] in outcome.text and case.names in outcome.text, outcome.text
    assert not [path for path in left if path.endswith((".part", ".partial", ".tmp"))], left
    assert not stage.project.unfinished()
    stage.run()
    shutil.rmtree(stage.project.root)

"""A folder that is on a full disk, or cannot be written to, in each stage that writes there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import PATIENCE
from test_signals import WORK, Stage
from test_signals import project as project  # a fixture
from tiny_project import Outcome, Project, user_environment

from nla.config.base import merge

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
    Case("audit", ".runs", ".runs/"),
    Case("audit", "reports", "reports/audit"),
    Case("tune", ".runs", ".runs"),
    Case("train", ".runs", ".runs/"),
    Case("train", "models", "models/"),
    Case("evaluate", "reports", "reports/"),
    Case("register", "mlruns", "MLflow store"),
]
READ_ONLY_CASES = [
    Case("ingest", "data", "data/faces.parquet"),
    Case("prepare", ".logs", ".logs/prepare.log"),
    Case("audit", "reports", "reports/audit"),
    Case("tune", ".runs", ".runs/"),
    Case("train", ".runs", ".runs/"),
    Case("train", "models", "models/"),
    Case("evaluate", "reports", "reports/"),
    Case("register", "reports", "reports/model_card/README.md"),
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


FILLS_UP = f"""
mkdir -p "$PLACE"; mount -t tmpfs -o size={ROOM_MIB}m none "$PLACE"
( until [ -n "$(find "$PLACE" -name 'checkpoint_00002*' -type d)" ]; do sleep 0.05; done
  until [ -e "$PLACE.free" ]; do cat /dev/zero >> "$PLACE/filler" 2> /dev/null; sleep 0.1; done ) &
$TRAIN; echo "{LISTED} $?"; find "$PLACE" -type f
touch "$PLACE.free"; wait; rm "$PLACE/filler"
$TRAIN
"""
"""Of a Ray's storage: full from the second checkpoint on, until the stage has ended; then there is room."""


def test_a_storage_of_ray_that_fills_up_in_training_loses_no_epoch(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"train": {"epochs": 12}, "ray": {"storage_path": "storage"}})
    outcome = project.try_stage("train")
    assert outcome.code == 0, outcome.text
    weights = [project / f"models/{name}.safetensors" for name in ("model", "last")]
    expected = [path.read_bytes() for path in weights]
    shutil.rmtree(project / ".runs")
    shutil.rmtree(project / "storage", ignore_errors=True)
    for path in weights:
        path.unlink()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FILLS_UP],
        cwd=project.root,
        env=user_environment()
        | {"PYTHONPATH": str(project.root), "PLACE": "storage", "TRAIN": f"{sys.executable} -m pipelines.train"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    first, _, second = done.stdout.partition(LISTED)
    assert done.returncode == 0 and second.startswith(" 1\n"), done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "ray.storage_path" in said[0] and "No space left on device" in said[0], done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not [line for line in second.splitlines() if line.endswith((".part", ".partial", ".tmp"))], second
    trained = [[int(number) for number in re.findall(r"epoch +(\d+)/12  loss", text)] for text in (first, second)]
    assert trained[0] + trained[1] == list(range(1, 13)), (trained, done.stdout)
    assert all(trained)  # the second checkpoint may be the one that finds no room
    assert [path.read_bytes() for path in weights] == expected


def check(case: Case, disk: str, project: Project, folders: pytest.TempPathFactory) -> None:
    """The stage ends with one line, and without outs; with room it goes on."""
    stage = Stage(project.copy(folders.mktemp("disk") / "project"), case.stage)
    stage.project.set(merge(WORK.get(case.stage, {}), {"ray": {"num_workers": 0, "max_concurrent_trials": 1}}))
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

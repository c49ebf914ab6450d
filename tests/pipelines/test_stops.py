"""Training that is killed goes on where it was, and ends as if nobody had killed it."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from patience import PATIENCE
from tiny_project import POLL, TINY, Background, Finished, Project, survivors

pytestmark = pytest.mark.slow
EPOCHS = TINY["train"]["epochs"]
PACE = {POLL: "1"}
"""Ray takes one checkpoint a second, so an epoch lasts as long, and there is time to kill it."""
ENDS_WITHIN = 60.0  # seconds: half a second to see that DVC is gone, ten to put things in order, and a busy machine
WEIGHTS = ("models/model.safetensors", "models/last.safetensors")


def epochs_in(printed: str) -> list[int]:
    """Numbers of the epochs that training told of."""
    return [int(number) for number in re.findall(rf"epoch +(\d+)/{EPOCHS}  loss", printed)]


def begin_training(project: Project) -> Background:
    """`dvc repro train` in the background."""
    return project.start_dvc("repro", "train", **PACE)


@pytest.fixture(scope="module")
def stopped_twice(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """What is there, and what was printed, after DVC was killed, then its whole process group, then nothing."""
    project = prepared.copy(tmp_path_factory.mktemp("stopped") / "project")
    first = begin_training(project)
    first.wait_for(rf"epoch +2/{EPOCHS}")
    family = first.family()
    assert any("RayTrainWorker" in " ".join(process.cmdline()) for process in family)
    first.kill()
    second = begin_training(project)  # at once, while what is left of the first still runs
    assert not survivors(family, ENDS_WITHIN)
    second.wait_for(rf"epoch +[45]/{EPOCHS}")
    family = second.family()
    second.kill(group=True)
    assert not survivors(family, ENDS_WITHIN)
    third = begin_training(project)
    third.wait_for("MLflow run ")
    refused = project.try_dvc("repro", "train")
    third.wait()
    assert refused.code != 0 and "Running stage" not in refused.text
    assert "is busy, it is being blocked by" in refused.err and "Traceback" not in refused.text
    return project, [first.text, second.text, third.text]


@pytest.mark.thorough
def test_it_goes_on_from_the_last_epoch(stopped_twice: tuple[Project, list[str]]) -> None:
    _, printed = stopped_twice
    first, second, third = map(epochs_in, printed)
    assert first[0] == 1 and second[0] > 1 and third[0] > second[0]
    assert third[-1] == EPOCHS
    for epochs in (first, second, third):
        assert epochs == list(range(epochs[0], epochs[-1] + 1))
    assert not [text for text in printed if "Traceback" in text]


@pytest.mark.thorough
def test_weights_are_those_of_an_uninterrupted_run(
    stopped_twice: tuple[Project, list[str]], finished: Finished
) -> None:
    project, _ = stopped_twice
    assert project.sha256(*WEIGHTS) == finished.project.sha256(*WEIGHTS)
    assert project.sha256("models/positions.parquet") == finished.project.sha256("models/positions.parquet")
    assert project.read_json("run.json")["fingerprint"] == finished.project.read_json("run.json")["fingerprint"]


@pytest.mark.thorough
def test_each_epoch_is_recorded_once(stopped_twice: tuple[Project, list[str]]) -> None:
    project, _ = stopped_twice
    client, runs = MlflowClient(project.store), project.runs()
    assert [run.info.run_id for run in runs] == [project.read_json("run.json")["mlflow_run_id"]]
    assert runs[0].info.status == "FINISHED"
    curves = [key for key in runs[0].data.metrics if not key.startswith("system/")]
    assert "valid_accuracy" in curves and "train_loss" in curves
    for key in curves:
        steps = [metric.step for metric in client.get_metric_history(runs[0].info.run_id, key)]
        assert sorted(steps) == list(range(1, EPOCHS + 1)), key
    with (project / "reports/plots/curves.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(1, EPOCHS + 1)]


@pytest.mark.thorough
def test_only_the_result_is_left(stopped_twice: tuple[Project, list[str]]) -> None:
    project, _ = stopped_twice
    folder = project / ".runs" / project.read_json("run.json")["fingerprint"]
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["result"]
    assert not project.unfinished()


@pytest.mark.thorough
def test_a_project_that_is_moved_in_mid_training_goes_on(prepared: Project, finished: Finished, tmp_path: Path) -> None:
    """Checkpoints of Ray, the MLflow run and DVC's files are found in the new place."""
    project = prepared.copy(tmp_path / "project")
    started = begin_training(project)
    started.wait_for(rf"epoch +2/{EPOCHS}")
    family = started.family()
    started.kill(group=True)
    assert not survivors(family, ENDS_WITHIN)
    moved = Project(project.root.rename(tmp_path / "moved"))
    printed = moved.dvc("repro", "train")
    told = epochs_in(printed)
    assert told[0] > 1 and told == list(range(told[0], EPOCHS + 1))
    assert moved.sha256(*WEIGHTS) == finished.project.sha256(*WEIGHTS)
    (run,) = moved.runs()
    assert run.info.artifact_uri.startswith((moved / "mlruns").as_uri())
    assert not project.root.exists()


def test_other_stages_end_with_dvc_too(prepared: Project, tmp_path: Path) -> None:
    """Many faces are being drawn; what was written of them goes with the stage."""
    project = prepared.copy(tmp_path / "project")
    project.set({"data": {"synthetic": {"train": 50_000}}})
    started = project.start_dvc("repro", "ingest")
    wait_until(lambda: (project / "data/faces.parquet.part").exists())
    family = started.family()
    started.kill()
    assert not survivors(family, ENDS_WITHIN)
    assert not (project / "data/faces.parquet").exists()
    assert not project.unfinished()


def test_a_stage_that_still_imports_ends_with_dvc(prepared: Project, tmp_path: Path) -> None:
    """Before it has read a parameter; the interpreter alone has had its half second."""
    project = prepared.copy(tmp_path / "project")
    started = project.start_dvc("repro", "train")
    wait_until(lambda: len(started.family()) > 1)
    time.sleep(0.5)
    family = started.family()
    started.kill()
    assert not survivors(family, ENDS_WITHIN)
    assert "train: " not in started.text and not (project / ".runs").exists()


def wait_until(happened: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Returns once it has; AssertionError where time ends before."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)

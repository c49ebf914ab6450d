"""A study from its grid to its report: killed, resumed, extended, and logged to MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tiny_project import ROOT, TINY, Project

from nla.study.record import Record, read_record

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

NAME = "studies/tiny"
GRID = {
    "methods": {"ce": {"loss": {"name": "ce"}}, "elr": {"loss": {"name": "elr"}}},
    "conditions": {"clean": {}, "noisy": {"noise": {"rate": 0.3}}},
    "seeds": [0],
    "reference": "ce",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One with a study of four runs beside the pipeline, whose code it shares."""
    project = Project.make(tmp_path_factory.mktemp("study") / "project")
    folder = project / NAME
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text((ROOT / "studies/ferplus/dvc.yaml").read_text())
    # One after the other: however many cores there are, the first ends well before the last.
    own = {"model": TINY["model"], "ray": {**TINY["ray"], "max_concurrent_trials": 1}}
    data = {**TINY["data"], "source": "synthetic", "raw": "../../data/raw"}
    YAML(pure=True).dump({**own, "data": data, "train": {"epochs": 2, "batch_size": 32}}, folder / "params.yaml")
    write_grid(project)
    project.commit("a study")
    return project


def write_grid(project: Project, **changes: object) -> None:
    YAML(pure=True).dump({**GRID, **changes}, project / NAME / "grid.yaml")


def repro(project: Project) -> str:
    """`dvc repro` of the study, with the code of the project and not of this environment."""
    return project.dvc("repro", f"{NAME}/dvc.yaml", PYTHONPATH=str(project.root))


def read_records(project: Project) -> list[Record]:
    return [read_record(path) for path in (project / NAME / "records").glob("*.parquet")]


def records(project: Project) -> dict[str, int]:
    """When each record was written."""
    return {path.name: path.stat().st_mtime_ns for path in (project / NAME / "records").iterdir()}


def test_a_killed_study_resumes_and_ends_in_a_report(project: Project) -> None:
    background = project.start_dvc("repro", f"{NAME}/dvc.yaml", PYTHONPATH=str(project.root))
    background.wait_for(r"seed 0: \d")
    processes = background.family()
    background.kill(group=True)
    for process in processes:
        if process.is_running():
            process.kill()
    before = records(project)
    assert 1 <= len(before) < 4
    printed = repro(project)
    assert f"4 runs, {len(before)} of them have their records" in printed
    after = records(project)
    assert len(after) == 4 and before.items() <= after.items()
    told = {(of.method, of.condition): of for of in read_records(project)}
    assert set(told) == {("ce", "clean"), ("ce", "noisy"), ("elr", "clean"), ("elr", "noisy")}
    assert told["ce", "noisy"].claims["late"]["flipped_auroc"] is not None
    assert told["ce", "clean"].claims["late"]["flipped_auroc"] is None
    assert told["ce", "clean"].facts["commit"].startswith(project.git("rev-parse", "HEAD"))
    report = (project / NAME / "README.md").read_text()
    results = json.loads((project / NAME / "results.json").read_text())
    assert set(results["conditions"]) == {"clean", "noisy"} and "elr" in report
    assert list((project / NAME / "figures").glob("*.png"))


def test_it_is_up_to_date_then(project: Project) -> None:
    assert "Data and pipelines are up to date." in repro(project)


def test_every_run_is_nested_below_that_of_the_study(project: Project) -> None:
    runs = project.runs()
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    nested = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert sorted(run.data.params["method"] for run in nested) == ["ce", "ce", "elr", "elr"]
    assert all("test_accuracy" in run.data.metrics and run.info.status == "FINISHED" for run in nested)


@pytest.fixture(scope="module")
def studied(project: Project) -> Project:
    """The same after its study of four runs."""
    repro(project)
    return project


def test_a_larger_grid_runs_what_is_new(studied: Project) -> None:
    project = studied
    before = records(project)
    write_grid(project, seeds=[0, 1], conditions={"clean": {}})
    assert "4 runs, 2 of them have their records" in repro(project)
    after = records(project)
    assert len(after) == 6 and before.items() <= after.items()
    results = json.loads((project / NAME / "results.json").read_text())
    assert list(results["conditions"]) == ["clean"] and results["conditions"]["clean"]["seeds"] == [0, 1]
    assert len(project.runs()) == 7


def test_who_has_the_records_repeats_nothing(studied: Project, tmp_path: Path) -> None:
    """A clone on another machine: it draws the same faces, and logs to its own MLflow."""
    project = studied
    project.commit("results")
    clone = project.clone(tmp_path / "clone")
    before = (clone / NAME / "README.md").read_text()
    printed = clone.dvc("repro", "-f", "-s", f"{NAME}/dvc.yaml:ingest")
    assert "faces" in printed
    (clone / NAME / "runs.json").unlink()
    assert "study tiny: 4 runs, 4 of them have their records" in repro(clone)
    assert (clone / NAME / "README.md").read_text() == before
    assert len(clone.runs()) == 1 + 4


def test_each_method_is_tuned_first(project: Project) -> None:
    """The setting that is best on validation takes part, in a training of its own; what diverges is not."""
    methods = {"ce": {"loss": {"name": "ce"}}, "elr": {"loss": {"name": "elr"}, "train": {"lr": 1e30}}}
    space = {"ce": {"train": {"lr": {"choice": [1e30]}}}, "elr": {"train": {"lr": {"choice": [0.003]}}}}
    write_grid(project, methods=methods, tuning={"settings": 2, "conditions": ["noisy"], "seed": 7, "space": space})
    printed = repro(project)
    assert "tuning tiny: 4 runs, 0 of them have their records" in printed
    manifest = json.loads((project / NAME / "runs.json").read_text())
    kept = {record.fingerprint: record for record in read_records(project)}
    trials = [trial for trial in manifest["tuning"]["trainings"] if trial["record"]]
    assert [(trial["method"], trial["values"]) for trial in trials] == [("ce", {}), ("elr", {"train.lr": 0.003})]
    for trial in trials:
        record = kept[trial["record"]]
        assert (record.seed, record.noise_rate, record.test_accuracy, len(record.best_predicted)) == (7, 0.3, [], 0)
    assert {kept[run["record"]].params["train"]["lr"] for run in manifest["runs"]} == {0.003}
    report = (project / NAME / "README.md").read_text()
    assert "| elr | 2 | diverged | " in report and "| train.lr 0.003 |" in report
    runs = [run for run in project.runs() if "setting" in run.data.params]
    assert len(runs) == 2 and not any(name.startswith("test") for run in runs for name in run.data.metrics)
    assert "Data and pipelines are up to date." in repro(project)
    (project / NAME / "runs.json").unlink()
    printed = repro(project)
    assert "study tiny: 4 runs, 4 of them have their records" in printed
    assert "tuning tiny: 4 runs, 2 of them have their records" in printed  # it tries again what diverged
    assert (project / NAME / "README.md").read_text() == report


def test_a_training_that_fails_is_named_and_the_others_are_kept(project: Project) -> None:
    broken = {"loss": {"name": "ce"}, "train": {"lr": 1e30}}
    write_grid(project, methods={**GRID["methods"], "broken": broken}, conditions={"clean": {}})  # type: ignore[dict-item]
    outcome = project.try_dvc("repro", f"{NAME}/dvc.yaml", PYTHONPATH=str(project.root))
    assert outcome.code != 0
    assert "1 of 3 runs failed: broken, clean, seed 0" in outcome.text
    assert "is not finite" in outcome.text

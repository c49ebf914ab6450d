"""Stage of a study, run in its folder: grid.yaml, params.yaml and data/faces.parquet -> records/, runs.json.

Methods are tuned first if the grid asks for it. An interrupted study resumes; a training that has a record is not
repeated (`dvc repro -sf study` repeats all). A record is valid for its parameters and data: the code may have changed
since, and the record names its commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nla.config.base import read_params, section
from nla.config.ray import RayConfig
from nla.errors import Diverged, TrainingError
from nla.io import write_json
from nla.study.grid import Grid, cells, read_grid
from nla.study.record import read_record
from nla.study.runner import MlflowStudy
from nla.study.trainings import Trainer, Training, Trainings, forget_trainings
from nla.study.tuning import Attempt, best_of, candidates_of, tuning_cells
from nla.study.variants import Variants
from nla.tracking import configure, run_tags
from nla.tuning.space import Values
from nla.workflow.dvc_process import forced
from nla.workflow.paths import project_root, workspace
from nla.workflow.runs import RUNS
from nla.workflow.stage import run_stage

FACES, GRID, MANIFEST = Path("data/faces.parquet"), Path("grid.yaml"), Path("runs.json")


def main() -> None:
    """Runs the missing trainings, and logs to MLflow what it lacks."""
    params, grid, root = read_params(), read_grid(GRID), project_root()
    config = section(RayConfig, params)
    if forced():  # at once: what is made anew from here on also counts after a stop
        forget_trainings(root)
    trainer = Trainer(Variants(FACES, root / RUNS / "study-data", config.image_bytes), config, root)
    cells(grid, params)  # errors in the grid must not surface only after tuning
    tuning, tuned = tune(trainer, grid, params)
    study = trainer.train("study", cells(grid, params, tuned))
    write_json(MANIFEST, manifest(grid, tuning, study))
    log([*tuning.done, *study.done], root)
    if study.failed:
        raise TrainingError(f"{len(study.failed)} of {len(study.runs)} trainings failed: {names(study, study.failed)}")


def tune(trainer: Trainer, grid: Grid, params: Mapping[str, Any]) -> tuple[Trainings, dict[str, Values]]:
    """The trainings of the tuning, and method -> the best values on validation.

    A setting that diverges only loses.

    Raises:
        TrainingError: a training failed otherwise, so that its method would have had fewer settings than the others.
    """
    if grid.tuning is None:
        return Trainings([], {}), {}
    tuning = trainer.train("tuning", tuning_cells(grid, params))
    if lost := {name for name, error in tuning.failed.items() if not isinstance(error, Diverged)}:
        raise TrainingError(f"trainings of the tuning failed: {names(tuning, lost)}; `dvc repro` tries them again")
    candidates = candidates_of(attempt(run, tuning.failed, grid.tuning.objective) for run in tuning.runs)
    return tuning, {method: best_of(method, tried).values for method, tried in candidates.items()}


def attempt(run: Training, failed: Collection[str], objective: str) -> Attempt:
    """Outcome of a training of the tuning."""
    cell = run.cell
    assert cell.setting is not None
    reached = None if run.fingerprint in failed else read_record(run.path).reached(objective)
    return Attempt(cell.method, cell.setting, cell.condition, cell.values, reached)


def manifest(grid: Grid, tuning: Trainings, study: Trainings) -> dict[str, Any]:
    """The records that the report covers; a tuning run that diverged has none."""
    content: dict[str, Any] = {"reference": grid.reference, "runs": [row_of(run) for run in study.done]}
    if grid.tuning is not None:
        rows = [{**row_of(run), "setting": run.cell.setting, "values": run.cell.values} for run in tuning.runs]
        for row in rows:
            if row["record"] in tuning.failed:
                row["record"] = None
        content["tuning"] = {**grid.tuning.model_dump(include={"conditions", "seed", "objective"}), "trainings": rows}
    return content


def names(trained: Trainings, fingerprints: Collection[str]) -> str:
    """Names of some of the runs, for a message."""
    return ", ".join(str(run.cell) for run in trained.runs if run.fingerprint in fingerprints)


def row_of(run: Training) -> dict[str, Any]:
    """Entry of a training in the manifest."""
    return {
        "method": run.cell.method,
        "condition": run.cell.condition,
        "seed": run.cell.seed,
        "record": run.fingerprint,
    }


def log(done: Sequence[Training], root: Path) -> None:
    """Logs the trainings that this MLflow store lacks, under the study's own run."""
    study = MlflowStudy(configure(root), workspace().name)
    tags = run_tags(workspace(), "", "")
    with study.opened(tags):
        for run in done:
            study.log(read_record(run.path), tags, run.cell.setting)


if __name__ == "__main__":
    run_stage(main)

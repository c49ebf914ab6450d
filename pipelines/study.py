"""Stage of a study, run in its folder: grid.yaml, params.yaml and data/faces.parquet -> records/, runs.json.

Methods are tuned first if the grid asks for it. An interrupted study resumes; a run that has a record of the present
code is not repeated (`dvc repro -sf study` repeats all). A frozen study trains nothing: its records are read whatever
code made them.
"""

from __future__ import annotations

from nla.signals import end_at_once

if __name__ == "__main__":
    end_at_once()  # before the other imports, which take seconds

from collections.abc import Sequence
from pathlib import Path

from nla.config.base import read_params, section
from nla.config.ray import RayConfig
from nla.console import say
from nla.errors import TrainingError
from nla.io import write_json
from nla.study.grid import read_grid
from nla.study.manifest import MANIFEST, make_manifest
from nla.study.origin import Origin
from nla.study.record import read_record
from nla.study.runs import StudyRun, delete_records
from nla.study.scheduler import Scheduler, tune
from nla.study.specs import run_specs
from nla.study.times import read_times
from nla.study.tracking import MlflowStudy
from nla.study.variants import Variants
from nla.tracking import configure, run_tags
from nla.workflow.dvc_process import forced
from nla.workflow.paths import project_root, workspace
from nla.workflow.runs import RUNS
from nla.workflow.stage import run_stage

FACES, GRID = Path("data/faces.parquet"), Path("grid.yaml")


def main() -> None:
    """Runs what has no record yet, and logs to MLflow what it lacks."""
    params, grid, root, times = read_params(), read_grid(GRID), project_root(), read_times()
    config, force = section(RayConfig, params), forced()
    if force:  # first, so that a forced study that is interrupted resumes with its new records only
        delete_records(root)
    variants = Variants(FACES, root / RUNS / "study-data", config.image_bytes)
    scheduler = Scheduler(variants, config, root, Origin.here(), grid.frozen and not force)
    run_specs(grid, params, times=times)  # errors in the grid must not surface only after tuning
    tuning, tuned = tune(scheduler, grid, params, times)
    runs = scheduler.named(run_specs(grid, params, tuned, times))
    manifest = make_manifest(grid, tuning, runs).model_dump(exclude={"tuning"} if not grid.tuning else None)
    write_json(MANIFEST, manifest, sealed=True)  # before the first run ends
    study = scheduler.run("study", runs)
    log([*tuning.done, *study.done], root)
    if study.failed:
        number, names = f"{len(study.failed)} of {len(study.runs)} runs", study.names(study.failed)
        if not scheduler.frozen:
            raise TrainingError(f"{number} failed: {names}. `dvc repro` tries them again.")
        say(f"{number} have no record: {names}. The study is frozen: the report leaves them out.")


def log(done: Sequence[StudyRun], root: Path) -> None:
    """Logs the runs that this MLflow store lacks, under the study's own run."""
    study = MlflowStudy(configure(root), workspace().name)
    tags = run_tags(workspace(), "", "")
    with study.opened(tags):
        for run in done:
            study.log(read_record(run.path), tags, run.spec.setting)


if __name__ == "__main__":
    run_stage(main)

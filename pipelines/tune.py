"""Stage `tune`: params.yaml, data/{train,valid}.parquet -> best.yaml, reports/tune/{trials.parquet,figures/}.

best.yaml has the searched keys of the best trial, which override params.yaml in the `train` stage; `{}` with 0 trials.
An interrupted search resumes, and a larger num_samples extends it; `dvc repro -sf tune` starts over.

Most runs of the pipeline search nothing. This takes them half a second, because the slow imports (Ray, PyTorch, Optuna,
MLflow, Matplotlib) are in the functions that need them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nla.config.base import merge, read_params, section
from nla.config.best import read_best, with_best, write_best
from nla.config.ray import RayConfig
from nla.config.tune import TuneConfig
from nla.console import say
from nla.errors import ConfigError, TrainingError
from nla.io import naming, write_table
from nla.tuning.results import Trial, best_trial, trials_table
from nla.workflow.paths import project_root, workspace
from nla.workflow.provenance import fingerprint, imported_sources
from nla.workflow.stage import log_file, run_stage

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from nla.tracking import MlflowTracker
    from nla.training.artifacts import Tables
    from nla.tuning.trial import Template
    from nla.tuning.trial_logging import MlflowTrialLogger
    from nla.workflow.runs import RunFolder

BEST, TRIALS, FIGURES = Path("best.yaml"), Path("reports/tune/trials.parquet"), Path("reports/tune/figures")
CODE = Path("nla/tuning/trial.py")
"""Code that determines a trial: this file and all that it imports. Searchers, display and tracking do not."""
CHANGEABLE = {"num_samples", "max_failed", "time_budget", "source"}
"""Settings that can change between two calls of one search."""


@dataclass(frozen=True)
class SearchPlan:
    """A search before it runs."""

    settings: TuneConfig
    tables: Tables
    template: Template
    """What all trials share; its fingerprint names the search."""


def main() -> None:
    """Searches, reuses the result of an earlier search, or passes the parameters through."""
    params = read_params()
    settings = section(TuneConfig, params)
    if settings.source is None and settings.num_samples > 0:
        search(params, settings)
        return
    best = {} if settings.source is None else read_earlier(settings.source, params)
    say("no search: tune.num_samples is 0" if settings.source is None else f"no search: {settings.source} is used")
    write_reports(trials_table([], [], settings.objective), {})
    write_best(BEST, best)


def read_earlier(source: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Reads and checks the result of an earlier search. Raises ConfigError if training cannot use it."""
    path = project_root() / source
    if path == project_root() / BEST:
        raise ConfigError(f"tune.from: this stage overwrites {source}. Copy the file, and set tune.from to the copy.")
    from nla.training.job import training_config

    best = read_best(path, "Set tune.from to the best.yaml of an earlier search.")
    training_config(params)  # first, so that an error in params.yaml is not blamed on the file
    training_config(with_best(params, best), source)
    return best


def search(params: Mapping[str, Any], settings: TuneConfig) -> None:
    """Runs the search, logs it to MLflow, and writes its outputs."""
    from nla.ray_cluster import connected
    from nla.tracking import configure
    from nla.tuning.search import run_search
    from nla.tuning.storage import Clock
    from nla.tuning.trial_logging import progress_table
    from nla.workflow.runs import run_lock

    ray, root = section(RayConfig, params), project_root()
    plan = plan_search(params, settings, ray, root)
    name, split = plan.template.fingerprint, plan.tables.split
    uri = configure(root)  # before a forced run removes anything: it fails if the store cannot be used
    with run_lock(root, name, ray) as (run, storage), tracked(plan, run, uri) as (tracker, trial_logger):
        clock = Clock(f"{storage}/{name}", settings.time_budget)
        with (
            connected(ray, dashboard=ray.workers_per_trial > 1) as cluster,
            progress_table(settings.trials, settings.epochs, settings.objective, clock.left) as table,
        ):
            say(f"MLflow run {trial_logger.parent}; full logs: {log_file()}, and Ray's in {cluster.logs}")
            with naming("ray.storage_path"):  # into which Ray writes the state of the search
                trials = run_search(cluster, plan.template, split, settings, ray, storage, [table, trial_logger], clock)
        trial_logger.finalize(trials)
        report(trials, settings, tracker)
        check_failures(trials, settings)
        save_best(trials, plan, tracker)


def plan_search(params: Mapping[str, Any], settings: TuneConfig, ray: RayConfig, root: Path) -> SearchPlan:
    """Checks the space, reads the data, and names the search by a fingerprint of all that determines its trials."""
    from nla.training.artifacts import read_tables
    from nla.training.job import Job, image_spec, training_config, with_first_weights
    from nla.tuning.space import check_space, first_values, trial_base
    from nla.tuning.trial import Template

    params = merge(params, {"train": {"epochs": settings.epochs, "seed": settings.seed}})
    check_space(settings.distributions, params)
    first_values(settings.distributions, params)
    tables = read_tables(ray, root)
    base = trial_base(params)
    images_NHWC, classes = tables.split.train.images_NHWC, len(tables.info.classes)
    image = image_spec(images_NHWC)
    job, message = with_first_weights(Job(training_config(base), num_classes=classes, image=image), images_NHWC, root)
    say(message)
    content = {
        **base,
        "tune": settings.model_dump(mode="json", exclude=CHANGEABLE),
        "data": tables.hashes,
        "first_weights": job.facts["first_weights"],
    }
    name = fingerprint(content, imported_sources(CODE, workspace()), workspace())
    say(
        f"tune: {settings.trials} trials of {settings.epochs} epochs on {len(tables.split.train):,} "
        f"{tables.info.source} faces; searcher {settings.searcher}, scheduler {settings.scheduler}, "
        f"objective {settings.objective}"
    )
    return SearchPlan(settings, tables, Template(base, classes, image, name, job.first_weights))


@contextlib.contextmanager
def tracked(plan: SearchPlan, run: RunFolder, uri: str) -> Iterator[tuple[MlflowTracker, MlflowTrialLogger]]:
    """The search's MLflow run, reopened if the search resumes, and the callback that logs trials as nested runs."""
    from nla.tracking import MlflowTracker, run_tags
    from nla.tuning.space import resolved
    from nla.tuning.trial_logging import MlflowTrialLogger

    template, tables, settings = plan.template, plan.tables, plan.settings
    tracker = MlflowTracker(uri)
    tags = run_tags(workspace(), template.fingerprint, tables.data_hash, tables.info.corrections)
    tune = settings.model_dump(mode="json", exclude={"num_samples", "time_budget"})
    params = {**resolved(template.params), "tune": tune}
    name = f"{tables.info.source}-sweep-{template.fingerprint[:6]}"
    run_id = tracker.start(name, params, tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        fixed = settings.scheduler != "pbt"
        yield tracker, MlflowTrialLogger(uri, run_id, template, settings.distributions, fixed=fixed)


def report(trials: Sequence[Trial], settings: TuneConfig, tracker: MlflowTracker) -> None:
    """Writes the table and the figures, and logs both to MLflow."""
    from nla.tuning.plots import search_figures

    write_reports(
        trials_table(trials, list(settings.distributions), settings.objective), search_figures(trials, settings)
    )
    tracker.log_artifact(TRIALS, "tune")
    for path in sorted(FIGURES.iterdir()):
        tracker.log_artifact(path, "figures")


def write_reports(table: pa.Table, figures: Mapping[str, Figure]) -> None:
    """Writes the table of trials and the figures; old figures are removed first."""
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    if figures:
        from nla.plotting import write_figure

        for name, figure in figures.items():
            write_figure(figure, FIGURES / f"{name}.png")
    write_table(TRIALS, table)


def check_failures(trials: Sequence[Trial], settings: TuneConfig) -> None:
    """Raises TrainingError if more trials failed than tune.max_failed allows."""
    failed = [trial for trial in trials if trial.status == "failed"]
    for trial in failed:
        say(f"trial {trial.number} failed: {trial.reason}")
    if settings.max_failed is not None and len(failed) > settings.max_failed:
        raise TrainingError(
            f"tune.max_failed: {len(failed)} of {len(trials)} trials failed (at most {settings.max_failed} may). "
            f"See {TRIALS}, and change tune.space or raise tune.max_failed."
        )


def save_best(trials: Sequence[Trial], plan: SearchPlan, tracker: MlflowTracker) -> None:
    """Writes the values of the best trial, and logs them to MLflow. Raises TrainingError if all trials failed."""
    from nla.tuning.space import as_sections

    best = best_trial(trials, plan.settings.objective)
    write_best(BEST, as_sections(best.values, plan.template.params))
    say(f"trial {best.number} is best with {best.score(plan.settings.objective):.2%} on validation. See {BEST}.")
    tracker.log_artifact(BEST, "tune")


if __name__ == "__main__":
    run_stage(main)

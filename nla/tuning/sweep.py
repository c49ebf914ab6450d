"""The search of stage `tune`: read its inputs, run it, and write its outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nla.config.base import merge, section
from nla.config.best import write_best
from nla.config.ray import RayConfig
from nla.config.tune import TuneConfig
from nla.console import say
from nla.errors import TrainingError
from nla.ray_cluster import connected
from nla.tracking import MlflowTracker, configure, run_tags
from nla.training.artifacts import Tables, read_tables
from nla.training.job import Job, image_spec, training_config, with_first_weights
from nla.tuning.plots import pictures
from nla.tuning.reporters import MlflowTrials, trial_table
from nla.tuning.results import Trial, best_of, trials_table, write_report
from nla.tuning.search import search
from nla.tuning.space import check_space, first_values, resolved, trial_base, with_values
from nla.tuning.storage import Clock
from nla.tuning.trial import Template
from nla.workflow.paths import project_root, workspace
from nla.workflow.provenance import fingerprint, imported_sources
from nla.workflow.runs import RunFolder, run_lock
from nla.workflow.stage import log_file

OF_NO_TRIAL = {"num_samples", "max_failed", "time_budget", "source"}
"""Settings that can change between two calls of one search."""


class Outs(NamedTuple):
    """Output paths."""

    best: Path
    trials: Path
    figures: Path


def sweep(params: Mapping[str, Any], settings: TuneConfig, outs: Outs) -> None:
    """Runs the search and writes the outputs of the stage."""
    params = merge(params, {"train": {"epochs": settings.epochs, "seed": settings.seed}})
    check_space(settings.distributions, params)
    first_values(settings.distributions, params)
    ray, root = section(RayConfig, params), project_root()
    tables = read_tables(ray, root)
    template = make_template(params, settings, tables, root)
    say(
        f"tune: {settings.trials} trials of {settings.epochs} epochs on {len(tables.split.train):,} "
        f"{tables.info.source} faces; searcher {settings.searcher}, scheduler {settings.scheduler}, "
        f"objective {settings.objective}"
    )
    uri = configure(root)  # before a forced run removes anything: it fails where the store cannot be used
    with (
        run_lock(root, template.fingerprint, ray) as (run, storage),
        recorded(run, uri, template, settings, tables) as (tracker, record),
    ):
        clock = Clock(f"{storage}/{template.fingerprint}", settings.time_budget)
        with (
            connected(ray, dashboard=ray.workers_per_trial > 1) as cluster,
            trial_table(settings.trials, settings.epochs, settings.objective, clock.left) as table,
        ):
            say(f"MLflow run {record.parent}; full logs: {log_file()}, and Ray's in {cluster.logs}")
            found = search(cluster, template, tables.split, settings, ray, storage, [table, record], clock)
        record.settle(found, settings.objective)
        report(found, settings, outs, tracker)
        too_many(found, settings)
        keep_best(found, template, settings, outs.best)
        tracker.log_artifact(outs.best, "tune")


def make_template(params: Mapping[str, Any], settings: TuneConfig, tables: Tables, root: Path) -> Template:
    """The template of all trials, named by a fingerprint of the search."""
    base = trial_base(params)
    classes, image = len(tables.info.classes), image_spec(tables.split.train.images_NHWC)
    started, line = with_first_weights(Job(training_config(base), num_classes=classes, image=image), root)
    say(line)
    content = {
        **base,
        "tune": settings.model_dump(mode="json", exclude=OF_NO_TRIAL),
        "data": tables.hashes,
        "first_weights": started.facts["first_weights"],
    }
    here = workspace()
    name = fingerprint(content, imported_sources(Path("nla/tuning/trial.py"), here), here)
    return Template(base, classes, image, name, started.first_weights)


@contextlib.contextmanager
def recorded(
    run: RunFolder, uri: str, template: Template, settings: TuneConfig, tables: Tables
) -> Iterator[tuple[MlflowTracker, MlflowTrials]]:
    """The search's MLflow run, reopened if the search resumes, and the watcher that logs its trials as nested runs."""
    tracker = MlflowTracker(uri)
    tags = run_tags(workspace(), template.fingerprint, tables.data_hash)
    shown = {
        **resolved(template.params),
        "tune": settings.model_dump(mode="json", exclude={"num_samples", "time_budget"}),
    }
    name = f"{tables.info.source}-sweep-{template.fingerprint[:6]}"
    run_id = tracker.start(name, shown, tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        fixed = settings.scheduler != "pbt"
        yield tracker, MlflowTrials(uri, run_id, template, settings.distributions, fixed=fixed)


def report(trials: Sequence[Trial], settings: TuneConfig, outs: Outs, tracker: MlflowTracker) -> None:
    """Writes the table and the figures, and logs both to MLflow."""
    table = trials_table(trials, list(settings.distributions), settings.objective)
    write_report(table, pictures(trials, settings), outs.trials, outs.figures)
    tracker.log_artifact(outs.trials, "tune")
    for path in sorted(outs.figures.iterdir()):
        tracker.log_artifact(path, "figures")


def keep_best(trials: Sequence[Trial], template: Template, settings: TuneConfig, best: Path) -> None:
    """Writes the values of the best trial.

    Raises:
        TrainingError: all trials failed.
    """
    chosen = best_of(trials, settings.objective)
    write_best(best, with_values({}, as_lists(chosen.values, template)))
    say(f"trial {chosen.number} is best with {chosen.score(settings.objective):.2%} on validation: see {best}")


def as_lists(values: Mapping[str, Any], template: Template) -> dict[str, Any]:
    """`values` with searched list elements replaced by their whole list, as params.yaml may have null there."""
    whole: dict[str, Any] = {}
    laid = with_values(template.params, values)
    for name, value in values.items():
        stem, _, last = name.rpartition(".")
        if last.isdigit():
            section_name, key = stem.split(".")
            whole[stem] = laid[section_name][key]
        else:
            whole[name] = value
    return whole


def too_many(trials: Sequence[Trial], settings: TuneConfig) -> None:
    """Raises TrainingError if more trials failed than tune.max_failed allows."""
    failed = [trial for trial in trials if trial.status == "failed"]
    for trial in failed:
        say(f"trial {trial.number} failed: {trial.reason}")
    if settings.max_failed is not None and len(failed) > settings.max_failed:
        raise TrainingError(
            f"{len(failed)} of {len(trials)} trials failed, more than tune.max_failed {settings.max_failed}"
        )

"""A search on Ray Tune. Stopped, it goes on; with more samples than before, it is extended.

Ray keeps it in STORAGE/NAME/FIRST-LAST/, a folder for each time that samples were asked for. Everything that a later
call needs is there: which trials ended, what their epochs gave, and the last checkpoints of the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pyarrow.fs as pa_fs
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune import CheckpointConfig, FailureConfig, Result, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from nla.cluster import Cluster
from nla.config.ray import RayConfig
from nla.config.tune import Distribution
from nla.config.tune import TuneConfig as Settings
from nla.training.checkpoint import read_history
from nla.training.loop import Split
from nla.tuning.space import active, first_values
from nla.tuning.trial import FAILED, Study, run_trial
from nla.tuning.trials import METRICS, Status, Trial
from nla.tuning.watch import Hooks

RETRIES = 3
"""Times that a trial goes on from its last checkpoint after its process or node was lost."""
SHARE_OF_GPU = 0.125
"""Of a trial, where nothing else is said: networks for faces of 48 px are too small to fill a GPU alone."""
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has the curves
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # how old the state may be that a killed driver leaves; 10 by default
    "RAY_AIR_NEW_OUTPUT": "0",
}
KEPT = 3  # checkpoints a trial: a killed driver's state may name an earlier one, and so does PBT while it copies


def search(
    cluster: Cluster, study: Study, split: Split, settings: Settings, ray: RayConfig, storage: str, hooks: Hooks
) -> list[Trial]:
    """Runs what is missing of `settings.num_samples` trials, and gives all.

    Args:
        storage: folder or URL that all nodes see; the search in it is named by the study's fingerprint.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = f"{storage}/{study.fingerprint}"
    space = settings.distributions
    trainable = _trainable(cluster, study, split, ray, space)
    trials: list[Trial] = []
    done = 0
    for first, last in _parts(root):
        trials += _run(None, trainable, f"{root}/{_part(first, last)}", study, settings, len(trials))
        done = last
    if done < settings.num_samples:
        tuner = _tuner(trainable, study, settings, ray, trials, done, root, hooks)
        path = f"{root}/{_part(done, settings.num_samples)}"
        trials += _run(tuner, trainable, path, study, settings, len(trials))
    return trials


def _trainable(cluster: Cluster, study: Study, split: Split, ray: RayConfig, space: Mapping[str, Distribution]) -> Any:
    """`run_trial` with its data in the object store of each node, and the resources of a trial."""
    gpu = SHARE_OF_GPU if any(node.gpus for node in cluster.nodes) else 0.0
    if ray.use_gpu is False:
        gpu = 0.0
    resources = {"CPU": float(ray.cpus_per_trial), "GPU": gpu if ray.gpus_per_trial is None else ray.gpus_per_trial}
    named = tune.with_parameters(run_trial, study=study, split=split, space=space, cpus=ray.cpus_per_trial)
    return tune.with_resources(named, resources)


def _tuner(
    trainable: Any,
    study: Study,
    settings: Settings,
    ray: RayConfig,
    before: Sequence[Trial],
    done: int,
    root: str,
    hooks: Hooks,
) -> Tuner:
    """A search for the samples from `done` on."""
    metric = "valid_accuracy" if settings.objective == "both" else f"valid_{settings.objective}"
    of_both = settings.objective == "both" and settings.searcher == "optuna"
    budget = settings.time_budget
    return Tuner(
        trainable,
        param_space={name: _domain(distribution) for name, distribution in settings.distributions.items()},
        tune_config=TuneConfig(
            metric=None if of_both else metric,
            mode=None if of_both else "max",
            search_alg=_searcher(study, settings, before, done),
            scheduler=_scheduler(settings),
            num_samples=settings.num_samples - done,
            max_concurrent_trials=ray.max_concurrent_trials,
            time_budget_s=None if budget is None else 60 * budget,
            reuse_actors=True,
            trial_dirname_creator=_folder,
        ),
        run_config=RunConfig(
            name=_part(done, settings.num_samples),
            storage_path=root,
            failure_config=FailureConfig(max(RETRIES, ray.max_failures)),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            callbacks=[hooks],
            verbose=0,
        ),
    )


def _searcher(study: Study, settings: Settings, before: Sequence[Trial], done: int) -> Searcher | SearchAlgorithm:
    """What proposes values: first those without a search, then new ones, in the light of earlier trials."""
    seed = settings.seed + done  # other draws than those of the samples before
    first = [] if before else [first_values(settings.distributions, study.params)]
    if settings.searcher == "random":
        return BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    both = settings.objective == "both"
    metrics = [f"valid_{name}" for name in METRICS]
    known = [trial for trial in before if trial.status != "failed" and set(trial.values) == set(settings.distributions)]
    rewards = [
        tuple(trial.best_row("both")[name] for name in metrics) if both else trial.score(settings.objective)
        for trial in known
    ]
    return OptunaSearch(
        metric=metrics if both else None,
        mode=["max"] * len(metrics) if both else None,
        points_to_evaluate=[dict(trial.values) for trial in known] or first,
        evaluated_rewards=rewards or None,
        seed=seed,
    )


def _scheduler(settings: Settings) -> TrialScheduler:
    grace = min(settings.grace_epochs, settings.epochs)
    match settings.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="epoch", max_t=settings.epochs, grace_period=grace, reduction_factor=settings.reduction
            )
        case "median":
            return MedianStoppingRule(time_attr="epoch", grace_period=grace, min_samples_required=2)
        case "pbt":
            domains = {name: _domain(distribution) for name, distribution in settings.distributions.items()}
            return PopulationBasedTraining(
                time_attr="epoch", perturbation_interval=grace, hyperparam_mutations=domains, log_config=False
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)


def _run(tuner: Tuner | None, trainable: Any, path: str, study: Study, settings: Settings, before: int) -> list[Trial]:
    """The trials of one folder, numbered after `before` others; without a tuner that of the folder goes on."""
    started = time.time()
    results = _fitted(tuner or Tuner.restore(path, trainable))
    for _ in range(RETRIES):
        if not any(_is_lost(result) for result in results):
            break
        # Ray gives a trial up whose next process was on the lost node too; its checkpoint is there.
        results = _fitted(Tuner.restore(path, trainable, resume_errored=True))
    results.sort(key=lambda result: Path(result.path).name)
    return [_trial(result, before + i, study, settings, started) for i, result in enumerate(results)]


def _fitted(tuner: Tuner) -> list[Result]:
    grid = tuner.fit()
    return [grid[i] for i in range(len(grid))]


def _is_lost(result: Result) -> bool:
    """Whether a process or node ended under the trial, and not the trial by itself."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _trial(result: Result, number: int, study: Study, settings: Settings, started: float) -> Trial:
    metrics = result.metrics or {}
    history = [] if result.checkpoint is None else read_history(result.checkpoint.filesystem, result.checkpoint.path)
    values = active(result.config or {}, settings.distributions, study.params)
    status, reason = _ending(result, metrics, len(history), settings)
    end = float(metrics.get("timestamp", started)) - started
    return Trial(number, Path(result.path).name.split("-", 1)[1], values, status, reason, history, max(0.0, end))


def _ending(result: Any, metrics: Mapping[str, Any], epochs: int, settings: Settings) -> tuple[Status, str]:
    if result.error is not None:
        return "failed", str(result.error).strip().splitlines()[-1]
    if FAILED in metrics:
        return "failed", str(metrics[FAILED])
    if epochs >= settings.epochs:
        return "finished", ""
    if epochs == 0:
        return "failed", "time budget: no epoch ended"
    stopper = settings.scheduler if settings.scheduler != "none" else "time budget"
    return "stopped", f"{stopper}, after epoch {epochs} of {settings.epochs}"


def _parts(root: str) -> list[tuple[int, int]]:
    """(first sample, last + 1) of each folder of the search, in order."""
    filesystem, path = pa_fs.FileSystem.from_uri(root)
    found = filesystem.get_file_info(pa_fs.FileSelector(path, allow_not_found=True))
    names = [entry.base_name for entry in found if entry.type == pa_fs.FileType.Directory]
    parts = [tuple(map(int, name.split("-"))) for name in names if name.replace("-", "").isdigit()]
    return sorted((first, last) for first, last in parts if Tuner.can_restore(f"{root}/{_part(first, last)}"))


def _part(first: int, last: int) -> str:
    return f"{first:05d}-{last:05d}"


def _folder(trial: Any) -> str:
    """Sorts as the trials were proposed: Ray's own order changes where a search goes on."""
    return f"{int(trial.experiment_tag.split('_')[0]):05d}-{trial.trial_id}"

"""A search on Ray Tune. Stopped, it goes on; with more samples than before, it is extended.

Ray keeps it in STORAGE/NAME/FIRST-LAST/, a folder for each time that samples were asked for. Everything that a later
call needs is there: which trials ended, what their epochs gave, and the last checkpoints of the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pyarrow.fs as pa_fs
from ray import put, tune
from ray.exceptions import RayError, RayTaskError
from ray.tune import CheckpointConfig, FailureConfig, Result, RunConfig, TuneConfig, Tuner

from nla.cluster import LOWER, Cluster
from nla.config.ray import RayConfig
from nla.config.tune import TuneConfig as Settings
from nla.errors import ConfigError, TrainingError
from nla.training.checkpoint import read_history
from nla.training.loop import Split
from nla.tuning.algorithms import param_space, scheduler, searcher
from nla.tuning.group_trial import group_history, run_group_trial
from nla.tuning.space import active, with_values
from nla.tuning.trial import FAILED, Study, run_trial
from nla.tuning.trials import Status, Trial
from nla.tuning.watch import Hooks

RETRIES = 3
"""Times that a trial goes on from its last checkpoint after its process or node was lost."""
SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C would end a search as if it were done
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has the curves
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # how old the state may be that a killed driver leaves; 10 by default
    "RAY_AIR_NEW_OUTPUT": "0",
}
HEAD_NODE = "node:__internal_head__"
"""Ray's name for a resource of the first node, which no search outlives anyway."""
KEPT = 3  # checkpoints a trial: a killed driver's state may name an earlier one, and so does PBT while it copies


def search(
    cluster: Cluster, study: Study, split: Split, settings: Settings, ray: RayConfig, storage: str, hooks: Hooks
) -> list[Trial]:
    """Runs what is missing of `settings.num_samples` trials, and gives all.

    Args:
        storage: folder or URL that all nodes see; the search in it is named by the study's fingerprint.

    Raises ConfigError for settings that do not go together, TrainingError where a trial finds no room.
    """
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _Search(cluster, study, split, settings, ray, f"{storage}/{study.fingerprint}", hooks).trials()


@dataclass(frozen=True)
class _Search:
    cluster: Cluster
    study: Study
    split: Split
    settings: Settings
    ray: RayConfig
    root: str
    hooks: Hooks

    def trials(self) -> list[Trial]:
        """Those of each folder in turn, and then those that no folder has yet."""
        side_by_side, trainable = self._side_by_side(), self._trainable()
        found: list[Trial] = []
        done = 0
        for first, last in _parts(self.root):
            found += self._part(None, trainable, _name(first, last), len(found))
            done = last
        if done < self.settings.num_samples:
            tuner = self._tuner(trainable, side_by_side, found, done)
            found += self._part(tuner, trainable, _name(done, self.settings.num_samples), len(found))
        return found

    @property
    def _in_groups(self) -> bool:
        return self.ray.workers_per_trial > 1

    @property
    def _workers(self) -> RayConfig:
        """Those of one trial, as Ray Train is told of them."""
        return self.ray.model_copy(
            update={
                "num_workers": self.ray.workers_per_trial,
                "cpus_per_worker": self.ray.cpus_per_trial,
                "max_failures": max(RETRIES, self.ray.max_failures),
            }
        )

    def _side_by_side(self) -> int | None:
        """Trials at a time; None: as Ray Tune finds room. It does not see the workers of a group, and is told.

        Raises TrainingError where not even one finds room: Ray would wait for more without a word.
        """
        if not self._in_groups:
            return self.ray.max_concurrent_trials
        self._check_group()
        cpus = self.ray.cpus_per_trial
        gpu = self.ray.use_gpu is not False and self.cluster.places(1, True) >= self.ray.workers_per_trial
        room = self.cluster.places(cpus, gpu) // self.ray.workers_per_trial
        if not room or (self.ray.use_gpu and not gpu):
            raise TrainingError(f"the cluster has no room for {self.ray.workers_per_trial} workers: {LOWER}")
        return min(room, self.ray.max_concurrent_trials or room)

    def _check_group(self) -> None:
        """Raises ConfigError for what several workers cannot do."""
        workers, batch = self.ray.workers_per_trial, self.study.params["train"]["batch_size"]
        if self.settings.scheduler == "pbt":
            raise ConfigError("tune.scheduler pbt needs ray.workers_per_trial 1: it copies checkpoints among trials")
        if self.ray.gpus_per_trial is not None:
            raise ConfigError("ray.gpus_per_trial needs ray.workers_per_trial 1: each of several has a whole GPU")
        if batch % workers:
            raise ConfigError(f"train.batch_size {batch} must divide by ray.workers_per_trial {workers}")

    def _trainable(self) -> Any:
        """What runs a trial, with its data in the object store of each node, and the resources of its process."""
        given: dict[str, Any] = {"study": self.study, "space": self.settings.distributions}
        if self._in_groups:
            given |= {"split": [put(self.split)], "workers": self._workers, "root": self.root}
            group = tune.with_parameters(run_group_trial, **given)
            return tune.with_resources(group, {HEAD_NODE: 0.001})  # a trial must ask for something
        resources = self.cluster.alone(self.ray)
        given |= {"split": self.split, "cpus": self.ray.cpus_per_trial, "gpu": resources["GPU"] > 0}
        return tune.with_resources(tune.with_parameters(run_trial, **given), resources)

    def _tuner(self, trainable: Any, side_by_side: int | None, before: Sequence[Trial], done: int) -> Tuner:
        """A search for the samples from `done` on."""
        settings = self.settings
        metric = "valid_accuracy" if settings.objective == "both" else f"valid_{settings.objective}"
        has_two = settings.objective == "both" and settings.searcher != "random"  # the searcher knows them
        return Tuner(
            trainable,
            param_space=param_space(settings),
            tune_config=TuneConfig(
                metric=None if has_two else metric,
                mode=None if has_two else "max",
                search_alg=searcher(self.study, settings, before, done, side_by_side),
                scheduler=scheduler(settings),
                num_samples=settings.num_samples - done,
                max_concurrent_trials=None if settings.searcher == "random" else side_by_side,
                time_budget_s=None if settings.time_budget is None else 60 * settings.time_budget,
                reuse_actors=not self._in_groups,  # only the end of its process ends the workers of a group
                trial_dirname_creator=_folder,
            ),
            run_config=RunConfig(
                name=_name(done, settings.num_samples),
                storage_path=self.root,
                failure_config=FailureConfig(max(RETRIES, self.ray.max_failures)),
                checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
                callbacks=[self.hooks],
                verbose=0,
            ),
        )

    def _part(self, tuner: Tuner | None, trainable: Any, name: str, before: int) -> list[Trial]:
        """The trials of one folder, numbered after `before` others; without a tuner that of the folder goes on."""
        path = f"{self.root}/{name}"
        results = _fitted(tuner or _restored(path, trainable))
        for _ in range(RETRIES):
            if not any(_is_lost(result) for result in results):
                break
            # Ray gives a trial up whose next process was on the lost node too; its checkpoint is there.
            results = _fitted(Tuner.restore(path, trainable, resume_errored=True))
        results.sort(key=lambda result: Path(result.path).name)
        started = min(map(_start, results), default=0.0)
        return [self._trial(result, before + i, started) for i, result in enumerate(results)]

    def _trial(self, result: Result, number: int, started: float) -> Trial:
        metrics, trial = result.metrics or {}, Path(result.path).name.split("-", 1)[1]
        history = self._history(result, trial)
        values = active(result.config or {}, self.settings.distributions, self.study.params)
        patience = with_values(self.study.params, values)["train"]["patience"]
        stoppers = _stoppers(self.settings, patience)
        status, reason = _ending(result, metrics, len(history), self.settings.epochs, stoppers)
        ended = float(metrics["timestamp"]) if "timestamp" in metrics else None
        seconds = 0.0 if ended is None else ended - started
        copied = len(history) - 1 if self.settings.scheduler == "pbt" and history else 0
        return Trial(number, trial, values, status, reason, history, seconds, ended, copied)

    def _history(self, result: Result, trial: str) -> list[dict[str, float]]:
        if self._in_groups:
            return group_history(self.root, self.study, trial)
        checkpoint = result.checkpoint
        return [] if checkpoint is None else read_history(checkpoint.filesystem, checkpoint.path)


def _restored(path: str, trainable: Any) -> Tuner:
    try:
        return Tuner.restore(path, trainable)
    except ValueError as error:  # of another function
        raise ConfigError(
            f"ray.workers_per_trial was 1 where it is more now, or the other way round, when the search in {path} was "
            "begun: set it back, or begin anew with `dvc repro -sf tune`"
        ) from error


def _start(result: Result) -> float:
    """When the trial began, in seconds; the end of time where it never did."""
    metrics = result.metrics or {}
    return float(metrics.get("timestamp", float("inf"))) - float(metrics.get("time_total_s", 0.0))


def _fitted(tuner: Tuner) -> list[Result]:
    grid = tuner.fit()
    return [grid[i] for i in range(len(grid))]


def _is_lost(result: Result) -> bool:
    """Whether a process or node ended under the trial, and not the trial by itself."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _ending(result: Result, metrics: Mapping[str, Any], done: int, epochs: int, stoppers: str) -> tuple[Status, str]:
    if result.error is not None:
        return "failed", str(result.error).strip().splitlines()[-1]
    if FAILED in metrics:
        return "failed", str(metrics[FAILED])
    if done >= epochs:
        return "finished", ""
    return "stopped", f"{stoppers}, after epoch {done} of {epochs}"


def _stoppers(settings: Settings, patience: int) -> str:
    """Ray does not tell which of them it was."""
    there = {settings.scheduler: settings.scheduler != "none", "time budget": settings.time_budget is not None}
    return " or ".join(name for name, is_there in {**there, "patience": patience > 0}.items() if is_there)


def _parts(root: str) -> list[tuple[int, int]]:
    """(first sample, last + 1) of each folder of the search, in order."""
    filesystem, path = pa_fs.FileSystem.from_uri(root)
    found = filesystem.get_file_info(pa_fs.FileSelector(path, allow_not_found=True))
    names = [entry.base_name for entry in found if entry.type == pa_fs.FileType.Directory]
    parts = [tuple(map(int, name.split("-"))) for name in names if name.replace("-", "").isdigit()]
    return sorted((first, last) for first, last in parts if Tuner.can_restore(f"{root}/{_name(first, last)}"))


def _name(first: int, last: int) -> str:
    return f"{first:05d}-{last:05d}"


def _folder(trial: Any) -> str:
    """Sorts as the trials were proposed: Ray's own order changes where a search goes on."""
    return f"{int(trial.experiment_tag.split('_')[0]):05d}-{trial.trial_id}"

"""Turns Ray's result of a trial into a `Trial`: its values, its epochs, and how it ended.

Runs a search on Ray Tune: a stopped one resumes, and one with more samples than before is extended.

Everything that a later call needs is in the storage: which trials ended, the metrics of their epochs, and the last
checkpoints of the others (parts.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
from ray import put, tune
from ray.exceptions import RayError, RayTaskError
from ray.tune import CheckpointConfig, FailureConfig, Result, RunConfig, TuneConfig, Tuner

from nla.config.base import section
from nla.config.ray import RayConfig
from nla.config.train import TrainConfig, check_batch
from nla.config.tune import TuneConfig as Settings
from nla.errors import ClusterError, ConfigError
from nla.ray_cluster import LOWER_TRIAL_RESOURCES, Cluster
from nla.training.checkpoint import read_history
from nla.training.trainer import Split
from nla.tuning.callbacks import Hooks, Watcher
from nla.tuning.distributed_trial import group_history, run_group_trial
from nla.tuning.results import Status, Trial
from nla.tuning.searchers import Turns, param_space, scheduler, searcher
from nla.tuning.space import active, with_values
from nla.tuning.storage import Clock, Lost, forget_newest, part_name, parts, restored, trial_folder
from nla.tuning.trial import FAILED, Template, run_trial
from nla.workflow.runs import delete_run


@dataclass(frozen=True)
class Outcomes:
    """Builds the `Trial` of each of Ray's results of one search."""

    params: Mapping[str, Any]
    """Sections of params.yaml before a trial's values are merged in."""
    settings: Settings
    clock: Clock
    history: Callable[[Any, str], list[dict[str, float]]]
    """Returns the rows of a trial's epochs, given Ray's result and the trial's id."""
    cut: Collection[str]
    """Ids of trials that the time budget cut short; grows while the search runs."""

    def trial(self, result: Result, number: int) -> Trial:
        """The trial that `result` belongs to, with its number in the search."""
        metrics, drawn, name = result.metrics or {}, result.config or {}, Path(result.path).name.split("-", 1)[1]
        history = self.history(result, name)
        values = active(drawn, self.settings.distributions, self.params)
        status, reason = self._ending(result, name, values, history)
        ended = float(metrics["timestamp"]) if "timestamp" in metrics else None
        seconds = 0.0 if ended is None else self.clock.spent(ended)
        copied = len(history) - 1 if self.settings.scheduler == "pbt" and history else 0
        return Trial(number, name, values, status, reason, history, seconds, ended, copied, drawn)

    def _ending(
        self, result: Result, name: str, values: Mapping[str, Any], history: Sequence[Mapping[str, float]]
    ) -> tuple[Status, str]:
        failure = (result.metrics or {}).get(FAILED)
        if result.error is not None:
            return "failed", str(result.error).strip().splitlines()[-1]
        if failure is not None:
            return "failed", str(failure)
        if len(history) >= self.settings.epochs:
            return "finished", ""
        if _ended_itself(section(TrainConfig, with_values(self.params, values)), history):
            stopper = "patience"
        else:
            stopper = "time budget" if name in self.cut else self.settings.scheduler
        return "stopped", f"{stopper}, after epoch {len(history)} of {self.settings.epochs}"


def is_lost(result: Result) -> bool:
    """Whether the trial ended because a process or node was lost, rather than by its own error."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _ended_itself(train: TrainConfig, history: Sequence[Mapping[str, float]]) -> bool:
    metrics = [row[f"valid_{train.select}"] for row in history]
    return train.is_over(len(metrics), metrics.index(max(metrics)) + 1 if metrics else 0)


log = logging.getLogger(__name__)

RETRIES = 3
"""How often a trial resumes from its last checkpoint after its process or node was lost."""
SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C would end a search as if it were complete
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has the curves
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # maximum age of the state that a killed driver leaves; default 10
    "RAY_AIR_NEW_OUTPUT": "0",
}
HEAD_NODE = "node:__internal_head__"
"""Ray's name for a resource of the head node, without which a search cannot run anyway."""
KEPT = 3  # checkpoints per trial: a killed driver's state, or PBT while it copies, may refer to an earlier one


def search(
    cluster: Cluster,
    template: Template,
    split: Split,
    settings: Settings,
    ray: RayConfig,
    storage: str,
    watchers: Sequence[Watcher],
    clock: Clock | None = None,
) -> list[Trial]:
    """Runs the missing ones of `settings.num_samples` trials, and returns all.

    Args:
        storage: folder or URL that all nodes see; the search's subfolder is the template's fingerprint.
        clock: run time of this search; None creates one.

    Raises:
        ConfigError: settings that do not go together.
        ClusterError: the cluster has no room for a trial.
    """
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = f"{storage}/{template.fingerprint}"
    clock = clock or Clock(root, settings.time_budget)
    groups = root if ray.workers_per_trial > 1 else None
    history = partial(_history, template, groups)
    hooks = Hooks(watchers, clock, history)
    outcomes = Outcomes(template.params, settings, clock, history, hooks.cut)
    return _Search(cluster, template, split, settings, ray, root, hooks, outcomes).trials()


@dataclass(frozen=True)
class _Search:
    cluster: Cluster
    template: Template
    split: Split
    settings: Settings
    ray: RayConfig
    root: str
    hooks: Hooks
    outcomes: Outcomes

    def trials(self) -> list[Trial]:
        """Finishes the samples of each existing folder in turn, then runs those that no folder has yet."""
        Turns.limit = self._side_by_side()
        found: list[Trial] = []
        done = 0
        for first, last in parts(self.root):
            found += self._kept(first, last, found)
            done = last
        if done < self.settings.num_samples:
            found += self._new(done, self.settings.num_samples, found)
        return found

    @property
    def _in_groups(self) -> bool:
        return self.ray.workers_per_trial > 1

    @property
    def _workers(self) -> RayConfig:
        """The workers of one trial, as a config for Ray Train."""
        return self.ray.model_copy(
            update={
                "num_workers": self.ray.workers_per_trial,
                "cpus_per_worker": self.ray.cpus_per_trial,
                "max_failures": max(RETRIES, self.ray.max_failures),
            }
        )

    def _side_by_side(self) -> int | None:
        """Maximum number of concurrent trials; None leaves it to Ray Tune, which does not see the workers of a group.

        Raises:
            ClusterError: not even one group fits; Ray would wait silently for more resources.
        """
        if not self._in_groups:
            return self.ray.max_concurrent_trials
        self._check_group()
        cpus = self.ray.cpus_per_trial
        gpu = self.ray.use_gpu is not False and self.cluster.slots(1, True) >= self.ray.workers_per_trial
        room = self.cluster.slots(cpus, gpu) // self.ray.workers_per_trial
        if not room or (self.ray.use_gpu and not gpu):
            raise ClusterError(
                f"ray.workers_per_trial: the cluster has no room for {self.ray.workers_per_trial} workers. "
                f"{LOWER_TRIAL_RESOURCES}"
            )
        return min(room, self.ray.max_concurrent_trials or room)

    def _check_group(self) -> None:
        """Raises ConfigError for settings that trials with several workers do not support."""
        if self.settings.scheduler == "pbt":
            raise ConfigError("tune.scheduler pbt needs ray.workers_per_trial 1: it copies checkpoints among trials")
        if self.ray.gpus_per_trial is not None:
            raise ConfigError("ray.gpus_per_trial needs ray.workers_per_trial 1: each of several has a whole GPU")
        searched = self.settings.distributions.get("train.batch_size")
        for size in searched.ends() if searched else [self.template.params["train"]["batch_size"]]:
            check_batch(size, [self.ray.workers_per_trial], "ray.workers_per_trial")

    @cached_property
    def _trainable(self) -> Any:
        """The function that runs a trial, with its data in Ray's object store and the resources of its process."""
        given: dict[str, Any] = {"template": self.template, "space": self.settings.distributions}
        if self._in_groups:
            given |= {"split": [put(self.split)], "workers": self._workers, "root": self.root}
            group = tune.with_parameters(run_group_trial, **given)
            return tune.with_resources(group, {HEAD_NODE: 0.001})  # a trial must request something
        resources = self.cluster.trial_resources(self.ray)
        given |= {"split": self.split, "cpus": self.ray.cpus_per_trial, "gpu": resources["GPU"] > 0}
        return tune.with_resources(tune.with_parameters(run_trial, **given), resources)

    def _tuner(self, first: int, last: int, before: Sequence[Trial]) -> Tuner:
        """A tuner for the samples `first` to `last` - 1."""
        settings = self.settings
        metric = "valid_accuracy" if settings.objective == "both" else f"valid_{settings.objective}"
        has_two = settings.objective == "both" and settings.searcher != "random"  # the searcher knows them
        return Tuner(
            self._trainable,
            param_space=param_space(settings.distributions),
            tune_config=TuneConfig(
                metric=None if has_two else metric,
                mode=None if has_two else "max",
                search_alg=searcher(self.template, settings, before, first),
                scheduler=scheduler(settings),
                num_samples=last - first,
                reuse_actors=not self._in_groups,  # the workers of a group end only with its process
                trial_dirname_creator=trial_folder,
            ),
            run_config=RunConfig(
                name=part_name(first, last),
                storage_path=self.root,
                failure_config=FailureConfig(max(RETRIES, self.ray.max_failures)),
                checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
                callbacks=[self.hooks],
                verbose=0,
            ),
        )

    def _new(self, first: int, last: int, before: Sequence[Trial]) -> list[Trial]:
        """Runs the trials of samples not requested before."""
        return self._ended(self._fitted(self._tuner(first, last, before)), part_name(first, last), len(before))

    def _kept(self, first: int, last: int, before: Sequence[Trial]) -> list[Trial]:
        """Resumes the unfinished trials of one folder, and returns all of its trials.

        A kill can leave an incomplete state file: Ray then resumes from the one before it or, without one, the samples
        are requested anew.
        """
        name = part_name(first, last)
        path = f"{self.root}/{name}"
        while True:
            try:
                return self._ended(self._fitted(restored(path, self._trainable), resumes=True), name, len(before))
            except Lost:
                if not forget_newest(path):
                    break
        log.warning("nothing that can be read was kept of the search in %s: it begins anew", path)
        delete_run(self.root, name)
        return self._new(first, last, before)

    def _fitted(self, tuner: Tuner, *, resumes: bool = False) -> list[Result]:
        self.hooks.resumes = resumes
        grid = tuner.fit()
        return [grid[i] for i in range(len(grid))]

    def _ended(self, results: list[Result], name: str, before: int) -> list[Trial]:
        """The trials of one folder, numbered from `before` on; those that lost their node are retried."""
        for _ in range(RETRIES):
            if not any(is_lost(result) for result in results):
                break
            # Ray gives up a trial whose retry was on the lost node too; its checkpoint still exists.
            again = Tuner.restore(f"{self.root}/{name}", self._trainable, resume_errored=True)
            results = self._fitted(again, resumes=True)
        results.sort(key=lambda result: Path(result.path).name)
        return [self.outcomes.trial(result, before + i) for i, result in enumerate(results)]


def _history(template: Template, groups: str | None, trial: Any, name: str) -> list[dict[str, float]]:
    """Rows of a trial's epochs, from its last checkpoint, known to both Ray's result and Ray's trial.

    Args:
        groups: root of the search if several workers train each trial: Ray Train then has the checkpoints.
    """
    if groups is not None:
        return group_history(groups, template, name)
    checkpoint = trial.checkpoint
    return [] if checkpoint is None else read_history(checkpoint.filesystem, checkpoint.path)

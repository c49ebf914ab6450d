"""Runs a search on Ray Tune: an interrupted one resumes, and one with more samples than before is extended.

All that a later call needs is in the search's folder of the storage (see storage.py): which trials ended, the metrics
of their epochs, and the last checkpoints of the others.
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

from nla.config.ray import RayConfig
from nla.config.train import check_batch
from nla.config.tune import TuneConfig
from nla.errors import ClusterError, ConfigError
from nla.ray_cluster import LOWER_TRIAL_RESOURCES, Cluster
from nla.ray_errors import reason
from nla.training.checkpoint import Progress, read_remote_progress
from nla.training.epoch_report import IS_LAST
from nla.training.trainer import Split
from nla.tuning.distributed_trial import distributed_progress, run_distributed_trial
from nla.tuning.results import Status, Trial
from nla.tuning.searchers import ConcurrencyLimit, build_scheduler, build_searcher, judged_metrics, param_space
from nla.tuning.space import active
from nla.tuning.storage import (
    Clock,
    UnreadableStateError,
    batch_name,
    drop_newest_state,
    restore_tuner,
    saved_batches,
    trial_folder,
)
from nla.tuning.trial import FAILED, Template, run_trial
from nla.tuning.trial_callbacks import SearchMonitor, TrialCallback
from nla.workflow.runs import delete_run

log = logging.getLogger(__name__)

RETRIES = 3
"""How often a trial resumes from its last checkpoint after its process or node was lost."""
RAY_TUNE_ENV = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C would end a search as if it were complete
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has the curves
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # maximum age of the state that a killed driver leaves; Ray's default is 10
    "RAY_AIR_NEW_OUTPUT": "0",
}
HEAD_NODE_RESOURCE = "node:__internal_head__"
"""Ray's name for a resource of the head node, without which a search cannot run anyway."""
CHECKPOINTS_PER_TRIAL = 3
"""More than the last one: a killed driver's state, or PBT while it copies, may refer to an earlier checkpoint."""


def run_search(
    cluster: Cluster,
    template: Template,
    split: Split,
    settings: TuneConfig,
    ray: RayConfig,
    storage: str,
    callbacks: Sequence[TrialCallback],
    clock: Clock | None = None,
) -> list[Trial]:
    """Runs the missing ones of `settings.num_samples` trials, and returns all.

    Args:
        storage: folder or URL that all nodes see; the search's subfolder is the template's fingerprint.
        callbacks: called for each event of a trial.
        clock: run time of this search; None creates one.

    Raises:
        ConfigError: settings that cannot be combined.
        ClusterError: the cluster has no room for a trial.
    """
    os.environ.update({name: value for name, value in RAY_TUNE_ENV.items() if name not in os.environ})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = f"{storage}/{template.fingerprint}"
    clock = clock or Clock(root, settings.time_budget)
    progress = partial(_progress, template, root if ray.workers_per_trial > 1 else None)
    monitor = SearchMonitor(callbacks, clock, judged_metrics(settings))
    reader = _TrialReader(template.params, settings, clock, progress, monitor.out_of_time)
    return _Search(cluster, template, split, settings, ray, root, monitor, reader).run()


@dataclass(frozen=True)
class _Search:
    """One call of a search."""

    cluster: Cluster
    template: Template
    split: Split
    settings: TuneConfig
    ray: RayConfig
    root: str
    monitor: SearchMonitor
    reader: _TrialReader

    def run(self) -> list[Trial]:
        """Resumes each saved batch in turn, then runs the samples that no batch has yet."""
        ConcurrencyLimit.trials = self._concurrency_limit()
        trials: list[Trial] = []
        num_samples = 0
        for first, last in saved_batches(self.root):
            trials += self._resume_batch(first, last, trials)
            num_samples = last
        if num_samples < self.settings.num_samples:
            trials += self._start_batch(num_samples, self.settings.num_samples, trials)
        return trials

    def _start_batch(self, first: int, last: int, earlier: Sequence[Trial]) -> list[Trial]:
        """Runs the trials of the samples `first` to `last` - 1."""
        results = self._fit(self._tuner(first, last, earlier))
        return self._read_trials(results, batch_name(first, last), len(earlier))

    def _resume_batch(self, first: int, last: int, earlier: Sequence[Trial]) -> list[Trial]:
        """Runs the unfinished trials of a batch, and returns all of its trials.

        A kill can leave an incomplete state file: Ray then resumes from the one before it or, without one, the batch
        starts over.
        """
        name = batch_name(first, last)
        path = f"{self.root}/{name}"
        while True:
            try:
                results = self._fit(restore_tuner(path, self._trainable), is_resuming=True)
                return self._read_trials(results, name, len(earlier))
            except UnreadableStateError:
                if not drop_newest_state(path):
                    break
        log.warning("%s: saved state is unreadable: starting the search over", path)
        delete_run(self.root, name)
        return self._start_batch(first, last, earlier)

    def _fit(self, tuner: tune.Tuner, *, is_resuming: bool = False) -> list[tune.Result]:
        self.monitor.is_resuming = is_resuming
        grid = tuner.fit()
        return [grid[i] for i in range(len(grid))]

    def _read_trials(self, results: list[tune.Result], batch: str, num_earlier: int) -> list[Trial]:
        """The trials of one batch, numbered from `num_earlier` on; those that lost their node are retried."""
        for _ in range(RETRIES):
            if not any(_lost_its_process(result) for result in results):
                break
            # Ray gives up a trial whose retry was on the lost node too; its checkpoint still exists.
            tuner = tune.Tuner.restore(f"{self.root}/{batch}", self._trainable, resume_errored=True)
            results = self._fit(tuner, is_resuming=True)
        results.sort(key=lambda result: Path(result.path).name)
        return [self.reader.trial(result, num_earlier + i) for i, result in enumerate(results)]

    def _tuner(self, first: int, last: int, earlier: Sequence[Trial]) -> tune.Tuner:
        """A tuner for the samples `first` to `last` - 1."""
        settings = self.settings
        metric = judged_metrics(settings)[0]
        searcher_has_metrics = settings.objective == "both" and settings.searcher != "random"
        return tune.Tuner(
            self._trainable,
            param_space=param_space(settings.distributions),
            tune_config=tune.TuneConfig(
                metric=None if searcher_has_metrics else metric,
                mode=None if searcher_has_metrics else "max",
                search_alg=build_searcher(self.template, settings, earlier, first),
                scheduler=build_scheduler(settings, self.template.params),
                num_samples=last - first,
                reuse_actors=not self._is_distributed,  # Ray Train's workers end only with the trial's process
                trial_dirname_creator=trial_folder,
            ),
            run_config=tune.RunConfig(
                name=batch_name(first, last),
                storage_path=self.root,
                failure_config=tune.FailureConfig(max(RETRIES, self.ray.max_failures)),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=CHECKPOINTS_PER_TRIAL),
                callbacks=[self.monitor],
                verbose=0,
            ),
        )

    @cached_property
    def _trainable(self) -> Any:
        """The function that runs a trial, with its data in Ray's object store and the resources of its process."""
        given: dict[str, Any] = {"template": self.template, "space": self.settings.distributions}
        if self._is_distributed:
            given |= {"split": [put(self.split)], "workers": self._worker_config, "root": self.root}
            trainable = tune.with_parameters(run_distributed_trial, **given)
            return tune.with_resources(trainable, {HEAD_NODE_RESOURCE: 0.001})  # a trial must request something
        resources = self.cluster.trial_resources(self.ray)
        given |= {"split": self.split, "cpus": self.ray.cpus_per_trial, "gpu": resources["GPU"] > 0}
        return tune.with_resources(tune.with_parameters(run_trial, **given), resources)

    @property
    def _is_distributed(self) -> bool:
        """Whether several workers train each trial."""
        return self.ray.workers_per_trial > 1

    @property
    def _worker_config(self) -> RayConfig:
        """The workers of one distributed trial, as a config for Ray Train."""
        return self.ray.model_copy(
            update={
                "num_workers": self.ray.workers_per_trial,
                "cpus_per_worker": self.ray.cpus_per_trial,
                "max_failures": max(RETRIES, self.ray.max_failures),
            }
        )

    def _concurrency_limit(self) -> int | None:
        """Maximum number of concurrent trials; None leaves it to Ray Tune, which does not see Ray Train's workers.

        Raises:
            ClusterError: not even one distributed trial fits; Ray would wait silently for more resources.
        """
        if not self._is_distributed:
            return self.ray.max_concurrent_trials
        self._check_distributed()
        workers, cpus = self.ray.workers_per_trial, self.ray.cpus_per_trial
        gpu = self.ray.use_gpu is not False and self.cluster.slots(1, True) >= workers
        fitting = self.cluster.slots(cpus, gpu) // workers
        if not fitting or (self.ray.use_gpu and not gpu):
            raise ClusterError(
                f"ray.workers_per_trial: the cluster has no room for {workers} workers. {LOWER_TRIAL_RESOURCES}"
            )
        return min(fitting, self.ray.max_concurrent_trials or fitting)

    def _check_distributed(self) -> None:
        """Raises ConfigError for settings that trials with several workers do not support."""
        workers = self.ray.workers_per_trial
        if self.settings.scheduler == "pbt":
            raise ConfigError(
                "tune.scheduler: pbt copies checkpoints between trials, and needs ray.workers_per_trial 1 (got "
                f"{workers}). Set it to 1, or choose another scheduler."
            )
        if self.ray.gpus_per_trial is not None:
            raise ConfigError(
                f"ray.gpus_per_trial: each of {workers} workers per trial has a whole GPU (got "
                f"{self.ray.gpus_per_trial:g}). Set it to null, or ray.workers_per_trial to 1."
            )
        searched = self.settings.distributions.get("train.batch_size")
        for size in searched.ends() if searched else [self.template.params["train"]["batch_size"]]:
            check_batch(size, [workers], "ray.workers_per_trial")


@dataclass(frozen=True)
class _TrialReader:
    """Reads Ray's result of a trial into a `Trial`: its values, its epochs, and how it ended."""

    params: Mapping[str, Any]
    """Sections of params.yaml before a trial's values are merged in."""
    settings: TuneConfig
    clock: Clock
    progress: Callable[[tune.Result, str], Progress | None]
    """Returns a trial's progress, given Ray's result and the trial's id."""
    out_of_time: Collection[str]
    """Ids of trials that the time budget stopped; grows while the search runs."""

    def trial(self, result: tune.Result, number: int) -> Trial:
        """The trial of `result`, with its number in the search."""
        metrics, proposed, trial_id = result.metrics or {}, result.config or {}, Path(result.path).name.split("-", 1)[1]
        progress = self.progress(result, trial_id)
        history = progress.history if progress else []
        values = active(proposed, self.settings.distributions, self.params)
        status, reason = self._ending(result, trial_id, len(history))
        ended_at = float(metrics["timestamp"]) if "timestamp" in metrics else None
        seconds = 0.0 if ended_at is None else self.clock.spent(ended_at)
        best_epoch = progress.best_epoch if progress else 0
        if self.settings.scheduler == "pbt":
            best_epoch = len(history)
        return Trial(
            number,
            trial_id,
            values,
            status,
            reason,
            history,
            seconds,
            ended_at,
            best_epoch,
            is_final=bool(metrics.get(IS_LAST)),
            proposed=proposed,
        )

    def _ending(self, result: tune.Result, trial_id: str, epochs: int) -> tuple[Status, str]:
        metrics = result.metrics or {}
        failure = metrics.get(FAILED)
        if result.error is not None:
            return "failed", reason(result.error)
        if failure is not None:
            return "failed", str(failure)
        if epochs >= self.settings.epochs:
            return "finished", ""
        if metrics.get(IS_LAST):
            cause = "patience"
        else:
            cause = "time budget" if trial_id in self.out_of_time else self.settings.scheduler
        return "stopped", f"{cause}, after epoch {epochs} of {self.settings.epochs}"


def _lost_its_process(result: tune.Result) -> bool:
    """Whether the trial ended because its process or node was lost, rather than by its own error."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _progress(template: Template, distributed_root: str | None, result: tune.Result, trial_id: str) -> Progress | None:
    """The progress of a trial in its last checkpoint; None without one.

    Args:
        distributed_root: folder of the search if several workers train each trial: Ray Train then has the checkpoints.
    """
    if distributed_root is not None:
        return distributed_progress(distributed_root, template, trial_id)
    checkpoint = result.checkpoint
    return None if checkpoint is None else read_remote_progress(checkpoint.filesystem, checkpoint.path)

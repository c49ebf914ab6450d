"""One trial with several workers: Ray Train inside the trial's process, reporting epochs to Ray Tune.

Ray Train saves the checkpoints in STORAGE/FINGERPRINT/groups/FINGERPRINT-TRIAL/, from which a restarted trial resumes.
Each trial starts many processes, which takes about 20 s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow.fs as pa_fs
import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from nla.config.ray import RayConfig
from nla.config.tune import Distribution
from nla.errors import ClusterError, Damaged, NLAError
from nla.ray_cluster import connected
from nla.training.checkpoint import STATE, Progress, read_remote_progress
from nla.training.ray_train import train_on
from nla.training.trainer import Split
from nla.tuning.space import active
from nla.tuning.trial import Template, report_failure

log = logging.getLogger(__name__)


def run_distributed_trial(
    config: dict[str, Any],
    template: Template,
    split: list[ray.ObjectRef[Split]],
    space: Mapping[str, Distribution],
    workers: RayConfig,
    root: str,
) -> None:
    """The trainable of Ray Tune.

    Args:
        config: dotted names -> values; parameters whose conditions do not hold are dropped.
        split: reference to the data in Ray's object store; in a list, because Ray would fetch a bare reference.
        workers: number of workers and resources of each.
        root: folder or URL of the search.
    """
    job = template.job(active(config, space, template.params))
    job = replace(job, fingerprint=_run_name(template, tune.get_context().get_trial_id()))
    reporter = TuneReportCallback()  # type: ignore[no-untyped-call]
    try:
        with (
            connected(workers) as cluster,
            train_on(cluster, job, split[0], workers, _storage(root), ray_callbacks=[reporter]),
        ):
            pass
    except ClusterError:  # Ray Tune retries the trial
        raise
    except NLAError as error:
        report_failure(error)
    while not reporter._training_actor_item_queue.empty():
        time.sleep(0.1)  # otherwise Ray Tune misses the last epoch, or waits forever while holding it


def distributed_progress(root: str, template: Template, trial_id: str) -> Progress | None:
    """The progress in a trial's last complete checkpoint; None without a checkpoint."""
    filesystem, path = pa_fs.FileSystem.from_uri(f"{_storage(root)}/{_run_name(template, trial_id)}")
    found = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True, allow_not_found=True))
    states = [entry.path for entry in found if entry.base_name == STATE]
    progresses = (_intact_progress(filesystem, state.removesuffix(f"/{STATE}")) for state in states)
    return max(filter(None, progresses), key=lambda progress: progress.epochs_done, default=None)


def _intact_progress(filesystem: pa_fs.FileSystem, folder: str) -> Progress | None:
    """The progress in a checkpoint; None if it is damaged, since the trial then resumes from the one before."""
    try:
        return read_remote_progress(filesystem, folder)
    except Damaged as error:
        log.warning(error)
        return None


def _storage(root: str) -> str:
    """Ray Train's storage for all trials of the search in `root`."""
    return f"{root}/groups"


def _run_name(template: Template, trial_id: str) -> str:
    return f"{template.fingerprint}-{trial_id}"

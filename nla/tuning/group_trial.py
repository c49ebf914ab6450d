"""One trial of several workers: Ray Train in the trial's process, and its epochs told to Ray Tune.

Ray Train keeps the checkpoints, in STORAGE/SEARCH/groups/SEARCH-TRIAL/: a trial that starts again finds its own, and
goes on. Each starts many processes, which takes some 20 s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow.fs as pa_fs
import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from nla.cluster import connected
from nla.config.ray import RayConfig
from nla.config.tune import Distribution
from nla.errors import ClusterError, NLAError
from nla.training.checkpoint import STATE, read_history
from nla.training.distributed import train_on
from nla.training.loop import Split
from nla.training.observer import Silent
from nla.tuning.space import active
from nla.tuning.trial import Template, report_failure


def run_group_trial(
    config: dict[str, Any],
    template: Template,
    split: list[ray.ObjectRef[Split]],
    space: Mapping[str, Distribution],
    workers: RayConfig,
    root: str,
) -> None:
    """What Ray Tune calls.

    Args:
        config: dotted names -> values; those whose conditions do not hold are left out.
        split: where Ray has the data; in a list, as Ray would fetch a bare one.
        workers: how many, and what each has.
        root: folder or URL of the search.
    """
    job = template.job(active(config, space, template.params))
    job = replace(job, fingerprint=_name(template, tune.get_context().get_trial_id()))
    tell = TuneReportCallback()  # type: ignore[no-untyped-call]
    try:
        with connected(workers) as cluster, train_on(cluster, job, split[0], workers, _groups(root), Silent(), [tell]):
            pass
    except ClusterError:  # Ray Tune tries again
        raise
    except NLAError as error:
        report_failure(error)
    while not tell._training_actor_item_queue.empty():
        time.sleep(0.1)  # Ray Tune would not hear of the last epoch, or wait for ever with it in its hands


def group_history(root: str, template: Template, trial: str) -> list[dict[str, float]]:
    """The rows of a trial's epochs, from its last whole checkpoint; none where there is none."""
    filesystem, path = pa_fs.FileSystem.from_uri(f"{_groups(root)}/{_name(template, trial)}")
    found = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True, allow_not_found=True))
    states = [entry.path for entry in found if entry.base_name == STATE]
    return max((read_history(filesystem, state.removesuffix(f"/{STATE}")) for state in states), key=len, default=[])


def _groups(root: str) -> str:
    return f"{root}/groups"


def _name(template: Template, trial: str) -> str:
    return f"{template.fingerprint}-{trial}"

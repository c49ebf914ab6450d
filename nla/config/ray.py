"""`ray`: where it runs. No stage's parameter, so that moving to a cluster makes nothing stale."""

from __future__ import annotations

from typing import Annotated, ClassVar

import psutil
from pydantic import Field

from nla.config.base import Section


class RayConfig(Section):
    """Where it runs."""

    NAME: ClassVar[str] = "ray"

    address: str | None = None
    """Of a running cluster; null takes RAY_ADDRESS, else starts Ray on this machine."""
    num_workers: Annotated[int, Field(ge=1)] = 1
    use_gpu: bool | None = None
    """null: a GPU a worker where the cluster has enough of them."""
    cpus_per_worker: Annotated[int, Field(ge=1)] | None = None
    """null: as many as let every worker lie whole on one node."""
    storage_path: str | None = None
    """Checkpoints of runs under way, shared by all nodes (a URL, or a folder, from the project's root where it is
    relative); null is .runs/ of the project."""
    images_in_memory: Annotated[float, Field(ge=0)] | None = None
    """GiB of decoded images of a split; larger ones lie in a file of .runs/, which is mapped. null: a quarter of the
    memory."""
    workers_per_trial: Annotated[int, Field(ge=1)] = 1
    """Of a search; more than one train a trial together, on Ray Train."""
    cpus_per_trial: Annotated[int, Field(ge=1)] = 1
    """Of each of its workers; as many trials as find room run side by side."""
    gpus_per_trial: Annotated[float, Field(ge=0)] | None = None
    """null: an eighth where the cluster has GPUs, as eight trials share one well. Each worker of several has a whole
    one."""
    max_concurrent_trials: Annotated[int, Field(ge=1)] | None = None
    """null: as many as find room."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """Times that training goes on from its last checkpoint after a worker is lost."""

    @property
    def image_bytes(self) -> int:
        """`images_in_memory` in bytes."""
        if self.images_in_memory is None:
            return psutil.virtual_memory().total // 4
        return int(self.images_in_memory * 2**30)

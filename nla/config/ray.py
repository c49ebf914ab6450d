"""`ray`: where runs execute. Changing it, as for a move to a cluster, does not invalidate any stage."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator

from nla.config.base import Section
from nla.hardware import memory
from nla.limits import MOST_TRIALS, MOST_WORKERS


def _count_or_range(value: Any) -> int | tuple[int, int]:
    """Validates a number of workers, or [min, max]."""
    counts = [value, value] if type(value) is int else value
    if not isinstance(counts, list | tuple) or [type(count) for count in counts] != [int, int]:
        raise ValueError("must be an integer or [min, max]")
    if value == 0:
        return 0
    if not 1 <= counts[0] <= counts[1]:
        raise ValueError("must be an integer >= 0 or [min, max] with 1 <= min <= max")
    if counts[1] > MOST_WORKERS:
        raise ValueError(f"must be at most {MOST_WORKERS:,} workers")
    return counts[0] if counts[0] == counts[1] else (counts[0], counts[1])


class RayConfig(Section):
    """Where runs execute, and with which resources."""

    NAME: ClassVar[str] = "ray"

    address: str | None = None
    """Address of a running cluster; null falls back to RAY_ADDRESS, then to a local Ray."""
    num_workers: Annotated[int | tuple[int, int], PlainValidator(_count_or_range)] = 1
    """Workers of one training run. [min, max]: as many as fit, resized as cluster nodes join or leave. 0: the stage
    trains in its own process, and uses only use_gpu, cpus_per_worker and images_in_memory of this section; checkpoints
    are not interchangeable between the two modes."""
    use_gpu: bool | None = None
    """null: one GPU per worker if available."""
    cpus_per_worker: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    """null: the most that lets every worker fit on one node."""
    storage_path: str | None = None
    """URL or folder, shared by all nodes, for checkpoints of unfinished runs; a relative folder starts at the project's
    root. null: .runs/ of the project."""
    images_in_memory: Annotated[float, Field(ge=0)] | None = None
    """Memory for decoded images, GiB per split; larger splits are memory-mapped from a file in .runs/. null: a quarter
    of the memory."""
    workers_per_trial: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """Workers of each trial of a search; with several, Ray Train runs the trial."""
    cpus_per_trial: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """CPUs of each worker of a trial; as many trials as fit run in parallel."""
    gpus_per_trial: Annotated[float, Field(ge=0)] | None = None
    """null: an eighth of a GPU if the cluster has GPUs, as eight trials run well on one GPU. With several workers per
    trial, each has a whole GPU."""
    max_concurrent_trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """null: as many as fit."""
    max_failures: Annotated[int, Field(ge=0, le=MOST_WORKERS)] = 0
    """Maximum restarts of training, each from its last checkpoint, after a worker is lost."""

    @property
    def in_process(self) -> bool:
        """Whether the stage trains in its own process, without Ray."""
        return self.num_workers == 0

    @property
    def workers(self) -> tuple[int, int]:
        """(min, max) workers of one training run."""
        fewest, most = self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers,) * 2
        return max(fewest, 1), max(most, 1)

    @property
    def image_bytes(self) -> int:
        """`images_in_memory` in bytes."""
        if self.images_in_memory is None:
            return memory() // 4
        return int(self.images_in_memory * 2**30)

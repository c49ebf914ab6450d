"""`ray`: where it runs. No stage's parameter, so that moving to a cluster makes nothing stale."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator

from nla.config.base import Section
from nla.machine.available import memory


def _count_or_range(value: Any) -> int | tuple[int, int]:
    """A number of workers, or [fewest, most]."""
    counts = [value, value] if type(value) is int else value
    if not isinstance(counts, list | tuple) or [type(count) for count in counts] != [int, int]:
        raise ValueError("give a whole number, or [fewest, most]")
    if value == 0:
        return 0
    if not 1 <= counts[0] <= counts[1]:
        raise ValueError("give 0, or one worker at least, and no fewer at most than at least")
    return counts[0] if counts[0] == counts[1] else (counts[0], counts[1])


class RayConfig(Section):
    """Where it runs."""

    NAME: ClassVar[str] = "ray"

    address: str | None = None
    """Of a running cluster; null takes RAY_ADDRESS, else starts Ray on this machine."""
    num_workers: Annotated[int | tuple[int, int], PlainValidator(_count_or_range)] = 1
    """Of one training. [fewest, most]: as many of them as find room, and on a cluster of others another number once
    nodes go or come. 0: the stage's own process trains, and of this section only use_gpu, cpus_per_worker and
    images_in_memory count for it; its epochs under way are not those of Ray's workers."""
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
    def here(self) -> bool:
        """Whether the stage's own process trains."""
        return self.num_workers == 0

    @property
    def workers(self) -> tuple[int, int]:
        """(fewest, most) of one training."""
        fewest, most = self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers,) * 2
        return max(fewest, 1), max(most, 1)

    @property
    def image_bytes(self) -> int:
        """`images_in_memory` in bytes."""
        if self.images_in_memory is None:
            return memory() // 4
        return int(self.images_in_memory * 2**30)

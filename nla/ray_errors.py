"""Errors of Ray as one line for the user: what happened, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from ray.exceptions import OutOfMemoryError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

OUT_OF_MEMORY = (
    "a node ran out of memory, and Ray ended its largest process. Lower ray.num_workers (in a search "
    "ray.max_concurrent_trials) or train.batch_size, or map the images from a file with a smaller ray.images_in_memory."
)


def reason(error: BaseException) -> str:
    """Why Ray failed: its last line, or the advice for a lack of memory, which it says in a dozen lines."""
    if any(isinstance(cause, OutOfMemoryError) for cause in causes(error)):
        return OUT_OF_MEMORY
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it stands for: of workers, by rank, of Ray Train's controller, of a task."""
    yield error
    inner: list[BaseException] = []
    if isinstance(error, WorkerGroupError):
        inner = [failure for _, failure in sorted(error.worker_failures.items())]
    elif isinstance(error, ControllerError):
        inner = [error.controller_failure]
    elif isinstance(error, RayTaskError):
        inner = [error.cause]
    for each in inner:
        yield from causes(each)

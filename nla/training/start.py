"""What a training starts from: weights of a local file, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nla.models.weights import start_from
from nla.training.job import Job


def with_first_weights(job: Job, root: Path) -> tuple[Job, str]:
    """The job with the weights of model.weights, a path from `root` on, and a line that says what it starts from."""
    if job.model.weights is None:
        line = "NO PRETRAINED WEIGHTS: training starts FROM SCRATCH (model.weights is null)"
        return replace(job, facts={**job.facts, "first_weights": None}), line
    start = start_from(job.build(), root / job.model.weights)
    line = f"first weights: {start.path}, sha256 {start.sha256}, not used: {', '.join(start.skipped) or 'nothing'}"
    first = {"sha256": start.sha256, "skipped": list(start.skipped)}
    started = replace(job, first_weights=start.tensors, facts={**job.facts, "first_weights": first})
    return started, line

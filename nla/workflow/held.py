"""Locks the folder of a training or a search while a stage works on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nla.config.ray import RayConfig
from nla.console import say
from nla.workflow.dvc import forced
from nla.workflow.runs import Run
from nla.workflow.storage import absolute, forget


class Held(NamedTuple):
    """Resources of a stage while it holds the lock."""

    run: Run
    storage: str
    """Folder or URL above the checkpoints that Ray keeps for it."""


@contextlib.contextmanager
def held(root: Path, fingerprint: str, ray: RayConfig) -> Iterator[Held]:
    """Locks the folder of `fingerprint` in the project `root`; under `dvc repro -f` its contents are deleted."""
    run = Run(root, fingerprint)
    storage = absolute(ray.storage_path or str(run.folder.parent))
    with run.lock(say):
        if forced():
            for place in {storage, str(run.folder.parent)}:
                forget(place, fingerprint)
        yield Held(run, storage)

"""The folder of a training or a search while a stage works on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nla.config.ray import RayConfig
from nla.console import say
from nla.tracking import configure
from nla.training.storage import absolute, forget
from nla.workflow.dvc import forced
from nla.workflow.runs import Run


class Held(NamedTuple):
    """What a stage has in its hands."""

    run: Run
    storage: str
    """Folder or URL above Ray's checkpoints of it."""
    uri: str
    """Of MLflow's store."""


@contextlib.contextmanager
def held(root: Path, fingerprint: str, ray: RayConfig) -> Iterator[Held]:
    """Locks the folder of `fingerprint` in the project `root`; under `dvc repro -f` what it held is gone.

    Raises RegistryError where MLflow's store cannot be used, before anything is removed.
    """
    run = Run(root, fingerprint)
    storage = absolute(ray.storage_path or str(run.folder.parent))
    with run.lock(say):
        uri = configure(root)
        if forced():
            for place in {storage, str(run.folder.parent)}:
                forget(place, fingerprint)
        yield Held(run, storage, uri)

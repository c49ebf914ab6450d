"""The two folders a stage stands in: what lasts, and where DVC runs it now."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The project that runs, stores and registries belong to, absolute.

    `dvc exp run --temp` and `--queue` run stages in a copy that is thrown away; DVC_ROOT still names the project.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def workspace() -> Path:
    """The folder with the params, data and outs of this run, absolute: the project, or DVC's copy of it."""
    return Path.cwd().resolve()

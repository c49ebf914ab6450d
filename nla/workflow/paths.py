"""Locations: the permanent project, the workspace where DVC runs a stage, and addresses that are safe to show."""

from __future__ import annotations

import os
import re
from pathlib import Path


def project_root() -> Path:
    """Absolute path of the project, to which runs, stores and registries belong.

    `dvc exp run --temp` and `--queue` run stages in a temporary copy; DVC_ROOT still names the project.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def workspace() -> Path:
    """Absolute path of the folder with the params, data and outs of this run: the project, or DVC's copy of it."""
    return Path.cwd().resolve()


def without_credentials(uri: str) -> str:
    """`uri` without user, password and query, any of which can hold a secret."""
    if not uri.startswith(("http:", "https:")):  # SQLAlchemy allows / and ? in a password
        uri = re.sub(r"//[^:/@]*:[^@]*@", "//", uri, count=1)
    return re.sub(r"//[^/]*@", "//", uri.partition("?")[0])

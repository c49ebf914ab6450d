"""Protects files in a working tree that `dvc exp run` overwrites."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

WRITTEN = (
    "params.yaml",
    "dvc.lock",
    "best.yaml",
    "reports/audit/summary.json",
    "reports/ingest.json",
    "reports/prepare.json",
    "reports/metrics.json",
)


@contextlib.contextmanager
def restored(root: Path) -> Iterator[None]:
    """Restores the files afterwards, committed or not, even after an error."""
    before = {root / name: (root / name).read_bytes() if (root / name).exists() else None for name in WRITTEN}
    try:
        yield
    finally:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)


def take_committed(root: Path, name: str) -> None:
    """Overwrites a file with its last committed version."""
    done = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=root, check=True, capture_output=True)
    (root / name).write_bytes(done.stdout)

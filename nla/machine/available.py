"""Cores and memory available to this process, which a container or a scheduler can limit."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Linux's control groups, version 2; a container sees its own."""


def cores() -> int:
    """Number of cores that this process can run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory(cgroup: Path = CGROUP) -> int:
    """Memory limit of this process in bytes, not reduced by what other processes use."""
    total: int = psutil.virtual_memory().total
    limit = cgroup / "memory.max"
    text = limit.read_text().strip() if limit.is_file() else "max"
    return total if text == "max" else min(total, int(text))

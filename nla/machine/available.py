"""Cores and memory available to this process, which a container or a scheduler can limit."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Linux's control groups, version 2; a container sees its own."""


def cores(cgroup: Path = CGROUP) -> int:
    """Number of cores that this process can keep busy, at least 1: a container may have a share of their time only."""
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()  # macOS has none
    present = len(bound) or os.cpu_count() or 1
    quota, period = (_limit(cgroup / "cpu.max") or "max 1").split()
    return present if quota == "max" else min(present, math.ceil(int(quota) / int(period)))


def memory(cgroup: Path = CGROUP) -> int:
    """Memory limit of this process in bytes, not reduced by what other processes use."""
    total: int = psutil.virtual_memory().total
    limit = _limit(cgroup / "memory.max") or "max"
    return total if limit == "max" else min(total, int(limit))


def _limit(path: Path) -> str:
    """Content of a control file; empty where there is none, as in the root group."""
    return path.read_text().strip() if path.is_file() else ""

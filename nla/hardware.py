"""The hardware of this process: the cores and memory it may use, the processor, its description, and bfloat16."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")
"""Linux's control groups, version 2; a container sees its own."""
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instruction sets that the speed of training depends on, as /proc/cpuinfo names them."""
PACKAGES = ("torch", "ray", "mlflow", "dvc", "albumentations", "pyarrow")
"""Packages that results depend on."""


def cores(cgroup: Path = CGROUP) -> int:
    """Number of cores that this process can keep busy, at least 1: a container may only have a share of their time."""
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


@cache
def cpu() -> dict[str, str]:
    """The first core's entries in /proc/cpuinfo, such as `vendor_id`, `model name` and `flags`; {} without it."""
    first = CPUINFO.read_text().split("\n\n")[0].splitlines() if CPUINFO.exists() else []
    lines = (line.partition(":") for line in first)
    return {name.strip(): value.strip() for name, _, value in lines}


def is_amd() -> bool:
    """Whether the processor is made by AMD."""
    return cpu().get("vendor_id") == "AuthenticAMD"


def machine() -> dict[str, Any]:
    """The processor with those of INSTRUCTIONS that it has, and the Python version; JSON-serializable."""
    name, flags = cpu().get("model name", "unknown"), cpu().get("flags", "").split()
    instructions = [name for name in INSTRUCTIONS if name in flags]
    return {"cpu": name, "cores": os.cpu_count(), "instructions": instructions, "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Installed version of each of PACKAGES."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def in_words(machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """One line of what `machine` and `versions` return, for the caption of a table."""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    hardware = f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['instructions'])})"
    return f"{hardware}; {packages}; Python {machine['python']}"


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to autocast to bfloat16: `bf16` yes, `fp32` no, `auto` where the hardware is faster at it."""
    return precision == "bf16" or (precision == "auto" and _is_faster_in_bf16(device))


def _is_faster_in_bf16(device: torch.device) -> bool:
    """True for GPUs with bfloat16, AMX, and AMD's AVX512-BF16.

    A ResNet-18 trains 1.5 to 1.9 times as fast as in float32 on AMD, but at 0.75 of its speed on an Intel CPU that has
    AVX512-BF16 without AMX.
    """
    import torch  # seconds to import, and not needed for cores and memory

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported()) or (is_amd() and bool(torch.cpu._is_avx512_bf16_supported()))

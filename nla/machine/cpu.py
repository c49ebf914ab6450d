"""The processor, as described by the Linux kernel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def cpu() -> dict[str, str]:
    """The first core's entries in /proc/cpuinfo, such as `vendor_id`, `model name` and `flags`; {} without it."""
    first = CPUINFO.read_text().split("\n\n")[0].splitlines() if CPUINFO.exists() else []
    lines = (line.partition(":") for line in first)
    return {name.strip(): value.strip() for name, _, value in lines}


def is_amd() -> bool:
    """Whether the processor is made by AMD."""
    return cpu().get("vendor_id") == "AuthenticAMD"

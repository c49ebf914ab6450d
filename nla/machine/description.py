"""Hardware and versions behind a measurement, without host or user names."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

from nla.machine.cpu import cpu

PACKAGES = ("torch", "ray", "mlflow", "dvc", "albumentations", "pyarrow")
"""Packages that results depend on."""
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine() -> dict[str, Any]:
    """Hardware, and Python version."""
    name, flags = cpu().get("model name", "unknown"), cpu().get("flags", "").split()
    known = [instruction for instruction in INSTRUCTIONS if instruction in flags]
    return {"cpu": name, "cores": os.cpu_count(), "instructions": known, "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Installed version of each of PACKAGES."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def in_words(machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Both in one line, for the caption of a table."""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    hardware = f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['instructions'])})"
    return f"{hardware}; {packages}; Python {machine['python']}"

"""Records of what was measured: hardware, versions and commit beside every figure."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks/records"
PACKAGES = ("torch", "ray", "mlflow", "dvc", "albumentations", "pyarrow")


def machine() -> dict[str, Any]:
    """The hardware, without a name."""
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    flags = next((line.split(":")[1].split() for line in _cpuinfo() if line.startswith("flags")), [])
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return {"cpu": cpu, "cores": os.cpu_count(), "instructions": known, "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Those of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> str:
    """What was measured; with a + where the tree holds changes that are not committed."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def measured_here() -> dict[str, Any]:
    """What belongs to every record of a time."""
    return {"commit": commit(), "machine": machine(), "versions": versions()}


def write_record(name: str, record: dict[str, Any]) -> None:
    """Keeps a record in benchmarks/records."""
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def read_record(name: str) -> dict[str, Any]:
    """A record of benchmarks/records."""
    return json.loads((RECORDS / f"{name}.json").read_text())


def conditions(record: dict[str, Any]) -> str:
    """Hardware and versions."""
    of = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    hardware = f"{of['cores']} cores of {of['cpu']} ({', '.join(of['instructions'])})"
    return f"{hardware}; {packages}; Python {of['python']}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []

"""Records of measurements: hardware, versions and commit with every figure."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from nla.hardware import in_words, machine, versions

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks/records"


def commit() -> str:
    """The last commit that changed nla/; with a + if nla/ has uncommitted changes."""
    changed = _git("status", "--porcelain", "--", "nla")
    return _git("log", "-1", "--format=%h", "--abbrev=12", "--", "nla") + ("+" if changed else "")


def measured_here() -> dict[str, Any]:
    """Facts common to all records of timings."""
    return {"commit": commit(), "machine": machine(), "versions": versions()}


def write_record(name: str, record: dict[str, Any]) -> None:
    """Writes a record to benchmarks/records."""
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def read_record(name: str) -> dict[str, Any]:
    """Reads a record of benchmarks/records."""
    return json.loads((RECORDS / f"{name}.json").read_text())


def conditions(record: dict[str, Any]) -> str:
    """Hardware and versions, in words."""
    return in_words(record["machine"], record["versions"])


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

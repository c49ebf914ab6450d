"""Which branches of nla/ and pipelines/ do the tests run? Subprocesses and Ray's workers are counted.

    python tests/branch_coverage.py                  # those of `make test`; writes benchmarks/records/coverage.json
    python tests/branch_coverage.py tests/losses     # others, without a record

Lists the lines and branches that no test runs; `[tool.coverage.*]` of pyproject.toml says what counts. Returns 1 if a
test fails, or less than its `fail_under` is covered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from records import measured_here, write_record  # noqa: E402

FOLDER = ROOT / ".coverage"
OPTIONS = ("--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder")  # as in the Makefile
QUICK = ("-m", "not thorough")


def main() -> int:
    """Runs the tests under coverage, and reports; see the module."""
    chosen = sys.argv[1:]
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    started, facts = time.monotonic(), measured_here()
    tests = coverage("run", "-m", "pytest", *OPTIONS, *(chosen or QUICK))
    minutes = (time.monotonic() - started) / 60
    coverage("combine", "--quiet")
    coverage("json", "--quiet", "--fail-under=0", "-o", str(FOLDER / "report.json"))
    covered = coverage("report")
    if not chosen:
        totals = json.loads((FOLDER / "report.json").read_text())["totals"]
        command = "python tests/branch_coverage.py"
        record = {"command": command, "all_tests_pass": not tests, **figures(totals), "minutes": round(minutes, 1)}
        write_record("coverage", record | facts)
    return tests or covered


def coverage(*words: str) -> int:
    """Runs coverage with its files in FOLDER; returns its exit code."""
    files = {"COVERAGE_FILE": str(FOLDER / "data"), "COVERAGE_RCFILE": str(ROOT / "pyproject.toml")}
    return subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, env=os.environ | files).returncode


def figures(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and shares of what is covered, from the totals of coverage's report."""
    lines, branches = totals["num_statements"], totals["num_branches"]
    return {
        "lines": lines,
        "covered_lines": totals["covered_lines"],
        "branches": branches,
        "covered_branches": totals["covered_branches"],
        "share_of_lines": round(totals["covered_lines"] / lines, 4),
        "share_of_branches": round(totals["covered_branches"] / branches, 4),
    }


if __name__ == "__main__":
    raise SystemExit(main())

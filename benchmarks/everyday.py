"""Costs that occur many times a day: a pipeline with nothing to do, an import, a stage's start.

    python benchmarks/everyday.py

It needs a project that `dvc repro` has brought up to date. Everything is started as a separate process, in turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from functools import partial

from interleaved import Measurement, compared, interleave, summary
from records import ROOT, measured_here, write_record

HEAVY = ("torch", "ray", "mlflow", "albumentations", "sklearn", "matplotlib", "cv2", "pyarrow", "pandas", "optuna")
STAGES = ("ingest", "prepare", "tune", "train", "evaluate", "register")
ROUNDS = 7


def main() -> None:
    """Measures, and writes the record."""
    done = subprocess.run(["dvc", "status", "--quiet", "dvc.yaml"], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit("the project is not up to date: run `dvc repro` first")
    things = {
        "python": python("pass"),
        "import nla": python("import nla"),
        "import torch": python("import torch"),
        "dvc --version": ["dvc", "--version"],
        "dvc repro": ["dvc", "repro"],
        **{stage: python(f"import pipelines.{stage}") for stage in STAGES},
    }
    turns = interleave({name: partial(seconds, command) for name, command in things.items()}, ROUNDS)
    results = {
        "import torch / import nla": compared(turns, "import torch", "import nla"),
        "dvc repro / dvc --version": compared(turns, "dvc repro", "dvc --version"),
        **{f"{stage} / python": compared(turns, stage, "python") for stage in STAGES},
    }
    for name, result in results.items():
        print(f"{name}: {summary(result)}")
    record = {
        "command": "python benchmarks/everyday.py",
        "seconds": {name: _median(turn) for name, turn in turns.items()},
        "loads": {name: loaded(f"import {name}") for name in ("nla", *(f"pipelines.{stage}" for stage in STAGES))},
        "against": results,
    }
    write_record("everyday", record | measured_here())


def python(code: str) -> list[str]:
    """Command of a process that runs `code`."""
    return [sys.executable, "-c", code]


def seconds(command: list[str]) -> float:
    """Seconds from start to end of a command."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def loaded(statement: str) -> list[str]:
    """Those of HEAVY that are loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    return json.loads(subprocess.run(python(code), cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _median(turns: list[Measurement]) -> float:
    return statistics.median(turn.value for turn in turns)


if __name__ == "__main__":
    main()

"""One pass over a data set, in a process that loads no more than the stages do; prints seconds and peak memory as JSON.

    python benchmarks/data_pass.py SOURCE ROOT OUT [ingest] [prepare] [plain]

`plain` reads only the pixels of FERPlus, as most scripts do: with the csv module, a split and an array.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np

from nla.config.data import DataConfig
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.sources import open_source


def main(source: str, root: Path, out: Path, steps: list[str]) -> None:
    """Runs the steps, and prints what they took."""
    config, faces, started = DataConfig(source=source), out / "faces.parquet", time.perf_counter()
    if "ingest" in steps:
        ingest(open_source(config, root), faces, on_bad="error")
    if "prepare" in steps:
        prepare(faces, out, config)
    if "plain" in steps:
        _plain(root / "fer2013.csv")
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Peak memory of this program; `getrusage` would include that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _plain(path: Path) -> list[np.ndarray]:
    with path.open(newline="") as file:
        return [np.array(row["pixels"].split(), np.uint8).reshape(48, 48) for row in csv.DictReader(file)]


if __name__ == "__main__":
    if len(sys.argv) < 4 or not set(sys.argv[4:]) <= {"ingest", "prepare", "plain"}:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])

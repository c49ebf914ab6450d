"""What a search costs and what it finds.

    python benchmarks/tuning.py asha       16 trials on synthetic faces, in full and under ASHA
    python benchmarks/tuning.py ferplus    FERPlus at 30 % noise: 16 trials, then published values and winner, 3 seeds
    python benchmarks/tuning.py tables     benchmarks/records/ -> docs/search.md

Each search starts afresh; its trials are the same, as the searcher is seeded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pyarrow.parquet as pq
from accuracy import RECORDS, ROOT, SHORT, machine, run, settings, versions, write_record

SEARCH: dict[str, Any] = {
    "data.synthetic.train": 1200,  # so small that 16 trials fit into minutes; validation keeps its 4,000
    "tune.num_samples": 16,
    "tune.epochs": 8,
    "+tune.space.train.lr": "{loguniform: [0.0001, 0.1]}",
}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "none": {"tune.scheduler": "none"},
    "asha": {"tune.scheduler": "asha", "tune.grace_epochs": 2, "tune.reduction": 2.0},
    "asha-early": {"tune.scheduler": "asha"},  # grace of 1 epoch, reduction 3
}
NOISY = SHORT | {"data.noise.rate": 0.3}
NOISY_SEARCH = NOISY | {
    "tune.num_samples": 16,
    "tune.epochs": 4,
    "tune.scheduler": "asha",
    "tune.reduction": 2.0,
}
SEEDS = (1, 2, 3)
"""None of them the search's."""
RESULTS = ROOT / "docs/search.md"


def main(what: str) -> None:
    """Measures, or makes the tables."""
    if what == "tables":
        RESULTS.write_text(tables())
    elif what == "asha":
        for name, scheduler in SCHEDULERS.items():
            write_record(f"tuning-{name}", searched(SEARCH | scheduler))
    else:
        write_record("tuning-ferplus", searched(NOISY_SEARCH))
        for seed in SEEDS:
            for name, found in {"published": {"tune.num_samples": 0}, "winner": {}}.items():
                write_record(f"{name}-{seed}", run(NOISY_SEARCH | found | {"train.seed": seed}, []))


def searched(changes: dict[str, Any]) -> dict[str, Any]:
    """One search from its start."""
    subprocess.run(["git", "checkout", "-q", "params.yaml"], cwd=ROOT, check=True)
    subprocess.run(["dvc", "exp", "run", *settings(changes), "prepare"], cwd=ROOT, check=True)
    started = time.perf_counter()
    subprocess.run(["dvc", "repro", "--force", "--single-item", "tune"], cwd=ROOT, check=True)
    stage = time.perf_counter() - started
    rows = pq.read_table(ROOT / "reports/tune/trials.parquet").to_pylist()
    return {
        "command": "dvc exp run " + " ".join(f"-S '{key}={value}'" for key, value in changes.items()) + " tune",
        "stage_seconds": stage,
        "search_seconds": max(row["seconds"] for row in rows),
        "trials": rows,
        "machine": machine(),
        "versions": versions(),
    }


def tables() -> str:
    """docs/search.md."""
    records = {name: json.loads((RECORDS / f"tuning-{name}.json").read_text()) for name in SCHEDULERS}
    lines = ["# What a search costs", "", INTRODUCTION, "", HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    full = records["none"]
    lines += [_row(name, record, full) for name, record in records.items()]
    for name, record in records.items():
        lines += ["", f"{name}: `{record['command']}`"]
    of = full["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in full["versions"].items())
    lines += ["", f"{of['cores']} cores of {of['cpu']} ({', '.join(of['instructions'])}); {packages}; seed 0, n = 1."]
    return "\n".join(lines) + "\n"


def _row(name: str, record: dict[str, Any], full: dict[str, Any]) -> str:
    rows, cores = record["trials"], record["machine"]["cores"]
    best = max(rows, key=lambda row: row["accuracy"] or 0)
    in_full = {row["trial"]: row["accuracy"] for row in full["trials"]}
    training = sum(row["training_seconds"] for row in rows)
    whole = [row["training_seconds"] for row in rows if row["status"] == "finished"]
    cells = [
        name,
        f"{record['search_seconds']:.0f} s",
        f"{record['search_seconds'] / full['search_seconds']:.2f}",
        f"{sum(row['epochs'] for row in rows)}",
        f"{min(whole):.0f} s",
        f"{(cores * record['search_seconds'] - training) / len(rows):.1f} s",
        f"{best['accuracy']:.2%}",
        f"{in_full[best['trial']]:.2%}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = "| scheduler | search | of full | epochs | a whole trial | beside training, a trial | best | the same in full |"
INTRODUCTION = """Made by `python benchmarks/tuning.py tables` from `benchmarks/records/`. 16 random trials of the
loss's parameters and the learning rate, two side by side with a thread each, on drawn faces; accuracies on validation.
*Search* goes from the first trial's start to the last epoch. *Beside training* is what a trial's CPU does outside of
epochs: starting, checkpoints, waiting for others to end.

The settings of `asha` were chosen after the epochs of `none` had been seen. `asha-early` are the defaults, and came
first: an epoch has 18 steps here, after one of which no trial is above chance."""

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("asha", "ferplus", "tables"):
        sys.exit(__doc__)
    main(sys.argv[1])

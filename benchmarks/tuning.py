"""Cost and results of hyperparameter searches.

    python benchmarks/tuning.py searches [NAME ...]
                                           16 trials on synthetic faces: in full, under ASHA, by TPE, one at a time
    python benchmarks/tuning.py ferplus    FERPlus at 30 % noise: 16 trials, then published values and winner, 3 seeds
    python benchmarks/tuning.py tables     benchmarks/records/ -> docs/search.md

Each search starts afresh; its trials are the same, because the searcher is seeded.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from itertools import accumulate
from typing import Any

import pyarrow.parquet as pq
from accuracy import FERPLUS, run, settings
from matplotlib.figure import Figure
from records import RECORDS, ROOT, conditions, read_record, write_record
from step import precision
from working_tree import restored, take_committed

from nla.config.base import read_params, section
from nla.config.train import ACCURACIES
from nla.config.tune import Distribution, TuneConfig
from nla.hardware import machine, versions
from nla.plotting import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    headline,
    percent_axis,
    styled,
    write_figure,
)
from nla.tuning.plots import parameter_importance
from nla.tuning.results import Trial

SEARCH: dict[str, Any] = {
    "data.synthetic.train": 1200,  # small enough for 16 trials in minutes; validation keeps its 4,000
    "tune.num_samples": 16,
    "tune.epochs": 12,
    "+tune.space.train.lr": "{loguniform: [0.0001, 0.1]}",
}
IN_FULL = {"tune.scheduler": "none"}
HALVED = {"tune.scheduler": "asha", "tune.grace_epochs": 2, "tune.reduction": 2.0}
SEARCHES: dict[str, dict[str, Any]] = {
    "none": IN_FULL,
    "asha": HALVED,
    "asha-early": {"tune.scheduler": "asha", "tune.grace_epochs": 1},  # the default when it was recorded; reduction 3
    "tpe": IN_FULL | {"tune.searcher": "optuna"},
    "tpe-asha": HALVED | {"tune.searcher": "optuna"},
    "one": IN_FULL | {"ray.max_concurrent_trials": 1, "ray.cpus_per_trial": 2},
}
WHAT = {
    "none": "random, in full",
    "asha": "random, ASHA",
    "asha-early": "random, ASHA from epoch 1",
    "tpe": "TPE, in full",
    "tpe-asha": "TPE, ASHA",
    "one": "random, in full, one at a time with two threads",
}
NOISY_SEARCH: dict[str, Any] = FERPLUS | {
    "model.width": 16,
    "train.epochs": 6,
    "train.batch_size": 128,
    "data.noise.rate": 0.3,
    "tune.num_samples": 16,
    "tune.epochs": 4,
    "tune.scheduler": "none",  # importance needs trials of equal length
}
PAIR = ("published", "winner")
SEEDS = (1, 2, 3)
"""None of them is the search's seed."""
RESULTS, FIGURE = ROOT / "docs/search.md", ROOT / "docs/figures/search-best.png"
COLORS = (BLUE, ORANGE, VERMILLION, GREEN, MUTED, INK)


def main(what: str, *names: str) -> None:
    """Measures, or writes the tables."""
    if what == "tables":
        RESULTS.write_text(page())
        write_figure(best_so_far_figure(), FIGURE)
        return
    with restored(ROOT):
        measure(what, *names)


def measure(what: str, *names: str) -> None:
    """Searches, and trains with the result."""
    if what == "searches":
        for name in names or SEARCHES:
            write_record(f"tuning-{name}", searched(SEARCH | SEARCHES[name]))
        return
    write_record("tuning-ferplus", searched(NOISY_SEARCH))
    for seed in SEEDS:
        for name, samples in zip(PAIR, (0, NOISY_SEARCH["tune.num_samples"]), strict=True):
            changes = NOISY_SEARCH | {"tune.num_samples": samples, "train.seed": seed}
            write_record(f"{name}-{seed}", run(changes, []))


def searched(changes: dict[str, Any]) -> dict[str, Any]:
    """One search from scratch, with the parameters of the last commit."""
    take_committed(ROOT, "params.yaml")
    subprocess.run(["dvc", "exp", "run", *settings(changes), "prepare"], cwd=ROOT, check=True)
    started = time.perf_counter()
    subprocess.run(["dvc", "repro", "--force", "--single-item", "tune"], cwd=ROOT, check=True)
    stage = time.perf_counter() - started
    rows = pq.read_table(ROOT / "reports/tune/trials.parquet").to_pylist()
    return {
        "command": "dvc exp run " + " ".join(f"-S '{key}={value}'" for key, value in changes.items()) + " tune",
        "stage_seconds": stage,
        "search_seconds": max(row["seconds"] for row in rows),
        "searcher": changes.get("tune.searcher", "random"),
        "precision": precision(),
        "trials": rows,
        "machine": machine(),
        "versions": versions(),
    }


def page() -> str:
    """docs/search.md: a section for everything that has records."""
    parts = ["# What a search costs, and what it finds", "", INTRODUCTION]
    if (RECORDS / "tuning-none.json").exists():
        parts += ["", "## Searches side by side", "", *cost(side_by_side())]
    if (RECORDS / "tuning-ferplus.json").exists():
        parts += ["", "## FERPlus with 30 % symmetric noise", "", *found(read_record("tuning-ferplus"))]
    return "\n".join(parts) + "\n"


def side_by_side() -> dict[str, dict[str, Any]]:
    """Records of the synthetic searches."""
    return {name: read_record(f"tuning-{name}") for name in SEARCHES if (RECORDS / f"tuning-{name}.json").exists()}


@styled
def best_so_far_figure() -> Figure:
    """Best validation accuracy among the trials that have ended, against seconds of the search."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for (name, record), color in zip(side_by_side().items(), COLORS, strict=False):
        ended = sorted((row["seconds"], row["accuracy"]) for row in record["trials"] if row["accuracy"] is not None)
        seconds = [when for when, _ in ended]
        axes.step(seconds, list(accumulate((value for _, value in ended), max)), where="post", color=color)
        axes.plot([], [], color=color, label=WHAT[name])
    axes.set(xlabel="seconds", xlim=(0, None))
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    headline(axes, "Best found against seconds", "accuracy on validation of the best trial that has ended")
    return figure


def cost(records: dict[str, dict[str, Any]]) -> list[str]:
    """Table of the synthetic searches."""
    full = records["none"]
    lines = [COST_TEXT, "", HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    lines += [_row(name, record, full) for name, record in records.items()]
    lines += ["", f"![Best found against seconds](figures/{FIGURE.name})"]
    for name, record in records.items():
        lines += ["", f"{WHAT[name]}: `{record['command']}`"]
    return [*lines, "", f"{conditions(full)}; {full['precision']}; seed 0, n = 1."]


def found(record: dict[str, Any]) -> list[str]:
    """What the search on noisy FERPlus found, and whether it holds for other seeds."""
    rows = record["trials"]
    names = [key for key in rows[0] if key.startswith("loss.")]
    published, best = rows[0], next(row for row in rows if row["chosen"])
    shares = parameter_importance([_trial(row, names) for row in rows], _space(), "accuracy")
    lines = [FOUND_TEXT, "", "| | " + " | ".join(name.removeprefix("loss.") for name in names) + " | on validation |"]
    lines += ["|---" * (len(names) + 2) + "|"]
    for name, row in (("published", published), (f"trial {best['trial']}, the best", best)):
        cells = [name, *(f"{row[key]:.3g}" for key in names), f"{row['accuracy']:.2%} after epoch {row['epochs']}"]
        lines += [f"| {' | '.join(cells)} |"]
    lines += [f"| importance | {' | '.join(f'{shares[key].share:.0%}' for key in names)} | |"] if shares else []
    ended = Counter(f"{row['status']} after {row['epochs']}" for row in rows)
    lines += ["", "How trials ended: " + ", ".join(f"{n} {how}" for how, n in sorted(ended.items())) + " epochs."]
    lines += ["", "| | test accuracy | mean accuracy | validation | each seed on test |", "|---|---|---|---|---|"]
    seeds = [seed for seed in SEEDS if all((RECORDS / f"{name}-{seed}.json").exists() for name in PAIR)]
    for name in PAIR:
        lines += [_seeds(name, [read_record(f"{name}-{seed}")["metrics"] for seed in seeds])]
    lines += ["", f"The search: `{record['command']}`", "", f"Published: `{read_record('published-1')['command']}`"]
    given = f"seeds {', '.join(map(str, seeds))}, n = {len(seeds)}, mean and std"
    return [*lines, "", f"{conditions(record)}; {given}."]


def _seeds(name: str, metrics: list[dict[str, Any]]) -> str:
    def spread(split: str, key: str) -> str:
        values = [run[split][key] for run in metrics]
        return f"{statistics.mean(values):.2%} ± {100 * statistics.stdev(values):.2f}"

    each = ", ".join(f"{run['test']['accuracy']:.2%}" for run in metrics)
    cells = [spread("test", "accuracy"), spread("test", "mean_accuracy"), spread("valid", "accuracy"), each]
    return f"| {name} | {' | '.join(cells)} |"


def _trial(row: dict[str, Any], names: list[str]) -> Trial:
    best = {f"valid_{name}": row[name] for name in ACCURACIES} if row["accuracy"] is not None else None
    values = {name: row[name] for name in names}
    return Trial(
        row["trial"],
        row["id"],
        values,
        row["status"],
        row["reason"],
        [best] if best else [],
        best_epoch=int(best is not None),
    )


def _space() -> dict[str, Distribution]:
    return section(TuneConfig, read_params(ROOT / "params.yaml")).distributions


def _row(name: str, record: dict[str, Any], full: dict[str, Any]) -> str:
    rows = record["trials"]
    side_by_side = 1 if name == "one" else record["machine"]["cores"]
    best = next(row for row in rows if row["chosen"])
    in_full = {row["trial"]: row["accuracy"] for row in full["trials"]}
    training = sum(row["training_seconds"] for row in rows)
    whole = [row["training_seconds"] for row in rows if row["status"] == "finished"]
    cells = [
        WHAT[name],
        f"{record['search_seconds']:.0f} s",
        f"{record['search_seconds'] / full['search_seconds']:.2f}",
        f"{sum(row['epochs'] for row in rows)}",
        f"{3600 * len(rows) / record['search_seconds']:.0f}",
        f"{min(whole):.0f} s",
        f"{(side_by_side * record['search_seconds'] - training) / len(rows):.1f} s",
        f"{best['accuracy']:.2%}",
        f"{in_full[best['trial']]:.2%}" if record["searcher"] == "random" else "",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = "| search | time | relative time | epochs | trials/hour | full trial | overhead | best | same trial in full |"
INTRODUCTION = "Generated by `python benchmarks/tuning.py tables` from `benchmarks/records/`."
COST_TEXT = """16 trials of the loss's parameters and the learning rate on synthetic faces, two at a time with one
thread each unless the row says otherwise. Accuracies are on validation. *Time* runs from the start of the first trial
to the last epoch. *Overhead* is the time per trial that its CPUs spend outside of epochs: startup, checkpoints, waiting
for other trials to end.

TPE's first ten trials are random draws too. Trials with two threads sum in a different order from those with one, and
with so few steps this changes the results by up to ten points: compare their time, not their best accuracy.

The grace period and reduction of the first ASHA row were chosen after looking at an earlier full search of 8 epochs (an
epoch has 18 steps; after a few epochs, no trial is above chance). *ASHA from epoch 1* has `tune.grace_epochs: 1`, the
default at the time. Now the default is the warm-up, here four epochs: to repeat that row, add `-S tune.grace_epochs=1`
to its command. A trial's score was that of its best epoch, which is the epoch that training keeps, too; TPE took the
score of a stopped trial for a final one."""
FOUND_TEXT = """16 random trials of NAW's parameters, each run for all of its four epochs; the winner is the best on
the clean validation split. A model with the published values and one with the winner's were then trained for six
epochs, with seeds that the search did not use. The label noise is the same in all runs. *Importance* is by PED-ANOVA
over the 16 trials.

NAW's parameters matter little on this data. The trials reach 66.0 to 68.8 % on validation, with a standard deviation of
0.66 points; an accuracy on 3,199 rows has a standard error of 0.83 points. On test, the winner's accuracy differs from
that of the published values by 0.2 points on average (+0.3, +0.4 and -0.1), within noise, and its mean accuracy is the
same, so the published values stand. Most of the variation is associated with `true_deviation`, the deviation for
correct samples (above 1 in the three best trials; 0.8 is published): a hint, no more."""

if __name__ == "__main__":
    what, names = sys.argv[1:2], sys.argv[2:]
    if what not in (["searches"], ["ferplus"], ["tables"]) or not set(names) <= SEARCHES.keys():
        sys.exit(__doc__)
    main(*what, *names)

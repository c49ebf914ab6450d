"""How well the audit finds wrong labels of FERPlus, and ambiguous faces, beside the other scores of its table.

    python benchmarks/audit.py measure CONDITION SEED      one audit: `dvc exp run` of the stage, then a record
    python benchmarks/audit.py export FILE.npz             p_NC, label_N and is_wrong_N of the audit, for other tools
    python benchmarks/audit.py measure CONDITION SEED --others FILE.npz      with scores by other tools, which were made
                                                           from an export: an array [N] for each, high if suspect

CONDITION is one of CONDITIONS. FERPlus needs fer2013.csv and fer2013new.csv in data/raw/ferplus. A second call with the
same condition and seed trains nothing again.

Each score is judged on the training rows, of which all have a reference. The intervals are bootstraps over rows; those
of differences draw the same rows for both scores.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from records import ROOT, measured_here, write_record
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score
from working_tree import restored

from nla.audit.table import probabilities, read_labels
from nla.evaluation.significance import percentiles
from nla.evaluation.uncertainty import ambiguity, entropy

AUDIT = ROOT / "reports/audit"
BASE = {"data.source": "ferplus", "loss.name": "ce", "audit.folds": 3, "audit.epochs": 12, "ray.num_workers": 0}
MAPPING = {
    "surprise": "anger",
    "fear": "surprise",
    "disgust": "anger",
    "happiness": "neutral",
    "sadness": "neutral",
    "anger": "happiness",
    "neutral": "surprise",
}
"""Asymmetric label noise in use on RAF-DB."""
CONDITIONS: dict[str, dict[str, Any]] = {
    **{f"symmetric-{rate}": {"data.noise.rate": rate / 100} for rate in (10, 20, 30)},
    "asymmetric-30": {
        "data.noise.kind": "asymmetric",
        "data.noise.rate": 0.3,
        "data.noise.mapping": json.dumps(MAPPING),
    },
    "fer2013": {"data.label_rule": "fer2013", "data.contempt": "false"},
}
LOW = ("self_confidence", "margin", "area_under_margin", "running_self_confidence")
"""Columns that are low if the label is suspect."""
SHARES = (0.01, 0.05, 0.10)
RESAMPLES = 200

Scores = Mapping[str, np.ndarray]
"""Name -> score of each row, [N]; high if the label is suspect."""


def main() -> None:
    """Measures, or exports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    measure_parser = what.add_parser("measure")
    measure_parser.add_argument("condition", choices=CONDITIONS)
    measure_parser.add_argument("seed", type=int)
    measure_parser.add_argument("--others", type=Path)
    what.add_parser("export").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.what == "export":
        _, table, is_wrong_N = audited(AUDIT)
        info, _ = read_labels(AUDIT / "labels.parquet")
        label_N = np.array([info.classes.index(name) for name in table["label"].to_pylist()])
        np.savez(options.file, p_NC=probabilities(table, info.classes), label_N=label_N, is_wrong_N=is_wrong_N)
        return
    others = dict(np.load(options.others)) if options.others else {}
    with restored(ROOT):
        write_record(f"audit-{options.condition}-{options.seed}", measure(options.condition, options.seed, others))


def measure(condition: str, seed: int, others: Scores) -> dict[str, Any]:
    """Runs one audit, and returns its record."""
    changes = {**BASE, **CONDITIONS[condition], "data.seed": seed, "train.seed": seed}
    command = ["dvc", "exp", "run", "-s", "ingest", "prepare", "audit"]
    settings = [word for key, value in changes.items() for word in ("-S", f"{key}={value}")]
    subprocess.run([*command, *settings], cwd=ROOT, check=True)
    scores, table, is_wrong_N = audited(AUDIT)
    return {
        "command": shlex.join([*command, *settings]),
        "seed": seed,
        "rows": table.num_rows,
        "summary": json.loads((AUDIT / "summary.json").read_text()),
        "scores": compared({**scores, **others}, is_wrong_N, seed),
        "wrong_by_class": wrong_by_class(table, is_wrong_N),
        "ambiguity": ambiguity_measures(table),
        **measured_here(),
    }


def audited(folder: Path) -> tuple[Scores, Any, np.ndarray]:
    """Scores, table and mask of wrong labels of the training rows in the audit of `folder`."""
    _, table = read_labels(folder / "labels.parquet")
    table = table.filter(np.array(table["split"].to_pylist()) == "train")
    scores = {"score": table["score"].to_numpy(), **{name: -table[name].to_numpy() for name in LOW}}
    given, true = (np.array(table[name].to_pylist(), object) for name in ("label", "true_label"))
    return scores, table, given != true


def compared(scores: Scores, is_wrong_N: np.ndarray, seed: int) -> dict[str, dict[str, Any]]:
    """The measures of each score, with intervals of AUROC and of what it is above that of `score`."""
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(is_wrong_N), size=len(is_wrong_N)) for _ in range(RESAMPLES)]
    resampled = {
        name: np.array([auroc(value_N[draw], is_wrong_N[draw]) for draw in draws]) for name, value_N in scores.items()
    }
    return {
        name: {
            **measures(value_N, is_wrong_N),
            "auroc_interval": percentiles(resampled[name]),
            "auroc_above_score": percentiles(resampled[name] - resampled["score"]),
        }
        for name, value_N in scores.items()
    }


def measures(score_N: np.ndarray, is_wrong_N: np.ndarray) -> dict[str, float]:
    """AUROC, average precision, and precision among the most suspect rows."""
    first_N = np.argsort(-score_N, kind="stable")
    counts = {f"precision_at_{share:.0%}": max(1, round(share * len(score_N))) for share in SHARES}
    counts["precision_at_wrong"] = int(is_wrong_N.sum())
    return {
        "auroc": auroc(score_N, is_wrong_N),
        "average_precision": float(average_precision_score(is_wrong_N, score_N)),
        **{name: float(is_wrong_N[first_N[:count]].mean()) for name, count in counts.items()},
    }


def auroc(score_N: np.ndarray, is_positive_N: np.ndarray) -> float:
    """Probability that a positive row has the higher score than a negative one, ties counting half."""
    positives, rank_N = int(is_positive_N.sum()), rankdata(score_N)
    above = rank_N[is_positive_N].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(score_N) - positives)))


def wrong_by_class(table: Any, is_wrong_N: np.ndarray) -> dict[str, int]:
    """True number of wrong labels of each given class, to compare with the summary's estimates."""
    given = np.array(table["label"].to_pylist(), object)
    return {name: int(is_wrong_N[given == name].sum()) for name in sorted(set(given.tolist()))}


def ambiguity_measures(table: Any) -> dict[str, float]:
    """Spearman's correlation with the entropy of the votes, of rows that have votes, by ambiguity and its rivals."""
    names = [name.removeprefix("votes_") for name in table.column_names if name.startswith("votes_")]
    votes_NC, p_NC = probabilities(table, names, "votes"), probabilities(table, names)
    known_N = ~np.isnan(votes_NC).any(axis=1)
    if not known_N.any():
        return {}
    rivals: dict[str, Callable[[np.ndarray], np.ndarray]] = {"entropy_of_p": entropy, "margin_of_p": ambiguity}
    values = {"ambiguity": table["ambiguity"].to_numpy(), "naw_weight": table["naw_weight"].to_numpy()}
    values |= {name: rival(p_NC) for name, rival in rivals.items()}
    votes = entropy(votes_NC[known_N])
    return {name: float(spearmanr(value_N[known_N], votes).statistic) for name, value_N in values.items()}


if __name__ == "__main__":
    main()

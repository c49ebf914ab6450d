"""What MLflow shows of a result: a few metrics to compare runs by, and a note with a table.

All metrics are in the artifact metrics.json of the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nla.config.base import flatten

SPLITS = ("test", "valid")
SHARES = {"accuracy": "accuracy", "mean_accuracy": "mean accuracy", "bayes_accuracy": "Bayes accuracy"}
"""Metrics that are shown in percent, with their titles."""
NUMBERS = {"macro_f1": "macro-F1", "nll": "NLL", "ece": "ECE"}
CALIBRATED = {"nll": "NLL, calibrated", "ece": "ECE, calibrated", "aurc": "AURC"}
"""Metrics of the calibrated probabilities, under `calibrated`."""
HEADLINES = (*SHARES, *NUMBERS, "bayes_ratio")
COLUMNS = {"recall": "recall", "precision": "precision", "f1": "F1", "support": "images"}
"""Columns of the table of classes."""
ALL_METRICS = "metrics.json"
"""Name of the artifact."""


def headline_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics to compare runs by, with dotted names.

    HEADLINES and CALIBRATED of both splits, and recall of classes on test.
    """
    wanted = {f"{split}.{name}" for split in SPLITS for name in HEADLINES}
    wanted |= {f"{split}.calibrated.{name}" for split in SPLITS for name in CALIBRATED}
    return {
        name: value
        for name, value in flatten(metrics).items()
        if name in wanted or (name.startswith("test.classes.") and name.endswith(".recall"))
    }


def note(metrics: Mapping[str, Any]) -> str:
    """Markdown with a table of the splits and one of the classes on test, from the content of reports/metrics.json."""
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    lines = [_row(["", *splits]), "|---" * (1 + len(splits)) + "|"]
    for key, title in {**SHARES, **NUMBERS}.items():
        if any(split.get(key) is not None for split in splits.values()):
            lines.append(_row([title, *(_value(split, key) for split in splits.values())]))
    calibrated = [split.get("calibrated") or {} for split in splits.values()]
    for key, title in CALIBRATED.items():
        if any(report.get(key) is not None for report in calibrated):
            lines.append(_row([title, *(_value(report, key) for report in calibrated)]))
    classes = metrics.get("test", {}).get("classes") or {}
    if classes:
        lines += ["", _row(["class, on test", *COLUMNS.values()]), "|---" * (1 + len(COLUMNS)) + "|"]
        lines += [_row([_escaped(name), *(_value(row, key) for key in COLUMNS)]) for name, row in classes.items()]
    lines += [
        "",
        f"In brackets: 95 % intervals. All metrics are in the artifact `{ALL_METRICS}`.",
    ]
    if "protocol" in metrics:
        lines.append(f"Protocol: {_escaped(str(metrics['protocol']))}.")
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(row: Mapping[str, Any], key: str) -> str:
    """The number, with its interval if it has one."""
    number, low, high = (row.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if number is None:
        return ""
    if key == "support":
        return f"{number:,}"
    shown = "{:.4f}" if key in (*NUMBERS, *CALIBRATED, "f1") else "{:.2%}"
    return shown.format(number) + (f" ({shown.format(low)} to {shown.format(high)})" if low is not None else "")


def _escaped(text: str) -> str:
    """`text`, such as the name of a class, without effect as Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)

"""What MLflow shows of a result: a few metrics to compare runs by, and a note with a table.

All metrics are in the artifact metrics.json of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nla.config.base import flatten
from nla.markdown import escaped, table

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
    lines = [*tables(metrics), "", f"In brackets: 95 % intervals. All metrics are in the artifact `{ALL_METRICS}`."]
    if "protocol" in metrics:
        lines.append(f"Protocol: {escaped(str(metrics['protocol']))}.")
    return "\n".join(lines)


def tables(metrics: Mapping[str, Any]) -> list[str]:
    """The lines of the two tables."""
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    calibrated = {name: split.get("calibrated") or {} for name, split in splits.items()}
    rows = [
        [title, *(_value(report, key) for report in reports.values())]
        for titles, reports in (({**SHARES, **NUMBERS}, splits), (CALIBRATED, calibrated))
        for key, title in titles.items()
        if any(report.get(key) is not None for report in reports.values())
    ]
    lines = table(["", *splits], rows)
    classes = metrics.get("test", {}).get("classes") or {}
    if classes:
        rows = [[escaped(name), *(_value(report, key) for key in COLUMNS)] for name, report in classes.items()]
        lines += ["", *table(["class, on test", *COLUMNS.values()], rows)]
    return lines


def _value(row: Mapping[str, Any], key: str) -> str:
    """The number, with its interval if it has one."""
    number, low, high = (row.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if number is None:
        return ""
    if key == "support":
        return f"{number:,}"
    shown = "{:.4f}" if key in (*NUMBERS, *CALIBRATED, "f1") else "{:.2%}"
    return shown.format(number) + (f" ({shown.format(low)} to {shown.format(high)})" if low is not None else "")

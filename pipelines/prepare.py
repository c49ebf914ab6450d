"""Stage `prepare`: data/faces.parquet -> data/{train,valid,test}.parquet with labels, splits, noise and corrections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.console import bar, say
from nla.data.corrections import read_corrections
from nla.data.prepare import prepare
from nla.io import write_json
from nla.workflow.stage import log_file, run_stage

CLEAN = "; validation and test are clean"


def main() -> None:
    """Prepares the splits as params.yaml specifies."""
    config = section(DataConfig, read_params())
    corrections = read_corrections(Path(config.corrections))
    listing = log_file().with_name("corrections-problems.txt")
    with bar("prepare", "faces") as progress:
        report = prepare(
            Path("data/faces.parquet"), Path("data"), config, progress, corrections=corrections, listing=listing
        )
    write_json(Path("reports/prepare.json"), report)
    for line in summary(report):
        say(line)


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Yields two to six lines on the splits for the console."""
    rows = {split: sum(by_class.values()) for split, by_class in report["samples"].items()}
    leaks = dict(report["leaks"])
    left_out = {
        f"by label rule {report['label_rule']}": sum(
            n for reasons in report["dropped"].values() for n in reasons.values()
        ),
        "as leaks": sum(leaks.pop("dropped").values()),
        "for the imbalance": (report["imbalance"] or {"dropped": 0})["dropped"],
        "by train_rows": report["rows_left_out"],
    }
    yield (
        f"rows: {', '.join(f'{split} {n:,}' for split, n in rows.items())}; left out: {_nonzero(left_out)}; "
        f"identical images of labelled rows: {_nonzero(leaks)}"
    )
    missing = [f"{split} has no image of {', '.join(names)}" for split, names in report["absent"].items() if names]
    if missing:
        yield f"warning: {'; '.join(missing)}: means over classes leave them out"
    noise = report["noise"]
    flipped = f"{noise['flipped']:,} of {rows['train']:,} ({noise['measured_rate']:.2%}), {noise['kind']}"
    if "fer2013" not in report:
        found = flipped if noise["flipped"] else "none"
        valid = f", and {noise['flipped_in_valid']:,} in validation; test is clean" if noise["valid"] else CLEAN
        yield f"synthetic label noise in train: {found}{valid}"
    for split, by_class in report.get("fer2013", {}).items():
        classes = ", ".join(f"{name} {_share(counts)}" for name, counts in by_class["classes"].items())
        differing = f"{by_class['differ']:,} labels of FER2013 are not the majority, {_share(by_class)} ({classes})"
        yield f"{split}: {differing}; {'not used' if split == 'test' else 'given to training'}"
    if report["corrections"]:
        yield _corrected(report["corrections"])


def _corrected(done: Mapping[str, Any]) -> str:
    words = {"relabel": "relabelled", "distribution": "with a distribution", "drop": "dropped", "keep": "confirmed"}
    found = [
        f"{split} {', '.join(f'{counts[action]:,} {word}' for action, word in words.items() if counts[action])}"
        for split, counts in done["splits"].items()
        if any(counts.values())
    ]
    unused = f"; {done['not_in_the_splits']:,} lines concern images of no split" if done["not_in_the_splits"] else ""
    return f"corrections of {done['file']}: {'; '.join(found) or 'none'}{unused}"


def _share(counts: Mapping[str, int]) -> str:
    return f"{counts['differ'] / counts['rows']:.1%}" if counts["rows"] else "-"


def _nonzero(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in counts.items() if n) or "none"


if __name__ == "__main__":
    run_stage(main)

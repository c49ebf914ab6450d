"""Stage of a study, run in its folder: runs.json, records/, data/test.parquet -> results.json, README.md, figures/.

Nothing is trained. The same records give the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nla.console import say
from nla.data.samples import load_annotations
from nla.data.schema import read_info
from nla.errors import DataError
from nla.io import read_json, write_json
from nla.plotting import write_figure
from nla.study.plots import pictures
from nla.study.record import Record, read_record
from nla.study.report import report
from nla.study.results import study_results, tuning_results
from nla.workflow.paths import workspace
from nla.workflow.stage import run_stage

MANIFEST, RECORDS, TEST = Path("runs.json"), Path("records"), Path("data/test.parquet")
RESULTS, README, FIGURES = Path("results.json"), Path("README.md"), Path("figures")


def main() -> None:
    """Computes the results, draws the figures, and writes the report."""
    manifest = read_json(MANIFEST)
    label_N, classes = load_annotations(TEST).clean_label_N, read_info(TEST).classes
    results = study_results(read_runs(manifest["runs"]), label_N, classes, manifest["reference"])
    if tuning := manifest.get("tuning"):
        records = read_runs([run for run in tuning["trainings"] if run["record"] is not None])
        methods = dict.fromkeys(run["method"] for run in manifest["runs"])
        results["tuning"] = tuning_results(tuning, {record.fingerprint: record for record in records}, methods)
    shutil.rmtree(FIGURES, ignore_errors=True)
    for name, figure in pictures(results).items():
        write_figure(figure, FIGURES / f"{name}.png")
    README.write_text(report(results, workspace().name, sorted(map(Path.as_posix, FIGURES.glob("*.png")))))
    write_json(RESULTS, results)
    for condition, of in results["conditions"].items():
        say(headline(condition, of))


def read_runs(runs: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The records that the manifest lists, in its order and with its names, as a method may have been renamed since.

    Raises:
        DataError: a record is missing or damaged, or there is none.
    """
    paths = {run["record"]: RECORDS / f"{run['record']}.parquet" for run in runs}
    if lost := [str(path) for path in paths.values() if not path.is_file()]:
        raise DataError(f"{len(lost)} of {len(paths)} records are missing, such as {lost[0]}: run `dvc repro study`")
    if not paths:
        raise DataError(f"{MANIFEST} names no training: run `dvc repro -sf study`")
    return [
        replace(read_record(paths[run["record"]]), **{name: run[name] for name in ("method", "condition", "seed")})
        for run in runs
    ]


def headline(condition: str, of: Mapping[str, Any]) -> str:
    """The best method, in one line."""
    name, best = max(of["methods"].items(), key=lambda item: item[1]["accuracy"]["mean"])
    line = f"{condition}: {name} is best with {best['accuracy']['mean']:.2%} over {best['accuracy']['n']} seeds"
    rival = best["against"].get("accuracy", {}).get("rival")
    if rival is None:
        return line
    interval = f"{100 * rival['low']:+.2f} to {100 * rival['high']:+.2f}"
    return f"{line}, {100 * rival['difference']:+.2f} points ({interval}) against {rival['method']}"


if __name__ == "__main__":
    run_stage(main)

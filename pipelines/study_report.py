"""DVC stage that builds a study's report from its records. Run in the study's folder.

runs.json, records/, data/test.parquet -> results.json, README.md, figures/. Output is deterministic for given records.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nla.console import say
from nla.data.samples import load_annotations
from nla.data.schema import read_info
from nla.errors import DataError
from nla.io import read_json_as, write_json
from nla.plotting import write_figure
from nla.study.manifest import MANIFEST, Entry, Manifest, TuningEntry
from nla.study.plots import draw_figures
from nla.study.record import RECORDS, Record, read_record
from nla.study.report import report, summary
from nla.study.results import study_results, tuning_results
from nla.workflow.paths import workspace
from nla.workflow.stage import run_stage

TEST = Path("data/test.parquet")
RESULTS, README, FIGURES = Path("results.json"), Path("README.md"), Path("figures")
REPEAT = "Run `dvc repro -sf study`, which repeats all runs, or restore the file."


def main() -> None:
    """Computes the results, draws the figures, and writes the report."""
    manifest = read_json_as(MANIFEST, Manifest, REPEAT)
    label_N, classes = load_annotations(TEST).clean_label_N, read_info(TEST).classes
    results = study_results(read_runs(manifest.runs), label_N, classes, manifest.reference, caveats=manifest.caveats)
    if tuning := manifest.tuning:
        records = read_runs([run for run in tuning.trainings if run.record is not None])
        methods = dict.fromkeys(run.method for run in manifest.runs)
        results["tuning"] = tuning_results(tuning, {record.fingerprint: record for record in records}, methods)
    shutil.rmtree(FIGURES, ignore_errors=True)
    for name, figure in draw_figures(results).items():
        write_figure(figure, FIGURES / f"{name}.png")
    README.write_text(report(results, workspace().name, sorted(map(Path.as_posix, FIGURES.glob("*.png")))))
    write_json(RESULTS, results)
    for line in summary(results):
        say(line)


def read_runs(runs: Sequence[Entry | TuningEntry]) -> list[Record]:
    """The records in manifest order; names come from the manifest because methods may have been renamed.

    Raises:
        DataError: a record is missing or damaged, or the manifest is empty.
    """
    paths = [RECORDS / f"{run.record}.parquet" for run in runs]
    if lost := [str(path) for path in dict.fromkeys(paths) if not path.is_file()]:
        raise DataError(f"missing records: {len(lost)} of {len({*paths})} (first: {lost[0]}). Run `dvc repro study`.")
    if not paths:
        raise DataError(f"{MANIFEST}: runs is empty. Run `dvc repro -sf study`.")
    return [
        replace(read_record(path), method=run.method, condition=run.condition, seed=run.seed)
        for run, path in zip(runs, paths, strict=True)
    ]


if __name__ == "__main__":
    run_stage(main)

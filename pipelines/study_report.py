"""DVC stage that builds a study's report from its records. Run in the study's folder.

runs.json, records/, data/faces.parquet -> results.json, README.md, figures/. Output is deterministic for given records.
"""

from __future__ import annotations

from nla.signals import end_at_once

if __name__ == "__main__":
    end_at_once()  # before the other imports, which take seconds

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from nla.console import say
from nla.errors import DataError
from nla.io import read_json_as, write_json
from nla.plotting import write_figure
from nla.study.manifest import MANIFEST, Entry, Manifest, TuningEntry
from nla.study.origin import origin_caveats
from nla.study.plots import draw_figures
from nla.study.record import RECORDS, Record, read_record
from nla.study.replicates import complete
from nla.study.report import report, summary
from nla.study.results import by_condition, study_results, tuning_results
from nla.study.truth import truths_of
from nla.workflow.paths import workspace
from nla.workflow.stage import run_stage

FACES = Path("data/faces.parquet")
RESULTS, README, FIGURES = Path("results.json"), Path("README.md"), Path("figures")
REPEAT = "Run `dvc repro -sf study`, which repeats all runs, or restore the file."


def main() -> None:
    """Computes the results, draws the figures, and writes the report."""
    manifest = read_json_as(MANIFEST, Manifest, REPEAT)
    found = read_records(manifest.runs)
    entries, left_out = complete(manifest.runs, found)
    records = [named_as(entry, found) for entry in entries]
    caveats = [*manifest.caveats, *origin_caveats(by_condition(records))]
    truths = truths_of(FACES, records)
    results = study_results(records, truths, manifest.reference, caveats, manifest.claims, left_out)
    if tuning := manifest.tuning:
        trained = [run for run in tuning.trainings if run.record is not None]
        tried = read_records(trained)
        if lost := [f"{run.record}.parquet" for run in trained if run.record not in tried]:
            raise DataError(f"missing records of the tuning: {', '.join(lost)}. Run `dvc repro study`.")
        origin_caveats({"tuning": [*tried.values()]})
        results["tuning"] = tuning_results(tuning, tried, dict.fromkeys(run.method for run in manifest.runs))
    shutil.rmtree(FIGURES, ignore_errors=True)
    for name, figure in draw_figures(results).items():
        write_figure(figure, FIGURES / f"{name}.png")
    README.write_text(report(results, workspace().name, sorted(map(Path.as_posix, FIGURES.glob("*.png")))))
    write_json(RESULTS, results)
    for line in summary(results):
        say(line)


def read_records(runs: Iterable[Entry | TuningEntry]) -> dict[str, Record]:
    """Name -> record, of the runs that have one. Raises DataError if one is damaged."""
    paths = {str(run.record): RECORDS / f"{run.record}.parquet" for run in runs}
    return {name: read_record(path) for name, path in paths.items() if path.is_file()}


def named_as(entry: Entry, records: Mapping[str, Record]) -> Record:
    """The record of a run, with the names that the manifest has: methods may have been renamed since."""
    return replace(records[entry.record], method=entry.method, condition=entry.condition, seed=entry.seed)


if __name__ == "__main__":
    run_stage(main)

"""Stage `ingest`: raw files, or drawn faces -> data/faces.parquet, every row with its original bytes."""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.console import bar, say
from nla.data.ingest import ingest
from nla.data.sources import open_source
from nla.io import write_json
from nla.workflow.stage import log_file, run_stage

REPORT = Path("reports/ingest.json")


def main() -> None:
    """Ingests the source of params.yaml."""
    config = section(DataConfig, read_params())
    source = open_source(config, Path(config.raw) / config.source)
    listing = log_file().with_name("ingest-problems.txt")
    with bar(f"ingest {config.source}", "faces") as progress:
        report = ingest(source, Path("data/faces.parquet"), on_bad=config.on_bad, listing=listing, progress=progress)
    write_json(REPORT, report)
    for line in (*report["warnings"], *report["notes"]):
        say(line)
    if problems := report["problems"]:
        say(f"{len(problems):,} rows left out, see {REPORT}")


if __name__ == "__main__":
    run_stage(main)

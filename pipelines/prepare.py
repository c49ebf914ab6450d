"""Stage `prepare`: data/faces.parquet -> data/{train,valid,test}.parquet with labels, splits, imbalance and noise."""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.console import bar, run_stage
from nla.data.prepare import prepare
from nla.records import write_json


def main() -> None:
    """Prepares the splits as params.yaml says."""
    config = section(DataConfig, read_params())
    with bar("prepare", "faces") as progress:
        report = prepare(Path("data/faces.parquet"), Path("data"), config, progress=progress)
    write_json(Path("reports/prepare.json"), report)


if __name__ == "__main__":
    run_stage(main)

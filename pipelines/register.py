"""Stage `register`: models/, reports/metrics.json and run.json -> MLflow's registry; a record for this store."""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.register import RegisterConfig
from nla.console import say
from nla.io import read_json, write_json
from nla.serving.registry import register
from nla.tracking import configure
from nla.workflow.paths import project_root
from nla.workflow.stage import run_stage


def main() -> None:
    """Registers the model, and prints whether it is champion, and why."""
    record = register(
        Path("models"),
        read_json(Path("reports/metrics.json")),
        read_json(Path("run.json")),
        Path("data/valid.parquet"),
        section(RegisterConfig, read_params()),
        configure(project_root()),
    )
    write_json(Path("reports/registered.json"), record)
    say(record["reason"])


if __name__ == "__main__":
    run_stage(main)

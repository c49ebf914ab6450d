"""Stage `tune`: searches the hyperparameters -> best.yaml, which holds only the searched keys; `{}` with 0 trials."""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.tune import TuneConfig
from nla.console import run_stage
from nla.tuning import search


def main() -> None:
    """Writes what the search found."""
    search(section(TuneConfig, read_params()), Path("best.yaml"))


if __name__ == "__main__":
    run_stage(main)

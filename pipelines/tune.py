"""Stage `tune`: searches the hyperparameters -> best.yaml, which holds only the searched keys; `{}` with 0 trials.

An interrupted search goes on, and a larger num_samples extends it; `dvc repro -f tune` starts afresh.
"""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.tune import TuneConfig
from nla.console import run_stage
from nla.tuning.best import read_best, write_best
from nla.tuning.report import trials_table, write_report

BEST, TRIALS, FIGURES = Path("best.yaml"), Path("reports/tune/trials.parquet"), Path("reports/tune/figures")


def main() -> None:
    """Searches, takes what an earlier search found, or passes the parameters through."""
    params = read_params()
    settings = section(TuneConfig, params)
    if settings.source is None and settings.num_samples:
        from pipelines.sweep import Outs, sweep  # Ray and the training loop: seconds that the other cases do not need

        sweep(params, settings, Outs(BEST, TRIALS, FIGURES))
        return
    best = {} if settings.source is None else read_best(Path(settings.source))
    write_report(trials_table([], [], settings.objective), {}, TRIALS, FIGURES)
    write_best(BEST, best)


if __name__ == "__main__":
    run_stage(main)

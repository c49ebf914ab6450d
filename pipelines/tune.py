"""Stage `tune`: searches the hyperparameters -> best.yaml, which holds only the searched keys; `{}` with 0 trials.

An interrupted search resumes, and a larger num_samples extends it; `dvc repro -sf tune` starts afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nla.config.base import read_params, section
from nla.config.best import read_best, with_best, write_best
from nla.config.tune import TuneConfig
from nla.errors import ConfigError
from nla.tuning.results import trials_table, write_report
from nla.workflow.paths import project_root
from nla.workflow.stage import run_stage

BEST, TRIALS, FIGURES = Path("best.yaml"), Path("reports/tune/trials.parquet"), Path("reports/tune/figures")


def main() -> None:
    """Searches, takes the result of an earlier search, or passes the parameters through."""
    params = read_params()
    settings = section(TuneConfig, params)
    if settings.source is None and settings.num_samples:
        from nla.tuning.sweep import Outs, sweep  # slow imports of Ray and the training loop, needed only here

        sweep(params, settings, Outs(BEST, TRIALS, FIGURES))
        return
    best = {} if settings.source is None else earlier(settings.source, params)
    write_report(trials_table([], [], settings.objective), {}, TRIALS, FIGURES)
    write_best(BEST, best)


def earlier(source: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Reads and checks the result of an earlier search. Raises ConfigError if training cannot use it."""
    path = project_root() / source
    if path == project_root() / BEST:
        raise ConfigError(f"tune.from {source} is what this stage writes: copy it to another place first")
    from nla.training.job import training_config  # PyTorch: seconds that the other cases do not need

    best = read_best(path, "Set tune.from to the best.yaml of an earlier search.")
    training_config(params)  # what is wrong there is not the fault of the file
    training_config(with_best(params, best), source)
    return best


if __name__ == "__main__":
    run_stage(main)

"""The search for hyperparameters, and how its result reaches training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.config.tune import TuneConfig
from nla.errors import ConfigError


def search(config: TuneConfig, out: Path) -> None:
    """Writes the searched keys with their best values, nested as in params.yaml; none with 0 trials.

    Raises ConfigError for more: this version has no search.
    """
    if config.num_samples:
        raise ConfigError(f"tune.num_samples is {config.num_samples}, but this version cannot search yet: set it to 0")
    out.write_text("{}\n")


def read_best(path: Path) -> dict[str, Any]:
    """What `search` wrote, to be merged over params.yaml."""
    try:
        best = YAML(typ="safe", pure=True).load(path) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run `dvc repro`") from None
    except YAMLError:
        best = None
    if not isinstance(best, dict):
        raise ConfigError(f"{path} is damaged: remove it and run `dvc repro`")
    return best

"""Reads and writes best.yaml, which passes the result of a search on to training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.errors import ConfigError
from nla.files.whole import whole


def read_best(path: Path) -> dict[str, Any]:
    """The searched keys, nested as in params.yaml and to be merged over it.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        best = YAML(typ="safe", pure=True).load(path) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run `dvc repro`") from None
    except YAMLError:
        best = None
    if not isinstance(best, dict):
        raise ConfigError(f"{path} is damaged: remove it and run `dvc repro`")
    return best


def write_best(path: Path, best: Mapping[str, Any]) -> None:
    """Writes only the searched keys, atomically."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with whole(path) as part:
        yaml.dump(dict(best), part)

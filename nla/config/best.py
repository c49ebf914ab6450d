"""best.yaml: the result of a search, which overrides params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nla.config.base import merge, nearest, read_yaml
from nla.config.loss import without_unused
from nla.errors import ConfigError, shortened
from nla.io import atomic_write

SECTIONS = ("loss", "train")
"""Sections that can be searched."""


def read_best(path: Path, remedy: str) -> dict[str, Any]:
    """Reads the searched keys, nested as in params.yaml.

    Args:
        path: path of best.yaml.
        remedy: what to do if the file cannot be used, for the message.

    Raises:
        ConfigError: the file is missing, damaged, or has keys that cannot be searched.
    """
    best = read_yaml(path, remedy, remedy) or {}
    if not isinstance(best, dict):
        raise ConfigError(
            f"{path}: must be a mapping of {' and '.join(SECTIONS)} (got {shortened(repr(best))}). {remedy}"
        )
    for name in best:
        if name not in SECTIONS:
            raise ConfigError(f"{path}: '{name}' cannot be searched{nearest(str(name), SECTIONS)}")
    return best


def with_best(params: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` updated with the searched keys, as in the best trial."""
    merged = merge(params, best)
    searched_method = "name" in (best.get("loss") or {})
    return merged | {"loss": without_unused(merged["loss"])} if searched_method else merged


def write_best(path: Path, best: Mapping[str, Any]) -> None:
    """Writes only the searched keys, atomically."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with atomic_write(path) as part:
        yaml.dump(dict(best), part)

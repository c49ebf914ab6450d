"""Reading a YAML file that a person writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.errors import ConfigError


def read_yaml(path: Path, missing: str) -> Any:
    """Its content as plain dicts and lists.

    Raises ConfigError for bad YAML, and one that says what to do, `missing`, where there is no such file.
    """
    try:
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {missing}") from None
    except YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from None

"""Reading a YAML file that a person writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.errors import ConfigError


def read_yaml(path: Path, missing: str, damaged: str = "mend it there") -> Any:
    """Its content as plain dicts and lists.

    Raises ConfigError where there is no such file, or bad YAML; `missing` and `damaged` say what to do about it.
    """
    try:
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {missing}") from None
    except YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {damaged}\n{error}") from None

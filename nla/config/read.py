"""Reads YAML files that users edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.errors import ConfigError


def read_yaml(path: Path, missing: str, damaged: str = "mend it there") -> Any:
    """Returns the content of a YAML file as plain dicts and lists.

    Args:
        path: path of the file.
        missing: what to do if the file is missing, for the message.
        damaged: what to do if it is not valid YAML, for the message.

    Raises:
        ConfigError: the file is missing, or is not valid YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {missing}") from None
    except YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {damaged}\n{error}") from None

"""best.yaml: the searched keys of the best trial, which override params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML

from nla.config.base import merge, nearest, read_yaml
from nla.config.loss import without_unused
from nla.errors import ConfigError
from nla.io import atomic_write
from nla.text import shortened


class Best(BaseModel):
    """Content of best.yaml: the sections that can be searched, each with its searched keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    loss: dict[str, Any] = {}
    train: dict[str, Any] = {}


SECTIONS = tuple(Best.model_fields)


def read_best(path: Path, remedy: str) -> dict[str, Any]:
    """Reads the searched keys, nested as in params.yaml.

    Args:
        path: path of best.yaml.
        remedy: the next action if the file cannot be used, for the message.

    Raises:
        ConfigError: the file is missing, damaged, or has keys that cannot be searched.
    """
    content = read_yaml(path, remedy, remedy)
    try:
        return Best.model_validate({} if content is None else content).model_dump(exclude_unset=True)
    except ValidationError as invalid:
        raise ConfigError(f"{path}: {_first_problem(invalid)} {remedy}") from None


def _first_problem(invalid: ValidationError) -> str:
    """The first problem of a file, as the sentence `FIELD: problem (got VALUE).`"""
    problem = invalid.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        hint = nearest(field, SECTIONS)
        return f"'{field}' cannot be searched (only {' and '.join(SECTIONS)} can){hint if hint.endswith('?') else '.'}"
    expected = "expected a mapping" if field else f"expected a mapping of {' and '.join(SECTIONS)}"
    return f"{field + ': ' if field else ''}{expected} (got {shortened(repr(problem['input']))})."


def with_best(params: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the searched keys of the best trial.

    If they choose the method, fields of the section that it does not take are dropped, because it would reject them.
    """
    merged = merge(params, best)
    return merged | {"loss": without_unused(merged["loss"])} if "name" in best.get("loss", {}) else merged


def write_best(path: Path, best: Mapping[str, Any]) -> None:
    """Writes the searched keys, atomically."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with atomic_write(path) as part:
        yaml.dump(dict(best), part)

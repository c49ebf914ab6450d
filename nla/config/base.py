"""Reads YAML files that users edit.

Reads params.yaml into frozen sections, with errors that name the nearest valid key.

Each section is a class in its own file, so that a DVC stage depends only on the sections that it reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
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


SECTIONS = ("data", "model", "augment", "loss", "train", "evaluate", "tune", "register", "ray")


DEFAULTS = 1
"""Increase by one when a default changes. Results are named by this number and by the values that differ from their
defaults, so that a new key makes none of them stale."""


class Section(BaseModel):
    """One block of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    NAME: ClassVar[str]

    def stated(self, **options: Any) -> dict[str, Any]:
        """Returns the values that differ from their defaults, JSON-able; `options` are those of `model_dump`."""
        return self.model_dump(mode="json", exclude_defaults=True, **options)


S = TypeVar("S", bound=Section)


def read_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Reads params.yaml as nested dicts. Raises ConfigError for a missing file, bad YAML or an unknown section."""
    params = read_yaml(path, "run from the project's root")
    if not isinstance(params, dict):
        raise ConfigError(f"{path} must hold a mapping of sections: {', '.join(SECTIONS)}")
    for name in params:
        if name not in SECTIONS:
            raise ConfigError(f"{path}: unknown section '{name}'{nearest(str(name), SECTIONS)}")
    return params


def section(cls: type[S], params: Mapping[str, Any], file: str = "params.yaml") -> S:
    """Returns the validated section `cls` of `params`. Raises ConfigError naming `file` and every invalid key."""
    try:
        found = params.get(cls.NAME)
        return cls.model_validate({} if found is None else found)
    except ValidationError as error:
        lines = [_explain(cls, problem) for problem in error.errors()]
        raise ConfigError(f"{file}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def merge(params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` updated with the nested `changes`; neither argument is modified."""
    merged = dict(params)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested keys: {"train": {"lr": 1}} -> {"train.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def nearest(key: str, valid: Sequence[str]) -> str:
    """Returns the end of a message about an unknown key: the most similar valid key, or else all of them."""
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else f": valid are {', '.join(valid) or 'none'}"


def _explain(cls: type[Section], problem: Any) -> str:
    *above, key = problem["loc"] or ("",)
    name = ".".join(str(part) for part in (cls.NAME, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        valid = list(_fields(cls, above))
        return f"unknown key '{name}'{nearest(str(key), valid)}"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')} (got {problem['input']!r})"


def _fields(cls: type[BaseModel], above: list[Any]) -> Iterator[str]:
    for part in above:
        kinds = [cls.model_fields[part].annotation] if part in cls.model_fields else []
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        cls = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), cls)
    yield from (field.alias or name for name, field in cls.model_fields.items())

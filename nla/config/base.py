"""Reading of YAML files that users edit: params.yaml as frozen sections, with errors that name the nearest valid key.

Each section is a class in a module of its own, so that a change of its code makes only those stages stale that read it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nla.errors import ConfigError, validation_message
from nla.io import in_one_line, regular
from nla.limits import MAX_DEPTH, MAX_NUMBER, MAX_VALUES, MAX_WHOLE
from nla.masking import holds_secret, masked
from nla.text import is_utf8, shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SECTIONS = ("data", "audit", "model", "augment", "loss", "train", "evaluate", "tune", "register", "ray")
VIDEO_SECTIONS = ("clips", "sequence")
"""Further sections of video/params.yaml."""
DEFAULTS = 1
"""Increase by one when a default changes. Results are named by this number and by the values that differ from their
defaults, so that a new key makes none of them stale."""


class Section(BaseModel):
    """One block of params.yaml."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="forbid", strict=True)
    NAME: ClassVar[str]

    def stated(self, **options: Any) -> dict[str, Any]:
        """The values that differ from their defaults, JSON-serializable; `options` are those of `model_dump`."""
        return self.model_dump(mode="json", exclude_defaults=True, **options)


S = TypeVar("S", bound=Section)


def read_yaml(path: Path, missing: str = "Run this from the project's root.", invalid: str = "Fix it.") -> Any:
    """Returns the content of a YAML file as plain dicts and lists.

    Args:
        path: path of the file.
        missing: what to do if the file is missing, for the message.
        invalid: what to do if it is not valid YAML, for the message.

    Raises:
        ConfigError: the file is missing, is not valid YAML, is nested too deeply, has too many values, or has one
            that is a password or key, is not finite, or is larger than any number that a parameter can be.
    """
    try:
        content = YAML(typ="safe", pure=True).load(regular(path))
        _check_size(path, content)
        _check_values(path, content)
        return content
    except FileNotFoundError:
        raise ConfigError(f"{path}: file not found. {missing}") from None
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{line}. {invalid}\n{error}") from None
    except (ValueError, RecursionError) as error:  # such as a number of thousands of digits, or nesting as deep
        raise ConfigError(f"{path}: not valid YAML ({in_one_line(error)}). {invalid}") from None


def _check_size(path: Path, content: Any) -> None:
    """Raises ConfigError if the content is nested too deeply, contains itself, or has too many values."""
    level, values = [content], 1
    for _ in range(MAX_DEPTH):
        level = [value for each in level for value in _inner(each)]
        values += len(level)
        if values > MAX_VALUES:
            raise ConfigError(f"{path}: more than {MAX_VALUES:,} values, with those that aliases repeat. Shorten it.")
        if not level:
            return
    raise ConfigError(f"{path}: nested more than {MAX_DEPTH} levels deep. Flatten it.")


def _inner(value: Any) -> Collection[Any]:
    """The values in a mapping or list; none in anything else."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | set) else ()


def read_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Reads params.yaml as nested dicts.

    Raises:
        ConfigError: as `read_yaml`, or it has an unknown section.
    """
    params = read_yaml(path)
    if not isinstance(params, dict):
        raise ConfigError(
            f"{path}: must be a mapping of sections (got {shortened(repr(params))}). Use {', '.join(SECTIONS)}."
        )
    for name in params:
        if name not in SECTIONS + VIDEO_SECTIONS:
            raise ConfigError(f"{path}: unknown section '{name}'{nearest(str(name), SECTIONS)}")
    return params


def _check_values(path: Path, content: Any) -> None:
    """Raises ConfigError as `_check_value` does, for each value of the content."""
    for key, value in (flatten(content) if isinstance(content, dict) else {"": content}).items():
        for single in _singles(value):
            _check_value(f"{path}: {key}" if key else str(path), single)


def _singles(value: Any) -> Iterator[Any]:
    """`value`, or the values in it at any depth."""
    if not isinstance(value, dict | list | set):
        yield value
    for inner in _inner(value):
        yield from _singles(inner)


def _check_value(name: str, value: Any) -> None:
    """Raises ConfigError for a secret, and for what YAML can say but no parameter can be."""
    if isinstance(value, str):
        if holds_secret(value):
            raise ConfigError(
                f"{name}: holds a password or key, which DVC and MLflow would record (got {masked(value)}). "
                "Put it into the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        if "\0" in value or not is_utf8(value):
            raise ConfigError(f"{name}: no text or path can hold this (got {shortened(repr(value))}). Correct it.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: must be a finite number (got {value}). Write one.")
    elif isinstance(value, float) and abs(value) > MAX_NUMBER:
        raise ConfigError(f"{name}: must be at most {MAX_NUMBER:g} in size (got {value:g}). Lower it.")
    elif isinstance(value, int) and abs(value) >= MAX_WHOLE:
        got = shortened(repr(value))
        raise ConfigError(f"{name}: whole numbers must be smaller than 2^63 in size (got {got}). Lower it.")


def section(cls: type[S], params: Mapping[str, Any], file: str = "params.yaml") -> S:
    """Returns the validated section `cls` of `params`. Raises ConfigError naming `file` and every invalid key."""
    try:
        values = params.get(cls.NAME)
        return cls.model_validate({} if values is None else values)
    except ValidationError as error:
        lines = [_message(cls, problem) for problem in error.errors()]
        raise ConfigError(f"{file}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def merge(params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` updated with the nested `changes`; neither argument is modified."""
    merged = dict(params)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
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


def _message(cls: type[Section], problem: ErrorDetails) -> str:
    *parents, key = problem["loc"] or ("",)
    name = ".".join(str(part) for part in (cls.NAME, *problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{name}'{nearest(str(key), list(_fields(cls, parents)))}"
    return f"{name}: {validation_message(problem)}"


def _fields(cls: type[BaseModel], parents: Sequence[int | str]) -> Iterator[str]:
    """Names of the fields of the section inside `cls` that `parents` lead to."""
    for parent in parents:
        kinds = [field.annotation for name, field in cls.model_fields.items() if name == parent]
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        cls = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), cls)
    yield from (field.alias or name for name, field in cls.model_fields.items())

"""The space of a search: which parameters are active in a trial, what their values change, and whether they are valid.

Values are those of the searched parameters by dotted name, such as {"loss.lam": 0.5, "loss.true_mean.0": 0.4}. `space`
maps the same names to their distributions.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch

from nla.config.base import flatten, nearest
from nla.config.loss import NLA, NLA_FIELDS, LossConfig, without_unused
from nla.config.model import ModelConfig
from nla.config.tune import Distribution
from nla.errors import ConfigError, NLAError
from nla.methods import Context, build_method
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.training.job import training_config
from nla.training.process_group import ProcessGroup

INVALID_VALUE_ERRORS = (NLAError, KeyError, IndexError, TypeError, ValueError, AttributeError)
"""Exceptions that an invalid value of a parameter raises in its section or its method."""
Values = Mapping[str, Any]
"""Dotted names -> values."""


def with_values(params: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """A copy of `params` with `values` set; NAME.0 is an element of a list.

    If they choose the method, fields of the section that it does not take are dropped, because it would reject them.
    """
    merged = copy.deepcopy(dict(params))
    for name, value in values.items():
        *above, key = name.split(".")
        parent: Any = merged
        for part in above:
            parent = parent[int(part)] if isinstance(parent, list) else parent.setdefault(part, {})
        if isinstance(parent, list):
            parent[int(key)] = value
        else:
            parent[key] = value
    if "loss.name" in values:
        merged["loss"] = without_unused(merged["loss"])
    return merged


def as_sections(values: Values, params: Mapping[str, Any]) -> dict[str, Any]:
    """`values` nested as in params.yaml, for best.yaml.

    A searched element of a list brings the whole list of the trial, as params.yaml may have null there.
    """
    merged = with_values(params, values)
    whole: dict[str, Any] = {}
    for name, value in values.items():
        parent, _, last = name.rpartition(".")
        if last.isdigit():
            whole[parent] = _look_up(merged, parent)
        else:
            whole[name] = value
    return with_values({}, whole)


def resolved(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` after validation, with the effective values of the method's options."""
    return training_config(params).resolved()


def trial_base(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` after validation, with the loss's lists filled in, so that single elements can be set.

    Other nulls stay: the published consistency weight is 1 - lam, which depends on the trial.
    """
    config = training_config(params)
    sections, in_force = config.dump(), config.resolved()["loss"]
    sections["loss"] |= {name: value for name, value in in_force.items() if isinstance(value, list)}
    return sections


def active(values: Values, space: Mapping[str, Distribution], base: Mapping[str, Any]) -> dict[str, Any]:
    """The subset of `values` whose conditions hold in the trial itself.

    A parameter is decided after those its condition names: until then, it may be an option that the method chosen so
    far does not have.
    """
    chosen: dict[str, Any] = {}
    waiting = list(values)
    while waiting:
        ready = [name for name in waiting if not space[name].when.keys() & set(waiting)] or waiting
        trial = flatten(resolved(with_values(base, chosen)))
        chosen |= {name: values[name] for name in ready if _is_active(space[name], trial)}
        waiting = [name for name in waiting if name not in ready]
    return {name: value for name, value in values.items() if name in chosen}


def first_values(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """Current values of the searched parameters, which make the first trial.

    A parameter whose conditions do not hold, and whose value is outside its distribution, is left out.

    Raises:
        ConfigError: a parameter whose conditions hold has a value outside the space.
    """
    base = resolved(params)
    current = flatten(base)
    values = {name: _look_up(base, name) for name in space}
    inside = {name: value for name, value in values.items() if space[name].contains(value)}
    outside = [name for name in space if name not in inside and _is_active(space[name], current)]
    if outside:
        lines = [f"  tune.space.{name}: {_why_outside(values[name])}" for name in outside]
        raise ConfigError("params.yaml:\n" + "\n".join(lines) + "\nThe first trial has the current values.")
    return inside


def _why_outside(value: Any) -> str:
    if value is None:
        return "has no current value. Add `when` with the choice that it belongs to."
    return f"does not contain the current value {value!r}. Widen the distribution."


def _is_active(distribution: Distribution, params: Mapping[str, Any]) -> bool:
    """Whether the conditions hold for these parameters, by dotted name."""
    return all(other in params and params[other] == wanted for other, wanted in distribution.when.items())


def check_space(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> None:
    """Checks every searched parameter.

    Raises:
        ConfigError: the space is empty, a parameter does not exist, or a value or condition is impossible.
    """
    if not space:
        raise ConfigError("tune.space: empty, but tune.num_samples is above 0. Add the parameters to search.")
    if problems := problems_of(space, params):
        lines = [f"  tune.space.{name}: {why}" for name, why in problems.items()]
        raise ConfigError("params.yaml:\n" + "\n".join(lines))


def problems_of(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, str]:
    """Why parameters cannot be searched, by dotted name; {} if all can."""
    base = trial_base(params)
    possible = _possible(space, base)
    return {name: why for name in space if (why := _problem(name, space, base, possible))}


def _possible(space: Mapping[str, Distribution], base: Mapping[str, Any]) -> dict[str, list[Any]]:
    """All effective values of each parameter, by dotted name: without a search, and with any one choice of another."""
    choices = {name: each.ends() for name, each in space.items() if each.kind in ("choice", "grid")}
    pairs = [(name, value) for name, values in choices.items() for value in values]
    found: dict[str, list[Any]] = {}
    for changes in ({}, *({**_conditions(name, space), name: value} for name, value in pairs)):
        with contextlib.suppress(*INVALID_VALUE_ERRORS):  # reported by _problem
            for name, value in flatten(resolved(with_values(base, changes))).items():
                found.setdefault(name, []).append(value)
    return found


def _conditions(name: str, space: Mapping[str, Distribution], visited: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The conditions of a parameter, and those of the parameters it depends on."""
    found: dict[str, Any] = {}
    for other, wanted in space[name].when.items():
        if other in space and other not in visited:
            found |= _conditions(other, space, visited | {name})
        found[other] = wanted
    return found


def _problem(
    name: str, space: Mapping[str, Distribution], base: Mapping[str, Any], possible: Mapping[str, list[Any]]
) -> str | None:
    section, key = name.split(".")[:2]
    if section not in ("loss", "train"):
        return f"{section} cannot be searched (only loss and train can)"
    if name in ("train.seed", "train.epochs"):
        return f"cannot be searched. Set tune.{key} instead."
    methods = possible.get("loss.name", [])
    is_of_nla = section == "loss" and key in NLA_FIELDS
    if is_of_nla and NLA not in methods:
        return f"is an option of {NLA} (loss.name is {methods[0]}). Search options of {methods[0]}, in loss.options."
    if problem := _condition_problem(name, space, possible):
        return problem
    where = ({"loss.name": NLA} if is_of_nla else {}) | _conditions(name, space)
    for value in space[name].ends():
        try:
            _build(training_config(with_values(base, {**where, name: value})).loss)
        except INVALID_VALUE_ERRORS as error:
            return f"invalid value {value!r}: {str(error).splitlines()[-1].strip()}"
    return None


def _condition_problem(name: str, space: Mapping[str, Distribution], possible: Mapping[str, list[Any]]) -> str | None:
    """Why the conditions of a parameter can never hold."""
    for other, wanted in space[name].when.items():
        if other not in possible and other not in space:
            return f"when: unknown parameter {other!r}{nearest(other, list(possible))}"
        searched = other in space and space[other].contains(wanted)
        if not searched and wanted not in possible.get(other, []):
            return f"when: no trial has {other} = {wanted!r}. Search {other} too, or set it."
    return None


def _build(loss: LossConfig) -> None:
    """Builds the method for a small network; raises ConfigError for options that the method itself rejects."""
    small = Architecture.of(ModelConfig(name="resnet18", width=8), num_classes=2)
    image = ImageSpec(size=16, channels=1, mean=(0.5,), std=(0.5,))
    build_method(loss, Context(torch.arange(2), 2, ProcessGroup(torch.device("cpu")), lambda: Classifier(small, image)))


def _look_up(params: Mapping[str, Any], name: str) -> Any:
    """The value at a dotted name; None if there is none."""
    found: Any = params
    for part in name.split("."):
        found = found[int(part)] if isinstance(found, list) else (found or {}).get(part)
    return found

"""The space of a search: check it against the sections it refers to, and apply its values to a trial's parameters."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch

from nla.config.base import flatten, nearest
from nla.config.loss import OF_NLA, LossConfig, without_nla
from nla.config.model import ModelConfig
from nla.config.tune import Distribution
from nla.errors import ConfigError, NLAError
from nla.losses.nla import NLALoss
from nla.methods import Context, build_method, options_of
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.training.job import training_config
from nla.training.process_group import ProcessGroup

REFUSALS = (NLAError, KeyError, IndexError, TypeError, ValueError, AttributeError)
"""Exceptions raised for a value that its parameter does not accept."""
Values = Mapping[str, Any]
"""Dotted names -> values."""


def with_values(params: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """A copy of `params` with `values` set; NAME.0 is an element of a list.

    If they choose a method other than NLA, NLA's parameters are dropped, because that method would refuse them.
    """
    laid = copy.deepcopy(dict(params))
    for name, value in values.items():
        *above, key = name.split(".")
        place: Any = laid
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if isinstance(place, list):
            place[int(key)] = value
        else:
            place[key] = value
    if values.get("loss.name", "nla") != "nla":
        laid["loss"] = without_nla(laid["loss"])
    return laid


def resolved(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` after validation, with defaults for NLA's null parameters and other methods' missing options."""
    checked = training_config(params)
    sections = checked.dump()
    if checked.loss.name == "nla":
        sections["loss"] |= _published(checked.loss)
    else:
        sections["loss"]["options"] = options_of(checked.loss)
    return sections


def trial_base(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` after validation, with the loss's lists filled in, so that single elements can be set.

    Other nulls stay: the published consistency weight is 1 - lam, which depends on the trial.
    """
    sections = training_config(params).dump()
    published = resolved(params)["loss"]
    sections["loss"] |= {name: value for name, value in published.items() if isinstance(value, list)}
    return sections


def active(values: Values, space: Mapping[str, Distribution], base: Mapping[str, Any]) -> dict[str, Any]:
    """The subset of `values` whose conditions hold in the trial itself.

    A parameter is decided after those its condition names: until then, it may be an option that the method of the
    parameters laid so far does not have.
    """
    kept: dict[str, Any] = {}
    waiting = list(values)
    while waiting:
        ready = [name for name in waiting if not space[name].when.keys() & set(waiting)] or waiting
        here = flatten(resolved(with_values(base, kept)))
        kept |= {name: values[name] for name in ready if _counts(space[name], here)}
        waiting = [name for name in waiting if name not in ready]
    return {name: value for name, value in values.items() if name in kept}


def first_values(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the searched parameters without a search, which make the first trial.

    A parameter that does not count there, and whose value is outside its distribution, is left out.

    Raises:
        ConfigError: a parameter that counts has a value outside the space.
    """
    base = resolved(params)
    here = flatten(base)
    values = {name: _look_up(base, name) for name in space}
    inside = {name: value for name, value in values.items() if space[name].holds(value)}
    outside = [name for name in space if name not in inside and _counts(space[name], here)]
    if outside:
        lines = [f"  tune.space.{name} {_why_outside(values[name])}" for name in outside]
        raise ConfigError("params.yaml:\n" + "\n".join(lines) + "\nIt is the first trial: widen the space")
    return inside


def _why_outside(value: Any) -> str:
    return (
        "has no value now: say with `when` where it counts" if value is None else f"leaves out {value!r}, as it is now"
    )


def _counts(distribution: Distribution, here: Mapping[str, Any]) -> bool:
    """Whether the conditions hold for the parameters `here`, by dotted name."""
    return all(other in here and here[other] == wanted for other, wanted in distribution.when.items())


def check_space(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> None:
    """Checks every searched parameter.

    Raises:
        ConfigError: the space is empty, a parameter does not exist, or a value or condition is impossible.
    """
    if not space:
        raise ConfigError("tune.num_samples is above 0, but tune.space is empty: name what is to be searched")
    if problems := problems_of(space, params):
        lines = [f"  tune.space.{name}: {why}" for name, why in problems.items()]
        raise ConfigError("params.yaml:\n" + "\n".join(lines))


def problems_of(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that cannot be searched -> the reason."""
    base = trial_base(params)
    possible = _possible(space, base)
    return {name: why for name in space if (why := _problem(name, space, base, possible))}


def _possible(space: Mapping[str, Distribution], base: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Values, by dotted name, of each parameter without a search, or with any one choice of another."""
    listed = [(name, value) for name, each in space.items() if each.kind in ("choice", "grid") for value in each.ends()]
    found: dict[str, list[Any]] = {}
    for changes in ({}, *({**_conditions(name, space), name: value} for name, value in listed)):
        with contextlib.suppress(*REFUSALS):  # reported by _problem
            for name, value in flatten(resolved(with_values(base, changes))).items():
                found.setdefault(name, []).append(value)
    return found


def _conditions(name: str, space: Mapping[str, Distribution], below: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The conditions of a parameter, and those of the parameters it depends on."""
    found: dict[str, Any] = {}
    for other, wanted in space[name].when.items():
        if other in space and other not in below:
            found |= _conditions(other, space, below | {name})
        found[other] = wanted
    return found


def _problem(
    name: str, space: Mapping[str, Distribution], base: Mapping[str, Any], possible: Mapping[str, list[Any]]
) -> str | None:
    section, key = name.split(".")[:2]
    if section not in ("loss", "train"):
        return "only parameters of loss and train can be searched"
    if name in ("train.seed", "train.epochs"):
        return f"set tune.{key} instead"
    methods = possible.get("loss.name", [])
    if section == "loss" and key in OF_NLA and "nla" not in methods:
        return f"is of loss.name nla alone, which is {methods[0]} here: search {methods[0]}'s own, in loss.options"
    for other, wanted in space[name].when.items():
        if other not in possible and other not in space:
            return f"when names no parameter {other!r}{nearest(other, list(possible))}"
        searched = other in space and space[other].holds(wanted)
        if not searched and wanted not in possible.get(other, []):
            return f"when asks for {other} {wanted!r}, which no trial has: search it too, or set it"
    where = {"loss.name": "nla"} if section == "loss" and key in OF_NLA else {}
    where |= _conditions(name, space)
    for value in space[name].ends():
        try:
            _build(training_config(with_values(base, {**where, name: value})).loss)
        except REFUSALS as error:
            return f"{value!r} is refused: {str(error).splitlines()[-1].strip()}"
    return None


def _build(loss: LossConfig) -> None:
    """Builds the method for a small network; raises ConfigError for options that the method itself refuses."""
    small = Architecture.of(ModelConfig(name="resnet18", width=8), num_classes=2)
    image = ImageSpec(size=16, channels=1, mean=(0.5,), std=(0.5,))
    build_method(loss, Context(torch.arange(2), 2, ProcessGroup(torch.device("cpu")), lambda: Classifier(small, image)))


def _look_up(params: Mapping[str, Any], name: str) -> Any:
    """The value at a dotted name; None if there is none."""
    place: Any = params
    for part in name.split("."):
        place = place[int(part)] if isinstance(place, list) else (place or {}).get(part)
    return place


def _published(loss: LossConfig) -> dict[str, Any]:
    """NLA's parameters as the built loss has them, with defaults resolved."""
    built = NLALoss(**loss.model_dump(include=OF_NLA))
    naw = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(built.naw).items()}
    return naw | {
        "lam": built.lam,
        "consistency": built.consistency,
        "consistency_reduction": built.reduction,
        "consistency_weight": built.consistency_weight,
    }

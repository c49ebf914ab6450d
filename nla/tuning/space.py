"""The space of a search: checked against the sections it lies in, and laid over the parameters of a trial."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from nla.config.base import flatten
from nla.config.loss import LossConfig
from nla.config.tune import Distribution
from nla.errors import ConfigError, NLAError
from nla.losses.nla import PUBLISHED_CONSISTENCY, NLALoss
from nla.methods import options_of
from nla.training.job import training_sections

Values = Mapping[str, Any]
"""Dotted names -> values."""


def with_values(params: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """`params` with `values` in their places; NAME.0 is an element of a list."""
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
    return laid


def resolved(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as checked, with published values for NLA's nulls, and for options of others not given."""
    checked = training_sections(params)
    sections = {name: config.model_dump(mode="json") for name, config in checked.items()}
    if checked["loss"].name == "nla":
        sections["loss"] |= _published(checked["loss"])
    else:
        sections["loss"]["options"] = options_of(checked["loss"])
    return sections


def trial_base(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as checked, with lists where the loss has means, so that an element has its place.

    Other nulls stay: the published weight of the consistency is 1 - lam, whatever lam a trial has.
    """
    sections = {name: config.model_dump(mode="json") for name, config in training_sections(params).items()}
    published = resolved(params)["loss"]
    sections["loss"] |= {name: value for name, value in published.items() if isinstance(value, list)}
    return sections


def active(values: Values, space: Mapping[str, Distribution], base: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` whose conditions hold in the trial itself."""
    kept = dict(values)
    for _ in space:  # a condition may hang on a parameter that has a condition of its own
        here = flatten(resolved(with_values(base, kept)))
        kept = {
            name: value
            for name, value in kept.items()
            if all(here.get(other) == wanted for other, wanted in space[name].when.items())
        }
    return kept


def first_values(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> dict[str, Any]:
    """What the searched parameters are without a search: the first trial. Raises ConfigError outside of the space."""
    base = resolved(params)
    values = {name: _look_up(base, name) for name in space}
    outside = [name for name, value in values.items() if not space[name].holds(value)]
    if outside:
        lines = [f"  tune.space.{name} leaves out the present value {values[name]!r}" for name in outside]
        raise ConfigError("params.yaml:\n" + "\n".join(lines) + "\nIt is the first trial: widen the space")
    return values


def check_space(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> None:
    """Raises ConfigError for a parameter that a training does not have, or a value that it refuses."""
    if not space:
        raise ConfigError("tune.num_samples is above 0, but tune.space is empty: name what is to be searched")
    base = trial_base(params)
    problems = [f"  tune.space.{name}: {why}" for name in space if (why := _problem(name, space[name], base))]
    if problems:
        raise ConfigError("params.yaml:\n" + "\n".join(problems))


def _problem(name: str, distribution: Distribution, base: Mapping[str, Any]) -> str | None:
    section = name.split(".")[0]
    if section not in ("loss", "train"):
        return "only parameters of loss and train can be searched"
    if name in ("train.seed", "train.epochs"):
        return f"set tune.{name.split('.')[1]} instead"
    for value in distribution.ends():
        try:
            training_sections(with_values(base, {name: value}))
        except (NLAError, KeyError, IndexError, TypeError, ValueError) as error:
            return f"{value!r} is refused: {str(error).splitlines()[-1].strip()}"
    return None


def _look_up(params: Mapping[str, Any], name: str) -> Any:
    place: Any = params
    for part in name.split("."):
        place = place[int(part)] if isinstance(place, list) else place.get(part)
    return place


def _published(loss: LossConfig) -> dict[str, Any]:
    """The values of the loss as it would be built."""
    given = loss.model_dump(exclude={"name", "options"})
    built = NLALoss(**given)
    naw = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(built.naw).items()}
    consistency, reduction = PUBLISHED_CONSISTENCY[loss.variant]
    return naw | {
        "lam": built.lam,
        "consistency": given["consistency"] or consistency,
        "consistency_reduction": given["consistency_reduction"] or reduction,
        "consistency_weight": built.consistency_weight,
    }

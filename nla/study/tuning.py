"""Tuning of a study: equally many settings for each method, listed or drawn from its space, ranked on validation.

`tuning_specs` lists the runs; `candidates_of` and `best_candidate` rank the settings by their mean over the conditions.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from nla.config.base import flatten
from nla.config.tune import Distribution, distributions
from nla.errors import ConfigError, TrainingError
from nla.study.grid import Grid, Tuning
from nla.study.specs import RunSpec, run_spec
from nla.study.times import Times
from nla.training.job import training_config
from nla.tuning.searchers import param_space
from nla.tuning.space import Values, active, problems_of, trial_base

FIXED = {
    "loss.name": "it defines the method",
    "train.select": "it chooses the epoch of every method",
    "train.seed": "it is tuning.seed",
    "train.epochs": "it is the same for all methods, set in params.yaml, or follows from `minutes`",
}
"""Parameters that cannot differ between methods, and why."""
DRAWS = 50
"""Maximum draws per setting while looking for a new one."""


def tuning_specs(grid: Grid, params: Mapping[str, Any], times: Times | None = None) -> list[RunSpec]:
    """Every setting of every method under every condition of `tuning`, those on the same data adjacent.

    A method's first setting is that of the grid. Empty without `tuning`; a method without candidates and without a
    search space has no runs. They have the parameters and the time of the block that `tuning.block` names.

    Raises:
        ConfigError: a parameter cannot be searched, or a space has too few settings.
    """
    tuning = grid.tuning
    if tuning is None:
        return []

    def spec(method: str, condition: str, values: Values, number: int | None = None) -> RunSpec:
        return run_spec(
            grid, params, method, condition, tuning.seed, values, number, block=grid.tuning_block, times=times
        )

    searched = [name for name in grid.methods if tuning.space_of(name) or tuning.listed(name)]
    settings = {name: _settings(tuning, name, partial(spec, name, tuning.conditions[0])) for name in searched}
    return [
        spec(name, condition, values, number)
        for condition in tuning.conditions
        for name, tried in settings.items()
        for number, values in enumerate(tried)
    ]


def _settings(tuning: Tuning, method: str, spec: Callable[[Values], RunSpec]) -> list[Values]:
    """The grid's setting followed by the listed candidates, or by distinct draws from the method's space.

    Args:
        spec: the run with some values.
    """
    base = spec({}).params
    listed = tuning.listed(method)
    others = _listed(method, listed) if listed else _draws(_space(tuning, method, base), base, tuning.seed)
    found: list[Values] = [{}]
    seen = [training_config(base)]
    for values in itertools.islice(others, DRAWS * tuning.settings):
        if (sections := training_config(spec(values).params)) not in seen:
            found.append(values)
            seen.append(sections)
        if len(found) == tuning.settings:
            return found
    raise ConfigError(
        f"grid.yaml: tuning of {method}: its space has {len(found)} settings, not {tuning.settings}. "
        "Widen it, or lower tuning.settings."
    )


def _listed(method: str, candidates: Iterable[Mapping[str, Any]]) -> Iterator[Values]:
    """The values of listed candidates."""
    for candidate in candidates:
        values = flatten(candidate)
        if fixed := next((name for name in values if name in FIXED and name != "loss.name"), None):
            raise ConfigError(
                f"grid.yaml: tuning.candidates: {method}: {fixed} cannot be tuned: {FIXED[fixed]}. Remove it."
            )
        yield values


def _draws(space: Mapping[str, Distribution], params: Mapping[str, Any], seed: int) -> Iterator[Values]:
    """Draws from the space; a parameter's draws do not depend on which others are searched."""
    base, domains = trial_base(params), param_space(space)
    for number in itertools.count():
        drawn = {}
        for name, domain in domains.items():
            random = np.random.RandomState([seed, number, zlib.crc32(name.encode())])  # the kind that Ray accepts
            value = domain.sample(random_state=random)
            drawn[name] = value.item() if isinstance(value, np.generic) else value
        yield active(drawn, space, base)


def _space(tuning: Tuning, method: str, params: Mapping[str, Any]) -> dict[str, Distribution]:
    where = f"grid.yaml: tuning of {method}"
    try:
        space = distributions(tuning.space_of(method))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if fixed := next((name for name in space if name in FIXED), None):
        raise ConfigError(f"{where}: {fixed} cannot be searched: {FIXED[fixed]}. Remove it from the space.")
    if grids := [name for name, each in space.items() if each.kind == "grid"]:
        raise ConfigError(f"{where}: {grids[0]}: `grid` is not supported in a study. Use `choice`.")
    if problems := problems_of(space, params):
        lines = [f"  {name}: {why}" for name, why in problems.items()]
        raise ConfigError(f"{where}:\n" + "\n".join(lines))
    return space


class Attempt(NamedTuple):
    """One run of the tuning."""

    method: str
    setting: int
    """Number of the values; the same under every condition."""
    condition: str
    values: Mapping[str, Any]
    score: float | None
    """The objective on validation; None if training diverged."""


class Candidate(NamedTuple):
    """One setting of a method, with its scores."""

    values: Mapping[str, Any]
    scores: dict[str, float | None]
    """Objective on validation, by condition; None if training diverged."""

    @property
    def mean(self) -> float | None:
        """Mean score over the conditions; None if training diverged under any of them."""
        values = [value for value in self.scores.values() if value is not None]
        return fmean(values) if len(values) == len(self.scores) else None


def candidates_of(attempts: Iterable[Attempt]) -> dict[str, list[Candidate]]:
    """Method -> its candidates, ordered by setting number."""
    found: dict[str, dict[int, Candidate]] = {}
    for attempt in attempts:
        candidate = found.setdefault(attempt.method, {}).setdefault(attempt.setting, Candidate(attempt.values, {}))
        candidate.scores[attempt.condition] = attempt.score
    return {method: [by_number[number] for number in sorted(by_number)] for method, by_number in found.items()}


def best_candidate(method: str, candidates: Iterable[Candidate]) -> Candidate:
    """The candidate with the highest mean score; the first of equals.

    Raises:
        TrainingError: every candidate diverged under some condition.
    """
    means = [(candidate.mean, candidate) for candidate in candidates]
    trained = [(mean, candidate) for mean, candidate in means if mean is not None]
    if not trained:
        raise TrainingError(
            f"every setting of {method} diverged under a condition, or lacks a record in a frozen study, that of the "
            "grid too. Lower train.lr in grid.yaml, or restore the records."
        )
    return max(trained, key=lambda pair: pair[0])[1]

"""The setting of each method, chosen on validation out of as many trials as every other method has."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nla.config.base import merge
from nla.config.tune import Distribution, distributions
from nla.errors import ConfigError, TrainingError
from nla.study.grid import Cell, Grid, Tuning, make_cell
from nla.training.job import training_sections
from nla.tuning.domains import param_space
from nla.tuning.space import Values, active, problems_of, trial_base

FIXED = {
    "loss.name": "what a method is",
    "train.select": "what chooses every method's epoch",
    "train.seed": "tuning.seed",
    "train.epochs": "the same for all, of params.yaml",
}
"""Parameters that no method may have its own of, and why."""
DRAWS = 50
"""So many a trial, until one is no repetition."""


def trial_cells(grid: Grid, params: Mapping[str, Any]) -> list[Cell]:
    """Every trial of every method; none without `tuning`. The first of a method is the method as the grid has it.

    Raises ConfigError naming a parameter that cannot be searched, or a space with fewer settings than trials.
    """
    tuning = grid.tuning
    return [] if tuning is None else [cell for name in grid.methods for cell in _trials(grid, tuning, params, name)]


def _trials(grid: Grid, tuning: Tuning, params: Mapping[str, Any], method: str) -> list[Cell]:
    """No two of the same setting."""

    def cell(values: Values, number: int) -> Cell:
        return make_cell(grid, params, method, tuning.condition, tuning.seed, values, number)

    found = [cell({}, 0)]
    space = _space(tuning, method, found[0].params)
    seen = [training_sections(found[0].params)]
    for values in itertools.islice(_draws(space, found[0].params, tuning.seed), DRAWS * tuning.trials):
        next_one = cell(values, len(found))
        if (sections := training_sections(next_one.params)) not in seen:
            found.append(next_one)
            seen.append(sections)
        if len(found) == tuning.trials:
            return found
    raise ConfigError(f"grid.yaml: tuning of {method}: its space has {len(found)} settings for {tuning.trials} trials")


def _draws(space: Mapping[str, Distribution], params: Mapping[str, Any], seed: int) -> Iterator[Values]:
    """Values of the whole space; a parameter has the same draws, whatever else is searched."""
    base, domains = trial_base(params), param_space(space)
    for number in itertools.count():
        drawn = {}
        for name, domain in domains.items():
            random = np.random.RandomState([seed, number, zlib.crc32(name.encode())])  # Ray takes this kind
            value = domain.sample(random_state=random)
            drawn[name] = value.item() if isinstance(value, np.generic) else value
        yield active(drawn, space, base)


def _space(tuning: Tuning, method: str, params: Mapping[str, Any]) -> dict[str, Distribution]:
    where = f"grid.yaml: tuning of {method}"
    try:
        space = distributions(merge(tuning.common, tuning.space.get(method, {})))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if fixed := next((name for name in space if name in FIXED), None):
        raise ConfigError(f"{where}: {fixed} is {FIXED[fixed]}: take it out of the space")
    if grids := [name for name, each in space.items() if each.kind == "grid"]:
        raise ConfigError(f"{where}: {grids[0]} has a grid, of which no draw is made: take choice")
    if problems := problems_of(space, params):
        lines = [f"  {name}: {why}" for name, why in problems.items()]
        raise ConfigError(f"{where}:\n" + "\n".join(lines))
    return space


def best_values(scored: Iterable[tuple[Cell, float]], methods: Iterable[str]) -> dict[str, Values]:
    """Method -> values of its best trial, the first of equals. Raises TrainingError for one without a trial."""
    best: dict[str, tuple[float, Values]] = {}
    for cell, reached in scored:
        if cell.method not in best or reached > best[cell.method][0]:
            best[cell.method] = reached, cell.values
    if lost := [method for method in methods if method not in best]:
        raise TrainingError(
            f"every trial of {', '.join(lost)} diverged, its setting of the grid too: lower train.lr in grid.yaml"
        )
    return {method: values for method, (_, values) in best.items()}

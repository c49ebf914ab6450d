"""The setting of each method, chosen on validation out of as many trials as every other method has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nla.config.base import merge
from nla.config.tune import Distribution, distributions
from nla.errors import ConfigError, TrainingError
from nla.study.grid import Cell, Grid, Tuning, make_cell
from nla.tuning.algorithms import param_space
from nla.tuning.space import Values, active, problems_of, trial_base


def trial_cells(grid: Grid, params: Mapping[str, Any]) -> list[Cell]:
    """Every trial of every method; none without `tuning`. The first of a method is the method as the grid has it.

    Raises ConfigError naming a parameter that cannot be searched.
    """
    tuning = grid.tuning
    return [] if tuning is None else [cell for name in grid.methods for cell in _trials(grid, tuning, params, name)]


def _trials(grid: Grid, tuning: Tuning, params: Mapping[str, Any], method: str) -> list[Cell]:
    def cell(values: Values) -> Cell:
        return make_cell(grid, params, method, tuning.condition, tuning.seed, values)

    first = cell({})
    space = _space(tuning, method, first.params)
    base, domains = trial_base(first.params), param_space(space)
    drawn = [_draw(domains, [tuning.seed, number]) for number in range(1, tuning.trials)]
    return [first, *(cell(active(values, space, base)) for values in drawn)]


def _draw(domains: Mapping[str, Any], seed: list[int]) -> dict[str, Any]:
    """A value of each of Ray's domains; what comes first is the same, whatever follows."""
    random = np.random.RandomState(seed)  # Ray takes this kind
    drawn = {name: domain.sample(random_state=random) for name, domain in domains.items()}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in drawn.items()}


def _space(tuning: Tuning, method: str, params: Mapping[str, Any]) -> dict[str, Distribution]:
    where = f"grid.yaml: tuning of {method}"
    try:
        space = distributions(merge(tuning.common, tuning.space.get(method, {})))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
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
        raise TrainingError(f"every trial of {', '.join(lost)} failed: narrow its space in grid.yaml")
    return {method: values for method, (_, values) in best.items()}

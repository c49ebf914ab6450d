"""grid.yaml, what a study compares: every method under every condition with every seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nla.config.base import Section, merge, nearest, section
from nla.config.data import DataConfig
from nla.errors import ConfigError
from nla.training.job import training_sections

OF_A_METHOD = ("augment", "loss", "model", "train")


class Grid(Section):
    """What a study compares."""

    NAME: ClassVar[str] = "grid"

    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> sections of a training, laid over params.yaml."""
    conditions: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> keys of the section `data`, laid over params.yaml: noise, imbalance."""
    seeds: Annotated[list[int], Field(min_length=1)]
    """Of the corruption of the data, which is the same for all methods, and of training."""
    reference: str
    """The method that all others are compared with."""


@dataclass(frozen=True)
class Cell:
    """One training of a study."""

    method: str
    condition: str
    seed: int
    params: Mapping[str, Any]
    """Sections, params.yaml and grid.yaml laid over each other."""

    @property
    def data(self) -> DataConfig:
        """Which rows, labels and noise."""
        return section(DataConfig, self.params)

    def __str__(self) -> str:
        return f"{self.method}, {self.condition}, seed {self.seed}"


def read_grid(path: Path) -> Grid:
    """The grid of a study. Raises ConfigError for bad YAML, an unknown key, or an unknown reference."""
    try:
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run from the study's folder") from None
    except YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from None
    grid = section(Grid, {"grid": content}, path.name)
    if grid.reference not in grid.methods:
        raise ConfigError(
            f"{path}: reference {grid.reference!r} is no method{nearest(grid.reference, [*grid.methods])}"
        )
    if len(set(grid.seeds)) < len(grid.seeds):
        raise ConfigError(f"{path}: a seed stands twice in {grid.seeds}")
    return grid


def cells(grid: Grid, params: Mapping[str, Any]) -> list[Cell]:
    """Every training of the study, those on the same data next to each other. Raises ConfigError naming a wrong one."""
    return [
        _cell(grid, params, method, condition, seed)
        for seed in grid.seeds
        for condition in grid.conditions
        for method in grid.methods
    ]


def _cell(grid: Grid, params: Mapping[str, Any], method: str, condition: str, seed: int) -> Cell:
    changes = grid.methods[method]
    if strange := sorted(changes.keys() - set(OF_A_METHOD)):
        raise ConfigError(
            f"grid.yaml: method {method!r} changes {', '.join(strange)}: valid are {', '.join(OF_A_METHOD)}"
        )
    seeded = {"data": {**grid.conditions[condition], "seed": seed}, "train": {"seed": seed}}
    cell = Cell(method, condition, seed, merge(merge(params, changes), seeded))
    try:
        training_sections(cell.params)
        _ = cell.data
    except ConfigError as error:
        raise ConfigError(f"grid.yaml: {method}, {condition}: {error}") from None
    return cell

"""grid.yaml: the methods, conditions and seeds that a study compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from nla.config.base import Section, merge, nearest, read_yaml, section
from nla.config.data import INGEST_KEYS, DataConfig
from nla.errors import ConfigError
from nla.study.record import Objective
from nla.training.job import training_config
from nla.tuning.space import Values, trial_base, with_values

METHOD_SECTIONS = ("augment", "loss", "model", "train")
"""Sections of params.yaml that a method can change."""


class Tuning(Section):
    """How each method's setting is chosen before the comparison: on validation, from the same number of candidates per
    method."""

    NAME: ClassVar[str] = "tuning"

    settings: Annotated[int, Field(ge=2)]
    """Candidates per method: one is the configuration in `methods`, the rest are sampled from its space; a method
    without a space is not tuned."""
    conditions: Annotated[list[str], Field(min_length=1)]
    """Conditions for tuning: the candidate with the best mean over these is used everywhere."""
    seed: int
    """Seed of the draws, the synthetic label noise and training; must not be one of the grid's."""
    objective: Objective = "accuracy"
    """Metric, measured at the selected epoch on validation, that ranks candidates; both: mean of the two accuracies."""
    common: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Search space of every method, in the form of `tune.space`."""
    space: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Method -> its additional space."""

    def space_of(self, method: str) -> dict[str, Any]:
        """Search space of a method, not yet checked; {} if there is nothing to tune."""
        return merge(self.common, self.space.get(method, {}))


class Grid(Section):
    """What a study compares."""

    NAME: ClassVar[str] = "grid"

    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> sections of params.yaml: augment, loss, model, train; overrides the study's params.yaml."""
    conditions: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> keys of the section `data`, such as noise and imbalance; overrides params.yaml."""
    seeds: Annotated[list[int], Field(min_length=1)]
    """Seeds of the synthetic label noise, which is the same for all methods, and of training."""
    reference: str
    """Method that all others are compared with."""
    caveats: Annotated[
        list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]], Field(default_factory=list)
    ]
    """What a reader must know before comparing the methods; the report shows it first, and above each table."""
    tuning: Tuning | None = None
    """None: no tuning."""
    frozen: bool = False
    """The study has ended: its records are read whatever code made them, and nothing is trained unless it is forced."""


@dataclass(frozen=True)
class RunSpec:
    """Specification of one run of a study."""

    method: str
    condition: str
    seed: int
    params: Mapping[str, Any]
    """Sections: params.yaml with grid.yaml and `values` merged over it."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Tuned values, by dotted name."""
    setting: int | None = None
    """Index of this candidate among the method's; None for a comparison run."""

    @property
    def data(self) -> DataConfig:
        """The section `data`: rows, labels and noise."""
        return section(DataConfig, self.params)

    def __str__(self) -> str:
        name = f"{self.method}, {self.condition}, seed {self.seed}"
        return name if self.setting is None else f"{name}, setting {self.setting}"


def read_grid(path: Path) -> Grid:
    """Reads the grid of a study. Raises ConfigError for bad YAML, an unknown key or name, or a duplicate."""
    grid = section(Grid, {"grid": read_yaml(path, "Run this from the study's folder.")}, path.name)
    if grid.reference not in grid.methods:
        raise ConfigError(
            f"{path}: reference: {grid.reference!r} is not a method{nearest(grid.reference, [*grid.methods])}"
        )
    if len(set(grid.seeds)) < len(grid.seeds):
        raise ConfigError(f"{path}: seeds: duplicate seed in {grid.seeds}. List each once.")
    if grid.tuning is not None:
        _check_tuning(grid, grid.tuning, path)
    return grid


def _check_tuning(grid: Grid, tuning: Tuning, path: Path) -> None:
    if unknown := next((name for name in tuning.conditions if name not in grid.conditions), None):
        near = nearest(unknown, [*grid.conditions])
        raise ConfigError(f"{path}: tuning.conditions: {unknown!r} is not a condition{near}")
    if len(set(tuning.conditions)) < len(tuning.conditions):
        raise ConfigError(f"{path}: tuning.conditions: duplicate condition in {tuning.conditions}. List each once.")
    if tuning.seed in grid.seeds:
        raise ConfigError(f"{path}: tuning.seed: {tuning.seed} is also in `seeds`. Choose one that no comparison uses.")
    if unknown := next((name for name in tuning.space if name not in grid.methods), None):
        raise ConfigError(f"{path}: tuning.space: {unknown!r} is not a method{nearest(unknown, [*grid.methods])}")
    if not any(map(tuning.space_of, grid.methods)):
        raise ConfigError(f"{path}: tuning: nothing to search. Set `space` or `common`, or remove `tuning`.")


def run_specs(grid: Grid, params: Mapping[str, Any], tuned: Mapping[str, Values] | None = None) -> list[RunSpec]:
    """Every run of the comparison, ordered so that runs sharing data are adjacent.

    Args:
        tuned: method -> values found by `tuning`; a missing method keeps the configuration of the grid.

    Raises:
        ConfigError: a run is invalid; the message names it.
    """
    return [
        run_spec(grid, params, method, condition, seed, (tuned or {}).get(method, {}))
        for seed in grid.seeds
        for condition in grid.conditions
        for method in grid.methods
    ]


def run_spec(
    grid: Grid,
    params: Mapping[str, Any],
    method: str,
    condition: str,
    seed: int,
    values: Values,
    setting: int | None = None,
) -> RunSpec:
    """The specification of one run. Raises ConfigError if it is invalid."""
    changes = grid.methods[method]
    if unknown := sorted(changes.keys() - set(METHOD_SECTIONS)):
        raise ConfigError(
            f"grid.yaml: methods.{method}: unknown section {', '.join(unknown)} (valid: {', '.join(METHOD_SECTIONS)})"
        )
    if fixed := sorted(grid.conditions[condition].keys() & INGEST_KEYS):
        raise ConfigError(
            f"grid.yaml: conditions.{condition}: {', '.join(fixed)} must be the same for all conditions. Set "
            "it in params.yaml, or create a separate study per value."
        )
    seeded = {"data": {**grid.conditions[condition], "seed": seed}, "train": {"seed": seed}}
    merged = merge(merge(params, changes), seeded)
    try:
        if values:  # may index into a list that is null in params.yaml
            merged = with_values(merged | trial_base(merged), values)
        spec = RunSpec(method, condition, seed, merged, values, setting)
        training_config(spec.params)
        _ = spec.data
    except ConfigError as error:
        raise ConfigError(f"grid.yaml: {method}, {condition}: {error}") from None
    return spec

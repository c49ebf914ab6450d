"""Every run of a study: one for each method, condition and seed of each block of grid.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nla.config.base import merge, section
from nla.config.data import CORRECTION_KEYS, INGEST_KEYS, DataConfig
from nla.config.train import TrainConfig
from nla.errors import ConfigError
from nla.study.grid import Grid, Part, table_title
from nla.study.times import Times
from nla.training.job import training_config
from nla.tuning.space import Values, trial_base, with_values

METHOD_SECTIONS = ("augment", "loss", "model", "train")
"""Sections of params.yaml that a method can change; a block can change `data`, too."""
TRAIN = "train"
"""The section of params.yaml that a condition can change beside `data`."""


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
    block: str = ""
    """Name of the block; empty without blocks."""

    @property
    def data(self) -> DataConfig:
        """The section `data`: rows, labels and noise."""
        return section(DataConfig, self.params)

    @property
    def table(self) -> str:
        """Title of the table in which the run is reported: the condition, and the block if there are any."""
        return table_title(self.condition, self.block)

    def __str__(self) -> str:
        name = f"{self.method}, {self.table}, seed {self.seed}"
        return name if self.setting is None else f"{name}, setting {self.setting}"


def run_specs(
    grid: Grid, params: Mapping[str, Any], tuned: Mapping[str, Values] | None = None, times: Times | None = None
) -> list[RunSpec]:
    """Every run of the comparison: all methods of one condition and seed, which share data, then the next.

    Args:
        tuned: method -> values found by `tuning`; a missing method keeps the configuration of the grid.
        times: content of time.json, for blocks with `minutes`.

    Raises:
        ConfigError: a run is invalid; the message names it.
    """
    return [
        run_spec(
            grid,
            params,
            method,
            condition,
            seed,
            (tuned or {}).get(method, {}) if part.tuned else {},
            block=block,
            times=times,
        )
        for block, part in grid.parts.items()
        for seed in part.seeds
        for condition in part.conditions
        for method in part.methods
    ]


def run_spec(
    grid: Grid,
    params: Mapping[str, Any],
    method: str,
    condition: str,
    seed: int,
    values: Values,
    setting: int | None = None,
    *,
    block: str | None = None,
    times: Times | None = None,
    epochs: int | None = None,
) -> RunSpec:
    """The specification of one run, by default of the first block; `epochs` instead of those that its time gives.

    Raises:
        ConfigError: it is invalid.
    """
    name = next(iter(grid.parts)) if block is None else block
    part = grid.parts[name]
    _check_keys(grid, method, condition, name, part)
    changes = grid.conditions[condition]
    data = {key: value for key, value in changes.items() if key != TRAIN}
    seeded = {"data": {**data, "seed": seed}, TRAIN: {**changes.get(TRAIN, {}), "seed": seed}}
    merged = merge(merge(merge(params, part.params), grid.methods[method]), seeded)
    try:
        if epochs is None and part.minutes is not None:
            epochs = epochs_in(part.minutes, merged, name, method, times)
        if epochs is not None:
            merged = merge(merged, {TRAIN: {"epochs": epochs}})
        if values:  # may index into a list that is null in params.yaml
            merged = with_values(merged | trial_base(merged), values)
        spec = RunSpec(method, condition, seed, merged, values, setting, name)
        _check_targets(training_config(spec.params).train)
        _check_labels(spec.data)
    except ConfigError as error:
        raise ConfigError(f"grid.yaml: {method}, {condition}: {error}") from None
    return spec


def _check_targets(train: TrainConfig) -> None:
    """Raises ConfigError if targets are to come from an audit, which a study does not have."""
    if train.soften:
        raise ConfigError("a study has no audit (got train.soften: True). Remove it.")


def _check_labels(data: DataConfig) -> None:
    """Raises ConfigError if labels are to be corrected: methods are compared on the labels that the source has."""
    if changed := data.stated(include=CORRECTION_KEYS):
        got = ", ".join(f"data.{key}: {value}" for key, value in changed.items())
        raise ConfigError(f"a study corrects no labels (got {got}). Remove it; the source itself can be corrected.")


def epochs_in(minutes: float, params: Mapping[str, Any], block: str, method: str, times: Times | None) -> int:
    """Epochs that take so long. Raises ConfigError if the time of an epoch is not known."""
    if times is None:
        raise ConfigError("minutes: there is no time.json. Run `python ../../pipelines/study_time.py`, and commit it.")
    return times.epochs(minutes, block, method, timed_setting(params))


def timed_setting(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters on which the time of an epoch depends, as far as they differ from their defaults."""
    sections = {name: config.stated() for name, config in training_config(params).sections.items()}
    sections[TRAIN] = {key: value for key, value in sections[TRAIN].items() if key not in ("seed", "epochs", "lr")}
    return sections | {"data": section(DataConfig, params).stated(include={"image_size", "color"})}


def _check_keys(grid: Grid, method: str, condition: str, block: str, part: Part) -> None:
    """Raises ConfigError if a method, condition or block changes what it cannot."""
    for where, changes, valid in (
        (f"methods.{method}", grid.methods[method], METHOD_SECTIONS),
        (f"blocks.{block}.params", part.params, (*METHOD_SECTIONS, "data")),
    ):
        if unknown := sorted(changes.keys() - set(valid)):
            raise ConfigError(f"grid.yaml: {where}: unknown section {', '.join(unknown)} (valid: {', '.join(valid)})")
    if not isinstance(train := grid.conditions[condition].get(TRAIN, {}), Mapping):
        raise ConfigError(f"grid.yaml: conditions.{condition}.{TRAIN}: must be a section (got {train}). Correct it.")
    for where, data in (
        (f"conditions.{condition}", grid.conditions[condition]),
        (f"blocks.{block}.params.data", part.params.get("data") or {}),
    ):
        if fixed := sorted(data.keys() & INGEST_KEYS):
            raise ConfigError(
                f"grid.yaml: {where}: {', '.join(fixed)} must be the same for all conditions. Set "
                "it in params.yaml, or create a separate study per value."
            )

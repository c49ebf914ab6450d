"""grid.yaml: the methods, conditions and seeds that a study compares."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, StringConstraints

from nla.config.base import Section, merge, nearest, read_yaml, section
from nla.errors import ConfigError
from nla.limits import LARGEST_SEED, MOST_TRIALS
from nla.study.comparisons import Claim
from nla.study.record import Objective

Names = Annotated[list[str], Field(min_length=1)]
Minutes = Annotated[float, Field(gt=0)]
ALL = "all"
"""In `tuning.candidates`: each method that is not listed."""


class Tuning(Section):
    """How each method's setting is chosen before the comparison: on validation, from the same number of candidates per
    method."""

    NAME: ClassVar[str] = "tuning"

    settings: Annotated[int, Field(ge=2, le=MOST_TRIALS)]
    """Candidates per method: one is the configuration in `methods`, the rest are sampled from its space; a method
    without a space is not tuned."""
    conditions: Annotated[list[str], Field(min_length=1)]
    """Conditions for tuning: the candidate with the best mean over these is used everywhere."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    """Seed of the draws, the synthetic label noise and training; must not be one of the grid's."""
    objective: Objective = "accuracy"
    """Metric, measured at the selected epoch on validation, that ranks candidates; both: mean of the two accuracies."""
    common: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Search space of every method, in the form of `tune.space`."""
    space: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Method -> its additional space."""
    candidates: Annotated[dict[str, list[dict[str, Any]]], Field(default_factory=dict)]
    """Method -> its candidates besides the first, as sections of params.yaml, instead of draws; `all` stands for each
    method that is not listed."""
    block: str | None = None
    """Block whose parameters and time the candidates have; None: the first."""

    def space_of(self, method: str) -> dict[str, Any]:
        """Search space of a method, not yet checked; {} if there is nothing to tune."""
        return merge(self.common, self.space.get(method, {}))

    def listed(self, method: str) -> list[dict[str, Any]]:
        """Candidates that are listed for a method; [] if they are drawn, or if there is nothing to tune."""
        return self.candidates.get(method, self.candidates.get(ALL, []))


class Block(Section):
    """A part of a study. What it leaves out is that of the grid."""

    NAME: ClassVar[str] = "block"

    methods: Names | None = None
    conditions: Names | None = None
    seeds: Annotated[list[int], Field(min_length=1)] | None = None
    minutes: Minutes | None = None
    params: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Sections of params.yaml, such as another network: laid over the study's, under those of the methods."""
    tuned: bool = True
    """Use the settings that tuning chose; otherwise those of the grid."""


class Part(NamedTuple):
    """A block with all that it takes from the grid."""

    methods: list[str]
    conditions: list[str]
    seeds: list[int]
    minutes: float | None
    params: dict[str, Any]
    tuned: bool


class Grid(Section):
    """What a study compares."""

    NAME: ClassVar[str] = "grid"

    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> sections of params.yaml: augment, loss, model, train; overrides the study's params.yaml."""
    conditions: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> keys of the section `data`, such as noise and imbalance, and the section `train`; overrides params.yaml
    and methods."""
    seeds: Annotated[list[int], Field(min_length=1)]
    """Seeds of the synthetic label noise, which is the same for all methods, and of training."""
    reference: str
    """Method that all others are compared with."""
    minutes: Minutes | None = None
    """Time of each training, from which time.json gives its epochs; None: `train.epochs`."""
    blocks: Annotated[dict[str, Block], Field(default_factory=dict)]
    """Parts of the study with methods, conditions, seeds, time or parameters of their own; {}: all in one."""
    caveats: Annotated[
        list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]], Field(default_factory=list)
    ]
    """What a reader must know before comparing the methods; the report shows it first, and above each table."""
    claims: Annotated[list[Claim], Field(default_factory=list)]
    """What the study tests with a correction for the number of these tests; written down before its first result."""
    tuning: Tuning | None = None
    """None: no tuning."""
    frozen: bool = False
    """The study has ended: its records are read whatever code made them, and nothing is trained unless it is forced."""

    @property
    def parts(self) -> dict[str, Part]:
        """The blocks by name, with what they take from the grid; one without a name if there are none."""
        blocks = self.blocks or {"": Block.model_validate({})}
        return {
            name: Part(
                block.methods or [*self.methods],
                block.conditions or [*self.conditions],
                block.seeds or self.seeds,
                block.minutes or self.minutes,
                block.params,
                block.tuned,
            )
            for name, block in blocks.items()
        }

    def blocks_of(self, claim: Claim) -> list[str]:
        """Names of the blocks that a claim can mean; one in a valid grid."""
        return [
            name
            for name, part in self.parts.items()
            if claim.condition in part.conditions and claim.block in (None, name)
        ]

    @property
    def claims_of_tables(self) -> list[Claim]:
        """The claims with titles of tables as their conditions."""
        titles = [table_title(claim.condition, self.blocks_of(claim)[0]) for claim in self.claims]
        found = zip(self.claims, titles, strict=True)
        return [claim.model_copy(update={"condition": title, "block": None}) for claim, title in found]

    @property
    def tuning_block(self) -> str:
        """Name of the block whose parameters and time the tuning has."""
        return (self.tuning and self.tuning.block) or next(iter(self.parts))


def table_title(condition: str, block: str) -> str:
    """Title of the table of a condition: with the block if there are any."""
    return f"{condition}, {block}" if block else condition


def read_grid(path: Path) -> Grid:
    """Reads the grid of a study. Raises ConfigError for bad YAML, an unknown key or name, or a duplicate."""
    grid = section(Grid, {"grid": read_yaml(path, "Run this from the study's folder.")}, path.name)
    if grid.reference not in grid.methods:
        raise ConfigError(
            f"{path}: reference: {grid.reference!r} is not a method{nearest(grid.reference, [*grid.methods])}"
        )
    lists = {"seeds": grid.seeds}
    for name, part in grid.parts.items():
        if grid.blocks:
            lists |= {f"blocks.{name}.{key}": getattr(part, key) for key in ("methods", "conditions", "seeds")}
        _check_names(part.methods, grid.methods, f"{path}: blocks.{name}.methods", "method")
        _check_names(part.conditions, grid.conditions, f"{path}: blocks.{name}.conditions", "condition")
    for key, values in lists.items():
        if len(set(values)) < len(values):
            raise ConfigError(f"{path}: {key}: duplicate {key.rpartition('.')[2][:-1]} in {values}. List each once.")
    for number, claim in enumerate(grid.claims):
        _check_claim(grid, claim, f"{path}: claims.{number}")
    if grid.tuning is not None:
        _check_tuning(grid, grid.tuning, path)
    return grid


def _check_claim(grid: Grid, claim: Claim, where: str) -> None:
    _check_names([claim.condition], grid.conditions, f"{where}.condition", "condition")
    _check_names([claim.block] if claim.block else [], grid.blocks, f"{where}.block", "block")
    blocks = grid.blocks_of(claim)
    if len(blocks) != 1:
        found = f"{claim.condition!r} is in {', '.join(blocks) or 'none'}"
        raise ConfigError(f"{where}.block: must name one block that has the condition ({found}). Correct it.")
    part = grid.parts[blocks[0]]
    _check_names([claim.method], part.methods, f"{where}.method", "method")
    _check_names(claim.against or [], part.methods, f"{where}.against", "method")
    others = claim.others(part.methods)
    if not others or claim.method in others or len({*others}) < len(others):
        raise ConfigError(f"{where}.against: must be other methods, each once (got {others}). Correct the list.")
    if grid.claims.count(claim) > 1:
        raise ConfigError(f"{where}: the same claim twice, which p would be corrected for. List it once.")
    if len(part.seeds) < 2:
        raise ConfigError(f"{where}: one seed cannot test a claim (got {part.seeds}). Add seeds, or remove the claim.")


def _check_tuning(grid: Grid, tuning: Tuning, path: Path) -> None:
    _check_names(tuning.conditions, grid.conditions, f"{path}: tuning.conditions", "condition")
    _check_names(tuning.space, grid.methods, f"{path}: tuning.space", "method")
    _check_names(set(tuning.candidates) - {ALL}, grid.methods, f"{path}: tuning.candidates", "method")
    _check_names([grid.tuning_block], grid.parts, f"{path}: tuning.block", "block")
    if len(set(tuning.conditions)) < len(tuning.conditions):
        raise ConfigError(f"{path}: tuning.conditions: duplicate condition in {tuning.conditions}. List each once.")
    if any(tuning.seed in part.seeds for part in grid.parts.values()):
        raise ConfigError(f"{path}: tuning.seed: {tuning.seed} is also in `seeds`. Choose one that no comparison uses.")
    for name in grid.methods:
        if (listed := tuning.listed(name)) and len(listed) + 1 != tuning.settings:
            raise ConfigError(
                f"{path}: tuning.candidates: {name} must have {tuning.settings - 1}, as the setting of the grid is the "
                f"first of tuning.settings (got {len(listed)})."
            )
    if not any(tuning.space_of(name) or tuning.listed(name) for name in grid.methods):
        raise ConfigError(f"{path}: tuning: nothing to search. Set `candidates`, `space` or `common`, or remove it.")


def _check_names(names: Iterable[str], known: Collection[str], where: str, kind: str) -> None:
    if unknown := next((name for name in names if name not in known), None):
        raise ConfigError(f"{where}: {unknown!r} is not a {kind}{nearest(unknown, [*known])}")

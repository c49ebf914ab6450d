"""`tune`: the hyperparameter search, and the distributions of the searched parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nla.config.base import Section, nearest
from nla.config.train import ACCURACIES
from nla.limits import LARGEST_SEED, MOST_EPOCHS, MOST_TRIALS, MOST_VALUES_OF_A_RANGE

SPACE = {
    "loss": {
        "lam": {"uniform": [0.2, 0.9]},
        "true_deviation": {"loguniform": [0.2, 2.0]},
        "false_deviation": {"loguniform": [0.2, 2.0]},
        "true_ratio": {"uniform": [1.0, 8.0]},
        "false_ratio": {"uniform": [1.0, 8.0]},
        "slope": {"uniform": [0.0, 30.0]},
    }
}
Objective = Literal["accuracy", "mean_accuracy", "macro_f1", "both"]
KINDS = ("uniform", "loguniform", "quniform", "randint", "choice", "grid")
FIXED_UNDER_PBT = {"loss.name", "loss.options.dimensions", "train.optimizer", "train.ema"}
"""Parameters that pbt cannot change: a copied checkpoint depends on the loss and its size, optimizer and average."""


class Distribution(BaseModel):
    """Distribution of a searched parameter: exactly one of the kinds, and the condition under which it is searched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uniform: tuple[float, float] | None = None
    """[low, high]"""
    loguniform: tuple[float, float] | None = None
    """[low, high], with a uniform logarithm"""
    quniform: tuple[float, float, float] | None = None
    """[low, high, step]"""
    randint: tuple[int, int] | None = None
    """[low, high), integers"""
    choice: list[Any] | None = Field(default=None, min_length=1)
    grid: list[Any] | None = Field(default=None, min_length=1)
    """Each value in turn, for every draw of the others."""
    when: dict[str, Any] = {}
    """{parameter: value}: search only in trials with these values; in others the parameter is as in params.yaml."""

    @model_validator(mode="after")
    def _check(self) -> Distribution:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS)}, not {', '.join(given) or 'none'}")
        if self.kind in ("choice", "grid"):
            return self
        low, high, *step = self.arguments
        if self.kind == "randint" and high - low > MOST_VALUES_OF_A_RANGE:
            raise ValueError(f"randint has more than {MOST_VALUES_OF_A_RANGE:,} values: use uniform or loguniform")
        if not (low < high and math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{self.kind} needs finite ends with low < high, not {low:g}, {high:g}")
        if self.kind == "loguniform" and low <= 0:
            raise ValueError(f"loguniform needs low > 0, not {low:g}")
        if step and not 0 < step[0] <= high - low:
            raise ValueError(f"quniform needs 0 < step <= high - low, not step {step[0]:g}")
        if step and (high - low) / step[0] > MOST_VALUES_OF_A_RANGE:
            raise ValueError(f"quniform has more than {MOST_VALUES_OF_A_RANGE:,} values: use uniform")
        if step and not all(_is_multiple(end, step[0]) for end in (low, high)):
            raise ValueError(f"quniform needs ends that are multiples of its step {step[0]:g}, not {low:g}, {high:g}")
        return self

    @property
    def kind(self) -> str:
        """Which of KINDS this distribution is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def arguments(self) -> list[Any]:
        """Arguments of the kind, such as [low, high]."""
        return list(getattr(self, self.kind))

    def ends(self) -> list[Any]:
        """The values to validate: the ends of a range, or every choice. If they are valid, all values are."""
        if self.kind == "randint":
            return [self.arguments[0], self.arguments[1] - 1]
        return self.arguments if self.kind in ("choice", "grid") else self.arguments[:2]

    def nearest(self, value: float) -> float:
        """The value of the range that is nearest to `value`."""
        low, high = self.ends()
        step = None if self.quniform is None else self.quniform[2]
        nearest: float = min(max(value if step is None else round(value / step) * step, low), high)
        return nearest

    def contains(self, value: Any) -> bool:
        """Whether a draw could give `value`."""
        if self.kind in ("choice", "grid"):
            return value in self.arguments
        low, high = self.ends()
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            return False
        return self.quniform is None or _is_multiple(value, self.quniform[2])


class TuneConfig(Section):
    """The hyperparameter search."""

    NAME: ClassVar[str] = "tune"

    num_samples: Annotated[int, Field(ge=0, le=MOST_TRIALS)] = 0
    """Number of trials; 0: no search. Raise it to extend a search."""
    source: str | None = Field(default=None, alias="from")
    """best.yaml of an earlier search, to use instead of a new search."""
    objective: Objective = "accuracy"
    """Validation metric to maximise; both: the mean of the two accuracies, and the report marks their Pareto front."""
    searcher: Literal["random", "optuna", "gp"] = "random"
    """optuna: Optuna's TPE; gp: Optuna's Gaussian process."""
    scheduler: Literal["none", "asha", "median", "pbt"] = "asha"
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = 4
    """Epochs of a full trial; train.epochs is for the training run afterwards."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Seed of the search and of every trial."""
    grace_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = None
    """Epochs before a scheduler can stop a trial; null: those in which `train.schedule` warms up, at least one."""
    reduction: Annotated[float, Field(ge=1.1)] = 3.0
    """ASHA keeps the top 1/reduction of the trials at each rung."""
    time_budget: Annotated[float, Field(gt=0)] | None = None
    """Minutes in total, including resumed runs, after which all trials stop; raise it to resume. null: no limit."""
    max_failed: Annotated[int, Field(ge=0)] | None = None
    """The stage fails if more trials than this fail; null: only if all fail."""
    space: dict[str, Any] = Field(default_factory=lambda: copy.deepcopy(SPACE))
    """Sections of params.yaml with a distribution in place of each searched value; see docs/tuning.md."""

    @field_validator("space")
    @classmethod
    def _check_space(cls, space: dict[str, Any]) -> dict[str, Any]:
        distributions(space)
        return space

    @model_validator(mode="after")
    def _check_combinations(self) -> TuneConfig:
        kinds = {distribution.kind for distribution in self.distributions.values()}
        if "grid" in kinds and self.searcher != "random":
            raise ValueError(f"`grid` is not supported by searcher {self.searcher}: use `choice`, or searcher random")
        if self.objective == "both" and self.scheduler != "none":
            raise ValueError(f"objective both needs scheduler none, not {self.scheduler}")
        if self.scheduler == "pbt" and (self.searcher != "random" or "grid" in kinds):
            raise ValueError("scheduler pbt needs searcher random and no `grid`")
        if self.scheduler == "pbt" and (searched := sorted(FIXED_UNDER_PBT & self.distributions.keys())):
            raise ValueError(f"scheduler pbt cannot change {', '.join(searched)}: remove it from the space")
        if self.trials > MOST_TRIALS:
            raise ValueError(
                f"num_samples and grids make {self.trials:,} trials, more than {MOST_TRIALS:,}: lower them"
            )
        return self

    @property
    def metrics(self) -> list[str]:
        """The validation metrics of the objective."""
        return list(ACCURACIES) if self.objective == "both" else [self.objective]

    @property
    def trials(self) -> int:
        """Total number of trials: each sample runs through the whole grid."""
        grids = [each.arguments for each in self.distributions.values() if each.kind == "grid"]
        return self.num_samples * math.prod(map(len, grids))

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The distributions of the space by dotted name; elements of a list are NAME.0 and so on."""
        return distributions(self.space)


def distributions(space: Mapping[str, Any]) -> dict[str, Distribution]:
    """The distributions of a space by dotted name. Raises ValueError for anything that is not a distribution."""
    return dict(_distributions(space))


def _distributions(space: Mapping[str, Any]) -> Iterator[tuple[str, Distribution]]:
    for section, parameters in space.items():
        if not isinstance(parameters, Mapping):
            raise ValueError(f"{section} must be a section with parameters, not {parameters!r}")
        for key, value in parameters.items():
            yield from _nested(f"{section}.{key}", value)


def _nested(name: str, given: Any) -> Iterator[tuple[str, Distribution]]:
    """Yields the distribution of `name`, or those of its list elements or nested keys."""
    if isinstance(given, list) and given:
        for i, element in enumerate(given):
            yield f"{name}.{i}", _distribution(f"{name}.{i}", element)
    elif isinstance(given, Mapping) and given and all(_is_parameter(key, value) for key, value in given.items()):
        for key, value in given.items():
            yield from _nested(f"{name}.{key}", value)
    else:
        yield name, _distribution(name, given)


def _is_parameter(key: str, value: Any) -> bool:
    """Whether a key is that of a nested parameter, rather than the kind or condition of a distribution."""
    return key != "when" and isinstance(value, Mapping)


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step), abs_tol=1e-9)


def _distribution(name: str, given: Any) -> Distribution:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be a distribution such as {{uniform: [0, 1]}}, not {given!r}")
    try:
        return Distribution.model_validate(given)
    except ValueError as error:
        raise ValueError(f"{name}: {_first_line(error)}") from None


def _first_line(error: ValueError) -> str:
    problems = error.errors() if hasattr(error, "errors") else []
    if not problems:
        return str(error)
    field = ".".join(map(str, problems[0]["loc"]))
    if problems[0]["type"] == "extra_forbidden":
        return f"unknown key '{field}'{nearest(field, [*KINDS, 'when'])}"
    message = str(problems[0]["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}" if field else message

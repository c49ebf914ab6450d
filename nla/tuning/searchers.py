"""Converts the distributions of a space to Ray Tune's search space.

Population-based training with its own seed; Ray draws from the process's global generators.

Searchers that limit concurrent trials by the current call's setting; Ray's own would keep the first call's.

Builds Ray Tune's searcher and scheduler from the settings of a search.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from nla.config.train import METRICS
from nla.config.tune import Distribution, TuneConfig
from nla.tuning.results import Trial
from nla.tuning.space import first_values
from nla.tuning.trial import FAILED, Template


def param_space(distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    """Ray's domain of each searched parameter, by dotted name."""
    return {name: _domain(distribution) for name, distribution in distributions.items()}


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)


class SeededPBT(PopulationBasedTraining):
    """PBT that makes the same changes after the same results, whatever else draws random numbers."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._state = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides whether the trial continues; may turn it into a perturbed copy of a better one."""
        with self._own_generators():
            return super().on_trial_result(tune_controller, trial, result)

    @contextlib.contextmanager
    def _own_generators(self) -> Iterator[None]:
        others = _swapped(self._state)
        try:
            yield
        finally:
            self._state = _swapped(others)


def _swapped(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sets the process's global generators to `state`, and returns their previous state."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the generators that Ray draws from
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    return before


class Turns:
    """Limit for this process; Ray pickles searchers with the experiment, so it cannot live in them."""

    limit: ClassVar[int | None] = None
    """Maximum number of concurrent trials; None for as many as fit."""


class RandomTurns(BasicVariantGenerator):
    """Random draws and grids."""

    def next_trial(self) -> Any:
        """The next trial; None if it has to wait."""
        self.max_concurrent = Turns.limit or 0
        return super().next_trial()  # type: ignore[no-untyped-call]


class OptunaTurns(OptunaSearch):
    """Optuna's samplers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._under_way: set[str] = set()
        self._best: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values of the next trial; None if it has to wait."""
        if Turns.limit is not None and len(self._under_way) >= Turns.limit:
            return None
        self._under_way.add(trial_id)
        return super().suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the best epoch, by which a trial is judged; one that failed is worth nothing, whatever it had reached.

        Samplers are told only when a trial ends: Optuna would warn about an epoch that is repeated.
        """
        before = self._best.get(trial_id)
        if before is None or FAILED in result or self._reached(result) > self._reached(before):
            self._best[trial_id] = result

    def _reached(self, result: dict[str, Any]) -> float:
        metrics = self._metric if isinstance(self._metric, list) else [self._metric]
        return float(sum(result[str(name)] for name in metrics))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the sampler the best epoch of a trial that has ended."""
        self._under_way.discard(trial_id)
        super().on_trial_complete(trial_id, self._best.pop(trial_id, result), error)


def searcher(
    template: Template, settings: TuneConfig, before: Sequence[Trial], done: int
) -> Searcher | SearchAlgorithm:
    """The searcher: proposes the values in use without a search first, then new ones.

    Optuna's samplers learn from earlier trials, but not with two objectives: Ray cannot pass pairs of scores to Optuna.

    Args:
        done: samples requested in earlier calls; it shifts the seed, so that later draws differ.
    """
    seed = settings.seed + done
    first = [] if before else [_first(template, settings)]
    if settings.searcher == "random":
        return RandomTurns(points_to_evaluate=first, random_state=seed)
    both = settings.objective == "both"
    metrics = [f"valid_{name}" for name in METRICS]
    known = [] if both else [trial for trial in before if _is_whole(trial, settings)]
    rewards = [trial.score(settings.objective) for trial in known]
    return OptunaTurns(
        metric=metrics if both else None,
        mode=["max"] * len(metrics) if both else None,
        points_to_evaluate=[dict(trial.drawn) for trial in known] or first,
        evaluated_rewards=rewards or None,
        sampler=_sampler(settings, seed),
    )


def scheduler(settings: TuneConfig) -> TrialScheduler:
    """The scheduler: stops trials or, for PBT, overwrites them with copies of better ones."""
    grace = min(settings.grace_epochs, settings.epochs)
    match settings.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="epoch", max_t=settings.epochs, grace_period=grace, reduction_factor=settings.reduction
            )
        case "median":
            return MedianStoppingRule(time_attr="epoch", grace_period=grace, min_samples_required=2)
        case "pbt":
            return SeededPBT(
                settings.seed,
                time_attr="epoch",
                perturbation_interval=grace,
                hyperparam_mutations=_mutations(settings),
                custom_explore_fn=_within(settings),
                log_config=False,
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]


def _first(template: Template, settings: TuneConfig) -> dict[str, Any]:
    """The values in use without a search; without grid parameters, which are tried exhaustively anyway.

    Optuna needs a value of every parameter, including one that does not count in this trial.
    """
    space = settings.distributions
    values = first_values(space, template.params)
    if settings.searcher != "random":
        values = {name: each.ends()[0] for name, each in space.items()} | values
    return {name: value for name, value in values.items() if space[name].kind != "grid"}


def _is_whole(trial: Trial, settings: TuneConfig) -> bool:
    """Whether the trial can inform a searcher: it has a value for every parameter, and at least one epoch."""
    return trial.score(settings.objective) >= 0 and set(trial.drawn) == set(settings.distributions)


def _mutations(settings: TuneConfig) -> dict[str, Any]:
    """Mutations for PBT, which takes a plain list for a choice."""
    domains = param_space(settings.distributions)
    choices = {name: each.arguments for name, each in settings.distributions.items() if each.kind == "choice"}
    return domains | choices


def _within(settings: TuneConfig) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that clips values perturbed by PBT to their range, and rounds them to the step if there is one."""
    distributions = settings.distributions

    def clamped(config: dict[str, Any]) -> dict[str, Any]:
        ranges = {name: each for name, each in distributions.items() if each.kind not in ("choice", "grid")}
        return config | {name: each.nearest(config[name]) for name, each in ranges.items()}

    return clamped


def _sampler(settings: TuneConfig, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), or a Gaussian process."""
    if settings.searcher == "optuna":
        return TPESampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)
